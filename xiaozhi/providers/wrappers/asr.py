"""Guard and fallback of recognisers. A fallback keeps the sound, so that the next one hears the utterance from its
beginning."""

from __future__ import annotations

from collections import deque

import gevent

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorUnavailable
from xiaozhi.providers.contracts.asr import Asr, AsrStream, BatchAsr, Transcript
from xiaozhi.providers.wrappers.fallback import FAILURES, FallbackProvider
from xiaozhi.providers.wrappers.guarded import GuardedProvider
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.resilience import Attempt

log = get_logger(__name__)


class GuardedBatchAsr(GuardedProvider, BatchAsr):
    """One place per utterance, from its end."""

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        """As the provider inside; raises CircuitOpen and Overloaded as well."""

        def listen() -> Transcript:
            heard: Transcript = self.inner.transcribe(pcm, context)
            return heard

        return self.guard.call(listen)


class GuardedAsr(GuardedProvider, Asr):
    """One place per utterance, from the moment it begins."""

    def open(self, context: CallContext) -> AsrStream:
        """As the provider inside; raises CircuitOpen and Overloaded as well."""
        stream, attempt = self.guard.begin(lambda: self.inner.open(context))
        return _GuardedUtterance(stream, attempt)


class _GuardedUtterance(AsrStream):
    def __init__(self, inner: AsrStream, attempt: Attempt) -> None:
        self._inner = inner
        self._attempt = attempt

    @property
    def partial(self) -> str:  # type: ignore[override]
        return self._inner.partial

    def feed(self, pcm: bytes) -> None:
        try:
            self._inner.feed(pcm)
        except BaseException as error:
            self._attempt.end(error)
            raise

    def finish(self) -> Transcript:
        try:
            heard = self._inner.finish()
        except BaseException as error:
            self._attempt.end(error)
            raise
        self._attempt.first()
        self._attempt.end()
        return heard

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._attempt.end(gevent.GreenletExit())


class FallbackBatchAsr(FallbackProvider, BatchAsr):
    """The next recogniser gets the same utterance."""

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        """The text of the first that understands."""
        heard: Transcript = self.first_that(lambda provider: provider.transcribe(pcm, context))
        return heard


class FallbackAsr(FallbackProvider, Asr):
    """Keeps the sound of the utterance, so that another recogniser can hear it from the beginning."""

    def open(self, context: CallContext) -> AsrStream:
        """A stream at the first provider that opens one."""
        return _FallbackUtterance(self, context)


class _FallbackUtterance(AsrStream):
    def __init__(self, owner: FallbackAsr, context: CallContext) -> None:
        self._owner = owner
        self._context = context
        self._left = deque(owner.providers)
        self._pcm = bytearray()
        self._closed = False
        self._stream: AsrStream | None = None
        self._next(None)

    @property
    def partial(self) -> str:  # type: ignore[override]
        return self._stream.partial if self._stream is not None else ""

    def feed(self, pcm: bytes) -> None:
        self._pcm += pcm
        try:
            self._current().feed(pcm)
        except FAILURES as error:
            self._next(error)

    def finish(self) -> Transcript:
        while True:
            try:
                return self._current().finish()
            except FAILURES as error:
                self._next(error)

    def close(self) -> None:
        self._closed = True
        if self._stream is not None:
            self._stream.close()
        self._pcm = bytearray()

    def _current(self) -> AsrStream:
        if self._stream is None or self._closed:
            raise VendorUnavailable(self._owner.name, "the stream was closed")
        return self._stream

    def _next(self, error: Exception | None) -> None:
        # The next provider that opens and takes what was said so far. Raises the last error when there is none.
        while True:
            if self._stream is not None:
                self._stream.close()
                self._stream = None
            if self._closed or not self._left:
                raise error or VendorUnavailable(self._owner.name, "the stream was closed")
            provider = self._left.popleft()
            if error is not None:
                log.warning("fallback", kind="asr", provider=provider.name, error=str(error))
            try:
                self._stream = provider.open(self._context)
                if self._pcm:
                    self._stream.feed(bytes(self._pcm))
                return
            except FAILURES as failed:
                error = failed
