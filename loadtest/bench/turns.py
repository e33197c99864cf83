"""What a turn costs and how long it takes: end of speech to first audio, interrupts, CPU, gaps between frames.

Vendors are scripted at ASR 100, LLM 100 and TTS 80 ms, the end silence is 200 ms, every reply is different. Rows (name,
value, unit, aim) for `python -m loadtest.bench`; see docs/capacity.md for how many devices a machine carries."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from loadtest.measure import run
from loadtest.measure.processes import EXPECTED, Setup, Vendors, set_up
from loadtest.report.result import Step, figure
from loadtest.simulator.record import ABORT, BARGE_IN, FIRST_AUDIO
from loadtest.simulator.scenario import Scenario

Row = tuple[str, float | None, str, str]

EXISTING_LEVELS = ((1, 5), (25, 2))
SENTENCE_GAP_MS = 12.5
"""The first sentence of an answer has four pieces: it is complete 50 ms after the first token."""
LEVELS = ((1, 5), (25, 3), (100, 3))
"""(devices, turns)"""
INTERRUPTERS = 10
INTERRUPTS = 4


def rows() -> list[Row]:
    """Everything, about three minutes."""
    return [*latency(), *existing(), *interrupts()]


def latency(levels: Sequence[tuple[int, int]] = LEVELS, setup: Setup | None = None) -> list[Row]:
    """End of speech to first audio at some numbers of devices; at the highest also CPU and gaps."""
    found: list[Row] = []
    for devices, turns in levels:
        step = _talk(Scenario(devices=devices, turns=turns, expect=EXPECTED), setup)
        name = f"{devices} talking"
        found += [
            (f"{name}: end of speech to first audio p50", figure(step, f"ms.{FIRST_AUDIO}.p50"), "ms", ""),
            (
                f"{name}: end of speech to first audio p95",
                figure(step, f"ms.{FIRST_AUDIO}.p95"),
                "ms",
                "< 600" if devices > 1 else "",
            ),
            (f"{name}: failed turns", float(step["failed"]), "turns", "<= 0"),
        ]
    found += [
        (f"{name}: CPU of the server per turn", figure(step, "server.cpu_ms_per_turn"), "ms", "<= 40"),
        (f"{name}: gap between frames beyond 60 ms p99", figure(step, "gaps.beyond_p99"), "ms", ""),
        (f"{name}: gap between frames beyond 60 ms p99.9", figure(step, "gaps.beyond_p999"), "ms", "< 15"),
        (f"{name}: the load generator's own timers late p99", figure(step, "client.lateness_p99"), "ms", ""),
        (f"{name}: the machine was busy", (figure(step, "server.machine_busy") or 0) * 100, "%", ""),
    ]
    return found


def existing() -> list[Row]:
    """An existing configuration file, with either kind of preparation."""
    return [*existing_file("asr", 600), *existing_file("llm", 500)]


def existing_file(
    speculative: str, aim_ms: float, levels: Sequence[tuple[int, int]] = EXISTING_LEVELS, setup: Setup | None = None
) -> list[Row]:
    """What people really have: a file with `min_silence_duration_ms: 200` and no pause; and where each millisecond
    goes."""
    own = setup or Setup(
        vendors=Vendors(gap_ms=SENTENCE_GAP_MS), overlay={"conversation": {"speculative": speculative}}
    )
    found: list[Row] = []
    for devices, turns in levels:
        step = _talk(Scenario(devices=devices, turns=turns, expect=EXPECTED), own)
        name, aim = f"speculative: {speculative}, {devices} talking", f"<= {aim_ms:g}"
        for share, bound in (("p50", aim if devices == 1 else ""), ("p95", aim if devices > 1 else "")):
            found.append((f"{name}: first audio {share}", figure(step, f"ms.{FIRST_AUDIO}.{share}"), "ms", bound))
        found += [(f"{name}: mean, {share}", ms, "ms", "") for share, ms in step["account"].items()]
        found.append((f"{name}: mean, in all", figure(step, f"ms.{FIRST_AUDIO}.mean"), "ms", ""))
    return found


def interrupts(devices: int = INTERRUPTERS, turns: int = INTERRUPTS, setup: Setup | None = None) -> list[Row]:
    """Devices in realtime mode that abort, or speak, while the server speaks."""
    step = _talk(Scenario(devices=devices, turns=turns, roles="interrupter", expect=EXPECTED), setup)
    counts = step["counts"]
    return [
        ("abort to tts stop, longest", figure(step, f"ms.{ABORT}.max"), "ms", "<= 50"),
        (
            "frames between an abort and tts stop, each",
            _each(counts.get("frames after an abort", 0), counts.get("aborts", 0)),
            "frames",
            "",
        ),
        ("frames after tts stop, in all", float(counts.get("stray frames", 0)), "frames", "<= 0"),
        ("speaking up to tts stop (realtime mode) p50", figure(step, f"ms.{BARGE_IN}.p50"), "ms", ""),
        ("interrupted turns failed", float(step["failed"]), "turns", "<= 0"),
    ]


def _each(total: int, count: int) -> float | None:
    return total / count if count else None


def _talk(plan: Scenario, setup: Setup | None) -> Step:
    console = Console(stderr=True)
    with run.progress_bar(console) as follow, set_up(setup or Setup()) as measured:
        return run.measure(
            plan,
            measured.url,
            measured.pids,
            metrics_urls=measured.metrics_urls,
            on_progress=follow(plan, f"{plan.devices} {plan.roles}"),
        )
