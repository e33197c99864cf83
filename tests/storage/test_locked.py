"""Another process holds the write lock for 3 s while ten devices talk to a real server: nobody notices."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import Greenlet, monkey
from sqlalchemy import func, select

from loadtest.sounds import Sounds
from tests.databases import opened, write_lock
from tests.e2e.stage import CHAT, QUARTER, TTS, Script, Stage, ask, open_stage, wait_until
from xiaozhi.runtime import tasks
from xiaozhi.storage.tables import memory_summary, output_count, pending_memory

DEVICES = 10
LOCK_S = 3.0
MOST_S = 0.03
"""The hub may stand still for so long at most: half a frame."""
ANSWER = "Fine, and how are you?"
SETTINGS: dict[str, Any] = {
    "selected_module": {"Memory": "mem_local_short"},
    "conversation": {"resume_seconds": 0},
    "device_max_output_size": 1_000_000,
}


class StandStill:
    """How long the hub's thread stood still, at most: blocked in C, or waiting for the interpreter lock.

    Between two ticks of a greenlet that is what is left of the time when the tick itself, the CPU time of the thread, and
    the time for which any thread of this process was ready and the machine ran something else are taken away. So it
    does not matter how busy the machine is."""

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
        gevent.sleep(self.PERIOD_S * 2)
        assert self._greenlet is not None
        self._greenlet.kill()

    def _tick(self) -> None:
        before = self._now()
        while True:
            gevent.sleep(self.PERIOD_S)
            now = self._now()
            passed, worked, kept_waiting = (new - old for new, old in zip(now, before, strict=True))
            self.longest_s = max(self.longest_s, passed - self.PERIOD_S - worked - kept_waiting)
            self.ticks += 1
            before = now

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """(time, CPU time of this thread, time any thread was ready but not running), in seconds."""
        kept_waiting = 0
        for task in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError):
                kept_waiting += int(Path("/proc/self/task", task, "schedstat").read_text().split()[1])
        return time.monotonic(), time.thread_time(), kept_waiting / 1e9


def test_the_measure_sees_a_hub_that_stands_still(tmp_path: Path) -> None:
    with StandStill() as measured:
        gevent.sleep(0.1)
    assert measured.longest_s < MOST_S and measured.ticks > 2

    with StandStill() as measured:
        monkey.get_original("time", "sleep")(0.2)
    assert measured.longest_s > 0.15

    path = tmp_path / "xiaozhi.sqlite"
    with opened(tmp_path), write_lock(path, 0), StandStill() as measured:
        with contextlib.closing(sqlite3.connect(path, timeout=0.3, isolation_level=None)) as on_the_hub:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                on_the_hub.execute("BEGIN IMMEDIATE")
    assert measured.longest_s > 0.2, "SQLite on the hub is what this room is there to avoid"


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
        wait_until(lambda: stage.outcomes().get("answered", 0) >= DEVICES, "everybody to talk")
        # Some visits end while the lock is held, and their memories wait for it.
        leaving = [stage.device(device_id=f"02:00:00:00:04:{number:02x}") for number in range(3)]
        for device in leaving:
            assert ask(device, "I leave").sentences == [ANSWER]

        with write_lock(tmp_path / "xiaozhi.sqlite", 0), StandStill() as measured:
            answered = stage.outcomes()["answered"]
            for device in leaving:
                device.close()
            gevent.sleep(LOCK_S)
            during = stage.outcomes()["answered"] - answered

        stop.append(True)
        gevent.joinall(talking, timeout=60, raise_error=True)
        answers = [greenlet.value for greenlet in talking]
        assert None not in answers
        assert during >= DEVICES, "everybody was answered while the lock was held"
        assert measured.longest_s < MOST_S, f"the hub stood still for {measured.longest_s * 1000:.0f} ms"
        wait_until(lambda: len(stage.server.connections) == 0, "everybody to leave")

    with opened(tmp_path) as database:
        counted, summaries, pending = database.read(
            lambda connection: (
                connection.execute(select(func.sum(output_count.c.characters))).scalar(),
                connection.execute(select(func.count()).select_from(memory_summary)).scalar(),
                connection.execute(select(func.count()).select_from(pending_memory)).scalar(),
            )
        )
    assert counted == (sum(answers) + len(leaving)) * len(ANSWER), "no count is lost, none is counted twice"
    assert summaries == DEVICES + len(leaving) and pending == 0
