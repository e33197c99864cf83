"""A real server whose database is locked by another process for 3 s, or goes away: nobody who talks notices."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import Greenlet, monkey
from sqlalchemy import func, select

from loadtest.vendors.sounds import Sounds
from tests.databases import opened, postgres_server, write_lock
from tests.e2e.stage import CHAT, QUARTER, TTS, Script, Stage, ask, open_stage
from tests.waiting import wait_for
from xiaozhi.runtime import tasks
from xiaozhi.storage.database import Database
from xiaozhi.storage.tables import memory_summary, output_count, pending_memory

DEVICES = 10
LEAVING = 3
LOCK_S = 3.0
POOLS = ("storage", "inference")
"""What the names of their threads begin with."""
MOST_S = 0.03
"""The hub may stand still for so long at most: half a frame."""
TRIES = 3
"""The kernel does not account for every moment of a busy machine; a hub that waits for the lock stands still always."""
ANSWER = "Fine, and how are you?"
SETTINGS: dict[str, Any] = {
    "selected_module": {"Memory": "mem_local_short"},
    "conversation": {"resume_seconds": 0},
    "device_max_output_size": 1_000_000,
}


class StandStill:
    """How long the hub's thread stood still, at most, while nobody worked who may have the interpreter lock: so it was
    blocked in C, as by a database's lock.

    Between two ticks of a greenlet that is what is left of the time when these are taken away: the tick itself, and the
    time for which the hub's thread and those of the pools ran, or were ready while the machine ran something else. So
    it matters little how busy the machine is."""

    PERIOD_S = 0.005

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.ticks = 0
        self._greenlet: Greenlet | None = None

    def __enter__(self) -> StandStill:
        self._greenlet = tasks.spawn("stand-still", self._tick)
        gevent.sleep(0)
        return self

    def __exit__(self, *_: object) -> None:
        gevent.sleep(self.PERIOD_S * 2)  # sleep: until the last tick
        assert self._greenlet is not None
        self._greenlet.kill()

    def _tick(self) -> None:
        now, busy = time.monotonic(), _busy_s()
        while True:
            gevent.sleep(self.PERIOD_S)  # sleep: it ticks
            before, now = now, time.monotonic()
            busy_before, busy = busy, _busy_s()
            self.longest_s = max(self.longest_s, now - before - self.PERIOD_S - (busy - busy_before))
            self.ticks += 1


def _busy_s() -> float:
    """Seconds for which the threads that matter ran or were ready to run, so far; all together."""
    hub, found = str(threading.main_thread().native_id), 0
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            if thread.name == hub or (thread / "comm").read_text().startswith(POOLS):
                ran, waited, _ = (thread / "schedstat").read_text().split()
                found += int(ran) + int(waited)
    return found / 1e9


def test_the_measure_sees_a_hub_that_stands_still(tmp_path: Path) -> None:
    quiet = []
    while not quiet or min(quiet) >= MOST_S:
        assert len(quiet) < TRIES, quiet
        with StandStill() as measured:
            gevent.sleep(0.1)  # sleep: it is what is measured
        assert measured.ticks >= 1
        quiet.append(measured.longest_s)

    with StandStill() as measured:
        monkey.get_original("time", "sleep")(1.0)
    assert measured.longest_s > 2 * MOST_S

    path = tmp_path / "xiaozhi.sqlite"
    with opened(tmp_path), write_lock(path, 0), StandStill() as measured:
        with contextlib.closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as on_the_hub:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                on_the_hub.execute("BEGIN IMMEDIATE")
    assert measured.longest_s > 2 * MOST_S, "SQLite on the hub is what this room is there to avoid"


def kept(database: Database) -> tuple[int, int, int]:
    """(characters counted, summaries, visits whose memory is not saved yet)."""
    queries = [
        select(func.sum(output_count.c.characters)),
        select(func.count()).select_from(memory_summary),
        select(func.count()).select_from(pending_memory),
    ]
    counted, summaries, pending = database.read(lambda connection: [connection.execute(q).scalar() for q in queries])
    return int(counted or 0), int(summaries or 0), int(pending or 0)


def talk(stage: Stage, stop: list[bool], number: int) -> int:
    """Ask again and again until told to stop, then leave; the number of answers."""
    device = stage.device(device_id=f"02:00:00:00:03:{number:02x}")
    answers = 0
    while not stop or answers == 0:
        assert ask(device, f"question {answers} of {number}").sentences == [ANSWER]
        answers += 1
    device.close()
    return answers


@pytest.mark.timeout(180)
def test_a_lock_held_by_another_process_stops_nobody_and_loses_nothing(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, SETTINGS) as stage:
        stage.vendor.stand(CHAT, Script(answer=ANSWER))
        stage.vendor.stand(TTS, QUARTER)
        stop: list[bool] = []
        talking = [tasks.spawn("device", talk, stage, stop, number) for number in range(DEVICES)]
        wait_for(lambda: stage.outcomes().get("answered", 0) >= DEVICES, "everybody to talk")
        # Some visits end while the lock is held, and their memories wait for it.
        leaving = [stage.device(device_id=f"02:00:00:00:04:{number:02x}") for number in range(LEAVING)]
        for device in leaving:
            assert ask(device, "I leave").sentences == [ANSWER]

        stood_still: list[float] = []
        while not stood_still or min(stood_still) >= MOST_S:
            assert len(stood_still) < TRIES, f"the hub stood still for {stood_still} s"
            with write_lock(tmp_path / "xiaozhi.sqlite", 0), StandStill() as measured:
                answered = stage.outcomes()["answered"]
                while leaving:
                    leaving.pop().close()
                gevent.sleep(LOCK_S)  # sleep: so long the lock is held
                during = stage.outcomes()["answered"] - answered
            stood_still.append(measured.longest_s)
            assert during >= DEVICES, "everybody was answered while the lock was held"

        stop.append(True)
        gevent.joinall(talking, timeout=60, raise_error=True)
        answers = [greenlet.value for greenlet in talking]
        assert None not in answers
        wait_for(lambda: len(stage.server.connections) == 0, "everybody to leave")

    with opened(tmp_path) as database:
        counted, summaries, pending = kept(database)
    assert counted == (sum(answers) + LEAVING) * len(ANSWER), "no count is lost, none is counted twice"
    assert summaries == DEVICES + LEAVING and pending == 0


def test_a_database_server_that_goes_away_costs_nobody_an_answer_and_loses_no_count(
    tmp_path: Path, sounds: Sounds, request: pytest.FixtureRequest
) -> None:
    server = postgres_server(request.config)
    url = server.new_url()
    with open_stage(tmp_path, sounds, {**SETTINGS, "storage": {"url": url}}) as stage:
        stage.vendor.stand(CHAT, Script(answer=ANSWER))
        device = stage.device()
        assert ask(device, "before").sentences == [ANSWER]
        with server.gone():
            assert ask(device, "meanwhile").sentences == [ANSWER]
            newcomer = stage.device()
            assert ask(newcomer, "somebody new").sentences == [ANSWER]
            newcomer.close()
        assert ask(device, "afterwards").sentences == [ANSWER]
        stage.close_devices()
    assert not list(tmp_path.glob("*.sqlite"))
    with opened(url) as database:
        counted, summaries, pending = kept(database)
    assert counted == 4 * len(ANSWER)
    assert summaries + pending == 2, "saved already, or a row that is due later"
