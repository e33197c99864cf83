"""Where a recording is cut: of silences and words as models would find them."""

from __future__ import annotations

import random

import numpy as np
import pytest

from loadtest.bench._pauses import Cut, Span, Word, cuts_of

RATE = 16_000


def sound(seconds: float, *silences: Span) -> np.ndarray:
    made = np.random.default_rng(1).normal(0, 0.1, round(seconds * RATE))
    for at, end in silences:
        made[round(at * RATE) : round(end * RATE)] = 0
    return made


def kinds(cuts: list[Cut], kind: str) -> list[tuple[float, float]]:
    return [(round(cut.start, 2), round(cut.at, 2)) for cut in cuts if cut.kind == kind]


ORDER: list[Word] = [("turn", 0.5), ("on", 0.8), ("the", 1.0), ("light", 2.0), ("now.", 2.4)]


def test_a_silence_within_a_sentence_is_a_pause_and_the_last_one_the_end() -> None:
    silences = [(0.0, 0.45), (1.3, 1.9), (2.9, 4.0)]
    cuts = cuts_of(silences, ORDER, sound(4, *silences), random.Random(1))
    assert kinds(cuts, "natural") == [(0.15, 1.36)]
    assert kinds(cuts, "end") == [(0.15, 2.96)]
    assert [cut.at for cut in cuts] == sorted(cut.at for cut in cuts)


def test_behind_a_stop_another_sentence_begins() -> None:
    words = [*ORDER, ("and", 4.0), ("then", 4.3), ("go.", 4.8)]
    silences = [(0.0, 0.45), (2.9, 3.9), (5.2, 6.0)]
    cuts = cuts_of(silences, words, sound(6, *silences), random.Random(1))
    assert kinds(cuts, "end") == [(0.15, 2.96), (3.6, 5.26)]
    assert not kinds(cuts, "natural")


def test_pauses_are_spliced_in_between_words_where_it_is_quiet() -> None:
    quiet = (1.96, 2.0)
    silences = [(0.0, 0.1), (4.5, 5.0)]
    words = [("a", 0.2), ("long", 2.03), ("order", 4.3)]
    cuts = cuts_of(silences, words, sound(5, quiet, *silences), random.Random(1))
    (spliced,) = [cut for cut in cuts if cut.kind == "spliced"]
    assert spliced.at == pytest.approx(1.98, abs=0.015)


def test_at_most_three_that_are_apart() -> None:
    words = [(f"w{at}", 0.5 + at * 0.3) for at in range(40)]
    silences = [(0.0, 0.4), (13.0, 14.0)]
    places = [at for _, at in kinds(cuts_of(silences, words, sound(14, *silences), random.Random(1)), "spliced")]
    assert len(places) == 3 and min(np.diff(sorted(places))) > 0.5


def test_what_goes_on_beyond_the_recording_has_no_end() -> None:
    silences = [(0.0, 0.4)]
    assert not kinds(cuts_of(silences, ORDER, sound(24, *silences), random.Random(1)), "end")


def test_silence_has_no_cuts() -> None:
    assert cuts_of([(0.0, 3.0)], [], sound(3, (0, 3)), random.Random(1)) == []
