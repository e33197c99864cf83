"""One session per answer at a vendor that takes text while it sends sound, over a WebSocket as a rule.

An author writes a `SessionTts`, whose `connect` makes a session, and a `TtsSession`, four methods in plain blocking
style:

    send_sentence(text)   hand one sentence to the vendor; does not wait for an answer
    send_end()            tell the vendor that no more text will come
    read()                generator: blocks for the vendor's next message, yields what it means, until the vendor's end
    hang_up()             end the session now: close the socket, or cancel the session and keep the connection

`read` runs in a greenlet of its own, the only one of the session. It yields

    Pcm, OpusPackets      sound
    SentenceEnds()        the vendor says that one of our sentences is complete (not one of its own cutting)
    SentenceBegins(text)  the vendor says which of our sentences begins. Not needed where sentences come in order and
                          their ends are marked: sound that follows an end begins the next sentence by itself
    None                  a message without sound, which proves that the vendor is alive

and `SessionStream` does the rest: order, bounds, deadlines, `SentenceEnds` where the vendor sends none, interrupts,
errors. For a vendor that marks nothing at all, `families/sentence_boundaries.py` finds where sentences begin.

    class _Session(TtsSession):
        def __init__(self, options):
            self._socket = VendorSocket("acme", options.url, connect=options.connect_timeout)

        def send_sentence(self, sentence):
            self._socket.send_text(json.dumps({"text": sentence}))

        def send_end(self):
            self._socket.send_text(json.dumps({"end": True}))

        def read(self):
            with self._socket:
                while True:
                    message = self._socket.receive(WAIT_S)
                    if isinstance(message, bytes):
                        yield Pcm(message, 24_000)
                    elif (event := json.loads(message)["event"]) == "sentence_end":
                        yield SentenceEnds()
                    elif event == "finished":
                        return

        def hang_up(self):
            self._socket.close()

    class AcmeTts(SessionTts):
        def __init__(self, options):
            super().__init__(timeout=options.timeout)
            self._options = options

        def connect(self, context):
            return _Session(self._options)

`tests/contract/test_tts_session.py` is a whole one, with its vendor.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

from gevent.queue import Empty, Full, Queue

from xiaozhi.audio.decode import DecodeError
from xiaozhi.audio.opus import OpusError
from xiaozhi.chat import CallContext
from xiaozhi.errors import Overloaded, VendorError, VendorGarbage, VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.tts import (
    MAX_WAITING_SENTENCES,
    Pcm,
    SentenceBegins,
    SentenceEnds,
    SpeechEnds,
    SpeechEvent,
    StreamingTts,
    TtsStream,
)
from xiaozhi.runtime.tasks import Tasks

LOOK_AHEAD = 8
"""Sentences with the vendor of which no sound has come: enough for the vendor's own cutting, little to lose on an
interrupt. Later ones wait here."""
BUFFERED_EVENTS = 512
"""Events between the vendor and whoever receives; full: the vendor waits."""
JOINED_BYTES = 65_536
"""PCM that waits is received in pieces of about this size: encoding each may cost a trip to the inference pool."""
WAIT_S = 120.0
"""No wait for the vendor's next message is longer, nor any wait for whoever receives. While the vendor owes something,
the stream's `timeout` is what counts."""


class TtsSession(ABC):
    """One answer, as its vendor speaks it; see the module. Its constructor is the place to wait for the connection and
    the vendor's "ready"; it closes the connection when that fails."""

    @abstractmethod
    def send_sentence(self, sentence: str) -> None:
        """Hand one sentence to the vendor: write it to the socket, do not wait for an answer. Raises VendorError.

        At most `look_ahead` sentences are with the vendor at a time, so the socket's buffer has room for them."""

    @abstractmethod
    def send_end(self) -> None:
        """Tell the vendor that no more text will come. Raises VendorError."""

    @abstractmethod
    def read(self) -> Generator[SpeechEvent | None]:
        """What the vendor sends, until its end of the session; see the module. Raises VendorError, DecodeError,
        OpusError. Returning before `send_end` means that the vendor gave up.

        Close the connection, or give it back, before leaving: a generator that is left early gets a GeneratorExit."""

    @abstractmethod
    def hang_up(self) -> None:
        """End the session now, so that `read` ends soon. Called at most once, by any greenlet, and not when `read` has
        ended; does not wait for the vendor, raises nothing. What `read` still yields is thrown away."""


class SessionTts(StreamingTts):
    """A provider whose answers are sessions. `timeout`, `marks_sentences`: as for `SessionStream`."""

    def __init__(self, *, timeout: float, marks_sentences: bool = True) -> None:
        self._timeout = timeout
        self._marks_sentences = marks_sentences
        self._closed = False
        self.tasks = Tasks()
        """The greenlets of its sessions; killed by `close`."""

    @property
    def vendor(self) -> str:
        """Its name in errors."""
        return self.name or self.type_name

    @abstractmethod
    def connect(self, context: CallContext) -> TtsSession:
        """A session that takes text. Blocks; raises VendorError."""

    def open(self, context: CallContext) -> TtsStream:
        """A stream for one answer. Blocks until the session stands; raises VendorError."""
        self.check_open()
        session = self.connect(context)
        if self._closed:
            session.hang_up()
        self.check_open()
        return SessionStream(
            session, self.vendor, self.tasks, timeout=self._timeout, marks_sentences=self._marks_sentences
        )

    def close(self) -> None:
        """Break off every session. Idempotent."""
        self._closed = True
        self.tasks.kill()

    def check_open(self) -> None:
        """Raises VendorUnavailable when the provider was closed."""
        if self._closed:
            raise VendorUnavailable(self.vendor, "closed")


class SessionStream(TtsStream):
    """A TtsStream made of a session; see the module. `vendor`: its name in errors. `timeout`: seconds the vendor may
    show no sign of life while it owes sound, or its end.

    `marks_sentences`: False when the vendor does not tell where a sentence begins. In the middle of an answer its
    silence then means nothing, because nobody knows what it still owes. `tasks` belongs to the provider, which kills it
    when it is closed: the stream then fails with VendorUnavailable."""

    def __init__(
        self,
        session: TtsSession,
        vendor: str,
        tasks: Tasks,
        *,
        timeout: float,
        marks_sentences: bool = True,
        look_ahead: int = LOOK_AHEAD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._vendor = vendor
        self._timeout = timeout
        self._marks_sentences = marks_sentences
        self._look_ahead = look_ahead
        self._clock = clock
        self._waiting: deque[str] = deque()
        """Said, and not sent yet."""
        self._unbegun: deque[str] = deque()
        """Sent, and no sound yet."""
        self._sending = False
        self._finished = False
        self._end_sent = False
        self._closed = False
        # None wakes a `receive` that waits; `_end` then says why.
        self._events: Queue[SpeechEvent | None] = Queue(BUFFERED_EVENTS)
        self._end: SpeechEnds | VendorError | None = None
        """How the speech has ended; returned or raised when everything before it has been received."""
        self._reading = True
        self._in_sentence = False
        self._sounded = False
        self._alive_at = clock()
        tasks.spawn("tts-session", self._read)

    def say(self, sentence: str) -> None:
        """See TtsStream."""
        if self._end is not None:
            raise self._end if isinstance(self._end, VendorError) else VendorUnavailable(self._vendor, "has ended")
        if len(self._waiting) + len(self._unbegun) >= MAX_WAITING_SENTENCES:
            raise Overloaded(self._vendor)
        if not self._unbegun:
            self._alive_at = self._clock()  # the vendor owes sound from now on
        self._waiting.append(sentence)
        self._send_waiting()

    def finish(self) -> None:
        """See TtsStream."""
        if self._finished or self._end is not None:
            return
        self._finished = True
        self._alive_at = self._clock()
        try:
            self._send_waiting()
        except VendorError:
            pass  # `read` finds the connection broken, and knows better why

    def receive(self, timeout: float) -> SpeechEvent | None:
        """See TtsStream. Raises VendorTimeout when the vendor shows no sign of life."""
        events = self._events
        try:
            # Nothing is waited for when the end is known.
            event = events.get(self._end is None, min(timeout, max(0.0, self._patience())))
        except Empty:
            event = None
            if self._end is None and self._patience() <= 0:
                self._end = VendorTimeout(self._vendor, f"no sign of life for {self._timeout:g} s")
        if event is not None and not self._closed:
            return joined(event, events) if isinstance(event, Pcm) else event
        if self._end is None or not (events.empty() or self._closed):
            return None
        if isinstance(self._end, VendorError):
            raise self._end
        return self._end

    def close(self) -> None:
        """See TtsStream."""
        if self._closed:
            return
        self._closed = True
        while not self._events.empty():  # `read` may be waiting for room
            self._events.get_nowait()
        self._end = None
        self._ends(VendorUnavailable(self._vendor, "the stream was closed"))
        if self._reading:
            self._session.hang_up()

    def _patience(self) -> float:
        """Seconds that the vendor still has."""
        owes = self._finished or (self._unbegun and (self._marks_sentences or not self._sounded))
        return self._alive_at + self._timeout - self._clock() if owes else WAIT_S

    def _send_waiting(self) -> None:
        """Send what waits, as far as the look-ahead reaches. Whoever is sending takes along what is added meanwhile."""
        if self._sending:
            return
        self._sending = True
        try:
            while self._waiting and len(self._unbegun) < self._look_ahead and self._end is None:
                sentence = self._waiting.popleft()
                self._unbegun.append(sentence)  # before it is sent: its sound must find it
                self._session.send_sentence(sentence)
            if self._finished and not self._waiting and not self._end_sent and self._end is None:
                self._end_sent = True
                self._session.send_end()
        finally:
            self._sending = False

    def _ends(self, end: SpeechEnds | VendorError) -> None:
        if self._end is None:
            self._end = end
            if not self._events.full():  # else nobody waits for an event
                self._events.put_nowait(None)

    # --- the vendor's greenlet ----------------------------------------------------------------------------------------

    def _read(self) -> None:
        end: SpeechEnds | VendorError = VendorUnavailable(self._vendor, "the session was broken off")
        try:
            with closing(self._session.read()) as events:
                for event in events:
                    self._alive_at = self._clock()
                    if event is not None and not self._closed:
                        self._pass_on(event)
                if not self._closed:
                    end = self._ended_by_the_vendor()
        except VendorError as error:
            end = error
        except (DecodeError, OpusError) as error:
            end = VendorGarbage(self._vendor, str(error))
        except Full:
            end = VendorTimeout(self._vendor, f"nobody received its sound for {WAIT_S:g} s")
        finally:
            self._reading = False
            self._ends(end)

    def _ended_by_the_vendor(self) -> SpeechEnds | VendorError:
        if not self._end_sent:
            return VendorUnavailable(self._vendor, "the vendor ended the session")
        while self._unbegun:  # it had nothing to say to them
            self._pass_on(SentenceBegins(self._unbegun[0]))
        self._pass_on(SentenceEnds())
        return SpeechEnds()

    def _pass_on(self, event: SpeechEvent) -> None:
        if isinstance(event, SentenceBegins):
            self._pass_on(SentenceEnds())
            self._in_sentence = True
            if self._unbegun:
                self._unbegun.popleft()
            self._put(event)
            self._send_waiting()
        elif isinstance(event, SentenceEnds):
            if self._in_sentence:
                self._in_sentence = False
                self._put(event)
        else:
            if not self._in_sentence:
                if not self._unbegun:
                    return  # such as silence behind the last sentence
                self._pass_on(SentenceBegins(self._unbegun[0]))
            self._sounded = True
            self._put(event)

    def _put(self, event: SpeechEvent) -> None:
        self._events.put(event, timeout=WAIT_S)


def joined(first: Pcm, waiting: Queue[Any]) -> Pcm:
    """`first` and what waits behind it, as far as it is PCM of the same kind. Never waits."""
    parts, size = [first.data], len(first.data)
    while size < JOINED_BYTES and not waiting.empty():
        piece = waiting.peek_nowait()
        if not isinstance(piece, Pcm) or piece.rate != first.rate or piece.substitute != first.substitute:
            break
        waiting.get_nowait()
        parts.append(piece.data)
        size += len(piece.data)
    return first if len(parts) == 1 else Pcm(b"".join(parts), first.rate, first.substitute)
