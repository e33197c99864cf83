"""What the server says the time from the end of speech to the first frame was spent on, read from its `/metrics`.

Means, because only means add up. The server judges the end of speech by its detector, and does not see the way to the
device: what is left to the mean that the devices measured is shown as a share of its own (`UNSEEN`)."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Sequence

UNSEEN = "network and estimate"
_LINE = re.compile(r'^xiaozhi_turn_share_seconds_(sum|count)\{(?:.*,)?share="([^"]+)".*\} (\S+)$', re.MULTILINE)

Totals = dict[str, tuple[float, float]]
"""share -> (seconds, turns)"""


def read(metrics_urls: Sequence[str]) -> Totals:
    """The totals of all workers. Raises OSError."""
    totals: Totals = {}
    for url in metrics_urls:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        for figure, share, value in _LINE.findall(text):
            seconds, turns = totals.get(share, (0.0, 0.0))
            totals[share] = (seconds + float(value), turns) if figure == "sum" else (seconds, turns + float(value))
    return totals


def between(before: Totals, after: Totals, measured_mean_ms: float | None) -> dict[str, float]:
    """Mean ms of each share of the turns between two readings, and what is missing to `measured_mean_ms`. Empty when
    there was no turn, or for a server that tells nothing."""
    means: dict[str, float] = {}
    for share, (seconds, turns) in after.items():
        earlier_s, earlier = before.get(share, (0.0, 0.0))
        if turns > earlier:
            means[share] = round((seconds - earlier_s) * 1000 / (turns - earlier), 1)
    if means and measured_mean_ms is not None:
        means[UNSEEN] = round(measured_mean_ms - sum(means.values()), 1)
    return means
