"""Looks at a process tree from outside, once a second: threads, memory, CPU, context switches, file descriptors; and at
the machine.

Works for any server whose process ids are known, in whatever language; nothing is asked of it. What a server says about
itself (`/metrics`: greenlets, say) is read by `scrape`."""

from __future__ import annotations

import contextlib
import os
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import gevent
import psutil

from loadtest.report.usage import Sample

EVERY_S = 1.0
SCRAPE_TIMEOUT_S = 10
_GONE = (psutil.NoSuchProcess, psutil.ZombieProcess, FileNotFoundError, ProcessLookupError)


class Watch:
    """Samples the trees below some process ids. Use as a context manager, or call `look` yourself."""

    def __init__(
        self,
        pids: Iterable[int],
        *,
        every_s: float = EVERY_S,
        on_sample: Callable[[Sample], None] = lambda sample: None,
    ) -> None:
        self._roots = [psutil.Process(pid) for pid in pids]
        self._every_s = every_s
        self._on_sample = on_sample
        self._seen: dict[psutil.Process, tuple[float, int, int]] = {}
        self._machine = _machine_times()
        self._looker: gevent.Greenlet | None = None
        self.samples: list[Sample] = []

    def __enter__(self) -> Watch:
        self.look()
        self._looker = gevent.spawn(self._look_on)
        return self

    def __exit__(self, *_: object) -> None:
        if self._looker is not None:
            self._looker.kill()
            self._looker = None
        self.look()

    def look(self) -> Sample:
        """Take a sample now; it is kept, too."""
        threads = rss = descriptors = processes = 0
        for process in self._tree():
            with contextlib.suppress(*_GONE):
                with process.oneshot():
                    times, memory = process.cpu_times(), process.memory_info().rss
                    count, files = process.num_threads(), process.num_fds()
                    switches = _context_switches(process.pid)
                self._seen[process] = (times.user + times.system, *switches)
                processes, threads, rss, descriptors = processes + 1, threads + count, rss + memory, descriptors + files
        # Processes that have ended keep what they had used.
        cpu, voluntary, involuntary = (
            (sum(values) for values in zip(*self._seen.values(), strict=True)) if self._seen else (0.0, 0, 0)
        )
        before, self._machine = self._machine, _machine_times()
        idle, total = self._machine[0] - before[0], self._machine[1] - before[1]
        busy = 1 - idle / total if total > 0 else 0.0
        sample = Sample(
            time.monotonic(),
            processes,
            threads,
            rss,
            cpu,
            int(voluntary),
            int(involuntary),
            descriptors,
            round(busy, 4),
        )
        self.samples.append(sample)
        self._on_sample(sample)
        return sample

    def _tree(self) -> list[psutil.Process]:
        found: dict[psutil.Process, None] = {}
        for root in self._roots:
            with contextlib.suppress(*_GONE):
                found[root] = None
                found.update(dict.fromkeys(root.children(recursive=True)))
        return list(found)

    def _look_on(self) -> None:
        while True:
            gevent.sleep(self._every_s)
            self.look()


def _context_switches(pid: int) -> tuple[int, int]:
    """(voluntary, involuntary) of all threads; /proc/PID/status itself tells those of the first thread only."""
    voluntary = involuntary = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/task/{task}/status").read_text().splitlines()[-2:]:
                name, _, value = line.partition(":")
                if name == "voluntary_ctxt_switches":
                    voluntary += int(value)
                elif name == "nonvoluntary_ctxt_switches":
                    involuntary += int(value)
    return voluntary, involuntary


def _machine_times() -> tuple[float, float]:
    """(idle, all) seconds of all cores."""
    times = psutil.cpu_times()
    return times.idle + getattr(times, "iowait", 0.0), sum(times) - getattr(times, "guest", 0.0) - getattr(
        times, "guest_nice", 0.0
    )


def listeners(url: str) -> list[int]:
    """Process ids that listen on this machine at the port of `url`; none when it is another machine's, or nobody may
    look."""
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1", "0.0.0.0"):
        return []
    port = parts.port or (443 if parts.scheme in ("wss", "https") else 80)
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return []
    return sorted(
        {each.pid for each in connections if each.status == psutil.CONN_LISTEN and each.laddr.port == port and each.pid}
    )


def scrape(urls: Sequence[str]) -> Mapping[str, float]:
    """Prometheus samples without labels, summed over the pages; empty when none can be read."""
    found: dict[str, float] = {}
    for url in urls:
        try:
            with urllib.request.urlopen(url, timeout=SCRAPE_TIMEOUT_S) as page:
                text = page.read().decode()
        except OSError:
            continue
        for line in text.splitlines():
            name, _, value = line.rpartition(" ")
            if name and not name.startswith("#") and "{" not in name:
                found[name] = found.get(name, 0.0) + float(value)
    return found
