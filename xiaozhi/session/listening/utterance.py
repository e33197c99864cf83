"""One utterance: its sound, when the voice ended, and the recognition that is fed while the sound still grows.

Where it begins and ends is decided by the listening segments (`segment.py` and its kinds); who waits for the text is
the turn. An utterance is complete when the sink first sees it; sound that follows a pause goes to its successor.

A streaming recogniser gets a greenlet of its own per utterance: opening a connection, or a slow vendor, must never keep
the listener from noticing the end of the voice. A batch recogniser gets nothing before `transcribe`, and costs nothing
before that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gevent import Greenlet
from gevent.event import Event

from xiaozhi.chat import CallContext
from xiaozhi.errors import TurnClosed, VendorTimeout
from xiaozhi.protocol.messages import ListenMode
from xiaozhi.providers.contracts.asr import Asr, AsrStream, Transcript
from xiaozhi.runtime.deadlines import at_most
from xiaozhi.runtime.logs import bind_context
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.runtime.tracing import new_trace_id

BYTES_PER_MS = 32
"""s16le mono at 16 kHz."""
FEEDER_IDLE_S = 60.0
"""A feeder looks up this often even if nothing comes; longer than any gap within an utterance."""


class Recognition:
    """Feeds one ASR stream with the first `limit` bytes of a growing sound. Failures are kept for `finish`."""

    def __init__(self, asr: Asr, context: CallContext, sound: bytearray, trace: str = "") -> None:
        self.trace = trace
        self._asr = asr
        self._context = context
        self._sound = sound
        self._limit = 0
        self._fed = 0
        self._stream: AsrStream | None = None
        self._error: Exception | None = None
        self._closed = False
        self._sealed = False
        self._wake = Event()
        self._done = Event()
        self._feeder: Greenlet | None = None

    @property
    def partial(self) -> str:
        """The text so far, where the recogniser gives one."""
        return self._stream.partial if self._stream is not None else ""

    def start(self, tasks: Tasks) -> None:
        """Work in the background from now on."""
        self._feeder = tasks.spawn("asr-feeder", self._feed_aside)

    def advance(self, limit: int) -> None:
        """The first `limit` bytes of the sound may be fed."""
        self._limit = limit
        self._wake.set()

    def finish(self, deadline: float) -> Transcript:
        """Feed the rest and wait for the text. Raises what opening, feeding or finishing raised; VendorTimeout when
        feeding takes more than `deadline` seconds (finishing has the provider's own deadline); TurnClosed when it has
        been closed."""
        self._sealed = True
        self._wake.set()
        if self._feeder is None:
            self._feed()
        elif not self._done.wait(timeout=deadline):
            raise VendorTimeout(self._asr.name or "asr", f"did not take the sound within {deadline:g} s")
        if self._closed:
            raise TurnClosed("utterance closed")
        if self._error is not None:
            raise self._error
        if self._stream is None:
            raise TurnClosed("recognition was killed")
        return self._stream.finish()

    def close(self) -> None:
        """Abandon the stream, which makes whoever waits for it return. Idempotent, callable from any greenlet."""
        if self._closed:
            return
        self._closed = True
        self._wake.set()
        if self._feeder is not None:
            # It may be inside `open`, where there is no stream to close yet.
            self._feeder.kill(block=False)
        if self._stream is not None:
            self._stream.close()

    def _feed_aside(self) -> None:
        bind_context(trace=self.trace)
        self._feed()

    def _feed(self) -> None:
        try:
            self._stream = stream = self._asr.open(self._context)
            while not self._closed:
                if self._fed < self._limit:
                    chunk = bytes(self._sound[self._fed : self._limit])
                    self._fed += len(chunk)
                    stream.feed(chunk)
                elif self._sealed:
                    break
                else:
                    self._wake.clear()
                    self._wake.wait(timeout=FEEDER_IDLE_S)
        except Exception as error:  # noqa: BLE001  kept for `finish`, which raises it
            self._error = error
        finally:
            self._done.set()
            if self._closed and self._stream is not None:
                self._stream.close()


@dataclass(frozen=True, slots=True)
class RecogniserAccess:
    """What an utterance needs to have itself recognised."""

    asr: Asr
    context: CallContext
    tasks: Tasks
    deadline: float
    """Seconds for the text of one utterance, from when it is asked for."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the end of a voice was noticed; moments in monotonic s."""

    quiet_at: float
    """The detector heard no voice any more."""
    silent_at: float
    """The silence had lasted long enough, by the sound."""
    arrived_at: float
    """The packet with that moment in it had come."""


class Utterance:
    """What the sink gets. `transcribe`, `pcm` and `close` are for it; `grew`, `complete` and `hand_over` are for the
    ears, which own `sound` until the utterance has ended."""

    def __init__(
        self,
        number: int,
        mode: ListenMode,
        sound: bytearray,
        access: RecogniserAccess,
        recognition: Recognition | None = None,
    ) -> None:
        self.id = number
        """1, 2, ... per stretch of listening."""
        self.mode = mode
        self.ended_at = 0.0
        """When the voice really ended (monotonic s): the arrival of its last sound, not when the silence was long
        enough."""
        self.ending: Ending | None = None
        """None: nobody had to notice it, as with a button."""
        self.voiced_ms = 0.0
        """How much of it is voice."""
        self.trace = recognition.trace if recognition is not None else new_trace_id()
        """Ties together everything that is done about it."""
        self.packets: tuple[bytes, ...] = ()
        """What the device sent of it, in Opus; empty where that is not kept, and after `close`."""
        self.closed = False
        self.on_transcript: Callable[[Transcript], None] | None = None
        """Told of the text in the greenlet that asked for it, before that goes on; must not block."""
        self._sound = sound
        self._length: int | None = None
        self._access = access
        self._claimed = False
        self._recognition = recognition
        if recognition is None and access.asr.traits.streaming:
            self._recognition = recognition = Recognition(access.asr, access.context, sound, self.trace)
            recognition.start(access.tasks)
        if recognition is not None:
            recognition.advance(len(sound))

    @property
    def pcm(self) -> bytes:
        """Its sound, s16le mono 16 kHz, pre-roll and trailing silence included; b"" after `close`."""
        return bytes(self._sound[: self._length])

    @property
    def partial(self) -> str:
        """Its text so far, where the recogniser gives one while the user speaks; else ""."""
        return self._recognition.partial if self._recognition is not None else ""

    def tail(self, ms: float) -> bytes:
        """The last `ms` of `pcm`, or all of it."""
        end = len(self._sound) if self._length is None else self._length
        return bytes(self._sound[max(0, end - int(ms) * BYTES_PER_MS) : end])

    @property
    def duration_ms(self) -> float:
        """How long `pcm` sounds."""
        return (len(self._sound) if self._length is None else self._length) / BYTES_PER_MS

    @property
    def samples(self) -> int:
        """The same, at 16 kHz."""
        return (len(self._sound) if self._length is None else self._length) // 2

    def transcribe(self) -> Transcript:
        """Its text; blocks for the recogniser, at most the deadline with all its retries and fallbacks. Raises
        VendorError and Overloaded, also those of opening and feeding; TurnClosed when it is closed. A second call
        recognises anew."""
        if self.closed:
            raise TurnClosed("utterance closed")
        self._claimed = True
        recognition = self._recognition
        if recognition is None:
            recognition = self._recognition = Recognition(
                self._access.asr, self._access.context, self._sound, self.trace
            )
        recognition.advance(len(self._sound) if self._length is None else self._length)
        deadline, name = self._access.deadline, self._access.asr.name or "asr"
        try:
            with at_most(deadline, VendorTimeout(name, f"no text within {deadline:g} s")):
                transcript = recognition.finish(deadline)
        finally:
            recognition.close()
            if self._recognition is recognition:
                self._recognition = None
        if self.on_transcript is not None:
            self.on_transcript(transcript)
        return transcript

    def close(self) -> None:
        """Let go of stream and sound. Idempotent, callable from any greenlet."""
        if self.closed:
            return
        self.closed = True
        self.on_transcript = None
        if self._recognition is not None:
            self._recognition.close()
            self._recognition = None
        self.packets = ()
        self._sound = bytearray()  # a new one: the ears may still need the old one for the utterance that takes over

    # --- for the ears -------------------------------------------------------------------------------------------------

    @property
    def completed(self) -> bool:
        """Whether `complete` has been called: sound that comes now is for an utterance that takes over."""
        return self._length is not None

    def grew(self) -> None:
        """Its sound has become longer."""
        if self._length is None and self._recognition is not None:
            self._recognition.advance(len(self._sound))

    def complete(self, ended_at: float, voiced_ms: float) -> None:
        """This is all, as far as is known now."""
        self._length = len(self._sound)
        self.ended_at = ended_at
        self.voiced_ms = voiced_ms

    def hand_over(self) -> Recognition | None:
        """The voice goes on: its recognition for the utterance that takes over, unless somebody has asked for the text
        already."""
        if self._claimed:
            return None
        recognition, self._recognition = self._recognition, None
        return recognition
