"""Delivery: in order per session, at least once, whatever a sink does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gevent.event import Event

from tests.history.samples import RecordingSink, ended, entry
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import (
    Overloaded,
    StorageError,
    StorageUnavailable,
    VendorRejected,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.history.entries import HistoryEntry
from xiaozhi.history.journal import Journal
from xiaozhi.history.reporter import Reporter


@contextmanager
def reporting(root: Path, *sinks: RecordingSink, **options: Any) -> Iterator[tuple[Journal, Reporter]]:
    journal = Journal(root, max_bytes=1 << 24, gather=0.0)
    reporter = Reporter(journal, sinks, **{"first_pause": 0.0, **options})
    reporter.start()
    try:
        yield journal, reporter
    finally:
        reporter.close()
        journal.close(PATIENCE_S)


def failing(times: int, error: Exception) -> Callable[[Sequence[HistoryEntry]], None]:
    """Raises so many times."""
    left = [error] * times

    def before(entries: Sequence[HistoryEntry]) -> None:
        if left:
            raise left.pop()

    return before


def test_every_sink_gets_everything_in_order_and_the_end_last(tmp_path: Path) -> None:
    one, two = RecordingSink("one"), RecordingSink("two")
    with reporting(tmp_path, one, two) as (journal, reporter):
        for turn in (1, 2, 3):
            journal.append(entry(turn))
        journal.end(ended())

        assert reporter.flush(PATIENCE_S)
        assert one.log == two.log == ["1:1", "1:2", "1:3", "end 1"]
        assert one.entries == [entry(1), entry(2), entry(3)]
        assert reporter.waiting == {"one": 0, "two": 0}


def test_turns_are_delivered_as_they_come(tmp_path: Path) -> None:
    sink = RecordingSink()
    with reporting(tmp_path, sink) as (journal, _):
        for turn in (1, 2):
            journal.append(entry(turn))
            wait_for(lambda turn=turn: len(sink.log) == turn, "the turn to be delivered")


def test_sessions_do_not_wait_for_each_other(tmp_path: Path) -> None:
    hold = Event()

    def before(entries: Sequence[HistoryEntry]) -> None:
        if entries[0].session == entry(1).session:
            hold.wait(PATIENCE_S)

    sink = RecordingSink(before=before)
    with reporting(tmp_path, sink) as (journal, reporter):
        journal.append(entry(1))
        for turn in (1, 2):
            journal.append(entry(turn, number=2))
        journal.end(ended(2))
        wait_for(lambda: "end 2" in sink.log, "the other session")
        assert sink.log == ["2:1", "2:2", "end 2"]
        assert reporter.waiting == {"sink": 4}  # the first is not taken, so the place in the journal has not moved

        hold.set()
        assert reporter.flush(PATIENCE_S)
        assert sink.log[-1] == "1:1"


def test_a_sink_that_is_down_is_tried_again_and_holds_up_no_other(tmp_path: Path) -> None:
    down = RecordingSink("down", failing(3, VendorUnavailable("console", "refused")))
    up = RecordingSink("up")
    with reporting(tmp_path, down, up) as (journal, reporter):
        for turn in (1, 2):
            journal.append(entry(turn))
        journal.end(ended())

        wait_for(lambda: down.log[-1:] == up.log[-1:] == ["end 1"], "both sinks")
        assert down.log == up.log == ["1:1", "1:2", "end 1"]
        assert reporter.counts["down"].failures == 3
        assert not reporter.failing["down"]


def test_pauses_grow_while_a_sink_is_down_and_only_one_worker_asks(tmp_path: Path) -> None:
    sink = RecordingSink(before=failing(10, Overloaded("storage")))
    now = [0.0]
    with reporting(tmp_path, sink, first_pause=1.0, clock=lambda: now[0]) as (journal, reporter):
        for number in range(1, 6):
            journal.append(entry(1, number=number))
        journal.flush(PATIENCE_S)
        wait_for(lambda: reporter.failing["sink"], "the sink to fail")
        for pause, calls in ((1.0, 5), (2.0, 6), (4.0, 7)):
            now[0] += pause + 20 * (calls == 5)
            reporter.revive()
            wait_for(lambda calls=calls: len(sink.calls) >= calls - 3, "another try")
        assert len(sink.calls) <= 8


def test_the_failure_of_one_session_holds_up_no_other(tmp_path: Path) -> None:
    def before(entries: Sequence[HistoryEntry]) -> None:
        if entries[0].session == entry(1).session:
            raise VendorTimeout("console", "slow")

    sink = RecordingSink(before=before)
    with reporting(tmp_path, sink) as (journal, _):
        for number in (1, 2, 3):
            journal.append(entry(1, number=number))

        wait_for(lambda: sorted(sink.log) == ["2:1", "3:1"], "the other sessions")


def test_what_a_sink_refuses_is_given_up_and_nothing_else(tmp_path: Path) -> None:
    def before(entries: Sequence[HistoryEntry]) -> None:
        if any(one.turn == 2 for one in entries):
            raise VendorRejected("console", "too long")

    sink = RecordingSink(before=before)
    with reporting(tmp_path, sink) as (journal, reporter):
        for turn in (1, 2, 3):
            journal.append(entry(turn))
        journal.end(ended())

        assert reporter.flush(PATIENCE_S)
        assert sink.log == ["1:1", "1:3", "end 1"]
        assert reporter.counts["sink"].given_up == 1


def test_an_end_that_is_refused_is_given_up(tmp_path: Path) -> None:
    sink = RecordingSink()

    def refuse(end: object) -> None:
        raise StorageError("no such session")

    sink.before_end = refuse
    with reporting(tmp_path, sink) as (journal, reporter):
        journal.append(entry(1))
        journal.end(ended())

        assert reporter.flush(PATIENCE_S)
        assert sink.log == ["1:1"]
        assert reporter.counts["sink"].given_up == 1


def test_a_bug_in_a_sink_costs_the_turn_and_not_the_others(tmp_path: Path) -> None:
    sink = RecordingSink(before=failing(1, ZeroDivisionError()))
    with reporting(tmp_path, sink) as (journal, reporter):
        journal.append(entry(1))
        journal.append(entry(1, number=2))

        assert reporter.flush(PATIENCE_S)
        assert len(sink.log) == 1


def test_what_was_not_delivered_is_delivered_at_the_next_start_and_the_rest_is_not(tmp_path: Path) -> None:
    def before(entries: Sequence[HistoryEntry]) -> None:
        if entries[0].turn > 1:
            raise StorageUnavailable("locked")

    first = RecordingSink(before=before)
    with reporting(tmp_path, first, first_pause=1_000.0) as (journal, reporter):
        journal.append(entry(1))
        wait_for(lambda: first.log == ["1:1"], "the first turn")
        journal.append(entry(2))
        assert not reporter.flush(PATIENCE_S)

    second = RecordingSink()
    with reporting(tmp_path, second) as (journal, reporter):
        assert reporter.flush(PATIENCE_S)
        assert second.log == ["1:2", "end 1"]
    assert list(tmp_path.iterdir()) == []


def test_a_long_backlog_is_delivered_in_pieces(tmp_path: Path) -> None:
    sink = RecordingSink()
    with reporting(tmp_path / "a", RecordingSink("other")) as (journal, _):
        pass
    with reporting(tmp_path, sink) as (journal, reporter):
        for turn in range(1, 501):
            journal.append(entry(turn, number=turn % 3 + 1))

        assert reporter.flush(PATIENCE_S)
        assert len(sink.log) == len(set(sink.log)) == 500
        for number in "123":
            turns = [int(one.partition(":")[2]) for one in sink.log if one.startswith(f"{number}:")]
            assert turns == sorted(turns)
        assert max(map(len, sink.calls)) <= 16
