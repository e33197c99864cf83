"""What vendors cost that stream: CPU of this process per second of sound, and its memory per device, with 50 devices at
once and the vendors (the strict ones of the tests) in a process of their own. Doubao hears, Volcengine speaks.

`rows` for `python -m loadtest.bench`; `python -m loadtest.bench.streams` prints them alone. Only the providers are
measured: decoding a device's Opus, detecting a voice, encoding and pacing are in other rows."""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.argv[1:2]:
    from gevent import monkey

    monkey.patch_all()

import gc
import json
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Pool

from loadtest import ROOT
from loadtest.simulator.speech import speak
from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import Pcm, SpeechEnds
from xiaozhi.providers.registry import build
from xiaozhi.runtime.inference import InferencePool

Row = tuple[str, float, str, str]

DEVICES = 50
HEARD_S = 10.0
"""Of sound per device, at the pace of a device."""
FRAME_MS = 60
SENTENCES = ("今天的天气很好，我们一起去公园里散步吧。",) * 3
ACCOUNT = {"appid": "app", "access_token": "token-123"}
DEADLINE_S = 60.0


def rows() -> list[Row]:
    """Everything, about half a minute."""
    with _process("tests.vendors") as vendors:
        assert vendors.stdout is not None
        urls = json.loads(vendors.stdout.readline())
        return [row for kind in ("hear", "speak") for row in _measured(kind, urls[kind])]


@contextmanager
def _process(*arguments: str) -> Any:
    process = subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def _measured(kind: str, url: str) -> list[Row]:
    with _process("loadtest.bench.streams", kind, url) as process:
        out, _ = process.communicate(timeout=120)
        if process.returncode:
            raise RuntimeError(f"{kind} ended with code {process.returncode}; see above")
        return [tuple(row) for row in json.loads(out.splitlines()[-1])]


def hear(url: str) -> list[Row]:
    """In a patched process: streams that are all fed at the pace of a device."""
    asr = _provider("asr", {"type": "doubao_stream", "ws_url": url, **ACCOUNT})
    pcm = speak(
        "The quick brown fox jumps over the lazy dog. She had your dark suit in greasy wash water all year."
    ).pcm
    size = ASR_SAMPLE_RATE * FRAME_MS // 1000 * 2
    frames = [pcm[at : at + size] for at in range(0, len(pcm) - size, size)]
    count = round(HEARD_S * 1000 / FRAME_MS)

    def feed(each: Callable[[bytes], None], device: int, number: int) -> None:
        began = time.monotonic() + device / DEVICES * FRAME_MS / 1000
        for frame in range(number):
            gevent.sleep(max(0.0, began + frame * FRAME_MS / 1000 - time.monotonic()))
            each(frames[(frame + 7 * device) % len(frames)])

    def utter(device: int, number: int = count, at_end: Callable[[], None] = lambda: None) -> None:
        with closing(asr.open(CallContext())) as stream:
            feed(stream.feed, device, number)
            at_end()
            stream.finish()

    utter(0, 10)
    grown = _growth(lambda held: lambda device: utter(device, 20, held))
    idle = _cpu(lambda device: feed(lambda pcm: None, device, count))
    spent = _cpu(utter) - idle
    asr.close()
    return [
        (f"doubao_stream, {DEVICES} devices", spent / (DEVICES * HEARD_S) * 1000, "ms CPU/s of sound", ""),
        (f"doubao_stream, {DEVICES} devices", grown, "KB RSS/device", ""),
    ]


def speak_all(url: str) -> list[Row]:
    """In a patched process: answers of some sentences, as fast as the vendor sends."""
    block = {"type": "huoshan_double_stream", "ws_url": url, "speaker": "zh_female_wanwanxiaohe_moon_bigtts", **ACCOUNT}
    tts = _provider("tts", {**block, "idle_connections": DEVICES})
    seconds = [0.0]

    def answer(device: int, at_start: Callable[[], None] = lambda: None) -> None:
        with closing(tts.open(CallContext())) as stream:
            stream.say(SENTENCES[0])
            heard = False
            while not heard:
                heard = isinstance(event := stream.receive(DEADLINE_S), Pcm)
            at_start()
            for sentence in SENTENCES[1:]:
                stream.say(sentence)
            stream.finish()
            while not isinstance(event, SpeechEnds):
                if isinstance(event, Pcm):
                    seconds[0] += len(event.data) / 2 / event.rate
                event = stream.receive(DEADLINE_S)

    answer(0)
    grown = _growth(lambda held: lambda device: answer(device, held))
    seconds[0] = 0.0
    spent = _cpu(answer)
    tts.close()
    return [
        (f"huoshan_double_stream, {DEVICES} devices", spent / seconds[0] * 1000, "ms CPU/s of sound", ""),
        (f"huoshan_double_stream, {DEVICES} devices", grown, "KB RSS/device", ""),
    ]


def _provider(kind: str, block: dict[str, Any]) -> Any:
    return build(kind, kind, block, Services(inference=InferencePool(workers=1)))


def _cpu(work: Callable[[int], None]) -> float:
    """Seconds of CPU (the whole process) of `work` for all devices at once."""
    crowd = Pool(DEVICES)
    began = time.process_time()
    for device in range(DEVICES):
        crowd.spawn(work, device)
    crowd.join(raise_error=True, timeout=DEADLINE_S)
    return time.process_time() - began


def _growth(work: Callable[[Callable[[], None]], Callable[[int], None]]) -> float:
    """KB of memory per device, while all of them are in the middle of `work`, which calls what it is given there."""
    there, go_on = [0], Event()

    def held() -> None:
        there[0] += 1
        go_on.wait(timeout=DEADLINE_S)

    gc.collect()
    before = _rss_kb()
    crowd = Pool(DEVICES)
    for device in range(DEVICES):
        crowd.spawn(work(held), device)
    end = time.monotonic() + DEADLINE_S
    while there[0] < DEVICES and time.monotonic() < end:
        gevent.sleep(0.05)
    grown = (_rss_kb() - before) / DEVICES
    go_on.set()
    crowd.join(raise_error=True, timeout=DEADLINE_S)
    return grown


def _rss_kb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1000


def main(arguments: list[str]) -> None:
    """Print all rows, or be one of the processes."""
    if arguments[:1] == ["hear"]:
        print(json.dumps(hear(arguments[1])))
    elif arguments[:1] == ["speak"]:
        print(json.dumps(speak_all(arguments[1])))
    else:
        for name, value, unit, aim in rows():
            print(f"{name:64} {value:9.3f} {unit:20} {aim}")


if __name__ == "__main__":
    main(sys.argv[1:])
