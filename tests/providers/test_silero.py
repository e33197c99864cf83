"""Silero in both runtimes: the same numbers as the model's own recipe, one state per stream, nothing lost under
overload."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import pytest

from loadtest.simulator.speech import speak
from tests.fakes.inference import InlineInference
from tests.fakes.sound import silence
from tests.waiting import PATIENCE_S
from xiaozhi.errors import Overloaded, SettingsError, VendorError
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.vad import Vad, VadStream
from xiaozhi.providers.vad import silero
from xiaozhi.runtime import tasks
from xiaozhi.runtime.inference import InferencePool

ROOT = Path(__file__).resolve().parents[2]
ALIKE = 2e-4
"""Runtimes sum floats in different orders."""


@pytest.fixture(scope="module")
def pool() -> Iterator[InferencePool]:
    made = InferencePool(workers=2)
    made.start()
    yield made
    assert made.close()


@pytest.fixture(scope="module", params=["onnx", "torch"])
def vad(request: pytest.FixtureRequest, pool: InferencePool) -> Iterator[silero.SileroVad]:
    built = registry.build("vad", "SileroVAD", {"type": "silero", "runtime": request.param}, Services(pool))
    built.warm_up()
    yield built
    built.close()


@pytest.fixture(scope="module")
def speech() -> bytes:
    return silence(500) + speak("What time is it?").pcm + silence(700)


@pytest.fixture(scope="module")
def expected(speech: bytes) -> list[float]:
    """Window after window through the onnx file by itself: 64 samples of context, a state handed on."""
    import onnxruntime

    path = silero.model_path(silero.SileroOptions())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    samples = np.frombuffer(speech, dtype="<i2").astype(np.float32) / 32768
    state, context, probabilities = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32), []
    for start in range(0, len(samples) - 511, 512):
        window = np.concatenate([context, samples[start : start + 512]])
        output, state = session.run(None, {"input": window[None], "state": state, "sr": np.array(16_000, np.int64)})
        context = window[-64:]
        probabilities.append(float(output[0, 0]))
    return probabilities


def feed(stream: VadStream, pcm: bytes, size: int) -> list[float]:
    return [probability for start in range(0, len(pcm), size) for probability in stream.feed(pcm[start : start + size])]


@pytest.mark.parametrize("size", [1920, 640, 1024, 3840, 999])
def test_probabilities_are_the_models_however_the_sound_is_cut(
    vad: silero.SileroVad, speech: bytes, expected: list[float], size: int
) -> None:
    assert feed(vad.open(), speech, size) == pytest.approx(expected, abs=ALIKE)


def test_speech_is_told_from_silence(expected: list[float]) -> None:
    assert max(expected[:12]) < 0.3 and max(expected) > 0.9
    assert max(expected[-12:]) < 0.3


def test_many_streams_share_calls_and_nothing_else(vad: silero.SileroVad, speech: bytes, expected: list[float]) -> None:
    def listen(number: int) -> list[float]:
        # Everybody starts somewhere else and sends packets of another size.
        stream = vad.open()
        feed(stream, speech[: number * 4000], 1920)
        stream.reset()
        return feed(stream, speech, (640, 1280, 1920)[number % 3])

    before = vad.stats.batches, vad.stats.items
    listeners = [gevent.spawn(listen, number) for number in range(12)]
    gevent.joinall(listeners, timeout=PATIENCE_S, raise_error=True)
    for listener in listeners:
        assert listener.value == pytest.approx(expected, abs=ALIKE)
    batches, items = vad.stats.batches - before[0], vad.stats.items - before[1]
    assert items > 2 * batches, "they travelled together"


def test_sizes_of_batches_can_be_observed(vad: silero.SileroVad) -> None:
    sizes: list[int] = []
    vad.observe_batches(sizes.append)
    vad.open().feed(bytes(2048))
    assert sizes == [1]


def test_less_than_a_window_is_nothing_yet(vad: silero.SileroVad) -> None:
    stream = vad.open()
    assert stream.feed(bytes(1023)) == [] and stream.feed(b"") == []
    assert len(stream.feed(bytes(1))) == 1


class StuckPool:
    """Takes nothing (`full`), or takes jobs and runs them when told."""

    def __init__(self) -> None:
        self.full = False
        self.jobs: list[Any] = []

    def submit(self, function: Any, *args: Any, kind: str, deliver: Any) -> None:
        if self.full:
            raise Overloaded("inference pool")
        self.jobs.append(lambda: deliver(function(*args), None))

    def go(self) -> None:
        """Run everything that was taken."""
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            gevent.get_hub().loop.run_callback(job)
        gevent.sleep(0)
        gevent.sleep(0)


@pytest.fixture
def stuck(pool: InferencePool) -> Iterator[tuple[StuckPool, silero.SileroVad]]:
    jam = StuckPool()
    built = silero.SileroVad(silero.SileroOptions(deadline_ms=20), Services(jam))  # type: ignore[arg-type]
    yield jam, built
    built.close()


def test_overload_loses_nothing(
    stuck: tuple[StuckPool, silero.SileroVad], speech: bytes, expected: list[float]
) -> None:
    pool, vad = stuck
    stream, probabilities, late = vad.open(), [], 0

    def feed_some(pcm: bytes) -> None:
        nonlocal probabilities, late
        try:
            probabilities += stream.feed(pcm)
        except Overloaded:
            late += 1

    for number, start in enumerate(range(0, len(speech), 1920)):
        pool.full = number % 5 == 1  # refused at the door ...
        feeder = tasks.spawn("feeder", feed_some, speech[start : start + 1920])
        while not feeder.ready():
            gevent.sleep(0.001)  # sleep: the deadline of what is late has to pass
            if number % 5 != 3:  # ... or taken and late
                pool.go()
    pool.full = False

    def feed_rest() -> None:
        for _ in range(30):
            feed_some(b"")

    feeder = tasks.spawn("feeder", feed_rest)
    while not feeder.ready():
        gevent.sleep(0.001)  # sleep: likewise
        pool.go()
    assert late > 5
    assert probabilities == pytest.approx(expected, abs=ALIKE)


def test_a_batch_that_comes_after_a_reset_changes_nothing(
    stuck: tuple[StuckPool, silero.SileroVad], speech: bytes
) -> None:
    pool, vad = stuck
    stream, fresh = vad.open(), vad.open()
    with pytest.raises(Overloaded):
        stream.feed(speech[20_000:24_096])
    stream.reset()
    pool.go()  # the thread was too late

    def first(which: VadStream) -> list[float]:
        waiting = gevent.spawn(which.feed, speech[20_000:24_096])
        gevent.sleep(0)
        gevent.sleep(0)
        pool.go()
        return waiting.get(timeout=PATIENCE_S)

    assert first(stream) == first(fresh)


def test_ten_seconds_behind_it_starts_anew(stuck: tuple[StuckPool, silero.SileroVad]) -> None:
    pool, vad = stuck
    pool.full = True
    stream = vad.open()
    with pytest.raises(VendorError):
        for _ in range(20):
            with pytest.raises(Overloaded):
                stream.feed(bytes(32_000))
    assert stream.feed(bytes(100)) == []


class BrokenPool(StuckPool):
    """Every job fails."""

    def submit(self, function: Any, *args: Any, kind: str, deliver: Any) -> None:
        gevent.get_hub().loop.run_callback(deliver, None, ZeroDivisionError())


def test_a_failing_model_is_a_vendor_error() -> None:
    vad = silero.SileroVad(silero.SileroOptions(), Services(BrokenPool()))  # type: ignore[arg-type]
    stream = vad.open()
    with pytest.raises(VendorError, match="model failed"):
        stream.feed(bytes(2048))
    vad.close()


def test_after_close_streams_fail_with_a_vendor_error(pool: InferencePool) -> None:
    vad = silero.SileroVad(silero.SileroOptions(), Services(pool))
    stream = vad.open()
    vad.close()
    vad.close()
    with pytest.raises(VendorError, match="closed"):
        stream.feed(bytes(2048))


# --- options ----------------------------------------------------------------------------------------------------------


def services() -> Services:
    return Services(InlineInference())  # type: ignore[arg-type]


def _timing(vad: Vad) -> tuple[float, float, int]:
    traits = vad.traits
    return traits.threshold, traits.threshold_low, traits.min_silence_ms


def test_blocks_of_existing_files_are_understood() -> None:
    block = {
        "type": "silero",
        "threshold": 0.5,
        "threshold_low": "0.3",
        "model_dir": "models/snakers4_silero-vad",
        "min_silence_duration_ms": "200",
    }
    vad = registry.build("vad", "SileroVAD", block, services())
    assert _timing(vad) == (0.5, 0.3, 200)


def test_empty_values_are_defaults() -> None:
    vad = registry.build(
        "vad",
        "SileroVAD",
        {"type": "silero", "threshold": "", "min_silence_duration_ms": "", "pause_ms": ""},
        services(),
    )
    assert _timing(vad) == (0.5, 0.2, 700)


@pytest.mark.parametrize(
    "wrong",
    [
        {"runtime": "tpu"},
        {"pause_ms": "soon"},
        {"pause_ms": 5},
        {"threshold": 1.2},
        {"threshold": 0.3, "threshold_low": 0.4},
        {"min_silence_duration_ms": 5},
    ],
)
def test_wrong_options_are_faults(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=r"VAD\.Mine"):
        registry.validate("vad", "Mine", {"type": "silero", **wrong})


def test_model_dir_is_used_when_it_has_a_model(tmp_path: Path) -> None:
    installed = silero.model_path(silero.SileroOptions())
    assert silero.model_path(silero.SileroOptions(model_dir=str(tmp_path))) == installed, (
        "an empty folder is not a model"
    )
    own = tmp_path / "src" / "silero_vad" / "data" / "silero_vad.onnx"
    own.parent.mkdir(parents=True)
    own.write_bytes(installed.read_bytes())
    assert silero.model_path(silero.SileroOptions(model_dir=str(tmp_path))) == own


def test_a_model_that_is_not_installed_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "silero_vad" else find_spec(name))

    with pytest.raises(SettingsError, match="silero-vad package"):
        silero.SileroVad(silero.SileroOptions(), services())


@pytest.mark.parametrize(
    "runtime,library,command",
    [("onnx", "onnxruntime", "make setup"), ("torch", "torch", "make setup WITH=torch")],
)
def test_a_runtime_that_is_missing_is_a_fault_that_names_the_command(
    runtime: str, library: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == library else find_spec(name))

    with pytest.raises(SettingsError, match=rf"VAD\.Mine\.runtime.*{library} is not:  {command}"):
        registry.validate("vad", "Mine", {"type": "silero", "runtime": runtime})


def test_onnx_does_not_import_torch_and_adds_no_threads() -> None:
    script = """if True:
        from gevent import monkey; monkey.patch_all()
        import os, sys
        from xiaozhi.providers import registry
        from xiaozhi.providers.contracts.provider import Services
        from xiaozhi.runtime.inference import InferencePool
        pool = InferencePool(workers=2)
        pool.start()
        vad = registry.build("vad", "SileroVAD", {"type": "silero"}, Services(pool))
        vad.warm_up()
        threads = len(os.listdir("/proc/self/task"))
        streams = [vad.open() for _ in range(40)]
        import gevent
        gevent.joinall([gevent.spawn(stream.feed, bytes(9600)) for stream in streams], raise_error=True)
        assert len(os.listdir("/proc/self/task")) == threads
        assert "torch" not in sys.modules and "silero_vad" not in sys.modules, "too much was imported"
        print("fine")
    """
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "fine", done.stderr
