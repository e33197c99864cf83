"""What a run means, in a sentence: good, late, failed or refused. Words only; whoever judges by it asks `of`."""

from __future__ import annotations

from loadtest.report.result import Step, figure
from loadtest.simulator.record import FIRST_AUDIO

AIM_MS = 1_000.0
"""Longest p95 from the end of speech to the first audio frame."""
REFUSED, FAILED, EMPTY, LATE, GOOD = "refused", "failed", "empty", "late", "good"
REFUSAL = "refused"
"""How the reason of a failure begins when the server turned a device away: see `simulator/visits.py`."""


def of(step: Step, aim_ms: float = AIM_MS) -> str:
    """One of the words above."""
    if step["failed"]:
        return REFUSED if refusals(step) else FAILED
    p95 = figure(step, f"ms.{FIRST_AUDIO}.p95")
    if not step["talking"]:
        return GOOD
    return EMPTY if p95 is None else LATE if p95 > aim_ms else GOOD


def refusals(step: Step) -> int:
    """How often the server turned a device away, or a turn."""
    doors = sum(count for reason, count in step["failures"].items() if reason.startswith(REFUSAL))
    return doors + int(step["turns_refused"])


def sentence(step: Step, aim_ms: float = AIM_MS) -> str:
    """The verdict on one run."""
    word, p95 = of(step, aim_ms), figure(step, f"ms.{FIRST_AUDIO}.p95")
    refused = refusals(step)
    others = max(0, step["failed"] - refused)
    if word == REFUSED:
        more = f"; {others:,} more failed" if others else ""
        turns = step["turns_refused"]
        causes = [f"{turns:,} turns, overloaded"] if turns else []
        causes += [f"{count:,} x {reason}" for reason, count in step["failures"].items() if reason.startswith(REFUSAL)]
        said = f"the server refused {refused:,} times ({', '.join(causes)}){more}"
    elif word == FAILED:
        said = f"{others:,} failures, mostly: {max(step['failures'], key=step['failures'].__getitem__)}"
    elif word == EMPTY:
        said = "no turn was completed"
    elif p95 is None:
        said = "no failure"
    elif word == LATE:
        said = f"nothing failed, but p95 to first audio is {p95:,.0f} ms, above the aim of {aim_ms:,.0f}"
    else:
        said = f"nothing failed, p95 to first audio is {p95:,.0f} ms, within the aim of {aim_ms:,.0f}"
    doubt = " The load generator was saturated: latencies are partly its own." if step["client"]["saturated"] else ""
    return f"{step['devices']:,} devices: {word.upper()}: {said}.{doubt}"
