"""The bench of false cut-offs: its curves, and what the table of words is worth on the material that ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtest.bench._hesitations import fetched
from loadtest.bench.endpointing import DELAYS_MS, MATERIAL, PAUSES_MS, WITNESSES, Pause, Point, at, curve, material


def test_plain_silence_cuts_off_what_is_longer() -> None:
    points = curve([Pause("en", False, "turn on the", 0.5), Pause("en", True, "now", 0.5)], WITNESSES["plain silence"])
    for point in points:
        assert point.delay_ms == point.plain_ms
        assert point.cut_off == pytest.approx(sum(pause > point.plain_ms for pause in PAUSES_MS) / len(PAUSES_MS))


def test_curves_are_compared_at_a_delay() -> None:
    points = [Point(250, 300, 0.8), Point(500, 400, 0.4), Point(700, 600, 0.2)]
    assert at(points, 200) is None, "none so short"
    assert at(points, 350) == pytest.approx(0.6)
    assert at(points, 400) == 0.4
    assert at(points, 1_000) == 0.2, "nobody has to wait so long"


def share(part: str, language: str, witness: str, delay_ms: int) -> float:
    pauses = [pause for pause in material(MATERIAL[part]) if pause.language == language]
    found = at(curve(pauses, WITNESSES[witness]), delay_ms)
    assert found is not None
    return found


@pytest.mark.parametrize("part", MATERIAL)
def test_in_english_words_leave_about_half_of_the_false_cut_offs(part: str) -> None:
    assert share(part, "en", "words", 600) <= 0.55 * share(part, "en", "plain silence", 600)


@pytest.mark.parametrize("delay_ms", DELAYS_MS)
@pytest.mark.parametrize("part", MATERIAL)
def test_in_english_both_together_leave_half(part: str, delay_ms: int) -> None:
    assert share(part, "en", "words and sound", delay_ms) <= 0.52 * share(part, "en", "plain silence", delay_ms)


@pytest.mark.parametrize("delay_ms", DELAYS_MS)
@pytest.mark.parametrize("witness", ["words", "sound", "words and sound"])
def test_in_chinese_witnesses_are_never_worse_than_silence(witness: str, delay_ms: int) -> None:
    for part in MATERIAL:
        assert share(part, "zh", witness, delay_ms) <= share(part, "zh", "plain silence", delay_ms)


def test_the_two_parts_have_no_recording_in_common() -> None:
    named = [
        {recording["sha256"] for recording in json.loads(path.read_text(encoding="utf-8"))["recordings"]}
        for path in MATERIAL.values()
    ]
    assert not set.intersection(*named) and all(named)


def test_what_a_voice_spoke_is_neither_fetched_nor_missing(tmp_path: Path) -> None:
    assert fetched([{"file": "spoken zf_xiaoxiao 1.0 你好", "sha256": "0" * 64, "language": "zh"}], tmp_path) == 0
