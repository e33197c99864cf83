"""What hearing costs: Opus per frame, the voice detector per window, batching per item, and all of it per packet of a
talking device.

Each function returns rows (name, value, unit, aim) for `python -m loadtest.bench`; `python -m loadtest.bench.ears`
prints them alone. What needs a fresh process (memory, a whole server's ears under load) runs in a child of it, which
prints JSON.

"hub us" is CPU time of the hub's thread, "us in all" that of the whole process: a machine that is busy with something
else does not change them much. The delays from arrival to judgement are wall time, and it does change those."""

from __future__ import annotations

import ctypes
import functools
import heapq
import importlib.util
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gevent
import numpy as np

from loadtest import ROOT
from loadtest.simulator.speech import speak
from xiaozhi.audio import libopus, opus
from xiaozhi.audio.pcm import Resampler
from xiaozhi.chat import CallContext
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.asr import BatchAsr, Transcript
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.vad import silero
from xiaozhi.runtime.batching import Batcher
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.listening.listener import Listener, ListenerOptions, Utterance
from xiaozhi.session.listening.voice_segment import VoiceSegment

Row = tuple[str, float, str, str]

SENTENCES = (
    "The quick brown fox jumps over the lazy dog. She had your dark suit in greasy wash water all year.",
    "今天天气怎么样？我想听一首好听的歌。现在几点了，请告诉我。",
)
DEVICE_BITRATE = 17_000
"""What the firmware's encoder chooses for 60 ms of 16 kHz: the speech layer."""
OPUS_AUTO = -1000
"""The bitrate that leaves the choice to libopus (opus_defines.h)."""
FRAME_MS = 60
BATCHES = (1, 8, 32, 128)
DEVICES = (25, 100, 250, 500)


def rows() -> list[Row]:
    """Everything, about a minute."""
    return [*opus_decoding(), *opus_encoding(), *pool_and_batching(), *voice_detection(), *listening()]


def _speech(sample_rate: int) -> bytes:
    pcm = b"".join(speak(text).pcm + bytes(16_000) for text in SENTENCES)
    resampler = Resampler(16_000, sample_rate)
    return resampler.feed(pcm) + resampler.flush()


def _us(run: Callable[[], object], per: int, repeats: int = 3) -> float:
    """CPU microseconds per item, of the best of some runs of `per` items in this thread."""
    best = float("inf")
    for _ in range(repeats):
        began = time.thread_time()
        run()
        best = min(best, time.thread_time() - began)
    return best / per * 1e6


# --- Opus -------------------------------------------------------------------------------------------------------------


def opus_decoding() -> list[Row]:
    """16 kHz packets as devices send them."""
    found: list[Row] = []
    for frame_ms in opus.FRAME_MS:
        packets = opus.Encoder(16_000, frame_ms, bitrate=DEVICE_BITRATE).encode(_speech(16_000))
        found.append((f"opus decode, {frame_ms} ms packet", _decoding(opus.Decoder().decode, packets), "us", ""))
    return found


def _decoding(decode: Callable[[bytes], object], packets: list[bytes]) -> float:
    return _us(lambda: [decode(packet) for packet in packets], len(packets))


def opus_encoding() -> list[Row]:
    """24 kHz speech, 60 ms frames, by layer and complexity; PESQ when the `pesq` package is installed (it needs a C
    compiler)."""
    pcm = _speech(24_000)
    found: list[Row] = []
    for label, complexity, bitrate, signal in (
        ("speech layer, complexity 0", 0, OPUS_AUTO, libopus.SIGNAL_VOICE),
        ("speech layer, complexity 2", 2, OPUS_AUTO, libopus.SIGNAL_VOICE),
        ("speech layer, complexity 5", 5, OPUS_AUTO, libopus.SIGNAL_VOICE),
        ("CELT 32 kbit/s, complexity 0", 0, 32_000, libopus.SIGNAL_MUSIC),
        ("CELT 48 kbit/s, complexity 0 (chosen)", 0, 48_000, libopus.SIGNAL_MUSIC),
        ("CELT 48 kbit/s, complexity 5", 5, 48_000, libopus.SIGNAL_MUSIC),
    ):
        encoder = opus.Encoder(24_000, FRAME_MS, complexity=complexity)
        opus._encoder_ctl(encoder._state_at, libopus.SET_BITRATE_REQUEST, ctypes.c_int(bitrate))
        opus._encoder_ctl(encoder._state_at, libopus.SET_SIGNAL_REQUEST, ctypes.c_int(signal))
        packets = encoder.encode(pcm)
        found.append(
            (f"opus encode, {label}", _us(functools.partial(encoder.encode, pcm), len(packets)), "us/frame", "")
        )
        found.append((f"  its bitrate, {label}", sum(map(len, packets)) * 8 / len(packets) / FRAME_MS, "kbit/s", ""))
        if importlib.util.find_spec("pesq") is not None:
            found.append((f"  its PESQ (wide band), {label}", _pesq(pcm, packets), "MOS", ""))
    return found


def _pesq(pcm: bytes, packets: list[bytes]) -> float:
    from pesq import pesq

    decoder = opus.Decoder(24_000)
    heard = [
        np.frombuffer(sound, "<i2").astype(float)
        for sound in (_at_16k(pcm), _at_16k(b"".join(map(decoder.decode, packets))))
    ]
    size = min(map(len, heard))
    original, decoded = heard[0][:size], heard[1][:size]
    # The codec's delay, by correlation.
    spectrum = np.fft.rfft(original, 2 * size).conj() * np.fft.rfft(decoded, 2 * size)
    delay = int(np.argmax(np.fft.irfft(spectrum)[:800]))
    return float(pesq(16_000, original[: size - delay], decoded[delay:], "wb"))


def _at_16k(pcm: bytes) -> bytes:
    resampler = Resampler(24_000, 16_000)
    return resampler.feed(pcm) + resampler.flush()


# --- pool and batches -------------------------------------------------------------------------------------------------


def pool_and_batching() -> list[Row]:
    """An empty pool job, and an empty batch function with one greenlet and with 64."""
    pool = InferencePool(workers=2)
    pool.start()
    try:
        job_hub, job_all = _cost(lambda: [pool.run(int, kind="vad", deadline=5) for _ in range(2000)], 2000)
        batcher: Batcher[int, int] = Batcher(lambda items: items, pool, kind="vad")
        alone_hub, _ = _cost(lambda: [batcher.run(1) for _ in range(2000)], 2000)
        crowd_hub, crowd_all = _cost(lambda: _crowd(batcher), 6400)
    finally:
        pool.close()
    return [
        ("pool job, empty", job_hub, "hub us", ""),
        ("pool job, empty", job_all, "us in all", ""),
        ("batch item, alone", alone_hub, "hub us", ""),
        ("batch item, one of 64", crowd_hub, "hub us", ""),
        ("batch item, one of 64", crowd_all, "us in all", ""),
    ]


def _crowd(batcher: Batcher[int, int]) -> None:
    def one() -> None:
        for _ in range(100):
            batcher.run(1)

    tasks = Tasks()
    for _ in range(64):
        tasks.spawn("one of 64", one)
    tasks.join(timeout=60)


def _cost(run: Callable[[], object], per: int) -> tuple[float, float]:
    """(hub's, whole process's) CPU microseconds per item."""
    run()
    hub, process = time.thread_time(), time.process_time()
    run()
    return (time.thread_time() - hub) / per * 1e6, (time.process_time() - process) / per * 1e6


# --- voice detection --------------------------------------------------------------------------------------------------


def voice_detection() -> list[Row]:
    """Both runtimes: microseconds per 32 ms window by windows in a call, and what loading costs."""
    found: list[Row] = []
    for runtime in ("onnx", "torch"):
        measured = _child("model", runtime)
        found += [
            (f"silero {runtime}, {batch} windows in a call", measured[str(batch)], "us/window", "") for batch in BATCHES
        ]
        found.append((f"silero {runtime}, import and model", measured["rss"], "MB RSS", ""))
    return found


def _model(runtime: str) -> dict[str, float]:
    options = silero.SileroOptions(runtime=runtime)
    before = _rss()
    model = (silero._onnx_model if runtime == "onnx" else silero._torch_model)(silero.model_path(options))
    silero._exercise(model)
    measured = {"rss": _rss() - before}
    for batch in BATCHES:
        samples = (np.random.default_rng(1).standard_normal((batch, 576)) * 0.05).astype(np.float32)
        state, calls = np.zeros((2, batch, 128), np.float32), max(10, 400 // batch)
        measured[str(batch)] = _us(functools.partial(_repeat, calls, model, samples, state), calls * batch)
    return measured


def _repeat(calls: int, model: silero.Model, samples: Any, state: Any) -> None:
    for _ in range(calls):
        model(samples, state)


def _rss() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


# --- everything -------------------------------------------------------------------------------------------------------


def listening() -> list[Row]:
    """Devices that all talk at once, packets at their time, through listener, detector and segmenter (no sockets)."""
    found: list[Row] = []
    for devices in DEVICES:
        measured = _child("devices", str(devices))
        found += [
            (f"packet of 60 ms, {devices} talking", measured["hub"], "hub us", ""),
            (f"packet of 60 ms, {devices} talking", measured["all"], "us in all", ""),
            (f"packet of 60 ms, {devices} talking, arrival to judged p50", measured["p50"], "ms", ""),
            (f"packet of 60 ms, {devices} talking, arrival to judged p99", measured["p99"], "ms", ""),
            (f"streams in a batch, {devices} talking", measured["batch"], "", ""),
        ]
    return found


class _Deaf(BatchAsr):
    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        return Transcript("")


class _Indifferent:
    def speech_started(self) -> None: ...

    def utterance_paused(self, utterance: Utterance) -> None: ...

    def utterance_resumed(self) -> None: ...

    def utterance_ended(self, utterance: Utterance) -> None:
        utterance.close()

    def utterance_dropped(self, reason: str) -> None: ...


def _devices(count: int, seconds: float = 3.0) -> dict[str, float]:
    pool, tasks = InferencePool(workers=2), Tasks()
    pool.start()
    vad: silero.SileroVad = registry.build(
        "vad", "SileroVAD", {"type": "silero", "min_silence_duration_ms": 200}, Services(pool)
    )
    vad.warm_up()
    packets = opus.Encoder(16_000, FRAME_MS, bitrate=DEVICE_BITRATE).encode(_speech(16_000))
    options = ListenerOptions(pause_ms=120)
    listeners = [
        Listener(
            vad=vad,
            asr=_Deaf(),
            context=CallContext(),
            options=options,
            sink=_Indifferent(),
            tasks=tasks,
        )
        for _ in range(count)
    ]
    delays = _judging_delays()
    chance = random.Random(1)
    _drive(listeners, packets, 0.5, chance)  # loops and decoders are there
    delays.clear()
    hub, process = time.thread_time(), time.process_time()
    sent = _drive(listeners, packets, seconds, chance)
    hub, process = time.thread_time() - hub, time.process_time() - process
    delays.sort()
    measured = {
        "hub": hub / sent * 1e6,
        "all": process / sent * 1e6,
        "p50": delays[len(delays) // 2] * 1000,
        "p99": delays[len(delays) * 99 // 100] * 1000,
        "batch": vad.stats.mean_size,
    }
    for listener in listeners:
        listener.close()
    tasks.kill()
    vad.close()
    pool.close()
    return measured


def _judging_delays() -> list[float]:
    """Fills with the time from a packet's arrival to its probabilities, by a wrapper around the place where they are
    judged."""
    delays: list[float] = []
    judge = VoiceSegment._judge

    def timed(self: VoiceSegment, probabilities: Sequence[float]) -> None:
        delays.append(time.monotonic() - self._arrivals[-1][1])
        judge(self, probabilities)

    VoiceSegment._judge = timed  # type: ignore[method-assign]
    return delays


def _drive(listeners: list[Listener], packets: list[bytes], seconds: float, chance: random.Random) -> int:
    """Let every listener hear a packet each 60 ms, all at different moments; how many there were."""
    began = time.monotonic()
    due = [
        (began + chance.random() * FRAME_MS / 1000, number, chance.randrange(len(packets)))
        for number in range(len(listeners))
    ]
    heapq.heapify(due)
    sent = 0
    while due[0][0] < began + seconds:
        now = time.monotonic()
        while due[0][0] <= now:
            at, number, position = due[0]
            listeners[number].hear(packets[position])
            sent += 1
            heapq.heapreplace(due, (at + FRAME_MS / 1000, number, (position + 1) % len(packets)))
        gevent.sleep(max(0.0005, due[0][0] - time.monotonic()))
    gevent.sleep(0.1)
    return sent


# --- children ---------------------------------------------------------------------------------------------------------


def _child(name: str, argument: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.bench.ears", name, argument],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} {argument}: {done.stderr.strip()[-500:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main(arguments: list[str]) -> None:
    """Print all rows, or a child's measurements."""
    if arguments[:1] == ["model"]:
        print(json.dumps(_model(arguments[1])))
    elif arguments[:1] == ["devices"]:
        print(json.dumps(_devices(int(arguments[1]))))
    else:
        for name, value, unit, aim in rows():
            print(f"{name:64} {value:9.1f} {unit:10} {aim}")


if __name__ == "__main__":
    main(sys.argv[1:])
