"""A listener with everything around it, for the tests of the ears: a sink that keeps what it is told, detectors and
recognisers.

Packets are PCM, so that a test can tell which sample became of which, and arrive by a clock that the test moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gevent
from gevent.event import Event

from tests.fakes.clock import FakeClock
from tests.fakes.hearing import FakeAsr, FakeAsrStream, FakeVad, FakeVadStream
from tests.fakes.sound import silence, tone
from tests.waiting import PATIENCE_S
from xiaozhi.chat import CallContext
from xiaozhi.errors import Overloaded, VendorUnavailable
from xiaozhi.providers.contracts.asr import Asr, AsrStream, BatchAsr, Transcript
from xiaozhi.providers.contracts.vad import Vad, VadStream, VadTraits
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.listening.decoder import EchoCanceller
from xiaozhi.session.listening.end_of_turn import Witnesses
from xiaozhi.session.listening.listener import Listener, ListenerOptions, Utterance

FRAME = 1920
"""Bytes of 60 ms at 16 kHz."""
MARGIN_MS = 64
"""Packets and windows do not fall together: two windows of freedom."""


class Sink:
    """Keeps what it is told; `on` are reactions by name."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.utterances: list[Utterance] = []
        self.paused: list[Utterance] = []
        self.on: dict[str, Callable[..., None]] = {}

    def _tell(self, what: str, *about: Any) -> None:
        self.told.append(what)
        if what in self.on:
            self.on[what](*about)

    def speech_started(self) -> None:
        self._tell("started")

    def utterance_paused(self, utterance: Utterance) -> None:
        self.paused.append(utterance)
        self._tell("paused", utterance)

    def utterance_resumed(self) -> None:
        self._tell("resumed")

    def utterance_ended(self, utterance: Utterance) -> None:
        self.utterances.append(utterance)
        self._tell("ended", utterance)

    def utterance_dropped(self, reason: str) -> None:
        self._tell(f"dropped: {reason}")


class QuickVad(FakeVad):
    """Loud is voice; 300 ms of silence end an utterance."""

    traits = VadTraits(offline=True, min_silence_ms=300)


class Ears:
    """A listener with everything around it."""

    def __init__(
        self,
        *,
        vad: Vad | None = None,
        asr: Asr | None = None,
        canceller: EchoCanceller | None = None,
        witnesses: Witnesses | None = None,
        **options: Any,
    ) -> None:
        self.clock = FakeClock()
        self.sink = Sink()
        self.tasks = Tasks()
        self.vad = vad or QuickVad()
        self.asr = asr or FakeAsr(lambda pcm: f"{len(pcm)} bytes")
        # PCM in, so that tests can tell which sample became of which.
        wanted = replace(
            ListenerOptions(audio_format="pcm", pause_ms=0, min_utterance_frames=0, pre_roll_frames=5), **options
        )
        self.listener = Listener(
            vad=self.vad,
            asr=self.asr,
            context=CallContext(device_id="d"),
            options=wanted,
            sink=self.sink,
            tasks=self.tasks,
            canceller=canceller,
            witnesses=witnesses,
            clock=self.clock,
        )

    def hear(self, pcm: bytes, size: int = FRAME, timestamp_ms: int | None = None) -> None:
        """`pcm` in packets that arrive at their time, all with one timestamp."""
        for start in range(0, len(pcm), size):
            self.clock.advance(size / 32_000)
            self.listener.hear(pcm[start : start + size], timestamp_ms)
            settle()

    def close(self) -> None:
        self.listener.close()
        for utterance in (*self.sink.utterances, *self.sink.paused):
            utterance.close()
        assert self.tasks.kill()


def settle() -> None:
    """Let every ready greenlet have its turn."""
    for _ in range(10):
        gevent.sleep(0)


Make = Callable[..., Ears]


def ears_factory() -> Iterator[Make]:
    """`make = pytest.fixture(ears_factory)`: makes Ears and closes them."""
    made: list[Ears] = []

    def build(**options: Any) -> Ears:
        made.append(Ears(**options))
        return made[-1]

    yield build
    for ears in made:
        ears.close()


def ms(pcm: bytes) -> float:
    return len(pcm) / 32


def streams(ears: Ears) -> list[FakeAsrStream]:
    assert isinstance(ears.asr, FakeAsr)
    return ears.asr.streams


def say(ears: Ears) -> Utterance:
    """One utterance, from the first to the last of it."""
    ears.hear(silence(300) + tone(600) + silence(600))
    return ears.sink.utterances[-1]


# --- detectors and recognisers ----------------------------------------------------------------------------------------


class BusyVadStream(FakeVadStream):
    """Keeps to the contract of `VadStream.feed`: what it could not judge comes later."""

    busy = False

    def feed(self, pcm: bytes) -> list[float]:
        if self.busy:
            self._residue += pcm
            raise Overloaded("vad")
        return super().feed(pcm)


class BusyVad(QuickVad):
    stream: BusyVadStream

    def open(self) -> VadStream:
        self.stream = BusyVadStream(None, self.traits.window_samples)
        return self.stream


class StubbornStream(AsrStream):
    """`finish` waits until it is closed."""

    def __init__(self) -> None:
        self.closed = False
        self._gone = Event()

    def feed(self, pcm: bytes) -> None:
        pass

    def finish(self) -> Transcript:
        assert self._gone.wait(timeout=PATIENCE_S)
        raise VendorUnavailable("stubborn", "closed")

    def close(self) -> None:
        self.closed = True
        self._gone.set()


class StubbornAsr(Asr):
    def __init__(self) -> None:
        self.streams: list[StubbornStream] = []

    def open(self, context: CallContext) -> AsrStream:
        self.streams.append(StubbornStream())
        return self.streams[-1]


class StuckAsr(FakeAsr):
    """Opening takes until `gate` is set; `refuses` is raised then."""

    def __init__(self, refuses: Exception | None = None) -> None:
        super().__init__(lambda pcm: f"{len(pcm)} bytes")
        self.gate = Event()
        self.refuses = refuses

    def open(self, context: CallContext) -> AsrStream:
        assert self.gate.wait(timeout=PATIENCE_S)
        if self.refuses is not None:
            raise self.refuses
        return super().open(context)


class WholeAsr(BatchAsr):
    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        self.heard.append(pcm)
        return Transcript(context.device_id)
