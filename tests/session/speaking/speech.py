"""Voices and an outbox that do exactly what a test tells them, for tests of what stands between the two."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from gevent.event import Event

from tests.fakes.clock import FakeClock
from tests.waiting import PATIENCE_S
from xiaozhi.chat import CallContext
from xiaozhi.errors import TurnClosed, VendorUnavailable
from xiaozhi.protocol import messages as wire
from xiaozhi.providers.contracts.tts import (
    Pcm,
    SentenceBegins,
    SentenceEnds,
    SentenceTts,
    Sound,
    SpeechEnds,
    SpeechEvent,
    StreamingTts,
    TtsStream,
    TtsTraits,
)

RATE = 24_000
FRAME_MS = 60
FRAME_BYTES = RATE * FRAME_MS // 1000 * 2


def pcm(ms: int, rate: int = RATE, *, value: int = 1) -> bytes:
    """`ms` of sound that is told apart by its value."""
    return bytes([value, 0]) * (rate * ms // 1000)


def settle() -> None:
    """The turn of everybody who can go on."""
    for _ in range(200):
        gevent.sleep(0)


class ScriptedStream(TtsStream):
    """`script` is what `receive` gives: an event, an exception, or None for a `receive` that lasts its whole timeout by
    the fake clock. At the end of the script `receive` waits for more of it, or gives SpeechEnds after `finish`; not so
    when `ends` is False."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._script: deque[Any] = deque()
        self._news = Event()
        self.said: list[str] = []
        self.refuses: Exception | None = None
        self.finished = 0
        self.ends = True
        self.closed = 0
        self.timeouts: list[float] = []

    def sends(self, *items: Any) -> None:
        """Add to the script."""
        self._script += items
        self._news.set()

    def speaks(self, sentence: str, *sounds: Sound) -> None:
        """Add a whole sentence to the script."""
        self.sends(SentenceBegins(sentence), *sounds, SentenceEnds())

    def say(self, sentence: str) -> None:
        self.said.append(sentence)
        if self.refuses is not None:
            raise self.refuses

    def finish(self) -> None:
        self.finished += 1
        self._news.set()

    def receive(self, timeout: float) -> SpeechEvent | None:
        self.timeouts.append(timeout)
        while not self._script and not self.closed:
            if self.finished and self.ends:
                return SpeechEnds()
            self._news.clear()
            assert self._news.wait(timeout=PATIENCE_S), "nobody goes on with the script"
        if self.closed:
            raise VendorUnavailable("scripted", "closed")
        item = self._script.popleft()
        if item is None:
            self._clock.advance(timeout)
            gevent.sleep(0)
        if isinstance(item, Exception):
            raise item
        return item  # type: ignore[no-any-return]

    def close(self) -> None:
        self.closed += 1
        self._news.set()


class Streamer(StreamingTts):
    """A streaming voice with one scripted stream."""

    name = "streamer"
    traits = TtsTraits(sample_rate=RATE, voice_key="streamer")

    def __init__(self, clock: FakeClock) -> None:
        self.stream = ScriptedStream(clock)
        self.opened = 0
        self.connected = Event()
        self.connected.set()
        self.error: Exception | None = None

    def open(self, context: CallContext) -> TtsStream:
        self.opened += 1
        self.connected.wait()
        if self.error is not None:
            raise self.error
        return self.stream


class Sayer(SentenceTts):
    """A voice of single sentences: 60 ms of sound each, or what `script` says."""

    def __init__(self, name: str = "sayer") -> None:
        self.name = name
        self.traits = TtsTraits(streaming=False, sample_rate=RATE, voice_key=name)
        self.script: dict[str, Callable[[], Iterator[Sound]]] = {}
        self.asked: list[str] = []

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        self.asked.append(sentence)
        yield from self.script.get(sentence, lambda: iter([Pcm(pcm(60))]))()


class RecordingOutbox:
    """What a playback asks of an outbox. `log` holds subtitles and faces as text, packets as they are. `hold` makes it
    full."""

    def __init__(self) -> None:
        self.log: list[str | bytes] = []
        self.queued_frames = 0
        self.closed = False
        self._room = Event()
        self._room.set()

    def hold(self) -> None:
        """From now on whoever sends waits."""
        self._room.clear()

    def release(self) -> None:
        """Let them go on."""
        self._room.set()

    @property
    def texts(self) -> list[str]:
        """Subtitles and faces."""
        return [item for item in self.log if isinstance(item, str)]

    @property
    def packets(self) -> list[bytes]:
        """The sound."""
        return [item for item in self.log if isinstance(item, bytes)]

    def message(self, turn_id: int, message: wire.TtsState | wire.LlmEmotion) -> None:
        """A subtitle or a face."""
        self._enter()
        if isinstance(message, wire.TtsState):
            self.log.append(message.text or "")
        else:
            assert isinstance(message, wire.LlmEmotion)
            self.log.append(f"face {message.emotion}")

    def mark(self, turn_id: int, callback: Callable[[], None]) -> None:
        """Here it is called at once."""
        self._enter()
        callback()

    def sent_ms(self, turn_id: int) -> float:
        """Frames of 60 ms."""
        return 60.0 * len(self.packets)

    def frames(self, turn_id: int, packets: Any) -> None:
        """Sound."""
        self._enter()
        assert all(isinstance(packet, bytes) for packet in packets)
        self.log += packets

    def _enter(self) -> None:
        self._room.wait()
        if self.closed:
            raise TurnClosed("turn 1 is shut")
