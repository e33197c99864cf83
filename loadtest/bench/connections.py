"""What connections cost: memory and greenlets of an idle one, threads (none), and how fast 500 that come at once are
let in.

Rows (name, value, unit, aim) for `python -m loadtest.bench`.
"""

from __future__ import annotations

import time

import gevent
from gevent.event import Event
from rich.console import Console

from loadtest.measure import idle
from loadtest.measure.processes import MeasuredServer, Setup, StartError, set_up
from loadtest.simulator.record import Record
from loadtest.simulator.scenario import Scenario
from loadtest.simulator.visits import FAILURES, Visitor, reason_of

Row = tuple[str, float | None, str, str]

IDLE = 1_000
AT_ONCE = 500
TRIES = 3
GIVE_UP_S = 60.0


def rows() -> list[Row]:
    """Everything, half a minute."""
    return [*idle_devices(), *arrivals()]


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


def _all_at_once(measured: MeasuredServer, count: int, first: int) -> float:
    plan = Scenario(devices=count, first_device=first, sources=4)
    visitors = [Visitor(measured.url, plan, number, Record()) for number in range(count)]
    go, done = Event(), Event()

    def arrive(visitor: Visitor) -> str:
        go.wait()
        try:
            device = visitor.connect()
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
        connected = sum(visitor.record.counts["connections"] for visitor in visitors)
        if connected + sum(greenlet.dead for greenlet in greenlets) >= count:
            break
        gevent.sleep(0.005)
    seconds = time.monotonic() - began
    done.set()
    gevent.joinall(greenlets, timeout=GIVE_UP_S)
    failures = [str(greenlet.value) for greenlet in greenlets if greenlet.value]
    if failures:
        raise StartError(f"{len(failures)} of {count} connections failed: {failures[0]}")
    return seconds
