"""Chinese sentences in clauses and in phonemes; the work that waits for a slow voice; the lexicon in little memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.providers.families.kokoro_alphabet import NUMBERS
from xiaozhi.providers.families.mandarin_pinyin import Readings, load_readings
from xiaozhi.providers.families.mandarin_speech import LONGEST_CLAUSE, mandarin_clauses, phonemes_of_text
from xiaozhi.providers.families.packed_words import PackedWords
from xiaozhi.providers.families.speech_backlog import FIXED, PACE_S, SpeechBacklog


@pytest.fixture(scope="module")
def readings() -> Readings:
    return load_readings()


@pytest.mark.parametrize(
    "sentence,pieces",
    [
        ("好的，空调已经调到二十六度。", ["好的，", "空调已经调到二十六度。"]),
        ("嗯，好。", ["嗯，好。"]),
        ("气温零下3.5度，湿度45%。", ["气温零下3.5度，", "湿度45%。"]),
        ("现在是10:05，星期五。", ["现在是10:05，", "星期五。"]),
        ("一共1,234元。", ["一共1,234元。"]),
        # the first stays short, later ones are joined
        ("你好，我是小智，很高兴，认识你。", ["你好，", "我是小智，很高兴，认识你。"]),
        ("他说：“好的。”然后走了。", ["他说：", "“好的。”然后走了。"]),
        ("……", []),
        ("", []),
    ],
)
def test_a_sentence_is_cut_where_people_pause(sentence: str, pieces: list[str]) -> None:
    assert mandarin_clauses(sentence) == pieces


def test_a_long_run_is_cut_behind_a_light_word() -> None:
    pieces = mandarin_clauses("从前有一个住在很远很远的山里面的小男孩他每天都要走很长很长的路去镇上的学校上课")

    assert len(pieces) == 2
    assert pieces[0].endswith("的")
    assert all(len(piece) <= LONGEST_CLAUSE for piece in pieces)


@given(st.text("今天的是了，。！ 12.,:aB", max_size=120))
def test_no_letter_is_lost_and_no_piece_too_long(sentence: str) -> None:
    pieces = mandarin_clauses(sentence)

    def letters(text: str) -> str:
        return "".join(char for char in text if char.isalnum())

    assert letters("".join(pieces)) == letters(sentence)
    assert all(len(piece) <= LONGEST_CLAUSE for piece in pieces)


def test_words_numbers_and_marks_become_phonemes(readings: Readings) -> None:
    assert phonemes_of_text("你好，3度。", readings) == "ni↗xau↓, sa→ntu↘."


def test_latin_words_are_left_to_another_voice(readings: Readings) -> None:
    assert phonemes_of_text("打开Wi-Fi吧", readings) == "ta↓kʰai→pa"


@given(st.text(max_size=40))
def test_whatever_comes_only_the_models_alphabet_leaves(readings: Readings, text: str) -> None:
    assert set(phonemes_of_text(text, readings)) <= set(NUMBERS)


def test_nobody_waits_for_a_free_voice() -> None:
    backlog = SpeechBacklog(workers=1)

    assert backlog.wait_s(0.0) == 0
    assert not backlog.is_late(100, 0.0, 0.5)  # eSpeak would not be any better company


def test_a_sentence_is_late_when_the_work_ahead_and_its_own_take_too_long() -> None:
    backlog = SpeechBacklog(workers=1)
    first = backlog.begin(7, 0.0)
    backlog.begin(7, 0.0)

    assert first.cost_s == pytest.approx(PACE_S * (FIXED + 7))
    assert backlog.wait_s(1.0) == pytest.approx(2 * first.cost_s - 1.0)
    assert backlog.is_late(7, 0.0, 3 * first.cost_s - 0.1)
    assert not backlog.is_late(7, 0.0, 3 * first.cost_s + 0.1)


def test_the_next_piece_begins_where_one_ends() -> None:
    backlog = SpeechBacklog(workers=1)
    first, second = backlog.begin(7, 0.0), backlog.begin(7, 0.0)

    backlog.end(first, 5.0)  # later than estimated

    assert backlog.wait_s(5.0) == pytest.approx(second.cost_s)


def test_a_piece_that_nobody_waits_for_any_more_does_not_make_the_others_younger() -> None:
    backlog = SpeechBacklog(workers=1)
    running, given_up = backlog.begin(7, 0.0), backlog.begin(7, 0.0)

    backlog.end(given_up, 1.0)

    assert backlog.wait_s(1.0) == pytest.approx(running.cost_s - 1.0)


def test_two_workers_share_what_waits() -> None:
    backlog = SpeechBacklog(workers=2)
    cost = backlog.begin(7, 0.0).cost_s

    assert backlog.wait_s(0.0) == 0
    backlog.begin(7, 0.0)
    assert backlog.wait_s(0.0) == pytest.approx(cost)


def test_the_pace_of_this_machine_is_learnt() -> None:
    backlog = SpeechBacklog(workers=1)
    for _ in range(40):
        backlog.end(backlog.begin(7, 0.0), 1.0, worked_s=5.0)

    assert backlog.cost_s(7) == pytest.approx(5.0, rel=0.05)


def test_a_packed_lexicon_finds_what_a_dict_finds() -> None:
    entries = {"read": {"DEFAULT": "ɹˈid", "VBD": "ɹˈɛd"}, "a": "ɐ", "zebra": "zˈibɹə", "é": "A", "": "nothing"}
    packed = PackedWords(entries)

    assert {word: packed.get(word) for word in entries} == entries
    assert packed.get("b") is None
    assert packed.get("zz") is None
    assert PackedWords({}).get("a") is None
    assert "zebra" in packed
    assert "zebr" not in packed
