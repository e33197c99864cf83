"""Whisper: windows, pieces, marks and limits as pure functions; the listener with a stand-in for the library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.inference import InlineInference
from tests.fakes.model_libraries import WhisperModel, a_whisper_model, stand_in_ctranslate2
from xiaozhi.errors import SettingsError, VendorTimeout, VendorUnavailable
from xiaozhi.providers.asr.whisper import WhisperAsrOptions
from xiaozhi.providers.families.model_files import unsound
from xiaozhi.providers.families.whisper import (
    HABITS,
    LONGEST_PIECE_S,
    RATE,
    WhisperText,
    cost_of,
    frames_for,
    language_among,
    loops,
    pieces_of,
)
from xiaozhi.providers.families.whisper_listener import WhisperListener, is_whisper, simplified, transcript_of
from xiaozhi.providers.families.whisper_pieces import digits_of, pieces_of_text, read_vocabulary, text_of


def sound(seconds: float, level: float = 0.1) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Noise."""
    return np.random.default_rng(3).normal(0, level, int(seconds * RATE)).astype(np.float32)


@pytest.mark.parametrize(("seconds", "frames"), [(0.5, 550), (2.0, 700), (2.015, 702), (26.0, 3_000), (28.0, 3_000)])
def test_an_utterance_is_heard_with_five_seconds_of_silence(seconds: float, frames: int) -> None:
    assert frames_for(int(seconds * RATE)) == frames
    assert frames_for(int(seconds * RATE), whole_window=True) == 3_000


def test_a_long_utterance_is_cut_where_it_is_quietest() -> None:
    samples = sound(60.0)
    samples[int(22.0 * RATE) : int(22.4 * RATE)] = 0

    pieces = list(pieces_of(samples))

    assert len(pieces[0]) / RATE == pytest.approx(22.2, abs=0.2)
    assert all(len(piece) <= LONGEST_PIECE_S * RATE for piece in pieces)
    assert np.array_equal(np.concatenate(pieces), samples)


def test_what_is_too_short_to_be_speech_is_not_heard() -> None:
    assert list(pieces_of(sound(0.05))) == []


@pytest.mark.parametrize(
    ("text", "looping"),
    [
        ("turn on turn on turn on the lamp", True),
        ("谢谢大家谢谢大家谢谢大家", True),
        ("turn on the lamp", False),
        ("好好好", False),
        ("tell me, tell me", False),
        ("", False),
    ],
)
def test_a_phrase_three_times_in_a_row_is_a_loop(text: str, looping: bool) -> None:
    assert loops(text) is looping


def test_pieces_are_bytes_that_are_written_as_characters() -> None:
    assert text_of(["<|zh|>", "ä½ł", "å¥½", "ï¼Į", "Ġit", "'s", "<|endoftext|>"]) == "你好， it's"
    assert text_of(["ä½"]) == "\ufffd"


VOCABULARY = [
    "<|0.50|>",
    "1",
    "ä",
    "½",
    "ł",
    "å",
    "ä½",
    "¥",
    "ä½ł",
    "å¥",
    "½ä",
    "Ġ",
    "G",
    "o",
    "Go",
    "Ġ2",
    "%",
    ".",
    ".",
]


def test_a_text_is_cut_as_the_model_was_taught() -> None:
    """The pair that stands first in the vocabulary is merged first: not "½ä" of "好你"."""
    assert pieces_of_text("你你", VOCABULARY) == ["ä½ł", "ä½ł"]
    assert pieces_of_text("你. Go", VOCABULARY) == ["ä½ł", ".", "Ġ", "Go"]
    assert text_of(pieces_of_text("好，你 Go", VOCABULARY)) == "好，你 Go"


def test_pieces_with_digits_are_found_and_marks_are_none() -> None:
    assert digits_of(VOCABULARY) == [1, 15, 16]


@pytest.mark.parametrize(
    ("name", "text"), [("vocabulary.txt", "a\nĠb\n1"), ("vocabulary.json", '["a", "\\u0120b", "1"]')]
)
def test_a_vocabulary_is_read_as_it_comes(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")

    assert read_vocabulary(tmp_path) == ["a", "Ġb", "1"]


def test_what_is_doubtful_and_what_is_noise() -> None:
    good, unsure = WhisperText("hello", "en", -0.3, 0.1), WhisperText("hello", "en", -1.2, 0.1)
    noise, loop = WhisperText("you", "en", -1.2, 0.8), WhisperText("hi ho hi ho hi ho", "en", -0.1, 0.1)

    assert [text.is_doubtful for text in (good, unsure, noise, loop)] == [False, True, False, True]
    assert [text.is_noise for text in (good, unsure, noise, loop)] == [False, True, True, False]


def test_an_unexpected_language_must_be_nearly_sure() -> None:
    probable = [("<|el|>", 0.6), ("<|zh|>", 0.3), ("<|en|>", 0.1)]

    assert language_among(probable, ()) == "el"
    assert language_among(probable, ("en", "zh")) == "zh"
    assert language_among([("<|fr|>", 0.95), ("<|en|>", 0.05)], ("en", "zh")) == "fr"
    assert language_among([("<|fr|>", 0.5)], ("en", "zh")) == "fr"


def test_longer_and_whole_windows_cost_more() -> None:
    assert cost_of(RATE) < cost_of(20 * RATE) < cost_of(RATE, whole_window=True)


def test_traditional_characters_become_simplified_ones() -> None:
    assert simplified("開燈，這個時間點") == "开灯，这个时间点"
    chinese = transcript_of([WhisperText("打開", "zh", -0.1, 0.0), WhisperText("客廳的燈", "zh", -0.7, 0.0)])

    assert (chinese.text, chinese.language, chinese.confidence) == ("打开客厅的灯", "zh", 0.497)
    assert transcript_of([WhisperText("東京", "ja", -0.1, 0.0)]).text == "東京"
    assert transcript_of([]).text == ""


# --- the listener ---------------------------------------------------------------------------------------------------


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> type[WhisperModel]:
    return stand_in_ctranslate2(monkeypatch)


@pytest.fixture
def listener(library: type[WhisperModel], tmp_path: Path) -> Iterator[WhisperListener]:
    found = WhisperListener(a_whisper_model(tmp_path / "mine"), InlineInference(), lambda: "ASR.W.model_dir")  # type: ignore[arg-type]
    yield found
    found.release()


GOOD = (["Ġhello"], -0.2, 0.0)
BAD = (["Ġjunk"], -1.5, 0.1)
NOISE = (["Ġyou"], -1.5, 0.9)


def test_what_is_heard_badly_is_heard_once_more_with_the_whole_window(
    listener: WhisperListener, library: type[WhisperModel]
) -> None:
    library.script = [BAD, GOOD]

    assert listener.hear(sound(2), "en", 5.0).text == "hello"
    assert [frames for frames, _ in library.asked] == [700, 3_000]
    library.asked.clear()
    library.script = [BAD]
    assert listener.hear(sound(2), "en", 5.0, second_look=False).text == ""
    assert len(library.asked) == 1


def test_noise_says_nothing_and_gets_no_second_look(listener: WhisperListener, library: type[WhisperModel]) -> None:
    library.script = [NOISE]

    assert listener.hear(sound(2), "", 5.0).text == ""
    assert len(library.asked) == 1


def test_a_second_look_that_hears_no_better_says_nothing(
    listener: WhisperListener, library: type[WhisperModel]
) -> None:
    library.script = [BAD, BAD]

    assert listener.hear(sound(2), "en", 5.0).text == ""


def test_the_language_of_the_first_piece_is_that_of_the_others(
    listener: WhisperListener, library: type[WhisperModel]
) -> None:
    found = listener.hear(sound(40), "", 5.0)

    assert (found.text, found.language) == ("你好你好", "zh")
    assert [prompt[1] for _, prompt in library.asked] == ["<|zh|>", "<|zh|>"]
    library.asked.clear()
    listener.hear(sound(1), "de", 5.0)
    assert library.asked[0][1][1:3] == ["<|de|>", "<|transcribe|>"]


def test_chinese_is_written_without_digits_and_other_languages_with_them(
    library: type[WhisperModel], tmp_path: Path
) -> None:
    folder = a_whisper_model(tmp_path / "mine")
    (folder / "vocabulary.txt").write_text("a\n1\nĠ20%", encoding="utf-8")
    listener = WhisperListener(folder, InlineInference(), lambda: "x")  # type: ignore[arg-type]

    for language in ("zh", "yue", "en", "ja"):
        listener.hear(sound(1), language, 5.0)

    assert library.refused == [[-1, 1, 2], [-1, 1, 2], [-1], [-1]]
    listener.release()


KAI, DENG, DENG2 = "å¼Ģ", "çģ¯", "çŃī"
"""开, 灯, 等."""


def test_of_texts_that_are_nearly_as_probable_the_first_that_is_known_is_taken(
    listener: WhisperListener, library: type[WhisperModel]
) -> None:
    library.script = [([KAI, DENG2], -0.4, 0.0)] * 4
    library.others = [([DENG], -0.5), ([KAI, DENG], -0.6), ([KAI], -0.9)]

    def heard(*known: str) -> str:
        return listener.hear(sound(1), "zh", 5.0, known=known.__contains__).text

    assert heard() == "开等"
    assert heard("开灯", "灯") == "灯"
    assert heard("开灯", "开") == "开灯"
    assert heard("开") == "开等", "much less probable"


def test_traditional_characters_are_known_as_simplified_ones(
    listener: WhisperListener, library: type[WhisperModel]
) -> None:
    library.script = [([KAI], -0.4, 0.0)]
    library.others = [(["éĸĭ", "çĩĪ"], -0.5)]  # 開燈

    assert listener.hear(sound(1), "zh", 5.0, known=["开灯"].__contains__).text == "开灯"


def test_noise_is_never_taken_for_a_request(listener: WhisperListener, library: type[WhisperModel]) -> None:
    library.script = [([DENG], -0.9, 0.9)]
    library.others = [([KAI, DENG], -0.95)]

    assert listener.hear(sound(1), "zh", 5.0, known=lambda text: True).text == ""


def test_who_expects_requests_tells_the_model_how_they_are_written(
    listener: WhisperListener, library: type[WhisperModel]
) -> None:
    for language in ("zh", "en"):
        listener.hear(sound(1), language, 5.0, known=lambda text: False)
    listener.hear(sound(1), "zh", 5.0)

    with_requests, english, without = (prompt for _, prompt in library.asked)
    assert with_requests[0] == "<|startofprev|>" and without == with_requests[-len(without) :]
    assert text_of(with_requests[1 : -len(without)]) == HABITS["zh"]
    assert english[0] == without[0] == "<|startoftranscript|>"


def test_an_english_model_is_asked_in_its_own_way(library: type[WhisperModel], tmp_path: Path) -> None:
    folder = a_whisper_model(tmp_path / "tiny.en")
    (folder / "config.json").write_bytes(b"en")
    listener = WhisperListener(folder, InlineInference(), lambda: "x")  # type: ignore[arg-type]

    assert listener.hear(sound(1), "", 5.0).language == "en"
    assert library.asked[0][1] == ["<|startoftranscript|>", "<|notimestamps|>"]
    listener.release()


def test_no_time_and_no_model(listener: WhisperListener, library: type[WhisperModel], tmp_path: Path) -> None:
    with pytest.raises(VendorTimeout):
        listener.hear(sound(1), "", 0.0)
    listener.release()
    with pytest.raises(VendorUnavailable, match="closed"):
        listener.hear(sound(1), "", 5.0)
    (a_whisper_model(tmp_path / "bad") / "model.bin").write_bytes(b"broken")
    broken = WhisperListener(tmp_path / "bad", InlineInference(), lambda: "ASR.W.model_dir")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"ASR\.W\.model_dir.*Unsupported model binary"):
        broken.get()
    broken.release()


def test_blocks_that_name_the_same_folder_share_one_model(
    listener: WhisperListener, library: type[WhisperModel], tmp_path: Path
) -> None:
    other = WhisperListener(tmp_path / "mine", InlineInference(), lambda: "y")  # type: ignore[arg-type]

    assert listener.get() is other.get() and len(library.loaded) == 1
    other.release()


def test_bytes_that_are_not_the_published_ones_are_refused(library: type[WhisperModel], tmp_path: Path) -> None:
    """Of a folder that is called like a model of the catalogue; what is in any other folder is its owner's business."""
    folder = a_whisper_model(tmp_path / "faster-whisper-base")
    listener = WhisperListener(folder, InlineInference(), lambda: "ASR.W.model_dir")  # type: ignore[arg-type]

    with pytest.raises(SettingsError, match=r"model\.bin.*models fetch faster-whisper-base"):
        listener.get()
    listener.release()
    assert unsound(a_whisper_model(tmp_path / "mine")) == ""


def test_options_that_cannot_be_used_are_told(library: type[WhisperModel], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="models fetch faster-whisper-base"):
        WhisperAsrOptions(model_dir=str(tmp_path))
    folder = str(a_whisper_model(tmp_path / "w"))
    with pytest.raises(ValueError, match="a code of two letters"):
        WhisperAsrOptions(model_dir=folder, language="chinese")
    assert WhisperAsrOptions(model_dir=folder, language="zh-CN").language == "zh"
    assert is_whisper(Path(folder)) and not is_whisper(tmp_path / "nothing")
