"""The line to a device: jitter, the lead that follows it, and the sentence that says what is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from xiaozhi.speech.line_quality import (
    CALM_ANSWERS,
    GOOD,
    PAUSE_S,
    SENTENCES,
    UNKNOWN,
    Arrivals,
    Lead,
    LineFigures,
    findings,
)

FINE = LineFigures(sent=1_000, received=1_000, jitter_ms=8.0, rssi=-55, lead=3)


def told(times: list[float], frame_s: float = 0.06) -> Arrivals:
    arrivals = Arrivals(frame_s)
    for at in times:
        arrivals.packet(at)
    return arrivals


# --- jitter -----------------------------------------------------------------------------------------------------------


def test_a_steady_device_does_not_jitter() -> None:
    arrivals = told([10 + 0.06 * number for number in range(200)])

    assert arrivals.jitter == pytest.approx(0.0, abs=1e-9)
    assert (arrivals.packets, arrivals.stalls) == (200, 0)


def test_jitter_is_the_mean_deviation() -> None:
    """Every second packet comes 20 ms late: the distances are 80 and 40 ms."""
    arrivals = told([10 + 0.06 * number + 0.02 * (number % 2) for number in range(400)])

    assert arrivals.jitter == pytest.approx(0.02, rel=0.01)


def test_a_device_that_sends_faster_than_real_time_does_not_jitter() -> None:
    """As after the wake word, whose sound it had kept; and as two frames of 60 ms where 120 ms were said."""
    arrivals = told([10.0] * 30 + [10.06 + 0.06 * number for number in range(20)])

    assert arrivals.jitter == pytest.approx(0.0, abs=1e-9)


def test_a_line_that_stands_still_is_counted_with_what_it_holds_back() -> None:
    times: list[float] = []
    for second in range(10):
        times += [10.0 + second + 0.4 + 0.001 * number for number in range(17)]
    arrivals = told(times)

    assert arrivals.stalls == 9
    assert arrivals.jitter > 0.04


def test_a_pause_is_no_jitter() -> None:
    arrivals = told([10.0, 10.06, 10.12, 10.12 + PAUSE_S + 0.1, 10.28 + PAUSE_S])
    again = told([10.0, 10.06])
    again.restart(0.02)
    again.packet(11.0)
    again.packet(11.02)

    assert (arrivals.jitter, arrivals.stalls) == (pytest.approx(0.0, abs=1e-9), 0)
    assert (again.jitter, again.stalls) == (pytest.approx(0.0, abs=1e-9), 0)


# --- the lead ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jitter_ms", "troubles", "frames"),
    [(0, 0, 3), (20, 0, 3), (40, 0, 3), (50, 0, 4), (100, 0, 6), (1_000, 0, 6), (0, 1, 4), (90, 5, 6)],
)
def test_the_lead_grows_with_what_the_line_needs(jitter_ms: float, troubles: int, frames: int) -> None:
    assert Lead(3, 6).next(frame_ms=60, jitter_ms=jitter_ms, troubles=troubles) == frames


def test_the_lead_never_passes_what_the_board_bears() -> None:
    for lead in (Lead(3, 3), Lead(3, 1)):
        assert {lead.next(frame_ms=60, jitter_ms=500, troubles=9) for _ in range(10)} == {3}


def test_the_lead_shrinks_slowly_and_to_what_is_usual() -> None:
    lead = Lead(3, 6)
    lead.next(frame_ms=60, jitter_ms=90, troubles=0)

    calm = [lead.next(frame_ms=60, jitter_ms=5, troubles=0) for _ in range(4 * CALM_ANSWERS)]

    assert calm[: CALM_ANSWERS - 1] == [6] * (CALM_ANSWERS - 1)
    assert calm == sorted(calm, reverse=True)
    assert calm[-1] == 3


def test_trouble_keeps_the_lead_where_it_is_at_least() -> None:
    lead = Lead(3, 6)
    grown = [lead.next(frame_ms=60, jitter_ms=0, troubles=1) for _ in range(5)]

    assert grown == [4, 5, 6, 6, 6]


# --- what is said of it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kinds", "english"),
    [
        ({}, [GOOD], "The line is good."),
        ({"sent": 10, "received": 10}, [UNKNOWN], "Too little was said yet to judge the line."),
        ({"sent": 0, "received": 0, "rssi": None}, [UNKNOWN], "Too little was said yet to judge the line."),
        ({"rssi": -84}, ["wifi"], "The Wi-Fi of this device is weak (-84 dBm)."),
        ({"rssi": -84, "sent": 0, "received": 0}, ["wifi"], "The Wi-Fi of this device is weak (-84 dBm)."),
        ({"rssi": -77}, [GOOD], "The line is good."),
        ({"rssi": -77, "stalls": 4}, ["wifi", "jitter"], "The Wi-Fi of this device is weak (-77 dBm)."),
        ({"weak": True, "rssi": None}, [GOOD], "The line is good."),
        ({"weak": True, "jitter_ms": 80}, ["signal", "jitter"], "The signal of this device is weak, it says."),
        ({"received": 900, "lost": 100}, ["loss"], "One packet in 10 is lost."),
        ({"received": 990, "lost": 10}, [GOOD], "The line is good."),
        ({"received": 3, "lost": 3}, [GOOD], "The line is good."),
        ({"reconnects": 5}, ["reconnects"], "It reconnects often: 5 times in the last hour."),
        ({"reconnects": 3}, [GOOD], "The line is good."),
        (
            {"jitter_ms": 61.4, "stalls": 7},
            ["jitter"],
            "Its packets arrive unevenly: by 61 ms on average, with 7 interruptions.",
        ),
        ({"slow_sends": 50}, ["slow"], "The network takes the sound too slowly: 5 % of it had to wait."),
        ({"server_late": 100}, ["server"], "This server is overloaded: 10 % of the sound was sent too late."),
        (
            {"server_late": 100, "jitter_ms": 90.0},
            ["server", "jitter"],
            "This server is overloaded: 10 % of the sound was sent too late.",
        ),
        (
            {"starved": 30},
            ["voice"],
            "The voice vendor delivers too slowly: the sound ran out 30 times within a sentence.",
        ),
        ({"starved": 2, "sent": 100}, [GOOD], "The line is good."),
        ({"starved": 9}, [GOOD], "The line is good."),
        (
            {"pauses": 20},
            ["pauses"],
            "Answers pause between sentences (20 times): the language model or the voice is slow.",
        ),
    ],
)
def test_one_sentence_says_why(change: dict[str, Any], kinds: list[str], english: str) -> None:
    found = findings(replace(FINE, **change))

    assert [finding.kind for finding in found] == kinds
    assert found[0].en == english
    assert found[0].zh
    assert not found[0].zh.isascii()


def test_every_sentence_can_be_said() -> None:
    worst = LineFigures(
        sent=1_000, starved=99, pauses=99, server_late=500, slow_sends=500, received=500, lost=500, stalls=9,
        jitter_ms=99, reconnects=9, rssi=-90, weak=True,
    )  # fmt: skip
    kinds = {finding.kind for finding in (*findings(worst), *findings(replace(worst, rssi=None)))}

    assert kinds | {GOOD, UNKNOWN} == set(SENTENCES)


def test_earlier_visits_count_for_less_and_less() -> None:
    bad = replace(FINE, stalls=40, jitter_ms=90.0)
    once = FINE.after(bad)

    assert (once.stalls, once.received, once.jitter_ms) == (20, 1_500, 8.0)
    figures = bad
    for _ in range(5):
        figures = FINE.after(figures)
    assert findings(figures)[0].kind == GOOD
