"""The offline default as a whole, with the network cut: a server and a device alone in a network namespace of their own
talk in English and in Chinese, by neural voices, in real time.

Shown are whether it was understood, how long after the end silence the first sound of the answer comes, and how long
the hub is away while models work. Where a namespace cannot be had (`unshare -rn` of util-linux) the network stays, and
a row says so. Needs `make setup` and `server.py models fetch default`."""

from gevent import monkey; monkey.patch_all()  # noqa: I001,E702  # fmt: skip

import array
import fcntl
import json
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import gevent

from loadtest import ROOT
from loadtest.bench import open_speech, spoken_sounds
from loadtest.measure import account, processes
from loadtest.simulator import speech
from loadtest.simulator.device import SimulatedDevice
from xiaozhi.chat import CallContext
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.asr import BatchAsr
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import SentenceTts
from xiaozhi.runtime.inference import InferencePool

Row = tuple[str, float | None, str, str]

SPEAKER: Final = "zf_xiaoxiao"
SAID: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "English": (
        ("what time is it", "it is"),
        ("how much is twelve times seven", "84"),
        ("what day is it tomorrow", "tomorrow"),
        ("who are you", "xiaozhi"),
        ("please write a poem about the sea for my sister", "language model"),
        ("tell me a joke", ""),
    ),
    "Chinese": (
        ("现在几点了", "现在"),
        ("十二乘以七等于多少", "84"),
        ("明天是星期几", "明天"),
        ("你是谁", "小智"),
        ("请给我妹妹写一首关于大海的诗", "大模型"),
        ("给我讲个笑话", ""),
    ),
}
"""What is said, and what the answer must contain."""
AIMS_MS: Final = {"English": 500, "Chinese": 1_500}
_LANGUAGES: Final = {"English": "en", "Chinese": "zh"}
_BEFORE_SILENCE: Final = ("detector", "silence")
"""Shares of a wait that are over when the end silence is; the rest of its last packet (grid) is waited for after it."""
_ROUNDS: Final = 2
_CHILD_S: Final = 400
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
"""linux/sockios.h, linux/if.h"""


def rows() -> list[Row]:
    """Three minutes; one row that says nothing where there are no models."""
    voice = spoken_sounds.mandarin_block(SPEAKER)
    if open_speech.models() is None or voice is None:
        return [("models of the offline default: server.py models fetch default", None, "", "")]
    sounds = _sounds(voice)
    return [*_alone(), *hub_gaps(voice, sounds)]


def _alone() -> list[Row]:
    """The conversation in a process of its own, without a network where that can be had."""
    cut = (
        shutil.which("unshare") is not None and subprocess.run(["unshare", "-rn", "true"], check=False).returncode == 0
    )
    command = [*(["unshare", "-rn"] if cut else []), sys.executable, "-m", __name__]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=_CHILD_S)
    found: list[Row] = [(row[0], row[1], row[2], row[3]) for row in json.loads(done.stdout)]
    return [("the network is cut: 1, could not be cut: 0", float(cut), "", ""), *found]


def conversation() -> list[Row]:
    """What a device hears of a server that is started for it."""
    voice = spoken_sounds.mandarin_block(SPEAKER)
    assert voice is not None
    sounds = _sounds(voice)
    found: list[Row] = []
    with processes.server_running(processes.Setup(overlay=_overlay(voice)), "") as server:
        with SimulatedDevice(server.url) as device:
            device.hello()
            for language, questions in SAID.items():
                right, waits, shares = 0, [], []
                asked = _ROUNDS * len(questions)
                for _ in range(_ROUNDS):
                    for (text, expected), sound in zip(questions, sounds[language], strict=True):
                        before = account.read(server.metrics_urls)
                        answer = device.ask(sound)
                        spent = account.between(before, account.read(server.metrics_urls), None)
                        understood = bool(answer.arrivals) and expected in answer.text.lower()
                        right += understood
                        waited = sum(ms for share, ms in spent.items() if share not in _BEFORE_SILENCE)
                        if spent:  # a turn without a sound has no wait: 0 ms would flatter the median
                            waits.append(waited)
                            shares.append(spent)
                        print(f"{text}: {answer.stt!r}: {answer.text!r} {waited:.0f} ms {spent}", file=sys.stderr)
                found += [
                    (f"{language}: answered as wanted ({asked})", 100 * right / asked, "%", ">= 100"),
                    (
                        f"{language}: first sound after the end silence, median",
                        statistics.median(waits) if waits else None,
                        "ms",
                        f"<= {AIMS_MS[language]}",
                    ),
                    (f"{language}: the same, longest", max(waits, default=None), "ms", f"<= {AIMS_MS[language]}"),
                ]
                for share in ("recognition", "voice"):
                    mean = statistics.mean(spent.get(share, 0.0) for spent in shares) if shares else None
                    found.append((f"{language}: of it {share}, mean", mean, "ms", ""))
    return found


def _overlay(voice: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "selected_module": {"ASR": "Offline", "LLM": "Offline", "TTS": "Offline"},
        "ASR": {"Offline": open_speech.models()},
        "TTS": {"Offline": {"model_dir": voice["model_dir"]}},
        "VAD": {"SileroVAD": {"min_silence_duration_ms": 600}},
    }


def _sounds(voice: Mapping[str, Any]) -> dict[str, list[speech.Speech]]:
    pool = InferencePool(workers=spoken_sounds.AT_ONCE)
    pool.start()
    try:
        return {
            language: [
                speech.from_pcm(pcm, text=text)
                for text, pcm in zip(
                    (text for text, _ in questions),
                    spoken_sounds.said(pool, voice, [text for text, _ in questions], _LANGUAGES[language]),
                    strict=True,
                )
            ]
            for language, questions in SAID.items()
        }
    finally:
        pool.close()


def hub_gaps(voice: Mapping[str, Any], sounds: Mapping[str, Sequence[speech.Speech]]) -> list[Row]:
    """How long the hub is away, in this process, while models work in the pool; and while nothing does, which is what
    the machine adds."""
    with open_speech.recogniser() as asr:
        pool = InferencePool(workers=2)
        pool.start()
        tts: SentenceTts = registry.build(
            "tts", "Offline", {"type": "local_neural", **voice}, Services(inference=pool, config_dir=ROOT / "config")
        )
        try:
            tts.warm_up()
            chinese = [sound.pcm for sound in sounds["Chinese"]]
            english = [sound.pcm for sound in sounds["English"]]
            _hear(asr, [chinese[0], english[0]])

            def speak() -> None:
                for _ in tts.synthesize("请把客厅的灯打开，然后把空调调到二十六度。", CallContext(language="zh")):
                    pass

            speak()
            work: dict[str, list[Callable[[], None]]] = {
                "nothing works": [lambda: gevent.sleep(3)],
                "two recognitions of Chinese": [lambda: _hear(asr, chinese), lambda: _hear(asr, chinese[::-1])],
                "one of Chinese, one of English": [lambda: _hear(asr, chinese), lambda: _hear(asr, english * 2)],
                "two recognitions and a voice": [lambda: _hear(asr, chinese), lambda: _hear(asr, english), speak],
            }
            return [
                (f"hub gap, {name}", 1_000 * open_speech.longest_gap_of(jobs), "ms", "" if name[0] == "n" else "<= 15")
                for name, jobs in work.items()
            ]
        finally:
            tts.close()
            pool.close()


def _hear(asr: BatchAsr, sounds: Sequence[bytes]) -> None:
    for pcm in sounds:
        asr.transcribe(pcm, CallContext())


def _bring_loopback_up() -> None:
    """A new namespace has a loopback that is down (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = array.array("B", struct.pack("16sh14x", b"lo", 0))
        fcntl.ioctl(control, _SIOCGIFFLAGS, request)
        name, flags = struct.unpack("16sh14x", request.tobytes())
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", name, flags | _IFF_UP))


if __name__ == "__main__":
    _bring_loopback_up()
    began = time.monotonic()
    json.dump(conversation(), sys.stdout)
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
