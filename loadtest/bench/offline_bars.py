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
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import gevent
import psutil

from loadtest import ROOT
from loadtest.bench import offline_memory, open_speech, spoken_sounds
from loadtest.measure import account, processes
from loadtest.measure.processes import MeasuredServer
from loadtest.simulator import speech
from loadtest.simulator.device import SimulatedDevice
from xiaozhi.app import process
from xiaozhi.chat import CallContext
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.asr import BatchAsr
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import SentenceTts
from xiaozhi.runtime.inference import InferencePool

Row = tuple[str, float | None, str, str]

SPEAKER: Final = "zf_xiaoxiao"
Said = Mapping[str, tuple[tuple[str, str], ...]]
SAID: Final[Said] = {
    "English": (
        ("what time is it", "it is"),
        ("how much is twelve times seven", "84"),
        ("what day is it tomorrow", "that is"),
        ("who are you", "xiaozhi"),
        ("please write a poem about the sea for my sister", "offline"),
        ("tell me a joke", ""),
    ),
    "Chinese": (
        ("现在几点了", "现在"),
        ("十二乘以七等于多少", "84"),
        ("明天是星期几", "明天"),
        ("你是谁", "小智"),
        ("请给我妹妹写一首关于大海的诗", "离线"),
        ("给我讲个笑话", ""),
    ),
}
"""What is said, and what the answer must contain."""
AIMS_MS: Final = {"English": 500, "Chinese": 1_500}
_LANGUAGES: Final = {"English": "en", "Chinese": "zh"}
_BEFORE_SILENCE: Final = ("detector", "silence")
"""Shares of a wait that are over when the end silence is; the rest of its last packet (grid) is waited for after it."""
_ROUNDS: Final = 2
_CACHED_MS: Final = 10
"""Sound that is there sooner was not made for this turn."""
_PREPARED_S: Final = 180
_CHILD_S: Final = 500
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
"""linux/sockios.h, linux/if.h"""


def rows() -> list[Row]:
    """Three minutes; one row that says nothing where there are no models."""
    voice = spoken_sounds.mandarin_block(SPEAKER)
    if open_speech.models() is None or voice is None:
        return [("models of the offline default: server.py models fetch default", None, "", "")]
    sounds = _sounds(voice)
    cut, found = alone()
    return [("the network is cut: 1, could not be cut: 0", float(cut), "", ""), *found, *hub_gaps(voice, sounds)]


def alone(*options: str) -> tuple[bool, list[Row]]:
    """(whether the network was cut, the rows of a conversation) in a process of its own. Raises
    subprocess.CalledProcessError, subprocess.TimeoutExpired."""
    unshare = shutil.which("unshare")
    cut = unshare is not None and subprocess.run([unshare, "-rn", "true"], check=False).returncode == 0
    command = [*(["unshare", "-rn"] if cut else []), sys.executable, "-m", __name__, *options]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=_CHILD_S)
    return cut, [(row[0], row[1], row[2], row[3]) for row in json.loads(done.stdout)]


def conversation(said: Said = SAID, rounds: int = _ROUNDS) -> list[Row]:
    """What a device hears of a server that is started for it. With one round it is asked at once, while its phrases are
    still being prepared."""
    voice = spoken_sounds.mandarin_block(SPEAKER)
    assert voice is not None
    sounds = _sounds(voice, said)
    found: list[Row] = []
    with (
        processes.server_running(processes.Setup(overlay=offline_memory.offline_overlay(voice)), "") as server,
        SimulatedDevice(server.url) as device,
    ):
        device.hello()
        if rounds > 1:
            _settle(server.pids[0])
        for language, questions in said.items():
            turns = [
                _turn(device, server, sound, expected)
                for _ in range(rounds)
                for (_, expected), sound in zip(questions, sounds[language], strict=True)
            ]
            found += _rows_of(language, turns)
    return found


class _Turn(NamedTuple):
    """One question and its answer."""

    heard: bool
    """Word for word."""
    answered: bool
    """As wanted, and with a sound."""
    spent: Mapping[str, float]
    """ms by share of the wait; empty when no sound came."""

    @property
    def wait_ms(self) -> float:
        """From the end silence to the first sound."""
        return sum(ms for share, ms in self.spent.items() if share not in _BEFORE_SILENCE)


def _turn(device: SimulatedDevice, server: MeasuredServer, sound: speech.Speech, expected: str) -> _Turn:
    before = account.read(server.metrics_urls)
    answer = device.ask(sound)
    spent = account.between(before, account.read(server.metrics_urls), None)
    print(f"{sound.text}: {answer.stt!r}: {answer.text!r} {spent}", file=sys.stderr)
    heard = open_speech.units(answer.stt or "") == open_speech.units(sound.text)
    return _Turn(heard, bool(answer.arrivals) and expected in answer.text.lower(), spent)


def _rows_of(language: str, turns: Sequence[_Turn]) -> list[Row]:
    with_sound = [turn for turn in turns if turn.spent]
    waits = [turn.wait_ms for turn in with_sound]
    made = [turn.wait_ms for turn in with_sound if turn.spent["voice"] > _CACHED_MS]
    aim = f"<= {AIMS_MS[language]}"
    return [
        (f"{language}: heard word for word ({len(turns)})", _share(turn.heard for turn in turns), "%", ""),
        (f"{language}: answered as wanted", _share(turn.answered for turn in turns), "%", ">= 100"),
        (f"{language}: first sound after the end silence, median", _median(waits), "ms", aim),
        (f"{language}: the same, of answers that were not prepared ({len(made)}), median", _median(made), "ms", aim),
        (f"{language}: the same, longest", max(waits, default=None), "ms", aim),
    ]


def _share(answers: Iterable[bool]) -> float:
    return 100 * statistics.mean(answers)


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _settle(pid: int) -> None:
    """Until the server has prepared its phrases: it has nothing to do for two seconds on end."""
    process, quiet = psutil.Process(pid), 0
    deadline = time.monotonic() + _PREPARED_S
    process.cpu_percent()
    while quiet < 4 and time.monotonic() < deadline:
        gevent.sleep(0.5)
        quiet = quiet + 1 if process.cpu_percent() < 10 else 0


def _sounds(voice: Mapping[str, Any], said: Said = SAID) -> dict[str, list[speech.Speech]]:
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
            for language, questions in said.items()
        }
    finally:
        pool.close()


def hub_gaps(voice: Mapping[str, Any], sounds: Mapping[str, Sequence[speech.Speech]]) -> list[Row]:
    """How long the hub is away, in this process, while models work in the pool; and while nothing does, which is what
    the machine adds."""
    process.prepare()
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
            process.settle()  # as the server does when all is loaded
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


def main(options: Sequence[str]) -> None:
    """What runs in the namespace: the rows as JSON; with --short those of one question in each language."""
    _bring_loopback_up()
    short = {language: questions[:1] for language, questions in SAID.items()}
    json.dump(conversation(short, 1) if "--short" in options else conversation(), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
