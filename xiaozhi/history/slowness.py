"""Why a turn was slow: which shares of its time until the first sound stand out against what is usual. Pure decisions
on numbers; a page puts them into words.

Usual is the median of the device's own latest turns, or of all devices where it has too few, or else what a good set-up
takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal

from xiaozhi.history.entries import ToolUse

SHARES: Final = (
    "detector",
    "silence",
    "grid",
    "recognition",
    "model",
    "first_sentence",
    "voice",
    "encode",
    "pacing",
)
"""In their order. The keys of `HistoryEntry.timings` that sum up to the time until the first sound."""
ENOUGH: Final = 5
"""Turns that a median needs."""
GOOD: Final[Mapping[str, int]] = {
    "detector": 100,
    "silence": 700,
    "grid": 60,
    "recognition": 400,
    "model": 700,
    "first_sentence": 250,
    "voice": 400,
    "encode": 20,
    "pacing": 20,
}
"""ms; for lack of anything to compare with."""
SLOW_MS: Final = 3_000
"""So long a wait is slow, however usual it is."""
_MORE_MS: Final = 300
_MORE: Final = 1.3
"""Slow is what took so much, and so many times, more than usual."""
_LESS: Final = 0.75
_NOTABLE_MS: Final = 150
_NOTABLE: Final = 0.2
"""Of what was too long, a share that is named."""
_LARGE: Final = 0.25
"""Of the whole time, a share that is named where the whole is as usual, and long."""
_MOST: Final = 3

Verdict = Literal["quick", "usual", "slow", "silent"]
Basis = Literal["device", "server", "good"]


@dataclass(frozen=True, slots=True)
class UsualTimes:
    """What shares take usually, ms. `basis`: of which turns that is the median; "good": of none."""

    shares: Mapping[str, float]
    basis: Basis

    @property
    def total(self) -> float:
        """Until the first sound, ms."""
        return sum(self.shares.values())


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that took long. `what`: a share, or "tool" (then `names` says which). `usual`: ms, None: unknown."""

    what: str
    ms: int
    usual: int | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """`verdict`: "silent": there was no sound. `total`, `usual`: until the first sound, ms. `causes`: the longest
    first; none unless it was slow."""

    verdict: Verdict
    total: int
    usual: int
    basis: Basis
    causes: tuple[Cause, ...] = ()


def usual_times(own: Sequence[Mapping[str, int]], everybody: Sequence[Mapping[str, int]] = ()) -> UsualTimes:
    """What is usual, from the timings of a device's own turns and of those of all devices."""
    for turns, basis in ((own, "device"), (everybody, "server")):
        whole = [turn for turn in turns if all(share in turn for share in SHARES)]
        if len(whole) >= ENOUGH:
            shares = {share: float(median(turn[share] for turn in whole)) for share in SHARES}
            return UsualTimes(shares, "device" if basis == "device" else "server")
    return UsualTimes(dict(GOOD), "good")


def explain(timings: Mapping[str, int], tools: Sequence[ToolUse], usual: UsualTimes) -> Explanation:
    """Whether a turn was slow, and why."""
    shares = {share: timings[share] for share in SHARES if share in timings}
    total, expected = sum(shares.values()), round(usual.total)
    if not shares:
        return Explanation("silent", 0, expected, usual.basis)
    longer = total > usual.total * _MORE and total - usual.total >= _MORE_MS
    if not longer and total < SLOW_MS:
        verdict: Verdict = "quick" if total < usual.total * _LESS else "usual"
        return Explanation(verdict, total, expected, usual.basis)
    causes = _tools(shares, tools, usual)
    rest = dict(shares)
    if causes:
        rest["first_sentence"] = max(0, shares.get("first_sentence", 0) - causes[0].ms)
    causes += _longer(rest, usual) if longer else _large(rest, total, usual)
    return Explanation("slow", total, expected, usual.basis, tuple(sorted(causes, key=lambda cause: -cause.ms)[:_MOST]))


def _tools(shares: Mapping[str, int], tools: Sequence[ToolUse], usual: UsualTimes) -> list[Cause]:
    """Tools are waited for between the model's first piece and the first sentence."""
    waited = shares.get("first_sentence", 0) - usual.shares.get("first_sentence", 0)
    took = min(sum(tool.ms or 0 for tool in tools), shares.get("first_sentence", 0))
    if took < _NOTABLE_MS or waited < _NOTABLE_MS:
        return []
    return [Cause("tool", took, names=tuple(dict.fromkeys(tool.name for tool in tools if tool.ms)))]


def _longer(shares: Mapping[str, int], usual: UsualTimes) -> list[Cause]:
    excess = {share: ms - usual.shares.get(share, 0.0) for share, ms in shares.items()}
    whole = sum(more for more in excess.values() if more > 0)
    return [
        Cause(share, shares[share], round(usual.shares.get(share, 0.0)))
        for share, more in excess.items()
        if more >= _NOTABLE_MS and more >= whole * _NOTABLE
    ]


def _large(shares: Mapping[str, int], total: int, usual: UsualTimes) -> list[Cause]:
    return [
        Cause(share, ms, round(usual.shares.get(share, 0.0))) for share, ms in shares.items() if ms >= total * _LARGE
    ]
