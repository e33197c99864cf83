"""Which of two recognisers is believed, and what is heard without models, before they arrive and after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fakes.inference import InlineInference
from tests.fakes.model_libraries import a_whisper_model, stand_in_ctranslate2
from xiaozhi.chat import CallContext
from xiaozhi.providers.asr import offline
from xiaozhi.providers.asr.offline import OfflineAsr, OfflineAsrOptions, chosen, is_english, joined
from xiaozhi.providers.contracts.asr import Transcript
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.moonshine import MoonshineText, pieces_of
from xiaozhi.providers.families.offline_phrases import load

CONFIG = Path(__file__).resolve().parents[2] / "config"
LOUD = np.random.default_rng(5).normal(0, 3_000, 16_000).astype("<i2").tobytes()
NOTHING = Transcript("")
CHINESE = Transcript("好的", "zh", confidence=0.5)


@pytest.mark.parametrize(
    ("text", "log_prob", "english"),
    [
        ("What time is it?", -0.05, True),
        ("Okay.", -0.4, False),
        ("Howdy!", -0.41, False),
        ("", -0.01, False),
        ("and so and so and so and so", -0.05, False),
    ],
)
def test_what_moonshine_hears_well_is_english(text: str, log_prob: float, english: bool) -> None:
    assert is_english(MoonshineText(text, log_prob)) is english


@pytest.mark.parametrize(
    ("english", "other", "said"),
    [
        (MoonshineText("Howdy!", -0.41), CHINESE, "好的"),
        (MoonshineText("Okay.", -0.51), NOTHING, "Okay."),
        (MoonshineText("Yes.", -0.31), Transcript("Yas", "en", confidence=0.4), "Yes."),
        (MoonshineText("Louder.", -0.42), Transcript("louder", "en", confidence=0.8), "louder"),
        (MoonshineText("You", -1.1), NOTHING, ""),
        (MoonshineText("", 0.0), NOTHING, ""),
        (None, CHINESE, "好的"),
    ],
)
def test_the_more_probable_of_two_is_believed(english: MoonshineText | None, other: Transcript, said: str) -> None:
    assert chosen(english, other).text == said


def test_pieces_of_a_long_utterance_become_one() -> None:
    one, two = Transcript("今天", "zh", confidence=0.9), Transcript("很好", "zh", confidence=0.4)

    assert joined([one, NOTHING, two]) == Transcript("今天很好", "zh", confidence=0.4)
    assert joined([NOTHING, one]) == one
    assert joined([]) == NOTHING


def test_pieces_of_the_tokenizer_have_lengths_of_one_or_two_bytes() -> None:
    long = b"a" * 300
    table = b"\x05<unk>\x03abc\x00" + bytes([300 % 128 + 128, 300 // 128]) + long + b"\x01<"

    assert pieces_of(table) == [b"", b"abc", b"", long, b"<"]


def test_folders_that_somebody_names_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="models fetch moonshine-tiny-en"):
        OfflineAsrOptions(moonshine_dir=str(tmp_path))
    with pytest.raises(ValueError, match="models fetch faster-whisper-base"):
        OfflineAsrOptions(whisper_dir=str(tmp_path))
    assert OfflineAsrOptions(whisper_dir="").whisper_dir == offline.OfflineAsrOptions().whisper_dir


def unfetched(folder: Path, monkeypatch: pytest.MonkeyPatch, config_dir: Path = CONFIG) -> OfflineAsr:
    """Whose models will be below `folder` and are not there yet; it looks every time."""
    monkeypatch.setattr(offline, "LOOK_EVERY_S", 0.0)
    folders = {"whisper_dir": str(folder / "whisper"), "moonshine_dir": str(folder / "moonshine")}
    options = OfflineAsrOptions.model_construct(**folders)  # as the usual folders are: nobody has named them
    return OfflineAsr(options, Services(inference=InlineInference(), config_dir=config_dir))  # type: ignore[arg-type]


def test_models_that_arrive_are_used_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = stand_in_ctranslate2(monkeypatch)
    asr = unfetched(tmp_path, monkeypatch)
    asr.warm_up()
    assert asr.traits.unheard_reply
    assert asr.transcribe(LOUD, CallContext()) == Transcript("", language="en"), "noise is no phrase"
    assert library.loaded == []

    a_whisper_model(tmp_path / "whisper")

    assert asr.transcribe(LOUD, CallContext()).text == "你好"
    assert asr.transcribe(LOUD, CallContext()).text == "你好" and len(library.loaded) == 1
    asr.close()


def test_a_model_that_cannot_be_used_leaves_the_phrases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_ctranslate2(monkeypatch)
    (a_whisper_model(tmp_path / "whisper") / "model.bin").write_bytes(b"broken")
    asr = unfetched(tmp_path, monkeypatch)
    asr.warm_up()

    assert asr.transcribe(LOUD, CallContext()) == Transcript("", language="en")
    asr.close()


def test_with_models_nothing_is_said_to_what_is_not_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hear everything; what they refuse is noise."""
    stand_in_ctranslate2(monkeypatch)
    a_whisper_model(tmp_path / "whisper")
    asr = unfetched(tmp_path, monkeypatch)

    assert asr.traits.unheard_reply == ""
    asr.close()


def test_what_tells_requests_apart_is_made_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_ctranslate2(monkeypatch)
    (tmp_path / "offline.yaml").write_bytes((CONFIG / "offline.yaml").read_bytes())
    asr = unfetched(tmp_path, monkeypatch, tmp_path)
    asr.warm_up()
    book = load(tmp_path / "offline.yaml")
    assert not book.is_prepared("zh"), "nobody needs it without Whisper"

    a_whisper_model(tmp_path / "whisper")
    asr.warm_up()

    assert book.is_prepared("zh")
    asr.close()
