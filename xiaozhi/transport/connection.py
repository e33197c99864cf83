"""One device's connection: the reader loop between a WebSocket and a session, and what the connection registry asks
about it.

Owns: the reader, closing once, when the device was last seen, message rates, the session's ending. Not framing
(`websocket.py`), and not what is said: a session is anything that a `SessionFactory` makes, and malformed input is its
business. Nothing a device sends ends the reader, except through a close code."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import gevent

from xiaozhi.errors import ConnectionClosed, Overloaded, ProtocolError
from xiaozhi.runtime.connections import ConnectionRegistry, Vitals
from xiaozhi.runtime.limits import FloodGuard, Flow, MessageRates
from xiaozhi.runtime.logs import get_logger
from xiaozhi.session.link import Identity, Link, LinkHandler, SessionFactory
from xiaozhi.transport import rfc6455
from xiaozhi.transport.websocket import WebSocket

log = get_logger(__name__)

MAX_LOGGED_FAULTS: Final = 3
"""Per connection: a device may fill its own counters, not the log."""
CLEANUP_SECONDS: Final = 15.0
"""How long a session may take to clean up after its socket."""


def _weightless(session: LinkHandler) -> tuple[int, int]:
    return 0, 0


def _nothing(*_: object) -> None:
    """For sessions that need no care."""


def _never(identity: Identity) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Care:
    """What the connection registry's sweeper may ask of a session beyond `LinkHandler`. The composition root, which
    knows the class, fills it in.

    None of them may wait.
    """

    weigh: Callable[[LinkHandler], tuple[int, int]] = _weightless
    """(bytes held in memory, things waiting in queues); both estimates."""
    trim: Callable[[LinkHandler], None] = _nothing
    tick: Callable[[LinkHandler, float], None] = _nothing
    """(session, now), about once a second."""
    pings: Callable[[Identity], bool] = _never
    """May this device be pinged? The default is what ESP32-C3 boards need."""
    on_frame: Callable[[], None] = _nothing
    """A binary frame has come; told for each, so it must be quick."""
    on_drop: Callable[[str], None] = _nothing
    """("frames" or "messages"): one came faster than the limit, and was dropped."""
    on_end: Callable[[int, float], None] = _nothing
    """(close code, seconds): a connection is over, its session cleaned up."""


class Connection:
    """See the module. `run` is the reader; everything else may be called from any greenlet and does not wait (but
    `drain`)."""

    __slots__ = (
        "_care",
        "_clock",
        "_connected_at",
        "_connections",
        "_frames",
        "_handler",
        "_pings",
        "_sessions",
        "_texts",
        "_ws",
        "faults",
        "identity",
        "last_seen",
    )

    def __init__(
        self,
        ws: WebSocket,
        identity: Identity,
        *,
        sessions: SessionFactory,
        connections: ConnectionRegistry,
        rates: MessageRates,
        care: Care,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        now = clock()
        self.identity = identity
        self.last_seen = 0.0
        """When the last message came, on `clock`; 0: none yet."""
        self.faults = 0
        """Messages at which the session failed or which it could not accept."""
        self._ws = ws
        self._sessions = sessions
        self._connections = connections
        self._care = care
        self._pings = care.pings(identity)
        self._clock = clock
        self._connected_at = now
        self._texts = FloodGuard(rates.texts_per_second, now)
        self._frames = FloodGuard(rates.frames_per_second, now)
        self._handler: LinkHandler | None = None

    def run(self) -> None:
        """Serve the device until it is gone and its session has cleaned up. Raises nothing."""
        number = self._connections.join(self)
        try:
            self._serve()
        finally:
            self._connections.leave(number)
            self._care.on_end(self._ws.ending[0], self._clock() - self._connected_at)

    def _serve(self) -> None:
        ws = self._ws
        try:
            self._handler = self._open()
            self._read()
        except ConnectionClosed as end:
            log.debug("connection ended", device=self.identity.device_id, code=end.code, reason=end.reason)
        finally:
            try:
                ws.finish()
            finally:
                self._clean_up()

    def _open(self) -> LinkHandler:
        """The session. Raises ConnectionClosed when there will be none."""
        visit = Link(self.identity, self._ws.send_text, self._ws.send_binary, self._ws.close)
        try:
            return self._sessions(visit)
        except ConnectionClosed:
            raise
        except Overloaded as refusal:
            code, reason = rfc6455.TRY_AGAIN_LATER, str(refusal)
        except Exception:
            log.exception("cannot open a session", device=self.identity.device_id)
            code, reason = rfc6455.INTERNAL_ERROR, "internal error"
        self._ws.close(code, reason)
        raise ConnectionClosed(code, reason)

    def _read(self) -> None:
        """The reader loop. Ends with ConnectionClosed."""
        assert self._handler is not None
        receive, clock = self._ws.receive, self._clock
        on_text, on_binary = self._handler.on_text, self._handler.on_binary
        texts, frames, on_frame = self._texts, self._frames, self._care.on_frame
        while True:
            message = receive()
            self.last_seen = now = clock()
            try:
                if isinstance(message, bytes):
                    on_frame()
                    if frames.take(now):
                        on_binary(message)
                    else:
                        self._excess("frames", frames, now)
                elif texts.take(now):
                    on_text(message)
                else:
                    self._excess("messages", texts, now)
            except ConnectionClosed:
                continue  # `receive` waits for the peer's goodbye, then says the same
            except ProtocolError as error:
                self._malformed(error)
            except Exception:  # noqa: BLE001  one bad message must not end the reader; `_failed` logs it
                self._failed()

    def _excess(self, kind: str, guard: FloodGuard, now: float) -> None:
        self._care.on_drop(kind)
        if guard.excess(now) is Flow.CLOSE:
            log.warning("flood", device=self.identity.device_id, dropped=guard.dropped)
            self._ws.close(rfc6455.POLICY, "too many messages")
        elif guard.dropped == 1:
            log.warning("messages dropped", device=self.identity.device_id, reason="faster than the limit")

    def _malformed(self, error: ProtocolError) -> None:
        self.faults += 1
        if self.faults <= MAX_LOGGED_FAULTS:
            log.info("malformed message", device=self.identity.device_id, reason=str(error))
        if error.close_code is not None:
            self._ws.close(error.close_code, str(error))

    def _failed(self) -> None:
        self.faults += 1
        if self.faults <= MAX_LOGGED_FAULTS:
            log.exception("session failed at a message", device=self.identity.device_id)

    def _clean_up(self) -> None:
        handler, self._handler = self._handler, None
        if handler is None:
            return
        code, reason = self._ws.ending
        try:
            with gevent.Timeout(CLEANUP_SECONDS, TimeoutError("session takes too long to clean up")):
                handler.closed(f"{code} {reason}".rstrip())
        except Exception:
            log.exception("session failed to clean up", device=self.identity.device_id)

    # --- what the connection registry asks and orders (runtime.connections.Live) --------------------------------------

    @property
    def device(self) -> str:
        """The device id, as far as it identifies the device: MAC addresses are written both ways."""
        return self.identity.device_id.lower()

    def vitals(self) -> Vitals:
        """See Live."""
        ws = self._ws
        memory, queued = self._care.weigh(self._handler) if self._handler is not None else (0, 0)
        return Vitals(
            connected_at=self._connected_at,
            greeted=self.last_seen > 0,
            received=ws.received,
            sent=ws.sent,
            last_heard=max(self.last_seen, ws.last_control),
            closing_since=ws.closing_since,
            pings=self._pings,
            memory_bytes=memory,
            queue_depth=queued,
        )

    def tick(self, now: float) -> None:
        """See Live."""
        if self._handler is not None:
            self._care.tick(self._handler, now)

    def ping(self) -> bool:
        """See Live."""
        return self._ws.ping()

    def trim(self) -> None:
        """See Live."""
        if self._handler is not None:
            self._care.trim(self._handler)

    def close(self, code: int, reason: str) -> None:
        """See Live."""
        self._ws.close(code, reason)

    def abort(self, reason: str) -> None:
        """See Live."""
        self._ws.abort(reason)

    def drain(self, seconds: float) -> None:
        """See Live."""
        if self._handler is not None:
            self._handler.drain(seconds)
