"""What a process tree used: samples of it over time, and what they add up to. `measure/watch.py` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """A moment. Sums over the tree; cpu_s, voluntary and involuntary (context switches) count from each process's
    start."""

    at: float
    """Monotonic s."""
    processes: int
    threads: int
    rss: int
    """Bytes."""
    cpu_s: float
    voluntary: int
    involuntary: int
    descriptors: int
    machine_busy: float
    """Share (0..1) of all cores that did anything since the sample before."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the tree used between two samples."""

    seconds: float
    cpu_s: float
    cores: float
    """CPU seconds per second."""
    voluntary_per_s: float
    involuntary_per_s: float
    threads: int
    """Most at any time; likewise below."""
    rss: int
    descriptors: int
    machine_busy: float
    """Mean."""


def usage_between(samples: Sequence[Sample], began: float, ended: float) -> Usage | None:
    """Usage from the last sample before `began` to the first one after `ended` (monotonic s); None with fewer than
    two samples."""
    before = [sample for sample in samples if sample.at <= began][-1:] or samples[:1]
    after = [sample for sample in samples if sample.at >= ended][:1] or samples[-1:]
    inside = [sample for sample in samples if before and after and before[0].at <= sample.at <= after[0].at]
    if len(inside) < 2:
        return None
    first, last = inside[0], inside[-1]
    seconds = last.at - first.at
    return Usage(
        seconds=seconds,
        cpu_s=last.cpu_s - first.cpu_s,
        cores=(last.cpu_s - first.cpu_s) / seconds,
        voluntary_per_s=(last.voluntary - first.voluntary) / seconds,
        involuntary_per_s=(last.involuntary - first.involuntary) / seconds,
        threads=max(sample.threads for sample in inside),
        rss=max(sample.rss for sample in inside),
        descriptors=max(sample.descriptors for sample in inside),
        machine_busy=sum(sample.machine_busy for sample in inside[1:]) / (len(inside) - 1),
    )
