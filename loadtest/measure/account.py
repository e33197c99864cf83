"""What the server itself says of a run, read from its `/metrics`: what the time from the end of speech to the first
frame was spent on, and how many turns it refused.

Means, because only means add up. The server judges the end of speech by its detector, and does not see the way to the
device: what is left to the mean that the devices measured is shown as a share of its own (`UNSEEN`)."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field

UNSEEN = "network and estimate"
_SHARE = re.compile(r'^xiaozhi_turn_share_seconds_(sum|count)\{(?:.*,)?share="([^"]+)".*\} (\S+)$', re.MULTILINE)
_REFUSED = re.compile(r'^xiaozhi_turns_total\{(?:.*,)?outcome="overloaded".*\} (\S+)$', re.MULTILINE)


@dataclass(slots=True)
class Reading:
    """Totals since the start of the server, all workers together."""

    shares: dict[str, tuple[float, float]] = field(default_factory=dict)
    """share -> (seconds, turns); empty for a server that does not tell."""
    refused: float = 0.0
    """Turns answered with an apology because of overload."""


def read(metrics_urls: Sequence[str]) -> Reading:
    """Ask every worker. Raises OSError."""
    reading = Reading()
    for url in metrics_urls:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        for figure, share, value in _SHARE.findall(text):
            seconds, turns = reading.shares.get(share, (0.0, 0.0))
            more = float(value)
            reading.shares[share] = (seconds + more, turns) if figure == "sum" else (seconds, turns + more)
        reading.refused += sum(map(float, _REFUSED.findall(text)))
    return reading


def between(before: Reading, after: Reading, measured_mean_ms: float | None) -> dict[str, float]:
    """Mean ms of each share of the turns between two readings, and what is missing to `measured_mean_ms`. Empty when
    there was no turn, or for a server that does not tell."""
    means: dict[str, float] = {}
    for share, (seconds, turns) in after.shares.items():
        earlier_s, earlier = before.shares.get(share, (0.0, 0.0))
        if turns > earlier:
            means[share] = round((seconds - earlier_s) * 1000 / (turns - earlier), 1)
    if means and measured_mean_ms is not None:
        means[UNSEEN] = round(measured_mean_ms - sum(means.values()), 1)
    return means
