"""Ears without models: a voice detector that follows a script (or plain loudness) and a recogniser that says what it is
told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import gevent

from tests.fakes.sound import loudness
from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorUnavailable
from xiaozhi.providers.contracts.asr import Asr, AsrStream, AsrTraits, Transcript
from xiaozhi.providers.contracts.vad import Vad, VadStream, VadTraits

LOUD = 200.0
"""Root mean square above which a window counts as speech when there is no script."""


class FakeVad(Vad):
    """Every stream yields the probabilities of `script`, one per window, then 0.0; without a script, 0.95 for loud
    windows, else 0.02."""

    type_name = "fake"
    traits = VadTraits(offline=True)

    def __init__(self, script: Sequence[float] | None = None) -> None:
        self.script = script
        self.streams: list[FakeVadStream] = []

    def open(self) -> VadStream:
        stream = FakeVadStream(self.script, self.traits.window_samples)
        self.streams.append(stream)
        return stream


class FakeVadStream(VadStream):
    """`resets` counts; `error` is raised by the next `feed`."""

    def __init__(self, script: Sequence[float] | None, window_samples: int) -> None:
        self._script = None if script is None else list(script)
        self._window = 2 * window_samples
        self._residue = b""
        self.resets = 0
        self.error: Exception | None = None

    def feed(self, pcm: bytes) -> list[float]:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        data = self._residue + pcm
        whole = len(data) // self._window * self._window
        self._residue = data[whole:]
        return [self._judge(data[at : at + self._window]) for at in range(0, whole, self._window)]

    def reset(self) -> None:
        self._residue = b""
        self.resets += 1

    def _judge(self, window: bytes) -> float:
        if self._script is None:
            return 0.95 if loudness(window) > LOUD else 0.02
        return self._script.pop(0) if self._script else 0.0


class FakeAsr(Asr):
    """Recognises `texts` one after the other (the last one for ever), or what `texts(pcm)` returns; an exception in the
    list is raised.

    `delay` seconds pass in `finish`. `streams` are all that were opened."""

    type_name = "fake"
    traits = AsrTraits(offline=True)

    def __init__(
        self, texts: Sequence[str | Exception] | Callable[[bytes], str] = ("hello",), *, delay: float = 0.0
    ) -> None:
        self.texts = texts
        self.delay = delay
        self.streams: list[FakeAsrStream] = []
        self._finished = 0

    def open(self, context: CallContext) -> AsrStream:
        stream = FakeAsrStream(self, context)
        self.streams.append(stream)
        return stream

    def recognise(self, pcm: bytes) -> str:
        """The next text of the script."""
        if callable(self.texts):
            return self.texts(pcm)
        text = self.texts[min(self._finished, len(self.texts) - 1)]
        self._finished += 1
        if isinstance(text, Exception):
            raise text
        return text


class FakeAsrStream(AsrStream):
    """`pcm` is all that was fed; `finished` and `closed` tell what became of it."""

    def __init__(self, asr: FakeAsr, context: CallContext) -> None:
        self._asr = asr
        self.context = context
        self.pcm = b""
        self.finished = False
        self.closed = False

    def feed(self, pcm: bytes) -> None:
        if self.closed:
            raise VendorUnavailable("fake", "the stream is closed")
        self.pcm += pcm

    def finish(self) -> Transcript:
        if self.finished:
            raise AssertionError("finish() may be called once")
        self.finished = True
        gevent.sleep(self._asr.delay)  # sleep: the vendor is slow
        return Transcript(self._asr.recognise(self.pcm))

    def close(self) -> None:
        self.closed = True
