"""Runs a scenario headless: a locust master in this process, the devices in worker processes, one merged record at the
end.

The workers are plain locust workers with `locustfile.py`, so the same devices can be driven from locust's web page.
Nothing here talks to the server. The parent stays nearly idle, which is why whoever watches the server may live in it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

import gevent

from loadtest import ROOT
from loadtest.simulator.record import Record
from loadtest.simulator.scenario import Scenario

LOCUSTFILE = ROOT / "loadtest" / "locustfile.py"
DEVICES_PER_PROCESS = 300
WORKERS_START_S = 60.0
LOOK_S = 0.25
QUIT_S = 15.0


class FleetError(Exception):
    """The load generator itself did not work."""


def processes_for(devices: int) -> int:
    """Worker processes: one for every 300 devices, at most as many as the machine has cores."""
    return max(1, min(os.cpu_count() or 1, -(-devices // DEVICES_PER_PROCESS)))


def run(
    scenario: Scenario,
    url: str,
    *,
    processes: int = 0,
    on_progress: Callable[[Record], None] = lambda record: None,
    on_all_there: Callable[[], None] = lambda: None,
) -> Record:
    """Let the devices do it all; the record has a `window` (from, until) in monotonic seconds. Raises FleetError.

    `on_progress` is called a few times a second. `on_all_there` once, when every device should be there: before a run
    of a fixed time begins to count, or (holders) when all are connected."""
    # Not at the top: locust patches the standard library and takes its time, and most who import this module never run
    # anything.
    from loadtest.measure.locust_master import master

    processes = processes or processes_for(scenario.devices)
    scenario = Scenario.from_options(scenario.options(), crews=processes)
    record = Record()
    with master(scenario, url, record, LOCUSTFILE) as runner, _workers(runner.server.port, processes) as workers:
        deadline = time.monotonic() + WORKERS_START_S
        while len(runner.clients.ready) < processes:
            _check(workers)
            if time.monotonic() > deadline:
                raise FleetError(f"the load generator's workers did not start within {WORKERS_START_S:g} s")
            gevent.sleep(0.05)
        runner.start(scenario.devices, spawn_rate=scenario.devices)
        _until_finished(scenario, record, workers, on_progress, on_all_there)
        ended = time.monotonic()
        runner.quit()
    began = min((client["began"] for client in record.clients.values()), default=ended)
    window = scenario.window_s
    record.window = (began + window[0], began + window[1]) if window is not None else (began, ended)
    missing = scenario.devices - record.counts["finished"]
    if missing > 0:
        record.failures["did not come to an end"] += missing
    return record


def _until_finished(
    scenario: Scenario,
    record: Record,
    workers: list[_Worker],
    on_progress: Callable[[Record], None],
    on_all_there: Callable[[], None],
) -> None:
    there = False
    deadline = time.monotonic() + scenario.longest_s
    while time.monotonic() < deadline:
        _check(workers)
        gevent.sleep(LOOK_S)
        on_progress(record)
        began = min((client["began"] for client in record.clients.values()), default=None)
        if began is None:
            continue
        window, now = scenario.window_s, time.monotonic()
        if not there and now >= began + scenario.ramp_s:
            there = True
            on_all_there()
        if record.counts["finished"] >= scenario.devices and (window is None or now >= began + window[1]):
            return


def _check(workers: list[_Worker]) -> None:
    for worker in workers:
        if worker.process.poll() is not None:
            raise FleetError(
                f"a worker of the load generator ended with code {worker.process.returncode}: {worker.last_words()}"
            )


@dataclass(frozen=True, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def last_words(self) -> str:
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace").strip()[-1500:]

    def end(self) -> None:
        try:
            self.process.wait(QUIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def _workers(port: int, count: int) -> Iterator[list[_Worker]]:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--worker", "--master-host", "127.0.0.1"]
    command += ["--master-port", str(port), "--loglevel", "WARNING"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    workers: list[_Worker] = []
    with contextlib.ExitStack() as logs:
        try:
            for _ in range(count):
                log = logs.enter_context(tempfile.TemporaryFile())
                process = subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
                workers.append(_Worker(process, log))
            yield workers
        except BaseException:
            for worker in workers:  # nobody told them to quit
                worker.process.terminate()
            raise
        finally:
            for worker in workers:
                worker.end()
