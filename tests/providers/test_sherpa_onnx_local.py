"""What is special about models in sherpa-onnx: types and files, one model for many blocks, and a library that ends the
process when it does not like a file. The real library on tiny models (tests/fakes/tiny_models.py): there are no
SenseVoice, Paraformer, Zipformer, Kokoro or Matcha weights in packages that tests could use."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np
import pytest

from loadtest.vendors.sounds import hum
from tests.contract.suites import CONTEXT
from tests.fakes import tiny_models
from tests.waiting import wait_for
from xiaozhi.app.main import main
from xiaozhi.errors import SettingsError, VendorSilent, VendorUnavailable
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import Pcm
from xiaozhi.providers.families import sherpa_models
from xiaozhi.providers.families.clauses import LONGEST, clauses
from xiaozhi.providers.registry import build, validate
from xiaozhi.runtime.inference import InferencePool

SPEECH = hum(1.5, 16_000)
SILENCE = bytes(32_000)
TYPE = {"type": "sherpa_onnx_local"}


@pytest.fixture
def services() -> Iterator[Services]:
    """With a pool of two threads."""
    pool = InferencePool(workers=2)
    yield Services(inference=pool)
    pool.close()


def a_kokoro(folder: Path) -> Path:
    """With eSpeak's data, as its releases have it."""
    tiny_models.kokoro(folder)
    shutil.copytree(espeakng_loader.get_data_path(), folder / "espeak-ng-data")
    return folder


def ears(folder: Path, services: Services, **more: Any) -> Any:
    """A recogniser, warmed up; whoever asks closes it."""
    found = build("asr", "Sherpa", {**TYPE, "model_dir": str(folder), **more}, services)
    found.warm_up()
    return found


def a_voice(folder: Path, services: Services, **more: Any) -> Any:
    """A voice, warmed up; whoever asks closes it."""
    found = build("tts", "Sherpa", {**TYPE, "model_dir": str(folder), **more}, services)
    found.warm_up()
    return found


# --- hearing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "make", "language", "emotion"),
    [
        ("sense_voice", tiny_models.sense_voice, "zh", "happy"),
        ("paraformer", tiny_models.paraformer, "", ""),
        ("whisper", tiny_models.whisper, "zh", ""),
        ("zipformer", tiny_models.transducer, "", ""),
    ],
)
def test_every_type_hears(
    kind: str, make: Callable[[Path], Path], language: str, emotion: str, services: Services, tmp_path: Path
) -> None:
    asr = ears(make(tmp_path), services, model_type=kind)

    heard = asr.transcribe(SPEECH, CONTEXT)

    assert (heard.text, heard.language, heard.emotion) == ("你好", language, emotion)
    assert asr.transcribe(SILENCE, CONTEXT).text == asr.transcribe(b"", CONTEXT).text == ""
    asr.close()
    with pytest.raises(VendorUnavailable):
        asr.transcribe(SPEECH, CONTEXT)


def test_a_streaming_model_speaks_up_while_it_listens(services: Services, tmp_path: Path) -> None:
    asr = ears(tiny_models.streaming_transducer(tmp_path / "a-streaming-zipformer"), services, model_type="zipformer")
    assert asr.traits.streaming, "its folder is called so"
    stream = asr.open(CONTEXT)

    stream.feed(SPEECH[:9_600])
    wait_for(lambda: stream.partial == "你")
    stream.feed(SPEECH[9_600:])
    wait_for(lambda: stream.partial == "你好")

    assert stream.finish().text == asr.transcribe(SPEECH, CONTEXT).text == "你好"
    asr.close()


def test_the_language_is_told_to_the_model(services: Services, tmp_path: Path) -> None:
    asr = ears(tiny_models.sense_voice(tmp_path), services, language="en-US")

    assert asr.transcribe(SPEECH, CONTEXT).language == "en"
    asr.close()


def test_whisper_hears_what_is_longer_than_its_window(services: Services, tmp_path: Path) -> None:
    asr = ears(tiny_models.whisper(tmp_path), services, model_type="whisper")

    assert asr.transcribe(hum(60.0, 16_000), CONTEXT).text == "你好你好你好"
    asr.close()


def test_a_block_of_an_existing_configuration_works_as_it_is(services: Services, tmp_path: Path) -> None:
    """Its keys, its placeholders and its folder; `transducer` is another word for a zipformer."""
    folder = tiny_models.sense_voice(tmp_path / "models/sherpa-onnx-sense-voice-zh-en-ja-ko-yue-2024-07-17")
    block = {**TYPE, "model_dir": str(folder), "output_dir": "tmp/", "model_type": "sense_voice", "language": ""}

    options = validate("asr", "SherpaASR", block)

    assert options.model_type == "sense_voice" and options.language == "auto"
    folder = tiny_models.streaming_transducer(tmp_path / "x")
    assert (
        validate("asr", "S", {**block, "model_type": "transducer", "model_dir": str(folder)}).model_type == "zipformer"
    )


@pytest.mark.parametrize("module", ["asr.sherpa_onnx_local", "asr.vosk", "asr.fun_local", "tts.sherpa_onnx_local"])
def test_a_library_is_not_imported_before_it_is_used(module: str) -> None:
    program = (
        f"import sys, xiaozhi.providers.{module}; print(sorted({{'sherpa_onnx', 'vosk', 'torch'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == "[]\n"


# --- what is wrong, and how it is told --------------------------------------------------------------------------------


def faults(kind: str, block: dict[str, Any]) -> str:
    """What a check of the configuration says of a block."""
    with pytest.raises(SettingsError) as caught:
        validate(kind, "Mine", {**TYPE, **block})
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "block", "said"),
    [
        ("asr", {"model_dir": "models/none"}, "models fetch sense-voice-int8 --into models/none"),
        ("asr", {}, ".venv/bin/python server.py models fetch sense-voice-int8"),
        ("asr", {"model_type": "paraformer"}, "models fetch paraformer-zh-small"),
        ("asr", {"model_type": "whisper"}, "models fetch whisper-base"),
        ("asr", {"model_type": "zipformer"}, "models fetch zipformer-zh-streaming"),
        (
            "asr",
            {"model_dir": "models/sherpa-onnx-whisper-tiny", "model_type": "whisper"},
            "server.py models fetch whisper-tiny",
        ),
        ("tts", {"model_dir": "models/vits-melo-tts-zh_en"}, "server.py models fetch melo-zh-en"),
        ("tts", {"model_type": "kokoro"}, "models fetch kokoro-zh-en-int8"),
        ("tts", {"model_type": "matcha"}, "models fetch matcha-zh"),
    ],
)
def test_a_missing_model_names_the_command_that_brings_it(kind: str, block: dict[str, Any], said: str) -> None:
    found = faults(kind, block)

    assert f"{kind.upper()}.Mine.model_dir: '{block.get('model_dir', '')}' - a folder with " in found
    assert found.rstrip().endswith(said)


@pytest.mark.parametrize(("kind", "model_type"), [("asr", "paraformer"), ("tts", "matcha")])
def test_a_missing_package_names_the_command_and_hides_nothing(
    kind: str, model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_before = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "sherpa_onnx" else found_before(name, *rest)
    )

    found = faults(kind, {"model_dir": "models/none", "model_type": model_type})

    assert "the package sherpa-onnx installed:  make setup WITH=sherpa; and a folder with" in found
    assert f"server.py models fetch {model_type}-zh" in found


def test_pointers_of_git_lfs_are_no_model(tmp_path: Path) -> None:
    tiny_models.sense_voice(tmp_path)
    (tmp_path / "model.int8.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:c7\nsize 2\n")

    assert "cloned without Git LFS" in faults("asr", {"model_dir": str(tmp_path)})


@pytest.mark.parametrize(
    ("kind", "language", "said"),
    [
        ("sense_voice", "fr", "auto, zh, en, ja, ko, yue"),
        ("zipformer", "zh", "hears the languages that it was made for"),
    ],
)
def test_a_language_that_would_have_no_effect_is_refused(kind: str, language: str, said: str) -> None:
    assert said in faults("asr", {"model_type": kind, "language": language})


def test_a_type_that_cannot_stream_is_not_asked_to(tmp_path: Path) -> None:
    tiny_models.sense_voice(tmp_path)

    assert "streaming" in faults("asr", {"model_dir": str(tmp_path), "streaming": True})


def test_check_config_tells_it_with_everything_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.yaml").write_text(
        "server: {port: -1}\nselected_module: {ASR: Ears, TTS: Voice}\n"
        "ASR: {Ears: {type: sherpa_onnx_local, model_dir: models/none, output_dir: tmp/}}\n"
        "TTS: {Voice: {type: sherpa_onnx_local, model_dir: models/none, speaker: x}}\n",
        encoding="utf-8",
    )

    assert main(["--config", str(tmp_path / "my.yaml"), "--check-config"]) == 1

    said = capsys.readouterr().err
    for fault in (
        "server.port",
        "ASR.Ears.model_dir: 'models/none'",
        "TTS.Voice.model_dir: 'models/none'",
        "TTS.Voice.",
    ):
        assert fault in said, fault
    assert "ASR.Ears.output_dir means nothing here" in said


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda folder: tiny_models.sense_voice(folder, vocab_size=None),
            "'vocab_size' does not exist in the metadata",
        ),
        (lambda folder: (folder / "model.int8.onnx").write_bytes(b"\x08\x09"), "model.int8.onnx"),
        (lambda folder: tiny_models.paraformer(folder), "does not exist in the metadata"),
    ],
    ids=["no metadata", "cut", "another type"],
)
def test_what_the_library_would_end_the_process_for_is_an_error(
    spoil: Callable[[Path], Any], said: str, services: Services, tmp_path: Path
) -> None:
    """In this process each of these would be the end of the whole server."""
    spoil(tiny_models.sense_voice(tmp_path))

    with pytest.raises(SettingsError) as caught:
        ears(tmp_path, services)

    assert "ASR.Sherpa.model_dir" in str(caught.value) and said in str(caught.value)


def test_a_language_that_whisper_does_not_know_is_told_at_the_start(services: Services, tmp_path: Path) -> None:
    """The library would end the process with the first words that somebody says."""
    with pytest.raises(SettingsError, match="Invalid language: klingon"):
        ears(tiny_models.whisper(tmp_path), services, model_type="whisper", language="klingon")


# --- one model for all ------------------------------------------------------------------------------------------------


def test_blocks_with_the_same_model_share_it(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []
    really = sherpa_models.load
    monkeypatch.setattr(sherpa_models, "load", lambda model: loaded.append(model) or really(model))
    tiny_models.vits(tmp_path)
    block = {**TYPE, "model_dir": str(tmp_path)}

    first, second = a_voice(tmp_path, services, speaker=1), a_voice(tmp_path, services, speaker=2, speed=2)
    assert len(loaded) == 1

    first.close()
    assert list(second.synthesize("你好", CONTEXT)), "the other one still has it"
    second.close()
    third = build("tts", "Sherpa", block, services)
    third.warm_up()
    assert len(loaded) == 2, "the last one gave it back"
    third.close()


def test_another_file_in_the_same_place_is_another_model(services: Services, tmp_path: Path) -> None:
    first = ears(tiny_models.sense_voice(tmp_path), services)
    shutil.rmtree(tmp_path)
    tiny_models.sense_voice(tmp_path)
    (tmp_path / "tokens.txt").write_text((tmp_path / "tokens.txt").read_text("utf-8").replace("你", "您"), "utf-8")

    second = ears(tmp_path, services)

    assert (first.transcribe(SPEECH, CONTEXT).text, second.transcribe(SPEECH, CONTEXT).text) == ("你好", "您好")
    first.close()
    second.close()


# --- speaking ---------------------------------------------------------------------------------------------------------


def said(voice: Any, text: str) -> tuple[np.ndarray[Any, Any], int]:
    """(samples, their rate) of a sentence."""
    sounds = list(voice.synthesize(text, CONTEXT))
    assert sounds and all(isinstance(sound, Pcm) and len(sound.data) % 2 == 0 for sound in sounds)
    return np.frombuffer(b"".join(sound.data for sound in sounds), "<i2").astype(float), sounds[0].rate


@pytest.mark.parametrize("make", [tiny_models.vits, tiny_models.matcha, a_kokoro], ids=["vits", "matcha", "kokoro"])
def test_every_type_speaks_and_is_known_by_its_files(
    make: Callable[[Path], Path], services: Services, tmp_path: Path
) -> None:
    voice = a_voice(make(tmp_path / "m"), services)

    samples, rate = said(voice, "你好，很高兴见到你。")

    assert rate == tiny_models.VOICE_HZ
    assert 0.5 < len(samples) / rate < 5 and np.abs(samples).max() > 10_000
    voice.close()


def pitch(samples: np.ndarray[Any, Any]) -> float:
    """Crossings of zero per sample."""
    return float(np.count_nonzero(np.diff(np.signbit(samples)))) / len(samples)


def test_speaker_and_speed(services: Services, tmp_path: Path) -> None:
    folder = tiny_models.vits(tmp_path)
    usual, high = a_voice(folder, services), a_voice(folder, services, private_voice="2")
    quick, console = a_voice(folder, services, speed=2), a_voice(folder, services, ttsRate=-100)

    text = "你好很高兴见到你"
    one, two = said(usual, text)[0], said(high, text)[0]

    assert pitch(two) > 1.5 * pitch(one)
    assert len(said(quick, text)[0]) == pytest.approx(len(one) / 2, rel=0.01)
    assert len(said(console, text)[0]) == pytest.approx(len(one) * 2, rel=0.01)
    for voice in (usual, high, quick, console):
        voice.close()


def test_a_speaker_that_the_model_does_not_have(services: Services, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"TTS\.Sherpa\.speaker: 3 - a speaker of this model: 0 to 2"):
        a_voice(tiny_models.vits(tmp_path), services, speaker=3)


def test_a_text_of_which_it_knows_nothing(services: Services, tmp_path: Path) -> None:
    voice = a_voice(tiny_models.vits(tmp_path), services)

    with pytest.raises(VendorSilent):
        list(voice.synthesize("Привет", CONTEXT))

    assert list(voice.synthesize("你好", CONTEXT))
    voice.close()


def test_a_voice_whose_vocoder_lies_elsewhere(services: Services, tmp_path: Path) -> None:
    folder = tiny_models.matcha(tmp_path / "m")
    vocoder = (folder / "hifigan_v2.onnx").rename(tmp_path / "vocoder.onnx")
    assert "hifigan" in faults("tts", {"model_dir": str(folder)})

    voice = a_voice(folder, services, vocoder=str(vocoder))

    assert len(said(voice, "你好")[0]) > 1_000
    voice.close()


def test_the_first_clause_is_heard_before_the_second_is_made(services: Services, tmp_path: Path) -> None:
    voice = a_voice(tiny_models.vits(tmp_path), services)
    before = services.inference.counts["tts"].done

    sounds = voice.synthesize("你好你好你好你，很高兴见到你今天天气好。", CONTEXT)
    next(sounds)

    assert services.inference.counts["tts"].done == before + 1
    sounds.close()
    assert services.inference.counts["tts"].done == before + 1, "nobody listens to the rest"
    voice.close()


@pytest.mark.parametrize(
    ("sentence", "pieces"),
    [
        ("你好，很高兴见到你今天。", ["你好，很高兴见到你今天。"]),
        ("今天天气非常好，我们去公园散步吧，好吗？", ["今天天气非常好，", "我们去公园散步吧，好吗？"]),
        ("The weather is fine, so let us go for a walk.", ["The weather is fine,", "so let us go for a walk."]),
        ("It costs 3,500.25 yuan, or 12:30 minutes.", ["It costs 3,500.25 yuan,", "or 12:30 minutes."]),
        ("你好", ["你好"]),
        ("  ", []),
    ],
)
def test_a_sentence_is_cut_where_a_speaker_pauses(sentence: str, pieces: list[str]) -> None:
    assert clauses(sentence) == pieces


def test_a_piece_has_a_bound() -> None:
    pieces = clauses("word " * 100)
    assert max(map(len, pieces)) <= LONGEST and " ".join(pieces).split() == ["word"] * 100
    assert "".join(clauses("好" * 250)) == "好" * 250
