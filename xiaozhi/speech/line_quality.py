"""How good the line to a device is, and in plain words why a device sounds choppy. Pure: counts in, sentences out; time
is an argument.

- `Arrivals`: how evenly the microphone's packets come. Interarrival jitter as in RFC 3550, 6.4.1, with a frame's
  duration in place of the sender's timestamps: those of the WebSocket framings are the device's playback clock. A
  device that sends faster than real time (what it recorded before it was connected) does not jitter.
- `Lead`: how far ahead of its time sound is sent, between what is usual for the board and what it can hold.
- `findings`: what is wrong, the most telling first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol

PAUSE_S: Final = 2.0
"""Longer between two packets: the device had stopped sending."""
STALL_S: Final = 0.3
"""Longer between two packets of a device that sends: its line stood still."""
CALM_ANSWERS: Final = 3
"""After so many without trouble the lead shrinks by a frame."""
SPREAD: Final = 3.0
"""Nearly all packets come within so many times the jitter."""
ENOUGH_SENT: Final = 50
ENOUGH_RECEIVED: Final = 50
"""Packets, 3 s of sound: less says nothing."""
_GAIN: Final = 1 / 16


class LineCounters(Protocol):
    """What a carrier that may lose packets counts of those from the device, from its beginning."""

    @property
    def received(self) -> int:
        """Taken, each once."""

    @property
    def lost(self) -> int:
        """Never came, or too late."""

    @property
    def late(self) -> int:
        """Of those lost: came when their time was over."""

    @property
    def duplicates(self) -> int:
        """Came again."""

    @property
    def reordered(self) -> int:
        """Came behind a later one, and in time."""

    @property
    def jitter_ms(self) -> float:
        """By the sender's timestamps."""


class Arrivals:
    """See the module. `packet` is called for each packet: it costs 0.3 us."""

    __slots__ = ("_frame", "_last", "_owed", "jitter", "packets", "stalls")

    def __init__(self, frame_s: float = 0.06) -> None:
        self._frame = frame_s
        self._last = -math.inf
        self._owed = 0.0
        """By how much the device's sound is behind its time."""
        self.jitter = 0.0
        """Seconds."""
        self.packets = 0
        self.stalls = 0

    def restart(self, frame_s: float | None = None) -> None:
        """The device begins to send anew, with packets of this duration."""
        self._last = -math.inf
        if frame_s is not None:
            self._frame = frame_s

    def packet(self, now: float) -> None:
        """One has come."""
        gap = now - self._last
        self._last = now
        self.packets += 1
        if gap > PAUSE_S:
            self._owed = 0.0
            return
        late = gap - self._frame
        owed = self._owed
        if late >= 0.0:
            self._owed = owed + late
            if gap > STALL_S:
                self.stalls += 1
            self.jitter += (late - self.jitter) * _GAIN
        elif owed > 0.0:
            self._owed = owed + late
            self.jitter += (-late - self.jitter) * _GAIN


class Lead:
    """How many frames the next answer is sent ahead: `usual` at first, never more than `most`."""

    __slots__ = ("_calm", "frames", "most", "usual")

    def __init__(self, usual: int, most: int) -> None:
        self.bound(usual, most)
        self.frames = usual
        self._calm = 0

    def bound(self, usual: int, most: int) -> None:
        """The board is another one than it seemed to be."""
        self.usual, self.most = usual, max(usual, most)
        self.frames = usual

    def next(self, *, frame_ms: float, jitter_ms: float, troubles: int) -> int:
        """Frames for the answer that begins. `troubles`: how often the line stood still since the one before."""
        wanted = min(max(self.usual, 1 + math.ceil(SPREAD * jitter_ms / frame_ms)), self.most)
        if troubles:
            wanted = max(wanted, min(self.frames + 1, self.most))
        if wanted >= self.frames:
            self.frames, self._calm = wanted, 0
            return wanted
        self._calm += 1
        if self._calm >= CALM_ANSWERS:
            self.frames, self._calm = self.frames - 1, 0
        return self.frames


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFigures:
    """What is known of a line. Counts are of the visit under way and, halved each time, of those before."""

    sent: int = 0
    """Frames to the device."""
    starved: int = 0
    """How often it ran out of sound in the middle of a sentence, because the voice was not ready."""
    pauses: int = 0
    """The same between two sentences: the language model or the voice was slow."""
    server_late: int = 0
    """Frames that this server sent too late, though they were ready."""
    slow_sends: int = 0
    """Frames that the network took too slowly."""
    received: int = 0
    """Packets from the device."""
    stalls: int = 0
    """How often they stopped coming for a moment."""
    jitter_ms: float = 0.0
    lost: int = 0
    late: int = 0
    duplicates: int = 0
    reordered: int = 0
    reconnects: int = 0
    """In the last hour: the connection broke and the device came back."""
    rssi: int | None = None
    """dBm, as the device said last."""
    weak: bool = False
    """The device says that its signal is weak, without a number."""
    lead: int = 0
    """Frames sent ahead; 0: nothing was sent."""

    def after(self, earlier: LineFigures) -> LineFigures:
        """These, with half of what was counted before."""
        counts = {name: getattr(self, name) + getattr(earlier, name) // 2 for name in _COUNTS}
        jitter = self.jitter_ms if self.received else earlier.jitter_ms
        return replace(self, **counts, jitter_ms=jitter)


_COUNTS: Final = (
    *("sent", "starved", "pauses", "server_late", "slow_sends"),
    *("received", "stalls", "lost", "late", "duplicates", "reordered"),
)


class Finding(NamedTuple):
    """One thing to say of a line. `kind`: a constant, for programs and metrics."""

    kind: str
    en: str
    zh: str


GOOD: Final = "good"
UNKNOWN: Final = "unknown"
SENTENCES: Final[Mapping[str, tuple[str, str]]] = {
    "server": (
        "This server is overloaded: {share} of the sound was sent too late.",
        "服务器负载过高：{share} 的声音发送得太晚。",
    ),
    "wifi": (
        "The Wi-Fi of this device is weak ({rssi} dBm).",
        "这台设备的 Wi-Fi 信号弱（{rssi} dBm）。",
    ),
    "signal": ("The signal of this device is weak, it says.", "设备报告自己的信号弱。"),
    "loss": ("One packet in {one_in} is lost.", "每 {one_in} 个数据包丢失 1 个。"),
    "reconnects": (
        "It reconnects often: {reconnects} times in the last hour.",
        "它经常重连：最近一小时 {reconnects} 次。",
    ),
    "jitter": (
        "Its packets arrive unevenly: by {jitter} ms on average, with {stalls} interruptions.",
        "它的数据包到达不均匀：平均偏差 {jitter} 毫秒，中断 {stalls} 次。",
    ),
    "slow": (
        "The network takes the sound too slowly: {share} of it had to wait.",
        "网络接收声音太慢：{share} 的声音需要等待。",
    ),
    "voice": (
        "The voice vendor delivers too slowly: the sound ran out {starved} times within a sentence.",
        "语音合成服务太慢：句子中途断音 {starved} 次。",
    ),
    "pauses": (
        "Answers pause between sentences ({pauses} times): the language model or the voice is slow.",
        "回答在句子之间停顿（{pauses} 次）：大模型或语音合成较慢。",
    ),
    GOOD: ("The line is good.", "线路良好。"),
    UNKNOWN: ("Too little was said yet to judge the line.", "对话还太少，无法判断线路。"),
}
"""English and Chinese, by kind."""
LATE_SHARE: Final = 0.02
LOSS_SHARE: Final = 0.03
WEAK_DBM: Final = -75
VERY_WEAK_DBM: Final = -82
OFTEN: Final = 4
JITTER_MS: Final = 40.0
STALLS: Final = 3
STARVED: Final = 3
PAUSES: Final = 6
"""From where on something is worth telling."""


def findings(figures: LineFigures) -> list[Finding]:
    """Everything worth telling, the most telling first; one that says that it is good, or not known, where there is
    nothing. What this server does too late spoils all other figures, so it comes first; a weak signal is named before
    what it brings about."""
    kinds: list[str] = []
    sent_enough = figures.sent >= ENOUGH_SENT
    if sent_enough and figures.server_late / figures.sent > LATE_SHARE:
        kinds.append("server")
    line = _of_the_line(figures)
    rssi = figures.rssi
    if rssi is not None and rssi < 0 and (rssi <= VERY_WEAK_DBM or (rssi <= WEAK_DBM and line)):
        kinds.append("wifi")
    elif figures.weak and line:
        kinds.append("signal")
    kinds += line
    # A pause per hundred frames is one in 6 s of speech.
    if figures.starved >= STARVED and figures.starved * 100 > figures.sent:
        kinds.append("voice")
    if figures.pauses >= PAUSES and figures.pauses * 100 > figures.sent:
        kinds.append("pauses")
    if not kinds:
        kinds.append(GOOD if sent_enough or figures.received >= ENOUGH_RECEIVED else UNKNOWN)
    return [_worded(kind, figures) for kind in kinds]


def _of_the_line(figures: LineFigures) -> list[str]:
    kinds = []
    expected = figures.received + figures.lost
    received_enough = expected >= ENOUGH_RECEIVED
    if received_enough and figures.lost / expected >= LOSS_SHARE:
        kinds.append("loss")
    if figures.reconnects >= OFTEN:
        kinds.append("reconnects")
    if received_enough and (figures.jitter_ms >= JITTER_MS or figures.stalls >= STALLS):
        kinds.append("jitter")
    if figures.sent >= ENOUGH_SENT and figures.slow_sends / figures.sent > LATE_SHARE:
        kinds.append("slow")
    return kinds


def _worded(kind: str, figures: LineFigures) -> Finding:
    expected = figures.received + figures.lost
    late = figures.server_late if kind == "server" else figures.slow_sends
    values = {
        "share": f"{100 * late / max(1, figures.sent):.0f} %",
        "rssi": figures.rssi,
        "one_in": max(1, round(expected / max(1, figures.lost))),
        "reconnects": figures.reconnects,
        "jitter": round(figures.jitter_ms),
        "stalls": figures.stalls,
        "starved": figures.starved,
        "pauses": figures.pauses,
    }
    english, chinese = (sentence.format(**values) for sentence in SENTENCES[kind])
    return Finding(kind, english, chinese)
