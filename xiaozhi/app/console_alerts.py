"""What the owner of a server should know or do now, from what is known of it: the page of the console has the words.

Pure decisions, no reading: `console_overview.py` finds out, this decides what of it is worth saying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from xiaozhi.runtime.watchdog import Shed

SLOW_S: Final = 0.1
"""Hub lag, smoothed, from which people notice it."""
FULL: Final = 0.9
"""Share of what there is that is taken before it is said."""
DISK_FREE_BYTES: Final = 500 << 20
MEMORY_FREE: Final = 0.05

Level = Literal["bad", "warn", "info"]


@dataclass(frozen=True, slots=True)
class ServerAlert:
    """`code`: which words; `values`: what stands in them."""

    level: Level
    code: str
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is known. What is not known yet is as it should be."""

    database: bool = True
    """Answers."""
    shedding: Shed = Shed.NOTHING
    lag_s: float = 0.0
    devices: int = 0
    places: int = 1
    silent_loops: Mapping[str, float] = field(default_factory=dict)
    """Loops that have not run for so many seconds, and should have."""
    failing_vendors: Mapping[str, str] = field(default_factory=dict)
    """Block: what to do."""
    refusing_vendors: Sequence[str] = ()
    """Blocks whose breaker is not closed."""
    management: Sequence[str] = ()
    """What is wrong with the management console, a sentence each."""
    history_failing: Mapping[str, bool] = field(default_factory=dict)
    """"disk", and each sink."""
    disk_free_bytes: int | None = None
    memory_free: float = 1.0
    """Share of the machine's memory."""
    descriptors: tuple[int, int] = (0, 1)
    """In use, and the limit."""
    pool: tuple[int, int] = (0, 1)
    """Jobs that wait, and how many may."""
    open_port: int = 0
    """Where whoever reaches it may talk as any device; 0: nowhere."""
    offline: Sequence[str] = ()
    """Kinds of providers that are still the offline default."""
    waiting: int = 0
    """Devices that wait for approval."""


def alerts(now: Conditions) -> list[ServerAlert]:
    """The worst first."""
    return [*_bad(now), *_warnings(now), *_hints(now)]


def _bad(now: Conditions) -> list[ServerAlert]:
    found = []
    if not now.database:
        found.append(ServerAlert("bad", "database"))
    if now.history_failing.get("disk"):
        found.append(ServerAlert("bad", "history_disk"))
    if now.disk_free_bytes is not None and now.disk_free_bytes < DISK_FREE_BYTES:
        found.append(ServerAlert("bad", "disk", {"mb": now.disk_free_bytes >> 20}))
    if now.shedding is not Shed.NOTHING:
        found.append(ServerAlert("bad", f"shedding_{now.shedding.name.lower()}", {"ms": round(now.lag_s * 1000)}))
    if now.devices >= now.places:
        found.append(ServerAlert("bad", "full", {"places": now.places}))
    found += [ServerAlert("bad", "vendor", {"vendor": block, "why": why}) for block, why in now.failing_vendors.items()]
    refusing = (block for block in now.refusing_vendors if block not in now.failing_vendors)
    found += [ServerAlert("bad", "breaker", {"vendor": block}) for block in refusing]
    loops = now.silent_loops.items()
    return found + [ServerAlert("bad", "loop", {"loop": name, "seconds": round(seconds)}) for name, seconds in loops]


def _warnings(now: Conditions) -> list[ServerAlert]:
    found = []
    if now.lag_s >= SLOW_S and now.shedding is Shed.NOTHING:
        found.append(ServerAlert("warn", "slow", {"ms": round(now.lag_s * 1000)}))
    used, limit = now.descriptors
    if used >= FULL * limit:
        found.append(ServerAlert("warn", "descriptors", {"used": used, "limit": limit}))
    waiting, room = now.pool
    if waiting >= FULL * room:
        found.append(ServerAlert("warn", "pool", {"waiting": waiting}))
    if now.memory_free < MEMORY_FREE:
        found.append(ServerAlert("warn", "memory", {"percent": round(100 * now.memory_free)}))
    sinks = (sink for sink, fails in now.history_failing.items() if fails and sink != "disk")
    found += [ServerAlert("warn", "history_sink", {"sink": sink}) for sink in sinks]
    found += [ServerAlert("warn", "management", {"what": what}) for what in now.management]
    if now.open_port:
        found.append(ServerAlert("warn", "open", {"port": now.open_port}))
    return found


def _hints(now: Conditions) -> list[ServerAlert]:
    found = []
    if now.waiting:
        found.append(ServerAlert("info", "waiting", {"n": now.waiting}))
    if now.offline:
        found.append(ServerAlert("info", "offline", {"kinds": list(now.offline)}))
    return found
