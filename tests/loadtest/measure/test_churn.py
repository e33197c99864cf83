"""Is everything back? The comparison of states, and visits that come and go against a scripted server."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from loadtest.measure import churn
from loadtest.measure.churn import Footprint, connect_once, cycles, left_behind, talk_once
from loadtest.measure.processes import MeasuredServer
from loadtest.simulator import speech
from loadtest.simulator.record import Record
from tests.fakes.sound import tone
from tests.loadtest.server import Peer, serving
from tests.loadtest.simulator.test_device import answer_with

START = Footprint("start", 100.0, 5, 20, 12.0, 0.0)
BEEP = speech.from_pcm(tone(60))


@pytest.mark.parametrize(
    "change,left",
    [
        ({}, []),
        ({"threads": 6}, ["1 threads"]),
        ({"greenlets": 14.0}, []),
        ({"greenlets": 15.0, "connections": 1.0}, ["3 greenlets", "1 connections"]),
        ({"descriptors": 40}, []),
        ({"descriptors": 41}, ["21 file descriptors"]),
        ({"greenlets": None, "rss_mb": 900.0}, []),
    ],
)
def test_what_is_left_behind(change: dict[str, float], left: list[str]) -> None:
    assert left_behind(START, replace(START, **change)) == left


def test_every_visit_is_another_device_and_failures_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "speak", lambda text: BEEP)
    seen: list[str] = []
    done: list[int] = []

    def script(peer: Peer) -> None:
        seen.append(peer.headers["device-id"])
        if len(seen) == 2:
            peer.refuse(503, b"full")
            return
        peer.hello()
        while not isinstance(peer.receive(), bytes):
            pass
        answer_with(peer, text="Number 1.")
        while True:
            peer.receive()

    record = Record()
    with serving(script) as url:
        stage = MeasuredServer(url, [], [], Path())
        cycles(3, 2, connect_once, stage, record, lambda: done.append(1), first=10)
        assert record.failures == {"refused: HTTP 503": 1}
        cycles(1, 1, talk_once, stage, record, lambda: done.append(1), first=20)

    assert len(set(seen)) == len(done) == 4
    assert record.counts["connections"] == 3
    assert record.failures["unexpected answer: Good day."] == 1  # "Good day." is no number


def test_states_and_complaints_are_shown():
    console = Console(record=True, width=120, file=io.StringIO())
    churn.show(console, [START, replace(START, label="after", greenlets=None)], [])
    churn.show(console, [START], ["1 threads left behind"])
    shown = console.export_text()

    assert "Everything is back" in shown and "1 threads left behind" in shown and "–" in shown
