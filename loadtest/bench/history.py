"""What keeping the history costs: processor time of one turn from the session to the database, and of the hub for it.

Turns of many devices, as fast as they are taken, and at a pace of one each some milliseconds, where batches are small.
Rows (name, value, unit, aim) for `python -m loadtest.bench`; the aim is 3 % of a turn's 40 ms."""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent

from xiaozhi.history.encoding import compressed
from xiaozhi.history.entries import SOUND_RATE, EndedSession, HistoryEntry, KeptSound, SessionInfo, ToolUse
from xiaozhi.history.journal import Journal
from xiaozhi.history.reporter import Reporter
from xiaozhi.history.store import LocalHistory, Retention
from xiaozhi.storage.database import Database, sqlite_url

Row = tuple[str, float | None, str, str]

TURNS = 500
DEVICES = 50
PACE_S = 0.01
"""Between two turns: 100 a second, some 500 talking devices."""
PATIENCE_S = 60.0
SPEECH = 3_000
"""ms of sound, as a device sends it: packets of 60 ms."""


def rows() -> list[Row]:
    """Some ten seconds."""
    return [
        ("one turn kept, text: CPU of the process", _cost(), "ms", "<= 1.2"),
        ("one turn kept, text and 3 s of sound: CPU of the process", _cost(_spoken()), "ms", "<= 1.2"),
        ("handing over one turn: time on the hub", _hand_over(), "us", "<= 100"),
    ]


def _spoken() -> KeptSound:
    noise = random.Random(1).randbytes(SPEECH * SOUND_RATE // 1000 * 2)
    return compressed(noise)


def _cost(sound: bytes | KeptSound = b"") -> float:
    """CPU ms of a turn at 100 turns a second; what the process uses meanwhile for nothing is taken off."""
    with _history() as (journal, reporter):
        idle = _used(lambda number: None)
        busy = _used(lambda number: journal.append(_entry(number), sound))
        began = time.process_time()
        reporter.flush(PATIENCE_S)
        rest = time.process_time() - began
        assert journal.kept == TURNS
        return (busy - idle + rest) * 1000 / TURNS


def _used(work: Callable[[int], None]) -> float:
    began = time.process_time()
    for number in range(TURNS):
        work(number)
        gevent.sleep(PACE_S)
    return time.process_time() - began


def _hand_over() -> float:
    with _history() as (journal, reporter):
        entries = [_entry(number) for number in range(TURNS)]
        began = time.perf_counter()
        for entry in entries:
            journal.append(entry)
        took = time.perf_counter() - began
        journal.end(EndedSession(entries[0].session, 1.0, 1))
        reporter.flush(PATIENCE_S)
        return took * 1e6 / TURNS


@contextlib.contextmanager
def _history() -> Iterator[tuple[Journal, Reporter]]:
    with tempfile.TemporaryDirectory() as directory:
        database = Database(sqlite_url(Path(directory) / "xiaozhi.sqlite"))
        database.start()
        journal = Journal(Path(directory) / "history", max_bytes=1 << 28)
        reporter = Reporter(journal, [LocalHistory(database, lambda: Retention(30, 7))])
        reporter.start()
        try:
            yield journal, reporter
        finally:
            reporter.close()
            journal.close(PATIENCE_S)
            database.close()


def _entry(number: int) -> HistoryEntry:
    session = SessionInfo(f"{number % DEVICES:032x}", f"02:00:00:00:00:{number % DEVICES:02x}", "client", 1.0)
    return HistoryEntry(
        session,
        number,
        1_790_000_000.0 + number,
        said="how is the weather in Hangzhou tomorrow, and do I need an umbrella",
        spoken=("It will rain in the morning.", "Take an umbrella with you!"),
        tools=(ToolUse("get_weather", {"location": "Hangzhou"}, "done", "rain, 12 to 18 degrees " * 10, 230),),
        timings={"silence": 200, "recognition": 100, "model": 100, "voice": 80, "ended": 4_000},
    )
