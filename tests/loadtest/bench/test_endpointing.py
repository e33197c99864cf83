"""The bench of false cut-offs: its curves, and what the table of words is worth on the material that ships."""

from __future__ import annotations

import pytest

from loadtest.bench.endpointing import PAUSES_MS, WITNESSES, Pause, Point, at, curve, material


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


@pytest.mark.parametrize(("language", "most"), [("en", 0.5), ("zh", 1.05)])
def test_words_earn_their_place_at_the_silence_that_ships(language: str, most: float) -> None:
    pauses = [pause for pause in material() if pause.language == language]
    plain, words = (at(curve(pauses, WITNESSES[name]), 600) for name in ("plain silence", "words"))
    assert plain is not None and words is not None
    assert words <= most * plain
