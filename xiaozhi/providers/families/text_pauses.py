"""An answer spoken in one vendor session after another: where text stays out for a while, as when a tool is at work in
the middle of an answer, the session is ended, and the next sentence begins another one.

For vendors that speak nothing before enough text has come, or give a session up when none comes. They speak what they
have at the end of a session. A session here names the sentences that begin (`SentenceBegins`), as those with
`spoken_sentences.py` do."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing

from gevent.event import Event

from xiaozhi.errors import VendorError, VendorUnavailable
from xiaozhi.providers.contracts.tts import SentenceBegins, SentenceEnds, SpeechEvent
from xiaozhi.providers.tts_session import WAIT_S, TtsSession
from xiaozhi.runtime.tasks import Tasks


class SuccessiveSessions(TtsSession):
    """`connect` makes a session, raises VendorError; the first one at once. `pause`: seconds without text that end one.
    A session that got no text at all is hung up rather than ended: vendors refuse it.

    `tasks` belongs to the provider."""

    def __init__(self, connect: Callable[[], TtsSession], tasks: Tasks, *, pause: float) -> None:
        self._connect = connect
        self._tasks = tasks
        self._pause = pause
        self._waiting: list[str] = []
        """Said while there was no session that takes text."""
        self._more = Event()
        """Set when the reader has something to do: text waits, or no more will come."""
        self._unbegun: deque[str] = deque()
        """Sent to the present session, and no sound yet."""
        self._said_at = 0.0
        self._got_text = False
        self._takes_text = True
        self._finished = False
        self._hung_up = False
        self._session: TtsSession | None = connect()
        """The present one; None when it has ended, as its connection may belong to somebody else then."""

    def send_sentence(self, sentence: str) -> None:
        if self._session is None or not self._takes_text:
            self._waiting.append(sentence)
            self._more.set()
        else:
            self._send(self._session, sentence)

    def send_end(self) -> None:
        self._finished = True
        self._more.set()
        if self._session is not None and self._takes_text:
            self._end(self._session)

    def read(self) -> Generator[SpeechEvent | None]:
        session = self._session
        while session is not None:
            yield from self._whole(session)
            if self._takes_text or self._hung_up:
                return  # the vendor gave up
            if not self._waiting and not self._finished:
                self._more.clear()
                self._more.wait(timeout=WAIT_S)
            session = self._next() if self._waiting and not self._hung_up else None

    def hang_up(self) -> None:
        self._hung_up = True
        self._more.set()
        if self._session is not None:
            self._session.hang_up()

    def _whole(self, session: TtsSession) -> Generator[SpeechEvent | None]:
        """One session to its end."""
        try:
            with closing(session.read()) as events:
                for event in events:
                    if isinstance(event, SentenceBegins) and self._unbegun:
                        self._unbegun.popleft()
                    yield event
        except VendorUnavailable:
            if self._got_text or not self._finished:
                raise
            return  # it was hung up: there was nothing to say
        finally:
            self._session = None
        while self._unbegun:
            yield SentenceBegins(self._unbegun.popleft())
        yield SentenceEnds()

    def _next(self) -> TtsSession:
        """Another session for what waits."""
        session = self._session = self._connect()
        if self._hung_up:
            session.hang_up()
        self._got_text = False
        while self._waiting:
            self._send(session, self._waiting.pop(0))
        self._takes_text = True  # not earlier: what waits comes first
        if self._finished:
            self._end(session)
        return session

    def _send(self, session: TtsSession, sentence: str) -> None:
        if not self._got_text:
            self._got_text = True
            self._tasks.spawn_later(self._pause, "tts-text-pause", self._end_at_pause, session)
        self._said_at = time.monotonic()
        self._unbegun.append(sentence)  # before it is sent: its sound must find it
        session.send_sentence(sentence)

    def _end(self, session: TtsSession) -> None:
        self._takes_text = False
        if self._got_text:
            session.send_end()
        else:
            session.hang_up()

    def _end_at_pause(self, session: TtsSession) -> None:
        if session is not self._session or self._finished or self._hung_up:
            return
        left = self._said_at + self._pause - time.monotonic()
        if left > 0 or not self._takes_text:
            self._tasks.spawn_later(max(left, self._pause / 2), "tts-text-pause", self._end_at_pause, session)
            return
        try:
            self._end(session)
        except VendorError:
            pass  # `read` finds the connection broken, and knows better why
