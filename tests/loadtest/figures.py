"""Made-up runs for the tests of everything that shows or compares figures."""

from __future__ import annotations

from loadtest.report.result import Step, of_run
from loadtest.report.usage import Sample
from loadtest.simulator.record import ABORT, FIRST_AUDIO, GAP, HANDSHAKE, HELLO, LATENESS, STT, Record
from loadtest.simulator.scenario import Scenario

MB = 1_000_000


def a_step(
    devices: int = 10, *, first_audio: float = 550.0, failures: dict[str, int] | None = None, cores: float = 0.5
) -> Step:
    """A run of 10 s in which every device made two turns; latencies lie between `first_audio` and 100 ms more."""
    record = Record()
    for number in range(2 * devices):
        record.measured(FIRST_AUDIO, first_audio + 100 * number / max(1, 2 * devices - 1), at=100 + number / devices)
        record.measured(STT, 300, at=101)
        record.spread(GAP).add(60.0, times=99)
        record.spread(GAP).add(66.0)
        record.count("turns")
        record.count("turns in all")
    for name in (HANDSHAKE, HELLO):
        record.measured(name, 2.0)
    record.measured(ABORT, 3.0)
    record.spread(LATENESS).add(0.5)
    record.count("finished", devices)
    record.failures.update(failures or {})
    record.clients["1"] = {"cpu_s": 1.0, "wall_s": 10.0, "rss": 60.0 * MB, "began": 100.0}
    record.window = (100.0, 110.0)
    samples = [
        Sample(99.0 + number, 1, 5, 100 * MB + number * MB, cores * number, 100 * number, 10 * number, 20 + number, 0.4)
        for number in range(13)
    ]
    return of_run(Scenario(devices=devices), record, samples, samples[0])
