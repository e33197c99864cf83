"""Memory of a server with the offline default (Whisper, Moonshine, Kokoro, hibari, Silero, and Resemblyzer where it is),
in a real conversation of two devices, one after the other, in both languages; and of one whose modules are vendors.

The server is a process of its own. `python -m loadtest.bench.offline_memory` also tells what the memory is made of; with
a number, for so many turns. Needs `make setup`, `server.py models fetch default`, and resemblyzer for the voiceprint."""

from gevent import monkey; monkey.patch_all()  # noqa: I001,E702  # fmt: skip

import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from loadtest.bench import open_speech, spoken_sounds
from loadtest.measure import processes
from loadtest.simulator import speech
from loadtest.simulator.device import SimulatedDevice
from xiaozhi.models.fetching import is_here
from xiaozhi.models.speech import OPTIONAL_SPEECH
from xiaozhi.runtime.inference import InferencePool

Row = tuple[str, float | None, str, str]

TURNS = 40
SPEAKER = "zf_xiaoxiao"
ENGLISH = (
    "what time is it",
    "how much is twelve times seven",
    "tell me a joke",
    "what day is it in three days",
    "who are you",
    "can you tell me a story",
    "please explain to me how a steam engine works and why it was replaced by electric motors",
)
CHINESE = (
    "现在几点了",
    "十二乘以七等于多少",
    "给我讲个笑话",
    "后天是星期几",
    "你是谁",
    "给我讲个故事",
    "请你给我解释一下蒸汽机是怎么工作的，为什么后来被电动机代替了",
)


def rows() -> list[Row]:
    """Five minutes; one row that says nothing where there are no models."""
    block = spoken_sounds.mandarin_block(SPEAKER)
    if open_speech.models() is None or block is None:
        return [("models of the offline default: server.py models fetch default", None, "", "")]
    said = conversation(block, TURNS)
    with server(offline_overlay(block)) as process:
        ready = megabytes(process)
        talk(process, said[: TURNS // 2])
        half = megabytes(process)
        talk(process, said[TURNS // 2 :])
        after = megabytes(process)
        found: list[Row] = [
            ("RSS of the offline default, ready", ready, "MB", ""),
            (f"after {TURNS // 2} turns", half, "MB", ""),
            (f"after {TURNS} turns", after, "MB", "<= 550"),
            ("at its highest", megabytes(process, "VmHWM"), "MB", ""),
        ]
    return found


def offline_overlay(voice: Mapping[str, Any]) -> dict[str, Any]:
    """What a measured server gets to be one with the offline default, and to tell speakers apart where it can."""
    overlay: dict[str, Any] = {
        "selected_module": {"ASR": "Offline", "LLM": "Offline", "TTS": "Offline"},
        "ASR": {"Offline": open_speech.models()},
        "TTS": {"Offline": {"model_dir": voice["model_dir"]}},
        "VAD": {"SileroVAD": {"min_silence_duration_ms": 600}},
    }
    model = OPTIONAL_SPEECH[1]
    for parent in open_speech.PARENTS:
        if is_here(model, parent / model.folder):
            overlay["voiceprint"] = {"type": "local", "model_dir": str(parent / model.folder)}
    return overlay


@contextmanager
def server(overlay: Mapping[str, Any], vendor_url: str = "") -> Iterator[psutil.Process]:
    """A server of its own; `url` of it is `where(process)`. Raises StartError."""
    with processes.server_running(processes.Setup(overlay=overlay), vendor_url) as running:
        process = psutil.Process(running.pids[0])
        _where[process.pid] = running.url
        yield process


_where: dict[int, str] = {}


def conversation(block: Mapping[str, Any], turns: int) -> list[speech.Speech]:
    """What is said, in turn in English and in Chinese."""
    pool = InferencePool(workers=2)
    pool.start()
    try:
        spoken = [
            [speech.from_pcm(pcm, text=text) for text, pcm in zip(texts, sounds, strict=True)]
            for texts, sounds in (
                (ENGLISH, spoken_sounds.said(pool, block, ENGLISH, "en")),
                (CHINESE, spoken_sounds.said(pool, block, CHINESE, "zh")),
            )
        ]
    finally:
        pool.close()
    return [spoken[turn % 2][turn // 2 % len(spoken[turn % 2])] for turn in range(turns)]


def talk(process: psutil.Process, said: Sequence[speech.Speech]) -> Counter[str]:
    """Two devices say in turn what is to be said, each waits for its answer. Returns how often what was heard.
    Raises DeviceTimeout."""
    heard: Counter[str] = Counter()
    devices = [SimulatedDevice(_where[process.pid], device_id=f"02:00:00:00:00:{n:02x}", keep_audio=False) for n in (1, 2)]
    with devices[0], devices[1]:
        for device in devices:
            device.hello()
        for turn, words in enumerate(said):
            answer = devices[turn // 2 % 2].ask(words)
            heard[f"{answer.stt} -> {answer.text}"] += 1
    return heard


def megabytes(process: psutil.Process, line: str = "VmRSS") -> float:
    """Of the lines of `status`."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(re.search(rf"^{line}:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024 / 1e6


def parts(process: psutil.Process) -> dict[str, float]:
    """MB of memory by what is mapped: heap, arenas of other threads, libraries..."""
    found: Counter[str] = Counter()
    kind = ""
    for line in Path(f"/proc/{process.pid}/smaps").read_text(encoding="utf-8").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            fields = line.split(maxsplit=5)
            begin, end = (int(each, 16) for each in fields[0].split("-"))
            name = fields[5] if len(fields) > 5 else ""
            if name.startswith("/"):
                kind = "file " + re.sub(r".*/site-packages/([^/]+).*", r"\1", name)
            else:
                kind = name or f"anonymous {'64 MB' if begin % (1 << 26) == 0 else '>= 1 MB' if end - begin >= 1 << 20 else 'small'}"
        elif line.startswith("Rss:"):
            found[kind] += int(line.split()[1]) * 1024
    return {kind: size / 1e6 for kind, size in found.most_common(25)}


if __name__ == "__main__":
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else TURNS
    block = spoken_sounds.mandarin_block(SPEAKER)
    assert block is not None
    said = conversation(block, turns)
    with server(offline_overlay(block)) as process:
        print("ready", megabytes(process), parts(process))
        for place in range(0, turns, 10):
            heard = talk(process, said[place : place + 10])
            print(place + 10, *(round(megabytes(process, line)) for line in ("VmRSS", "VmHWM", "RssAnon", "RssFile")), flush=True)
            if place == 0: print(heard)
        print(parts(process))
