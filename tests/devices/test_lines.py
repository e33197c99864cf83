"""What is kept of the lines of devices, in this process and for others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from xiaozhi.devices import lines as module
from xiaozhi.devices.lines import BACK_S, HOUR_S, REPORT, Lines, read
from xiaozhi.speech.line_quality import LineFigures, findings

DEVICE = "02:00:00:00:00:01"


class Line:
    """A session's."""

    def __init__(self, **figures: Any) -> None:
        self.figures = LineFigures(**figures)


class Kept:
    """Lines, with the clock and the reports they write."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.reports: list[tuple[str, Mapping[str, Any]]] = []
        self.lines = Lines(note=lambda device, report: self.reports.append((device, report)), clock=self.clock)

    def visit(self, *, broken: bool = False, **figures: Any) -> None:
        line = Line(**figures)
        self.lines.joined(DEVICE, line)
        self.lines.left(DEVICE, line, broken=broken)

    def known(self) -> LineFigures:
        figures = self.lines.of(DEVICE)[1]
        assert figures is not None
        return figures


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_nothing_is_known_of_a_stranger(kept: Kept) -> None:
    assert kept.lines.of(DEVICE) == (False, None)


def test_the_visit_under_way_counts_most(kept: Kept) -> None:
    kept.visit(sent=100, starved=10)
    kept.lines.joined(DEVICE, Line(sent=60, starved=1))

    live, figures = kept.lines.of(DEVICE)

    assert live
    assert figures is not None
    assert (figures.sent, figures.starved) == (110, 6)


def test_a_broken_connection_that_is_back_at_once_is_a_reconnect(kept: Kept) -> None:
    for pause in (1, BACK_S - 1, BACK_S + 1):
        kept.visit(broken=True, received=1)
        kept.clock.advance(pause)
    kept.visit(received=1)
    assert kept.known().reconnects == 2, "the last one was woken by somebody"

    kept.visit(received=1)
    assert kept.known().reconnects == 2, "a goodbye is no break"
    assert kept.lines.totals.connections == {"lost": 3, "back": 2}

    kept.clock.advance(HOUR_S)
    assert kept.known().reconnects == 0


def test_what_a_visit_has_shown_is_written_down(kept: Kept) -> None:
    kept.lines.signal(DEVICE, -84)
    kept.visit(sent=200, received=200, stalls=9, jitter_ms=70.5)

    [(device, report)] = kept.reports
    found = read(report)

    assert device == DEVICE
    assert found is not None
    at, figures = found
    assert at == kept.clock()
    assert figures == LineFigures(sent=200, received=200, stalls=9, jitter_ms=70.5, rssi=-84)
    assert [finding.kind for finding in findings(figures)] == ["wifi", "jitter"]


def test_a_visit_that_says_nothing_is_not_written_down(kept: Kept) -> None:
    kept.visit()
    kept.visit(sent=3)

    assert kept.reports == []
    assert kept.lines.totals.visits == {"unknown": 1}


@pytest.mark.parametrize("report", [{}, {REPORT: None}, {REPORT: [1]}, {REPORT: "weak"}])
def test_a_report_without_a_line(report: dict[str, Any]) -> None:
    assert read(report) is None


def test_a_report_of_another_version_is_read_as_far_as_it_goes() -> None:
    assert read({REPORT: {"at": 7, "sent": 5, "moods": 3, "rssi": "weak"}}) == (7.0, LineFigures(sent=5))


def test_the_totals_are_those_of_visits_alone(kept: Kept) -> None:
    told: list[LineFigures] = []
    kept.lines.on_visit = told.append
    kept.visit(sent=100, starved=5, pauses=1, server_late=2, slow_sends=3, received=90, lost=10, late=4, duplicates=6)
    kept.visit(sent=100, received=100)

    totals = kept.lines.totals
    assert totals.gaps == {"voice": 5, "pause": 1, "server": 2, "network": 3}
    assert totals.packets == {"received": 190, "lost": 10, "duplicate": 6, "late": 4}
    assert [figures.starved for figures in told] == [5, 0]


def test_only_so_many_devices_are_kept(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DEVICES", 2)
    kept.lines.joined(DEVICE, Line(sent=60))
    for number in range(5):
        kept.lines.signal(f"02:00:00:00:01:{number:02d}", -50)

    assert kept.lines.of(DEVICE)[0], "who talks is kept"
    assert kept.lines.of("02:00:00:00:01:00") == (False, None)
    assert kept.lines.of("02:00:00:00:01:04")[1] is not None
