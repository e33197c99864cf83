"""Memory of a server with the offline default (Whisper, Moonshine, Kokoro, hibari, Silero; Resemblyzer where it is),
in a real conversation of two devices, one after the other, in both languages; and of one whose modules are vendors.

The server is a process of its own. `python -m loadtest.bench.offline_memory 40` talks for so many turns and tells what
is mapped. Needs `make setup WITH=speech`, `server.py models fetch default`, and resemblyzer for the voiceprint."""

from gevent import monkey; monkey.patch_all()  # noqa: I001,E702  # fmt: skip

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest.bench import open_speech, spoken_sounds
from loadtest.measure import processes
from loadtest.simulator import speech
from loadtest.simulator.device import SimulatedDevice
from xiaozhi.models.fetching import is_here
from xiaozhi.models.speech import OPTIONAL_SPEECH
from xiaozhi.runtime.inference import InferencePool

Row = tuple[str, float | None, str, str]

TURNS = 20
VENDOR_TURNS = 6
LOCAL_LIBRARIES = re.compile(r"/site-packages/(ctranslate2|opencc)")
"""Files that only a server with local speech maps."""
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
    """Five minutes; of the offline default nothing where there are no models."""
    return [*offline(), *vendors()]


def offline(turns: int = TURNS) -> list[Row]:
    """The offline default before and after a conversation."""
    block = spoken_sounds.mandarin_block(SPEAKER)
    if open_speech.models() is None or block is None:
        return [("models of the offline default: server.py models fetch default", None, "", "")]
    said = conversation(block, turns)
    with processes.server_running(processes.Setup(overlay=offline_overlay(block)), "") as running:
        found: list[Row] = [("RSS of the offline default, ready", megabytes(running), "MB", "")]
        half = len(said) // 2
        for done, part in ((half, said[:half]), (len(said), said[half:])):
            talk(running, part)
            found.append((f"after {done} turns", megabytes(running), "MB", "<= 550"))
        found.append(("at its highest", megabytes(running, "VmHWM"), "MB", ""))
    return found


def vendors(turns: int = VENDOR_TURNS) -> list[Row]:
    """A server whose ASR, LLM and TTS are vendors (scripted ones), with all that is installed here."""
    said = speech.speak_all(ENGLISH[:2]) * (turns // 2)
    with processes.set_up(processes.Setup()) as running:
        ready = megabytes(running)
        talk(running, said)
        mapped = Path(f"/proc/{running.pids[0]}/maps").read_text(encoding="utf-8")
        return [
            ("RSS with vendors in the cloud, ready", ready, "MB", ""),
            (f"after {turns} turns", megabytes(running), "MB", ""),
            ("files of local speech that are mapped", float(len(LOCAL_LIBRARIES.findall(mapped))), "files", "<= 0"),
        ]


def offline_overlay(voice: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a measured server one with the offline default, which tells speakers apart where it can."""
    overlay: dict[str, Any] = {
        "selected_module": {"ASR": "Offline", "LLM": "Offline", "TTS": "Offline"},
        "ASR": {"Offline": open_speech.models()},
        "TTS": {"Offline": {"model_dir": voice["model_dir"]}},
        "VAD": {"SileroVAD": {"min_silence_duration_ms": 600}},
    }
    model = next(known for known in OPTIONAL_SPEECH if known.name == "resemblyzer")
    for parent in open_speech.PARENTS:
        if is_here(model, parent / model.folder):
            overlay["voiceprint"] = {"type": "local", "model_dir": str(parent / model.folder)}
    return overlay


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


def talk(running: processes.MeasuredServer, said: Sequence[speech.Speech]) -> None:
    """Two devices take turns, two turns each; each waits for its answer. Raises DeviceTimeout."""
    devices = [SimulatedDevice(running.url, device_id=f"02:00:00:00:00:{n:02x}", keep_audio=False) for n in (1, 2)]
    with devices[0], devices[1]:
        for device in devices:
            device.hello()
        for turn, words in enumerate(said):
            devices[turn // 2 % 2].ask(words)


def megabytes(running: processes.MeasuredServer, line: str = "VmRSS") -> float:
    """A line of the process's `status`."""
    status = Path(f"/proc/{running.pids[0]}/status").read_text(encoding="ascii")
    found = next(each for each in status.splitlines() if each.startswith(f"{line}:"))
    return int(found.split()[1]) * 1024 / 1e6


def mapped_parts(running: processes.MeasuredServer) -> Counter[str]:
    """Resident bytes by what is mapped: the heap, other memory without a file, files by package."""
    found: Counter[str] = Counter()
    kind = ""
    for line in Path(f"/proc/{running.pids[0]}/smaps").read_text(encoding="utf-8").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            name = line.split(maxsplit=5)[5:] or ["no file"]
            package = re.search(r"/site-packages/([^/]+)", name[0])
            kind = package[1] if package else name[0]
        elif line.startswith("Rss:"):
            found[kind] += int(line.split()[1]) * 1024
    return found


def main(turns: int) -> int:
    """Talk for so many turns; print the memory after every ten, and what is mapped at the end."""
    block = spoken_sounds.mandarin_block(SPEAKER)
    if open_speech.models() is None or block is None:
        print("Models are missing: server.py models fetch default", file=sys.stderr)
        return 1
    said = conversation(block, turns)
    with processes.server_running(processes.Setup(overlay=offline_overlay(block)), "") as running:
        print(f"ready: {megabytes(running):.0f} MB")
        for place in range(0, turns, 10):
            talk(running, said[place : place + 10])
            print(f"after {place + 10} turns: {megabytes(running):.0f} MB, at most {megabytes(running, 'VmHWM'):.0f}")
        for what, size in mapped_parts(running).most_common(20):
            print(f"{size / 1e6:8.1f} MB {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else TURNS))
