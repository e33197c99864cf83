"""Adapters between the two kinds of TTS: a stream made of single sentences, and single sentences made of streams.

`SentenceStream` looks ahead: while one sentence plays, the next is synthesised. Each sentence has its own greenlet and
its own buffer, and starts when the sentence before it has made its first sound, so that the first words of an answer
never compete with the second sentence for the vendor. Sound comes out in the order of `say`.

A sentence that the vendor cannot speak (it refuses the text, makes no sound of it, or breaks at it with all its
retries) is left out, because the others are still worth hearing. The error surfaces where the sentence would have been
heard when the vendor is at fault rather than the text: it keeps silent, it breaks off in the middle of a sentence, or
it breaks at several sentences in a row. And at the end, when no sentence made a sound.

A buffer holds a whole sentence as a rule. That is deliberate: a vendor's place in its concurrency window and its
connection are free as soon as the sentence has been made, not when it has been played."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace

from gevent.queue import Empty, Full, Queue

from xiaozhi.chat import CallContext
from xiaozhi.errors import (
    Overloaded,
    VendorBusy,
    VendorGarbage,
    VendorRejected,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.providers.contracts.tts import (
    MAX_WAITING_SENTENCES,
    OpusPackets,
    Pcm,
    SentenceBegins,
    SentenceEnds,
    SentenceTts,
    Sound,
    SpeechEnds,
    SpeechEvent,
    StreamingTts,
    Tts,
    TtsStream,
)
from xiaozhi.providers.tts_session import joined
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks

log = get_logger(__name__)

LOOK_AHEAD = 1
"""Sentences under way or ready beyond the one being received."""
BUFFERED_PIECES = 256
"""Pieces of sound per sentence, each what one read of the network gave (at most 64 KB, usually far less); full: the
vendor waits."""
FAILED_IN_A_ROW = 3
"""Each of them may have taken a few seconds of retries, in silence."""
FAILED_AT_FIRST = 2
"""The same while nothing was heard of the answer: an apology must not be long in coming."""
WAIT_S = 120.0
"""No wait here is longer: whoever receives nothing, or makes no sound, for that long is gone."""


def open_speech(tts: Tts, context: CallContext, *, skips: bool = True) -> TtsStream:
    """A stream for one answer of a voice of either kind. May block to connect; raises VendorError, Overloaded.

    `skips`: a voice for single sentences leaves out one that it cannot speak; False: the stream fails there, so that
    another voice can go on with it."""
    if isinstance(tts, SentenceTts):
        return SentenceStream(tts, context, skips=skips)
    assert isinstance(tts, StreamingTts)
    return tts.open(context)


def by_sentence(tts: Tts) -> SentenceTts:
    """`tts` as a voice for single sentences, such as phrases whose sound is cached one by one."""
    if isinstance(tts, SentenceTts):
        return tts
    assert isinstance(tts, StreamingTts)
    return _SessionPerSentence(tts)


class _Sentence:
    """One sentence: its text, what has come of it (sound, its end, an error), whether anything has, and whether its
    sound has been received."""

    __slots__ = ("heard", "pieces", "sounded", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sounded = False
        self.heard = False
        # Sound, then SentenceEnds or the Exception that ended it. None wakes a `receive` when the stream is closed.
        self.pieces: Queue[Sound | SentenceEnds | Exception | None] = Queue(BUFFERED_PIECES)


class SentenceStream(TtsStream):
    """The speech of one answer by a SentenceTts."""

    def __init__(
        self, tts: SentenceTts, context: CallContext, *, look_ahead: int = LOOK_AHEAD, skips: bool = True
    ) -> None:
        self._tts = tts
        self._context = context
        self._look_ahead = look_ahead
        self._skips = skips
        self._tasks = Tasks()
        # Said and not begun. None: `finish` and `close` add one each, so that a `receive` wakes.
        self._order: Queue[_Sentence | None] = Queue(MAX_WAITING_SENTENCES + 2)
        self._to_make: deque[_Sentence] = deque()
        """Said, and not asked for yet."""
        self._newest: _Sentence | None = None
        """The last sentence that was asked for."""
        self._under_way = 0
        """Sentences asked for whose end has not been received."""
        self._current: _Sentence | None = None
        """The sentence being received."""
        self._error: Exception | None = None
        self._skipped: Exception | None = None
        """Why the last sentence that was left out was."""
        self._failed_in_a_row = 0
        self._heard = False
        """Some sound has been received."""
        self._finished = False
        self._closed = False

    def say(self, sentence: str) -> None:
        """See TtsStream. Raises the error of an earlier sentence as well, once it was received."""
        self._check()
        if self._order.qsize() >= MAX_WAITING_SENTENCES:
            raise Overloaded(self._vendor)
        said = _Sentence(sentence)
        self._order.put_nowait(said)
        self._to_make.append(said)
        self._make_next()

    def finish(self) -> None:
        """See TtsStream."""
        if not self._finished:
            self._finished = True
            self._order.put_nowait(None)

    def receive(self, timeout: float) -> SpeechEvent | None:
        """See TtsStream."""
        self._check()
        sentence = self._current
        if sentence is None:
            return self._begin(timeout)
        try:
            piece = sentence.pieces.get(timeout=timeout)
        except Empty:
            return None
        self._check()
        if isinstance(piece, Pcm):
            self._heard = sentence.heard = True
            return joined(piece, sentence.pieces)
        if isinstance(piece, OpusPackets):
            self._heard = sentence.heard = True
            return piece
        if isinstance(piece, Exception):
            self._leave_out(sentence, piece)
        else:
            self._failed_in_a_row = 0
        self._current = None
        self._under_way -= 1
        self._make_next()
        return SentenceEnds(whole=not isinstance(piece, Exception))

    def close(self) -> None:
        """See TtsStream: requests under way are broken off."""
        if self._closed:
            return
        self._closed = True
        while not self._order.empty():
            self._order.get_nowait()
        # Wake whoever receives. A queue of pieces that is full has nobody waiting for its next piece.
        self._order.put_nowait(None)
        if self._current is not None and not self._current.pieces.full():
            self._current.pieces.put_nowait(None)
        self._tasks.kill(timeout=0)
        # Errors that are kept, here or unreceived, know this stream by their tracebacks.
        self._current = self._newest = self._error = None
        self._to_make.clear()

    @property
    def _vendor(self) -> str:
        return self._tts.name or self._tts.type_name

    def _leave_out(self, sentence: _Sentence, error: Exception) -> None:
        """Leave out the sentence that has failed, or fail with it."""
        possible = isinstance(error, VendorRejected | VendorGarbage)
        if isinstance(error, VendorUnavailable | VendorBusy) and not sentence.heard:
            self._failed_in_a_row += 1
            possible = self._failed_in_a_row < (FAILED_IN_A_ROW if self._heard else FAILED_AT_FIRST)
        if not self._skips or not possible:
            self._error = error
            self._check()
        self._skipped = error
        log.warning("a sentence was not spoken", vendor=self._vendor, error=str(error)[:200])

    def _end(self) -> SpeechEnds:
        if self._skipped is not None and not self._heard:
            self._error = self._skipped
        self._check()
        return SpeechEnds()

    def _begin(self, timeout: float) -> SpeechEvent | None:
        if self._finished and self._order.empty():
            return self._end()
        try:
            sentence = self._order.get(timeout=timeout)
        except Empty:
            return None
        self._check()
        if sentence is None:
            return self._end()
        self._current = sentence
        return SentenceBegins(sentence.text)

    def _make_next(self) -> None:
        """Ask for the next sentence if it is its time. Called whenever that may have become true."""
        newest = self._newest
        if self._to_make and self._under_way <= self._look_ahead and (newest is None or newest.sounded):
            sentence = self._newest = self._to_make.popleft()
            self._under_way += 1
            self._tasks.spawn("tts-sentence", self._make, sentence)

    def _make(self, sentence: _Sentence) -> None:
        # The greenlet of one sentence.
        try:
            with closing(self._pieces(sentence.text)) as pieces:
                for piece in pieces:
                    if not sentence.sounded:
                        sentence.sounded = True
                        if self._heard or not isinstance(piece, Exception):  # else `receive` decides whether to go on
                            self._make_next()
                    sentence.pieces.put(piece, timeout=WAIT_S)
        except Full:
            self._error = VendorTimeout(self._vendor, f"nobody received its sound for {WAIT_S:g} s")

    def _pieces(self, text: str) -> Generator[Sound | SentenceEnds | Exception]:
        try:
            yield from self._tts.synthesize(text, self._context)
        except Exception as error:  # noqa: BLE001  `receive` raises it where the sentence would have been heard
            yield error
        else:
            yield SentenceEnds()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._closed:
            raise VendorUnavailable(self._vendor, "the stream was closed")


class _SessionPerSentence(SentenceTts):
    """A streaming voice for single sentences, each in a session of its own."""

    def __init__(self, inner: StreamingTts) -> None:
        self._inner = inner
        self.name = inner.name
        self.traits = replace(inner.traits, streaming=False)

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of one sentence."""
        stream = self._inner.open(context)
        try:
            stream.say(sentence)
            stream.finish()
            while not isinstance(event := stream.receive(WAIT_S), SpeechEnds):
                if event is None:
                    raise VendorTimeout(self.name or self._inner.type_name, f"no sound for {WAIT_S:g} s")
                if isinstance(event, Pcm | OpusPackets):
                    yield event
        finally:
            stream.close()
