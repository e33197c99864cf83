"""The connection registry: all connections of this server, and ONE greenlet, the sweeper, that checks them once a
second.

Not admission (`limits.py`, before there is a connection) and not a session. The registry knows a connection by the
small protocol `Live`, so that it does not matter what carries it, and tests need no sockets. `judge` decides what to do
with a connection; it is a pure function of what the connection reports, what was seen before, and the time. The sweeper
only carries the decision out, and never waits for a connection."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

import gevent
from gevent.event import Event

from xiaozhi.protocol import close_codes
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.protocol.messages import Sendable
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks, end, spawn

log = get_logger(__name__)

SLICE: Final = 100
"""Connections checked in one go: about a millisecond."""
DRAIN_GRACE_SECONDS: Final = 5.0
"""Time after the answers have ended: for close frames, memory and reports."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a connection reports about itself. Times are seconds on the registry's clock."""

    connected_at: float
    received: int
    """Messages so far."""
    sent: int
    """Frames so far."""
    last_heard: float
    """When anything came from the device, pongs included."""
    closing_since: float | None = None
    """When its end began; None: it has not."""
    pings: bool = False
    """May it be pinged? Some boards crash when they are."""
    memory_bytes: int = 0
    """An estimate of what its session holds."""
    queue_depth: int = 0
    """How many things wait in the queues of its session."""
    bytes_in: int = 0
    """Bytes so far."""
    bytes_out: int = 0
    cpu_s: float = 0.0
    """Processor time that the device has brought about so far, s."""


class Live(Protocol):
    """A connection, as the registry and those who ask the registry see it. Only `drain` may wait."""

    @property
    def device(self) -> str:
        """The device id in its normal form. A new connection of a device replaces its old one."""

    def vitals(self) -> Vitals:
        """Its state now."""

    def tick(self, now: float) -> None:
        """Called about once a second, for what its session does by the clock."""

    def ping(self) -> bool:
        """Send a ping, if that is possible without waiting; False if not."""

    def trim(self) -> None:
        """Give back the memory that it can do without."""

    def slow_down(self, seconds: float) -> None:
        """Read nothing from it for so long."""

    def push(self, message: Sendable) -> bool:
        """Send the device a message from outside its conversation; False when there is no session that takes it."""

    def close(self, code: int, reason: str) -> None:
        """End it, with a close code."""

    def abort(self, reason: str) -> None:
        """Drop it without a goodbye."""

    def drain(self, seconds: float) -> None:
        """Take no new work; wait for the current work, at most `seconds`."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When the sweeper acts. Seconds; 0 switches a rule off."""

    idle_timeout: float = 300.0
    """No message either way for this long."""
    ping_interval: float = 30.0
    ping_timeout: float = 90.0
    """A device that is pinged and has sent nothing for this long is taken to be gone."""
    closing_timeout: float = 10.0
    """A connection whose end takes longer is dropped."""
    max_memory_bytes: int = 50 << 20
    max_queue_depth: int = 1000
    max_cpu: float = 0.8
    """Of one core, over `cpu_window`. A connection over it is slowed down first, and closed if it is still over it in
    the next window."""
    cpu_window: float = 5.0
    trim_grace: float = 5.0
    """A connection over its budget is trimmed first, and closed if it is still over it this much later."""


@dataclass(frozen=True, slots=True)
class Used:
    """What connections have used: processor time in s, bytes."""

    cpu_s: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0

    def since(self, before: Used) -> Used:
        """What has come to it since `before`."""
        return Used(self.cpu_s - before.cpu_s, self.bytes_in - before.bytes_in, self.bytes_out - before.bytes_out)

    def and_of(self, more: Used) -> Used:
        """The sum."""
        return Used(self.cpu_s + more.cpu_s, self.bytes_in + more.bytes_in, self.bytes_out + more.bytes_out)


@dataclass(slots=True)
class Seen:
    """What the sweeper remembers about one connection."""

    traffic: int = 0
    traffic_at: float = 0.0
    pinged_at: float = 0.0
    trimmed_at: float | None = None
    aborted: bool = False
    cpu_s: float = 0.0
    """Processor time when the window began."""
    window_at: float = 0.0
    share: float = 0.0
    """Of one core, in the window that ended last."""
    slowed: bool = False
    """It used too much in the window before."""
    used: Used = Used()
    """What has been added to the registry's sums."""


class SweepAction(Enum):
    """What the sweeper can do with a connection."""

    KEEP = "keep"
    PING = "ping"
    SLOW = "slow"
    TRIM = "trim"
    CLOSE = "close"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An action; `code` for CLOSE, `reason` for CLOSE and ABORT, `seconds` for SLOW."""

    action: SweepAction
    reason: str = ""
    code: int = 0
    seconds: float = 0.0


KEEP: Final = Verdict(SweepAction.KEEP)


def observe(vitals: Vitals, seen: Seen, now: float) -> None:
    """Note in `seen` whether messages went either way since the last look."""
    traffic = vitals.received + vitals.sent
    if traffic != seen.traffic:
        seen.traffic = traffic
        seen.traffic_at = now


def judge(vitals: Vitals, seen: Seen, policy: Policy, now: float) -> Verdict:
    """What to do with a connection. The first rule that applies decides."""
    if vitals.closing_since is not None:
        zombie = now - vitals.closing_since > policy.closing_timeout > 0 and not seen.aborted
        return Verdict(SweepAction.ABORT, "did not end") if zombie else KEEP
    if vitals.pings and now - max(vitals.last_heard, vitals.connected_at) > policy.ping_timeout > 0:
        return Verdict(SweepAction.ABORT, "no answer to pings")
    if now - max(seen.traffic_at, vitals.connected_at) > policy.idle_timeout > 0:
        return Verdict(SweepAction.CLOSE, "idle", close_codes.NORMAL)
    if vitals.memory_bytes > policy.max_memory_bytes > 0 or vitals.queue_depth > policy.max_queue_depth > 0:
        if seen.trimmed_at is None:
            return Verdict(SweepAction.TRIM)
        return (
            Verdict(SweepAction.CLOSE, "over budget", close_codes.TRY_AGAIN_LATER)
            if now - seen.trimmed_at > policy.trim_grace
            else KEEP
        )
    if (hot := _judge_cpu(vitals, seen, policy, now)) is not None:
        return hot
    if vitals.pings and now - max(vitals.last_heard, seen.pinged_at, vitals.connected_at) >= policy.ping_interval > 0:
        return Verdict(SweepAction.PING)
    return KEEP


def _judge_cpu(vitals: Vitals, seen: Seen, policy: Policy, now: float) -> Verdict | None:
    """Whether it used too much processor time in the window that has just ended."""
    window = now - seen.window_at
    if not policy.max_cpu or window < policy.cpu_window:
        return None
    excess = (vitals.cpu_s - seen.cpu_s) / policy.max_cpu - window
    if excess <= 0:
        return None
    if seen.slowed:
        return Verdict(SweepAction.CLOSE, "too much processor time", close_codes.POLICY_VIOLATION)
    # As long as it takes until it has used no more than it may.
    return Verdict(SweepAction.SLOW, seconds=min(excess, policy.cpu_window))


@dataclass(frozen=True, slots=True)
class Held:
    """What all connections together held at the last sweep."""

    memory_bytes: int = 0
    queued: int = 0
    queued_most: int = 0
    """Of the connection with the most."""
    memory_most: int = 0
    """Of the connection with the most."""

    def and_of(self, vitals: Sequence[Vitals]) -> Held:
        """The sum of this and of these connections."""
        return Held(
            self.memory_bytes + sum([one.memory_bytes for one in vitals]),
            self.queued + sum([one.queue_depth for one in vitals]),
            max(self.queued_most, max([one.queue_depth for one in vitals], default=0)),
            max(self.memory_most, max([one.memory_bytes for one in vitals], default=0)),
        )


@dataclass(frozen=True, slots=True)
class Member:
    """One connection, for operators."""

    number: int
    device: str
    joined_at: float
    last_traffic_at: float
    vitals: Vitals
    cpu_share: float = 0.0
    """Of one core, in the window that ended last."""


class _Entry:
    __slots__ = ("joined_at", "live", "seen")

    def __init__(self, live: Live, now: float) -> None:
        self.live = live
        self.joined_at = now
        self.seen = Seen(traffic_at=now, window_at=now)


class ConnectionRegistry:
    """See the module. `start` the sweeper once; `drain` ends all connections."""

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        per_device: int = 1,
        interval: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        on_join: Callable[[int, str], None] = lambda number, device: None,
        on_leave: Callable[[int], None] = lambda number: None,
    ) -> None:
        """`per_device`: connections a device may have; one more closes its oldest. `interval`: seconds between two
        sweeps. `on_join` and `on_leave` are told of each connection, and may not wait."""
        self.policy = policy or Policy()
        self.per_device = per_device
        self.actions: Counter[str] = Counter()
        """How often each was done so far: "replaced", and the values of SweepAction except "keep"."""
        self.swept_at = clock()
        """When the last sweep ended, for a watchdog."""
        self.held = Held()
        """As of the last sweep."""
        self.used = Used()
        """All connections so far, as of the last sweep."""
        self.interval = interval
        self._clock = clock
        self._on_join = on_join
        self._on_leave = on_leave
        self._entries: dict[int, _Entry] = {}
        self._devices: dict[str, list[int]] = {}  # oldest first
        self._last_number = 0
        self._empty = Event()
        self._empty.set()
        self._closing: tuple[int, str] | None = None
        self._sweeper: gevent.Greenlet | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def sweeper(self) -> gevent.Greenlet | None:
        """The greenlet that sweeps, if one was started."""
        return self._sweeper

    def adopt(self, policy: Policy, *, per_device: int) -> None:
        """Use other rules from now on: for all connections from the next sweep, `per_device` from the next `join`."""
        self.policy = policy
        self.per_device = per_device

    def join(self, live: Live) -> int:
        """Add a connection; returns its number. Too many of one device: the oldest is closed, and not waited for."""
        self._last_number = number = self._last_number + 1
        self._entries[number] = _Entry(live, self._clock())
        self._empty.clear()
        of_device = self._devices.setdefault(live.device, [])
        of_device.append(number)
        while len(of_device) > self.per_device:
            self.replace(of_device[0])
        self._on_join(number, live.device)
        if self._closing is not None:
            live.close(*self._closing)
        return number

    def replace(self, number: int) -> None:
        """Close a connection whose device has come again, here or at another worker. Does not wait."""
        entry = self._entries.get(number)
        if entry is None:
            return
        of_device = self._devices.get(entry.live.device, [])
        if number in of_device:
            of_device.remove(number)
            self.actions["replaced"] += 1
            log.info("connection replaced", device=entry.live.device)
            entry.live.close(close_codes.NORMAL, "replaced")

    def leave(self, number: int) -> None:
        """Forget a connection that has ended. Idempotent."""
        entry = self._entries.pop(number, None)
        if entry is None:
            return
        self._on_leave(number)
        try:
            self._add_up(entry, entry.live.vitals())
        except Exception:
            log.exception("cannot check a connection", device=entry.live.device)
        of_device = self._devices.get(entry.live.device, [])
        if number in of_device:
            of_device.remove(number)
        if not of_device:
            self._devices.pop(entry.live.device, None)
        if not self._entries:
            self._empty.set()

    def of_device(self, device: str) -> list[Live]:
        """The connections of a device, oldest first, without those that were replaced."""
        return [self._entries[number].live for number in self._devices.get(normal_device_id(device), [])]

    def members(self) -> list[Member]:
        """All connections as they are now."""
        return [
            Member(number, one.live.device, one.joined_at, one.seen.traffic_at, one.live.vitals(), one.seen.share)
            for number, one in self._entries.items()
        ]

    # --- the sweeper ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start sweeping."""
        if self._sweeper is None:
            self.swept_at = self._clock()
            self._sweeper = spawn("sweeper", self._sweep_forever)

    def restart(self) -> None:
        """Start a new sweeper in place of one that has died or hangs. Does not wait."""
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None:
            sweeper.kill(block=False)
        self.start()

    def stop(self) -> None:
        """Stop sweeping. Idempotent."""
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None:
            end(sweeper)

    def sweep(self, now: float) -> None:
        """Check all connections once, in one go. Never waits, never raises."""
        self.held = Held().and_of(self._sweep(list(self._entries.values()), now))
        self.swept_at = now

    def _sweep(self, entries: Iterable[_Entry], now: float) -> list[Vitals]:
        seen = []
        for entry in entries:
            try:
                vitals = entry.live.vitals()
                seen.append(vitals)
                self._check(entry, vitals, now)
            except Exception:
                log.exception("cannot check a connection", device=entry.live.device)
        return seen

    def _sweep_forever(self) -> None:
        # In slices spread over the interval: to check 5,000 connections in one go takes 50 ms, in which no frame would
        # be sent.
        while True:
            numbers = list(self._entries) or [0]
            slices = [numbers[start : start + SLICE] for start in range(0, len(numbers), SLICE)]
            held = Held()
            for some in slices:
                gevent.sleep(self.interval / len(slices))
                entries = [entry for number in some if (entry := self._entries.get(number)) is not None]
                held = held.and_of(self._sweep(entries, self._clock()))
            self.held, self.swept_at = held, self._clock()

    def _check(self, entry: _Entry, vitals: Vitals, now: float) -> None:
        live, seen = entry.live, entry.seen
        observe(vitals, seen, now)
        self._add_up(entry, vitals)
        verdict = judge(vitals, seen, self.policy, now)
        if now - seen.window_at >= self.policy.cpu_window:
            seen.slowed = verdict.action is SweepAction.SLOW
            seen.share = (vitals.cpu_s - seen.cpu_s) / (now - seen.window_at)
            seen.cpu_s, seen.window_at = vitals.cpu_s, now
        if verdict.action is SweepAction.KEEP:
            if seen.trimmed_at is not None and now - seen.trimmed_at > self.policy.trim_grace:
                seen.trimmed_at = None  # the trimming was enough; an excess from now on is trimmed again
            if vitals.closing_since is None:
                live.tick(now)
            return
        self.actions[verdict.action.value] += 1
        match verdict.action:
            case SweepAction.PING:
                seen.pinged_at = now
                live.ping()
            case SweepAction.SLOW:
                log.warning("too much processor time", device=live.device, slowed_s=round(verdict.seconds, 1))
                live.slow_down(verdict.seconds)
            case SweepAction.TRIM:
                seen.trimmed_at = now
                log.warning(
                    "over budget", device=live.device, memory_bytes=vitals.memory_bytes, queue_depth=vitals.queue_depth
                )
                live.trim()
            case SweepAction.CLOSE:
                log.info("closing", device=live.device, reason=verdict.reason)
                live.close(verdict.code, verdict.reason)
            case SweepAction.ABORT:
                seen.aborted = True
                log.info("dropping", device=live.device, reason=verdict.reason)
                live.abort(verdict.reason)

    def _add_up(self, entry: _Entry, vitals: Vitals) -> None:
        used = Used(vitals.cpu_s, vitals.bytes_in, vitals.bytes_out)
        self.used = self.used.and_of(used.since(entry.seen.used))
        entry.seen.used = used

    # --- ending ----------------------------------------------------------------------------------------------------

    def close_all(self, code: int = close_codes.GOING_AWAY, reason: str = "") -> None:
        """Close all connections, and also those that come later. Does not wait."""
        self._closing = (code, reason)
        for entry in list(self._entries.values()):
            entry.live.close(code, reason)

    def drain(
        self,
        seconds: float,
        code: int = close_codes.GOING_AWAY,
        reason: str = "server stopping",
        grace: float = DRAIN_GRACE_SECONDS,
    ) -> int:
        """Let every current answer end (all at the same time, at most `seconds`), close every connection, and wait
        until all have ended.

        Blocks at most `seconds` and twice `grace`. Returns how many are left: they were aborted and have not ended even
        then."""
        tasks = Tasks()
        for entry in list(self._entries.values()):
            tasks.spawn("drain", self._drain_one, entry.live, seconds, code, reason)
        tasks.join(seconds)
        tasks.kill(timeout=0.0)
        self.close_all(code, reason)
        if not self._empty.wait(grace):
            for entry in list(self._entries.values()):
                entry.live.abort("did not end in time")
            self._empty.wait(grace)
        return len(self._entries)

    def _drain_one(self, live: Live, seconds: float, code: int, reason: str) -> None:
        live.drain(seconds)
        live.close(code, reason)
