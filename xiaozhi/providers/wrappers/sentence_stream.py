"""A vendor that speaks one sentence per request -> a stream that looks ahead.

While one sentence plays, the next is synthesised: each sentence has its own greenlet and its own buffer, and starts
when the sentence before it has made its first sound, so that the first words of an answer never compete with the second
sentence for the vendor. Sound comes out strictly in the order of `say`; an error surfaces where the failed sentence
would have been heard.

A buffer holds a whole sentence as a rule. That is deliberate: a vendor's place in its concurrency window and its
connection are free as soon as the sentence has been made, not when it has been played."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gevent.event import Event
from gevent.lock import Semaphore
from gevent.queue import Empty, Queue

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.tts import Pcm, SentenceBegins, SentenceTts, Sound, SpeechEvent, TtsStream
from xiaozhi.runtime.tasks import Tasks

LOOK_AHEAD = 1
"""Sentences under way or ready beyond the one being consumed."""
BUFFERED_PIECES = 256
"""Pieces of sound per sentence, each what one read of the network gave (at most 64 KB, usually far less); full: the
vendor waits."""
JOINED_BYTES = 65_536
"""PCM that waits is handed on in pieces of about this size: what becomes of each costs a trip to the inference pool."""
WAIT_S = 120.0
"""No wait here is longer: a listener that takes nothing, or a caller that says nothing, for that long is gone."""


class _Sentence:
    """One sentence: its text, what has been made of it, and whether it has made a sound."""

    __slots__ = ("pieces", "sounding", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sounding = Event()
        # A Sound, an Exception that ends it, or None: complete.
        self.pieces: Queue[Sound | Exception | None] = Queue(BUFFERED_PIECES)


class SentenceStream(TtsStream):
    """Makes one reply of a SentenceTts. `say` blocks while `look_ahead` sentences beyond the one being consumed are
    under way."""

    def __init__(self, tts: SentenceTts, context: CallContext, *, look_ahead: int = LOOK_AHEAD) -> None:
        self._tts = tts
        self._context = context
        self._tasks = Tasks()
        self._places = Semaphore(look_ahead + 1)
        # Never full: the places bound the sentences, and `finish` and `close` add one mark each.
        self._order: Queue[_Sentence | None] = Queue(look_ahead + 3)
        self._last: _Sentence | None = None
        self._current: _Sentence | None = None
        self._error: Exception | None = None
        self._finished = False
        self._closed = False

    def say(self, sentence: str) -> None:
        """Queue one sentence. Raises VendorError, Overloaded when an earlier one failed, or the stream was closed."""
        if not self._places.acquire(timeout=WAIT_S):
            raise VendorTimeout(self._vendor, f"nobody listened for {WAIT_S:g} s")
        self._check()
        said = _Sentence(sentence)
        before, self._last = self._last, said
        self._order.put(said)
        self._tasks.spawn("tts-sentence", self._make, said, before)

    def finish(self) -> None:
        """No more sentences will come."""
        if not self._finished:
            self._finished = True
            self._order.put(None)

    def events(self) -> Iterator[SpeechEvent]:
        """Sentences and their sound, in order."""
        try:
            while (sentence := self._next(self._order)) is not None:
                self._current = sentence
                yield SentenceBegins(sentence.text)
                while (piece := self._next(sentence.pieces)) is not None:
                    yield _joined(piece, sentence.pieces) if isinstance(piece, Pcm) else piece
                self._places.release()
        finally:
            self.close()

    def close(self) -> None:
        """Stop: requests under way are broken off, `say` and `events` raise."""
        if self._closed:
            return
        self._closed = True
        # Wake whoever waits; each looks whether the stream was closed. A queue that is full has no reader waiting at
        # it.
        self._places.release()
        self._order.put_nowait(None)
        if self._current is not None and not self._current.pieces.full():
            self._current.pieces.put_nowait(None)
        self._tasks.kill(timeout=0)

    @property
    def _vendor(self) -> str:
        return self._tts.name or self._tts.type_name

    def _make(self, sentence: _Sentence, before: _Sentence | None) -> None:
        try:
            if before is not None and not before.sounding.wait(timeout=WAIT_S):
                raise VendorTimeout(self._vendor, "the sentence before made no sound")
            for sound in self._tts.synthesize(sentence.text, self._context):
                sentence.sounding.set()
                sentence.pieces.put(sound, timeout=WAIT_S)
            sentence.pieces.put(None, timeout=WAIT_S)
        except Exception as error:  # noqa: BLE001  raised again where the sentence would be heard
            sentence.pieces.put(error, timeout=WAIT_S)
        finally:
            sentence.sounding.set()

    def _next(self, queue: Queue[Any]) -> Any:
        self._check()
        try:
            item = queue.get(timeout=WAIT_S)
        except Empty:
            raise VendorTimeout(self._vendor, f"nothing was said for {WAIT_S:g} s") from None
        if isinstance(item, Exception):
            self._error = item
        self._check()
        return item

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._closed:
            raise VendorUnavailable(self._vendor, "the stream was closed")


def _joined(first: Pcm, waiting: Queue[Sound | Exception | None]) -> Pcm:
    """`first` and what waits behind it, as far as it is of the same kind. Never waits."""
    parts, size = [first.data], len(first.data)
    while size < JOINED_BYTES and not waiting.empty():
        piece = waiting.peek_nowait()
        if not isinstance(piece, Pcm) or piece.rate != first.rate or piece.substitute != first.substitute:
            break
        waiting.get_nowait()
        parts.append(piece.data)
        size += len(piece.data)
    return first if len(parts) == 1 else Pcm(b"".join(parts), first.rate, first.substitute)
