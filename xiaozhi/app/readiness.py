"""Why a server should not be sent new devices now. Part of the composition root; it only reads."""

from __future__ import annotations

from xiaozhi.runtime.watchdog import Shed, Watchdog


def reasons_not_ready(watchdog: Watchdog, *, draining: bool, started: bool, full: bool) -> list[str]:
    """In words for operators; none when new devices may come."""
    reasons = []
    if draining:
        reasons.append("draining")
    elif not started:
        reasons.append("starting")
    if watchdog.shedding is not Shed.NOTHING:
        refused, lag_ms = watchdog.shedding.name.lower(), watchdog.lag_s * 1000
        reasons.append(f"overloaded, refusing {refused} (hub lag {lag_ms:.0f} ms)")
    if full:
        reasons.append("all places are taken")
    if not draining:
        silent = (loop for loop in watchdog.loops() if not loop.alive)
        reasons += [f"the {loop.name} has not run for {loop.silent_s:.0f} s" for loop in silent]
    return reasons
