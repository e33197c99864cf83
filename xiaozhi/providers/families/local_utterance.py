"""One utterance at a recogniser that hears it while it is spoken, on this machine.

An author writes a `Hearing`, two methods that compute in the inference pool; `LocalUtterance` hands it the sound in
order, one call at a time, and never makes whoever feeds it wait. While a call runs, sound gathers and goes with the
next: the busier the pool, the fewer and longer the calls, and nothing is lost."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from functools import partial

from gevent.event import Event

from xiaozhi.errors import Overloaded, VendorError, VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, AsrStream, Transcript
from xiaozhi.runtime.inference import InferencePool, Job

STEP_MS = 200
"""Sound that is worth a call: partial results come this often."""
MAX_BEHIND_S = 60
"""Seconds of sound that may wait for the pool; a machine that is so far behind does not catch up."""
_STEP = STEP_MS * ASR_SAMPLE_RATE // 1000 * 2


_CJK = r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\u3000-\u303f]"
_GAP = re.compile(rf"(?<={_CJK})\s+(?={_CJK})")


class Hearing(ABC):
    """One utterance, as a model hears it. Runs in a pool thread: nothing of gevent, one call at a time. Errors of its
    library may be of any type."""

    @abstractmethod
    def hear(self, pcm: bytes) -> str:
        """Take the next sound (s16le mono 16 kHz, any even length); the best text so far."""

    @abstractmethod
    def end(self, pcm: bytes) -> Transcript:
        """Take the last sound, which may be none; the text of the utterance."""


class LocalUtterance(AsrStream):
    """See the module. `timeout`: seconds from the end of speech to the text."""

    def __init__(self, hearing: Hearing, inference: InferencePool, *, vendor: str, timeout: float) -> None:
        self._hearing: Hearing | None = hearing
        self._inference = inference
        self._vendor = vendor
        self._timeout = timeout
        self._sound = bytearray()
        self._job: Job | None = None
        self._rested = Event()
        """Set while no call is under way."""
        self._rested.set()
        self._error: VendorError | None = None
        self._ending = False

    def feed(self, pcm: bytes) -> None:
        self._checked()
        self._sound += pcm
        if len(self._sound) > MAX_BEHIND_S * ASR_SAMPLE_RATE * 2:
            self._fail(VendorUnavailable(self._vendor, f"{MAX_BEHIND_S} s behind"))
            self._checked()
        self._go_on()

    def finish(self) -> Transcript:
        began = time.monotonic()
        self._checked()
        self._ending = True
        try:
            if not self._rested.wait(timeout=self._timeout):
                raise VendorTimeout(self._vendor, f"no text within {self._timeout:g} s")
            hearing = self._checked()
            left = max(0.1, self._timeout - (time.monotonic() - began))
            whole = self._even()
            return self._inference.run(partial(self._end, hearing, whole), kind="asr", deadline=left)
        finally:
            self.close()

    def close(self) -> None:
        self._fail(VendorUnavailable(self._vendor, "the stream was closed"))

    def _checked(self) -> Hearing:
        if self._error is not None:
            raise self._error
        assert self._hearing is not None
        return self._hearing

    def _fail(self, error: VendorError) -> None:
        # The thread that works for it now keeps what it needs; nothing else does.
        self._error = self._error or error
        self._hearing = None
        self._sound.clear()
        job, self._job = self._job, None
        if job is not None:
            self._inference.withdraw(job)
        self._rested.set()

    def _go_on(self) -> None:
        if self._job is not None or self._ending or self._hearing is None or len(self._sound) < _STEP:
            return
        sound = self._even()
        try:
            self._job = self._inference.submit(self._hearing.hear, sound, kind="asr", deliver=self._heard)
        except Overloaded:
            self._sound[:0] = sound  # the next feed tries again
        else:
            self._rested.clear()

    def _even(self) -> bytes:
        """The waiting sound, up to its last whole sample."""
        whole = bytes(self._sound[: len(self._sound) // 2 * 2])
        del self._sound[: len(whole)]
        return whole

    def _heard(self, text: str | None, error: Exception | None) -> None:
        # In the hub: must not block.
        if self._job is None:
            return  # closed meanwhile
        self._job = None
        if error is not None:
            self._fail(self._told(error))
            return
        self.partial = text or ""
        self._rested.set()
        self._go_on()

    def _end(self, hearing: Hearing, sound: bytes) -> Transcript:
        # In a pool thread.
        try:
            return hearing.end(sound)
        except Exception as error:
            raise self._told(error) from error

    def _told(self, error: Exception) -> VendorError:
        if isinstance(error, VendorError):
            return error
        return VendorUnavailable(self._vendor, f"its library failed: {error}"[:300])


def readable(text: str) -> str:
    """Recognised words as they are written: no spaces between Chinese or Japanese characters, and lower case where a
    model knows capitals only."""
    text = _GAP.sub("", text.strip())
    return text.lower() if text.isupper() else text
