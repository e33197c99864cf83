"""What connections cost: memory and greenlets of an idle one, threads (none), and how fast 500 that come at once are
let in.

Rows (name, value, unit, aim) for `python -m loadtest.bench`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gevent
from gevent.event import Event
from rich.console import Console

from loadtest.measure import idle
from loadtest.measure.processes import MeasuredServer, Setup, StartError, set_up
from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.record import Record
from loadtest.simulator.scenario import Scenario
from loadtest.simulator.visits import FAILURES, Visitor, reason_of
from xiaozhi.devices.directory import DeviceDirectory
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.storage.database import Database, sqlite_url

Row = tuple[str, float | None, str, str]

IDLE = 1_000
AT_ONCE = 500
TRIES = 3
GIVE_UP_S = 60.0


def rows() -> list[Row]:
    """Everything, half a minute."""
    return [*idle_devices(), *arrivals(), *arrivals_with_settings()]


def idle_devices(count: int = IDLE, setup: Setup | None = None) -> list[Row]:
    """Devices that said hello and nothing more."""
    step = idle.measure(setup or Setup(), count, Console(stderr=True))
    each, server = idle.per_connection(step), step["server"]
    name = f"{count:,} idle devices"
    return [
        (f"{name}: RSS each", each["kb"], "KB", "<= 60"),
        (f"{name}: tasks each", each["greenlets"], "greenlets", ""),
        (f"{name}: CPU each", each["cpu_ms_per_s"], "ms/s", ""),
        (f"{name}: more threads than before", float(server["threads"] - server["threads_before"]), "threads", "<= 0"),
        (f"{name}: failed", float(step["failed"]), "devices", "<= 0"),
    ]


def arrivals(count: int = AT_ONCE, tries: int = TRIES, setup: Setup | None = None) -> list[Row]:
    """All connect at the same moment; the time until the last one has its hello. The best of some tries: the load
    generator works, too."""
    with set_up(setup or Setup()) as measured:
        seconds = [_all_at_once(measured, count, first=number * count) for number in range(tries)]
    return [(f"{count} connections at once, the last hello answered", min(seconds), "s", "< 1.5")]


def arrivals_with_settings(count: int = AT_ONCE, tries: int = TRIES, setup: Setup | None = None) -> list[Row]:
    """The same for devices with a prompt of their own each: the time until the last one is served with it."""
    with set_up(setup or Setup()) as measured:
        for first in range(0, tries * count, count):
            _give_settings(measured, count, first)
        seconds = [_all_at_once(measured, count, first, _wait_for_agent) for first in range(0, tries * count, count)]
    name = f"{count} devices with settings of their own at once, the last one served with them"
    return [(name, min(seconds), "s", "< 2")]


def _give_settings(measured: MeasuredServer, count: int, first: int) -> None:
    plan = Scenario(devices=count, first_device=first)
    database = Database(sqlite_url(measured.folder / "worker-0" / "data" / "xiaozhi.sqlite"))
    database.start()
    try:
        directory = DeviceDirectory(database, DeviceNotes(database))
        for number in range(count):
            name = Visitor(measured.url, plan, number, Record()).device_id
            directory.change_settings(name, partial(_with_prompt, prompt=f"You are number {first + number}."))
    finally:
        database.close()


def _with_prompt(own: Mapping[str, Any], prompt: str) -> dict[str, Any]:
    return {**own, "prompt": prompt}


def _wait_for_agent(device: SimulatedDevice) -> None:
    """`abort` is answered when it is known whose settings count."""
    device.abort()
    device.next_json("tts")


def _all_at_once(
    measured: MeasuredServer,
    count: int,
    first: int,
    wait: Callable[[SimulatedDevice], None] = lambda device: None,
) -> float:
    ready: list[int] = []
    plan = Scenario(devices=count, first_device=first, sources=4)
    visitors = [Visitor(measured.url, plan, number, Record()) for number in range(count)]
    go, done = Event(), Event()

    def arrive(visitor: Visitor) -> str:
        go.wait()
        try:
            device = visitor.connect()
            wait(device)
            ready.append(1)
        except FAILURES as error:
            return reason_of(error)
        done.wait()
        device.drop()
        return ""

    greenlets = [gevent.spawn(arrive, visitor) for visitor in visitors]
    gevent.sleep(0.1)
    began = time.monotonic()
    go.set()
    while time.monotonic() < began + GIVE_UP_S:
        if len(ready) + sum(greenlet.dead for greenlet in greenlets) >= count:
            break
        gevent.sleep(0.005)
    seconds = time.monotonic() - began
    done.set()
    gevent.joinall(greenlets, timeout=GIVE_UP_S)
    failures = [str(greenlet.value) for greenlet in greenlets if greenlet.value]
    if failures:
        raise StartError(f"{len(failures)} of {count} connections failed: {failures[0]}")
    return seconds
