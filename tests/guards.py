"""What watches every test: who blocked the hub, and what was left behind.

Used by tests/conftest.py. Not a profiler: it answers yes or no, and names the culprit.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import traceback
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import greenlet
from gevent import monkey

MAX_BLOCKING_S = 0.1
"""How long one greenlet may keep the hub."""

_TICK_S = 0.02
"""How often the watch looks."""

_TASKS = Path("/proc/self/task")
_DESCRIPTORS = Path("/proc/self/fd")
_STACK_LINES = 12

_native_sleep = monkey.get_original("time", "sleep")
_native_ident, _native_id, _start_thread = monkey.get_original(
    "_thread", ["get_ident", "get_native_id", "start_new_thread"]
)


@dataclass(frozen=True, slots=True)
class Block:
    """One stretch of time in which `greenlet` kept the hub from everybody else."""

    greenlet: str
    seconds: float
    stack: str

    def __str__(self) -> str:
        return f"{self.greenlet} for at least {self.seconds * 1000:.0f} ms, at\n{self.stack}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the hub's thread. Times in seconds, all counted from some fixed moment."""

    begun: float
    """When the look began."""
    ended: float
    """When it ended; on a busy machine some ms later."""
    cpu: float
    """Processor time of the thread."""
    queued: float
    """How long the thread was ready to run while the machine ran something else."""
    others: float
    """How long the other threads of this process ran or were ready to run, together."""
    asleep: bool
    """The thread sleeps in the kernel. Only then is `queued` complete: a wait that still lasts is not in it."""
    parked: bool
    """It sleeps, and in something else than a futex; so it does not wait for the interpreter lock."""


class Hold:
    """How long one greenlet has kept the hub, counted from the first look at it; never more than it is to blame for.

    It is to blame for the processor time of the hub's thread, and for the time in which that thread slept in a blocking
    call. It is not to blame for time in which the machine ran something else, nor for time in which the thread waited
    for the interpreter lock because another thread had it (Python in a pool thread is the pool's affair). Such a wait
    cannot be told from a wait for any other native lock, but it can only last while another thread of this process runs
    or is ready to run, so that much is taken off, unless the thread is seen to be parked in a call of another kind.
    """

    def __init__(self, first: Sample) -> None:
        self._first = self._last = first
        self._parked = first.parked
        self._slept = 0.0

    def seconds(self, now: Sample) -> float:
        """The length until now; to be called for each further look."""
        if now.asleep:
            last = self._last
            slept = (now.begun - last.ended) - (now.cpu - last.cpu) - (now.queued - last.queued)
            if not (self._parked and now.parked):
                slept -= now.others - last.others
            self._slept += max(0.0, slept)
            self._last = now
        self._parked = now.parked
        return now.cpu - self._first.cpu + self._slept


class HubWatch:
    """A native thread that looks at the thread of the hub every 20 ms, and notes who kept it for more than 100 ms.

    Blocks by the greenlet that called `reset` (the test itself) do not count: a test may compute as long as it likes,
    it is the product's greenlets that may not. Without Linux's /proc nothing is noted.

    gevent's own monitor is not used: it knows wall time only, takes the time of a report after the look that caused it,
    and searches all objects of the process for each report, which keeps the hub itself.
    """

    def __init__(self, hold: Callable[[Sample], Hold] = Hold) -> None:
        self._begin_hold = hold
        self._blocks: list[Block] = []
        self._hub: Any = None
        self._runner: Any = None
        self._running: Any = None
        self._switches = 0
        self._noted = -1
        self._previous_trace: Any = None
        self._ident = self._tid = 0
        self._stopping = False
        self._fault: BaseException | None = None

    def start(self) -> None:
        """Watch the calling thread and its hub."""
        self._hub = gevent.get_hub()
        self._ident, self._tid = _native_ident(), _native_id()
        self._previous_trace = greenlet.settrace(self._on_switch)
        if _TASKS.exists():
            _start_thread(self._watch, ())

    def stop(self) -> None:
        """Stop watching, in the thread that called `start`. The native thread ends a moment later."""
        self._stopping = True
        greenlet.settrace(self._previous_trace)

    def reset(self) -> list[Block]:
        """What was seen since the last call; the caller is the greenlet that does not count from now on.

        Raises: RuntimeError if the watch itself has failed.
        """
        if self._fault is not None:
            raise RuntimeError("the hub is no longer watched") from self._fault
        self._runner = gevent.getcurrent()  # before the list: see `_watch`
        seen, self._blocks = self._blocks, []
        return seen

    def _on_switch(self, event: str, args: Any) -> None:
        self._switches += 1
        self._running = args[1] if event in ("switch", "throw") else None
        if self._previous_trace is not None:
            self._previous_trace(event, args)

    # The rest runs in the native thread: no gevent, no patched locks.

    def _watch(self) -> None:
        try:
            with _Thread(self._ident, self._tid) as thread:
                hold: Hold | None = None
                seen = -1
                while not self._stopping:
                    _native_sleep(_TICK_S)
                    # The list first, then the runner: what is noted late, in a list that was taken away, is nobody's.
                    blocks, switches, running = self._blocks, self._switches, self._running
                    if running is None or running is self._hub or running is self._runner:
                        hold = None
                        continue
                    sample = thread.look()
                    if self._switches != switches:  # while we looked
                        hold = None
                    elif hold is None or seen != switches:
                        hold, seen = self._begin_hold(sample), switches
                    elif (seconds := hold.seconds(sample)) >= MAX_BLOCKING_S:
                        self._note(blocks, running, seconds, switches)
        except BaseException as fault:  # noqa: BLE001 - told to the next `reset`
            self._fault = fault

    def _note(self, blocks: list[Block], running: Any, seconds: float, switches: int) -> None:
        frame = sys._current_frames().get(self._ident)
        stack = traceback.extract_stack(frame) if self._switches == switches else []
        block = Block(_name(running), seconds, "".join(traceback.format_list(stack[-_STACK_LINES:])))
        if blocks and self._noted == switches:
            blocks[-1] = block  # the same one, later
        else:
            blocks.append(block)
        self._noted = switches


class _Thread:
    """What the kernel tells of one native thread of this process."""

    def __init__(self, ident: int, tid: int) -> None:
        self._clock = time.pthread_getcpuclockid(ident)
        self._tid = str(tid)
        self._files = [os.open(_TASKS / self._tid / name, os.O_RDONLY) for name in ("stat", "schedstat", "wchan")]

    def __enter__(self) -> _Thread:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            os.close(file)

    def look(self) -> Sample:
        """The thread now."""
        begun = time.monotonic()
        stat, schedstat, channel = (os.pread(file, 4096, 0).decode() for file in self._files)
        cpu = time.clock_gettime(self._clock)
        others = time.process_time() - cpu + sum(_queued(tid) for tid in os.listdir(_TASKS) if tid != self._tid)
        asleep = stat[stat.rindex(")") + 2] in "SD"
        return Sample(
            begun=begun,
            ended=time.monotonic(),
            cpu=cpu,
            queued=int(schedstat.split()[1]) / 1e9,
            others=others,
            asleep=asleep,
            parked=asleep and channel != "0" and not channel.startswith("futex"),
        )


def _queued(tid: str) -> float:
    """Seconds that a thread was ready to run and the machine ran something else; 0 when it has ended."""
    try:
        return int((_TASKS / tid / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _name(one: Any) -> str:
    return str(getattr(one, "name", "") or one)


# --- leaks -----------------------------------------------------------------------------------------------------------

LEAK_PATIENCE_S = 30.0
"""How long things may take to go of their own accord. Only a test that fails waits so long."""

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

    def left(self) -> list[str]:
        """What is there now that was not there before, one line each."""
        lines = [f"greenlet {_name(one)}: {one!r}" for one in _alive() if id(one) not in self.greenlets]
        if (more := _threads() - self.threads) > 0:
            lines.append(f"{more} more native thread(s)")
        lines += [f"{count} more open: {what}" for what, count in (_descriptors() - self.descriptors).items()]
        return lines

    def left_in_the_end(self, within: float = LEAK_PATIENCE_S) -> list[str]:
        """What is still left after `within` seconds; returns as soon as nothing is."""
        deadline = time.monotonic() + within
        while (left := self.left()) and time.monotonic() < deadline:
            gc.collect()  # a socket that only a cycle keeps alive
            gevent.sleep(0.01)  # sleep: between two looks
        return left


def _alive() -> list[gevent.Greenlet]:
    me = gevent.getcurrent()
    return [one for one in list(_started) if not one.dead and one is not me]


def _threads() -> int:
    """Native threads, without those of the hub's own pool."""
    if not _TASKS.exists():
        return 0
    return len(os.listdir(_TASKS)) - gevent.get_hub().threadpool.size


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
