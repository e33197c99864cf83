"""What watches every test: who blocked the hub, and what was left behind.

Used by tests/conftest.py. Not a profiler: it answers yes or no, and names the culprit.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import weakref
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
from gevent import events

MAX_BLOCKING_S = 0.1
"""How long one greenlet may keep the hub."""

_TICK_S = MAX_BLOCKING_S / 2
"""How often gevent's monitor looks whether anything was switched since it looked last."""

_TASKS = Path("/proc/self/task")
_DESCRIPTORS = Path("/proc/self/fd")


@dataclass(frozen=True, slots=True)
class Block:
    """One stretch of time in which `greenlet` kept the hub from everybody else."""

    greenlet: str
    seconds: float
    stack: str

    def __str__(self) -> str:
        return f"{self.greenlet} for at least {self.seconds * 1000:.0f} ms, at\n{self.stack}"


class HubWatch:
    """Listens to gevent's own monitor thread, and takes away the time that the machine, not the code, was busy.

    Blocks by the greenlet that called `reset` (the test itself) do not count: a test may compute as long as it likes,
    it is the product's greenlets that may not."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._runner: Any = None
        self._monitor: Any = None
        self._tid = 0
        self._tick = 0
        self._ticked = self._began = self._now()
        self._blocked_at_tick: int | None = None

    def start(self) -> None:
        """Listen to the monitor of this thread's hub, starting it if need be. The switch is on only while it is
        started: left on, as by the environment variable GEVENT_MONITOR_THREAD_ENABLE, every hub of every other thread
        would get one more thread at some odd moment."""
        gevent.config.max_blocking_time = _TICK_S
        gevent.config.print_blocking_reports = False
        gevent.sleep(0)  # a hub that has never run counts as dead, and its monitor would end at the first tick
        self._tid = _native_thread_id()
        self._ticked = self._now()
        self._attach()
        events.subscribers.append(self._on_event)

    def _attach(self) -> None:
        """Have a monitor that lives: an error in one of its reports ends gevent's for good, and every guard with it."""
        hub = gevent.get_hub()
        monitor = hub.periodic_monitoring_thread
        if monitor is not None and monitor.monitor_thread_ident not in sys._current_frames():
            monitor.kill()
            hub.periodic_monitoring_thread = None
        gevent.config.monitor_thread = True
        self._monitor = hub.start_periodic_monitoring_thread()
        gevent.config.monitor_thread = False
        self._monitor.add_monitoring_function(self._on_tick, _TICK_S)

    def stop(self) -> None:
        """Stop listening. The monitor is a daemon of the process and stays. Idempotent."""
        if self._monitor is not None:
            events.subscribers.remove(self._on_event)
            self._monitor.add_monitoring_function(self._on_tick, None)
            self._monitor = None

    def keep_alive(self) -> None:
        """Start gevent's monitor anew if it has ended; to be called before threads are counted."""
        if self._monitor is not None and self._monitor.monitor_thread_ident not in sys._current_frames():
            self._attach()

    def reset(self) -> list[Block]:
        """What was seen since the last call; the caller is the greenlet that does not count from now on."""
        self._runner = gevent.getcurrent()
        seen, self._blocks = self._blocks, []
        return seen

    # The rest runs in the monitor's native thread: no gevent, no patched locks.

    def _on_tick(self, hub: object) -> None:
        # Called in every round of the monitor, after its own look at the hub.
        self._tick += 1
        self._ticked = self._now()

    def _on_event(self, event: object) -> None:
        # The monitor says: nothing was switched since its last round.
        if (
            not isinstance(event, events.EventLoopBlocked)
            or self._monitor is None
            or event.hub is not self._monitor.hub
        ):
            return
        if self._blocked_at_tick != self._tick - 1:
            self._began = self._ticked
        self._blocked_at_tick = self._tick
        now, began = self._now(), self._began
        blocked = (now[0] - began[0]) - (now[1] - began[1])
        if blocked < MAX_BLOCKING_S or event.greenlet is self._runner:
            return
        block = Block(_name(event.greenlet), blocked, _stack_of(event.info))
        if self._blocks and self._blocks[-1].greenlet == block.greenlet and self._blocks[-1].seconds < blocked:
            self._blocks[-1] = block
        else:
            self._blocks.append(block)

    def _now(self) -> tuple[float, float]:
        """(time, of which the watched thread was ready to run while the machine ran something else), in seconds."""
        return time.monotonic(), _run_queue_wait(self._tid)


def _native_thread_id() -> int:
    try:
        return int(os.readlink("/proc/thread-self").rsplit("/", 1)[1])
    except OSError:
        return 0


def _run_queue_wait(tid: int) -> float:
    """Seconds that a thread was ready to run and the machine ran something else (second field of schedstat); 0 where
    unknown."""
    try:
        return int((_TASKS / str(tid) / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _name(greenlet: Any) -> str:
    return str(getattr(greenlet, "name", "") or greenlet)


def _stack_of(report: list[str]) -> str:
    for index, line in enumerate(report):
        if line.startswith("Blocked Stack"):
            return "".join(report[index + 1].splitlines(keepends=True)[-12:])
    return "".join(report)


# --- leaks -----------------------------------------------------------------------------------------------------------

_started: weakref.WeakSet[gevent.Greenlet] = weakref.WeakSet()
gevent.Greenlet.add_spawn_callback(_started.add)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is alive now. The hub's own thread pool (name look-ups, file I/O) comes and goes by itself and is not
    counted."""

    greenlets: frozenset[int]
    threads: int
    descriptors: Counter[str]

    @classmethod
    def take(cls) -> Snapshot:
        """Look now."""
        return cls(frozenset(id(greenlet) for greenlet in _alive()), _threads(), _descriptors())

    def wait_until_restored(self, seconds: float) -> list[str]:
        """What is still there that was not there before, one line each; waits at most `seconds` for it to go of its own
        accord."""
        left = self._left()
        deadline = time.monotonic() + seconds
        while left and time.monotonic() < deadline:
            gc.collect()  # a socket that only a cycle keeps alive
            gevent.sleep(0.01)
            left = self._left()
        return left

    def _left(self) -> list[str]:
        lines = [
            f"greenlet {_name(greenlet)}: {greenlet!r}" for greenlet in _alive() if id(greenlet) not in self.greenlets
        ]
        if (more := _threads() - self.threads) > 0:
            lines.append(f"{more} more native thread(s)")
        lines += [f"{count} more open: {what}" for what, count in (_descriptors() - self.descriptors).items()]
        return lines


def _alive() -> list[gevent.Greenlet]:
    me = gevent.getcurrent()
    return [greenlet for greenlet in list(_started) if not greenlet.dead and greenlet is not me]


def _threads() -> int:
    """Native threads, without those of the hub's own pool."""
    if not _TASKS.exists():
        return 0
    # `_threadpool`: the public property would create the pool in order to answer.
    pool = gevent.get_hub()._threadpool
    return len(os.listdir(_TASKS)) - (pool.size if pool is not None else 0)


def _descriptors() -> Counter[str]:
    """Open files by what they point to. Left out: event loops' own handles, and devices that carry no state."""
    found: Counter[str] = Counter()
    if not _DESCRIPTORS.exists():
        return found
    for number in os.listdir(_DESCRIPTORS):
        try:
            target = os.readlink(_DESCRIPTORS / number)
        except OSError:  # the handle of this very listing
            continue
        if not target.startswith(("anon_inode:", "/dev/", "/proc/")):
            found[target] += 1
    return found
