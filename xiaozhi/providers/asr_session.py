"""One session per utterance at a vendor that hears the sound while the user speaks, over a WebSocket as a rule.

An author writes a `SessionAsr`, whose `connect` makes a session, and an `AsrSession`, four methods in plain blocking
style:

    send_sound(pcm)   hand some sound to the vendor; does not wait for an answer
    send_end()        tell the vendor that the utterance is over
    read()            generator: blocks for the vendor's next message, yields what was heard so far, until the end
    hang_up()         end the session now: close the socket, or cancel and keep the connection

`read` runs in a greenlet of its own, the only one of the session. It yields the `Transcript` of everything heard so
far, the best there is (the last one is the result), or None for a message without text, which proves that the vendor
is alive. `SessionUtterance` does the rest: pieces of the size that the vendor wants, deadlines, abandoning, errors.

    class _Session(AsrSession):
        def __init__(self, options):
            self._socket = VendorSocket("acme", options.url, connect=options.connect_timeout)

        def send_sound(self, pcm):
            self._socket.send_binary(pcm)

        def send_end(self):
            self._socket.send_text('{"end": true}')

        def read(self):
            with self._socket:
                while True:
                    answer = json.loads(self._socket.receive(LONGEST_S))
                    yield Transcript(answer["text"])
                    if answer["final"]:
                        return

        def hang_up(self):
            self._socket.close()

    class AcmeAsr(SessionAsr):
        def __init__(self, options):
            super().__init__(timeout=options.timeout, piece_ms=100)
            self._options = options

        def connect(self, context):
            return _Session(self._options)

`asr/fun_server.py` is a whole one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import closing

from gevent.event import Event

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError, VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, Asr, AsrStream, Transcript
from xiaozhi.runtime.tasks import Tasks

LONGEST_S = 600.0
"""No wait for the vendor's next message is longer: a microphone is never open so long."""


class AsrSession(ABC):
    """One utterance, as its vendor hears it; see the module. Its constructor is the place to wait for the connection
    and the vendor's "ready"; it closes the connection when that fails."""

    @abstractmethod
    def send_sound(self, pcm: bytes) -> None:
        """Hand s16le mono 16 kHz PCM to the vendor: a piece of `piece_ms`, the last one may be shorter. Never empty.
        Raises VendorError."""

    @abstractmethod
    def send_end(self) -> None:
        """Tell the vendor that the utterance is over. Raises VendorError."""

    @abstractmethod
    def read(self) -> Generator[Transcript | None]:
        """What the vendor says, until its end of the session; see the module. Raises VendorError. Returning before
        `send_end` means that the vendor hears no more: what it has heard is the result.

        Close the connection, or give it back, before leaving: a generator that is left early gets a GeneratorExit."""

    @abstractmethod
    def hang_up(self) -> None:
        """End the session now, so that `read` ends soon. Called at most once, by any greenlet, and not when `read` has
        ended; does not wait for the vendor, raises nothing."""

    def has_said_enough(self) -> bool:
        """Asked when the vendor did not end the session in time: True when what was heard so far is the result, because
        this vendor does not always tell which text is its last."""
        return False


class SessionAsr(Asr):
    """A provider whose utterances are sessions. `timeout`: seconds from the end of the utterance to its text.
    `piece_ms`: how much sound the vendor wants at a time, 0 for as it comes (20 to 60 ms, or all that waited)."""

    def __init__(self, *, timeout: float, piece_ms: int = 0) -> None:
        self._timeout = timeout
        self._piece_bytes = piece_ms * ASR_SAMPLE_RATE // 1000 * 2
        self._closed = False
        self._open: set[SessionUtterance] = set()
        self.tasks = Tasks()
        """The greenlets of its sessions; killed by `close`."""

    @property
    def vendor(self) -> str:
        """Its name in errors."""
        return self.name or self.type_name

    @abstractmethod
    def connect(self, context: CallContext) -> AsrSession:
        """A session that takes sound. Blocks; raises VendorError."""

    def open(self, context: CallContext) -> AsrStream:
        """A stream for one utterance. Blocks until the session stands; raises VendorError."""
        self.check_open()
        session = self.connect(context)
        if self._closed:
            session.hang_up()
        self.check_open()
        utterance = SessionUtterance(
            session,
            self.vendor,
            self.tasks,
            timeout=self._timeout,
            piece_bytes=self._piece_bytes,
            when_over=self._open.discard,
        )
        self._open.add(utterance)
        return utterance

    def close(self) -> None:
        """Break off every session. Idempotent."""
        self._closed = True
        for utterance in list(self._open):
            utterance.close()
        self.tasks.kill()

    def check_open(self) -> None:
        """Raises VendorUnavailable when the provider was closed."""
        if self._closed:
            raise VendorUnavailable(self.vendor, "closed")


class SessionUtterance(AsrStream):
    """An AsrStream made of a session; see the module. `timeout`, `tasks`: as for `SessionAsr`. `piece_bytes`: 0 for as
    it comes. `when_over`: called once when the stream is closed."""

    def __init__(
        self,
        session: AsrSession,
        vendor: str,
        tasks: Tasks,
        *,
        timeout: float,
        piece_bytes: int = 0,
        when_over: Callable[[SessionUtterance], None] = lambda utterance: None,
    ) -> None:
        self._session = session
        self._vendor = vendor
        self._timeout = timeout
        self._piece_bytes = piece_bytes
        self._when_over = when_over
        self._waiting = bytearray()
        self._heard = Transcript("")
        self._error: VendorError | None = None
        self._over = Event()
        """Set when `read` has ended, or the stream was closed."""
        self._reading = True
        self._closed = False
        tasks.spawn("asr-session", self._read)

    def feed(self, pcm: bytes) -> None:
        """See AsrStream."""
        self._raise_if_failed()
        if self._over.is_set():
            return  # the vendor hears no more; what it has heard is the result
        if not self._piece_bytes:
            if pcm:
                self._session.send_sound(pcm)
            return
        waiting, size = self._waiting, self._piece_bytes
        waiting += pcm
        while len(waiting) >= size:
            piece = bytes(waiting[:size])
            del waiting[:size]
            self._session.send_sound(piece)

    def finish(self) -> Transcript:
        """See AsrStream."""
        try:
            self._raise_if_failed()
            if not self._over.is_set():
                if self._waiting:
                    self._session.send_sound(bytes(self._waiting))
                    self._waiting.clear()
                self._session.send_end()
            if not self._over.wait(timeout=self._timeout) and not self._session.has_said_enough():
                raise VendorTimeout(self._vendor, f"no text within {self._timeout:g} s")
            self._raise_if_failed()
            return self._heard
        finally:
            self.close()

    def close(self) -> None:
        """See AsrStream."""
        if self._closed:
            return
        self._closed = True
        self._when_over(self)
        if not self._over.is_set():
            self._error = self._error or VendorUnavailable(self._vendor, "the stream was closed")
            self._over.set()
        if self._reading:
            self._session.hang_up()

    def _raise_if_failed(self) -> None:
        if self._error is not None:
            raise self._error

    def _read(self) -> None:
        error: VendorError | None = VendorUnavailable(self._vendor, "the session was broken off")
        try:
            with closing(self._session.read()) as messages:
                for heard in messages:
                    if heard is not None:
                        self._heard = heard
                        self.partial = heard.text
            error = None
        except VendorError as failed:
            error = failed
        finally:
            self._reading = False
            if not self._over.is_set():
                self._error = error
                self._over.set()
