"""One device's connection: the reader loop between a `MessageSocket` and a session, and what the connection registry
may ask of it.

Owns: the reader, closing once, when the device was last heard, message rates, the end of the session. Does not know
what carries the messages (`message_socket.py`; today only `websocket.py`) nor what is said: a session is anything that
a `SessionFactory` makes, and malformed messages are its business. Nothing a device sends ends the reader, except
through a close code."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import gevent

from xiaozhi.errors import ConnectionClosed, Overloaded, ProtocolError
from xiaozhi.protocol import close_codes
from xiaozhi.protocol.messages import Sendable
from xiaozhi.runtime import usage
from xiaozhi.runtime.connections import ConnectionRegistry, Vitals
from xiaozhi.runtime.limits import FloodGuard, Flow, MessageRates
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.usage import ConnectionUsage, UsageLimits
from xiaozhi.session.link import Identity, LinkHandler, SessionFactory, Weight
from xiaozhi.speech.line_quality import LineCounters
from xiaozhi.transport.message_socket import MessageSocket

log = get_logger(__name__)

MAX_LOGGED_FAULTS: Final = 3
"""Per connection: a device may fill its own counters, not the log."""
CLEANUP_SECONDS: Final = 15.0
"""How long a session may take to clean up after its socket."""
NO_WEIGHT: Final = Weight()


class ConnectionEvents(Protocol):
    """Who is told what happens on connections. The methods must be quick and must not raise."""

    def frame_heard(self) -> None:
        """A binary frame has come; called for each."""

    def dropped(self, queue: str) -> None:
        """One of the "frames" or "messages" came faster than the limit and was dropped."""

    def connection_ended(self, code: int, seconds: float) -> None:
        """A connection is over and its session has cleaned up: close code, and how long it lasted. Called where
        `usage.current()` is what it cost."""


@dataclass(frozen=True, slots=True)
class ConnectionServices:
    """What all connections of a server share, whatever carries them."""

    sessions: SessionFactory
    connections: ConnectionRegistry
    events: ConnectionEvents
    pings: Callable[[Identity], bool]
    """May this device be pinged? ESP32-C3 boards do not survive it. Asked once a second and device."""
    rates: MessageRates = field(default_factory=MessageRates)
    usage: UsageLimits = field(default_factory=UsageLimits)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = gevent.sleep


class Connection:
    """See the module. `run` is the reader; everything else may be called from any greenlet and does not wait (but
    `drain`).

    It is the session's `Link`: `send_text` and `send_binary` are the socket's own methods, so that a frame passes
    through no function more than it needs. It is also what the registry knows as `Live`. `line`: what the carrier
    counts of packets, where it may lose some."""

    __slots__ = (
        "_connected_at",
        "_frames",
        "_handler",
        "_services",
        "_socket",
        "_texts",
        "faults",
        "identity",
        "last_seen",
        "line",
        "send_binary",
        "send_text",
        "usage",
    )

    def __init__(
        self,
        socket: MessageSocket,
        identity: Identity,
        services: ConnectionServices,
        line: LineCounters | None = None,
    ) -> None:
        now = services.clock()
        self.identity = identity
        self.line = line
        self.send_text: Callable[[str], None] = socket.send_text
        self.send_binary: Callable[[bytes], None] = socket.send_binary
        self.last_seen = 0.0
        """When the last message came, on the services' clock; 0: none yet."""
        self.faults = 0
        """Messages at which the session failed or which it could not accept."""
        self.usage = ConnectionUsage(services.usage, services.clock)
        """What it costs."""
        self._socket = socket
        self._services = services
        self._connected_at = now
        self._texts = FloodGuard(services.rates.texts_per_second, now)
        self._frames = FloodGuard(services.rates.frames_per_second, now)
        self._handler: LinkHandler | None = None

    def run(self) -> None:
        """Serve the device until it is gone and its session has cleaned up. Raises nothing."""
        services = self._services
        number = services.connections.join(self)
        usage.enter(self.usage)
        try:
            self._serve()
        finally:
            services.connections.leave(number)
            self._ended(services.clock() - self._connected_at)

    def _serve(self) -> None:
        try:
            self._handler = self._open()
            self._read()
        except ConnectionClosed as end:
            log.debug("connection ended", device=self.identity.device_id, code=end.code, reason=end.reason)
        finally:
            try:
                self._socket.finish()
            finally:
                self._clean_up()

    def _open(self) -> LinkHandler:
        """The session. Raises ConnectionClosed when there will be none."""
        try:
            return self._services.sessions(self)
        except ConnectionClosed:
            raise
        except Overloaded as refusal:
            code, reason = close_codes.TRY_AGAIN_LATER, str(refusal)
        except Exception:
            log.exception("cannot open a session", device=self.identity.device_id)
            code, reason = close_codes.INTERNAL_ERROR, "internal error"
        self._socket.close(code, reason)
        raise ConnectionClosed(code, reason)

    def _read(self) -> None:
        """The reader loop. Ends with ConnectionClosed."""
        assert self._handler is not None
        receive, clock = self._socket.receive, self._services.clock
        on_text, on_binary = self._handler.on_text, self._handler.on_binary
        texts, frames, frame_heard = self._texts, self._frames, self._services.events.frame_heard
        used = self.usage
        while True:
            while used.overdrawn and self._socket.closing_since is None:
                self._hold_back()
            message = receive()
            self.last_seen = now = clock()
            try:
                if isinstance(message, bytes):
                    frame_heard()
                    if frames.take(now):
                        on_binary(message)
                    else:
                        self._excess("frames", frames, now)
                elif texts.take(now):
                    on_text(message)
                else:
                    self._excess("messages", texts, now)
            except ConnectionClosed:
                continue  # `receive` waits for the peer's goodbye, then raises the same
            except ProtocolError as error:
                self._malformed(error)
            except Exception:  # noqa: BLE001  one bad message must not end the reader; `_failed` logs it
                self._failed()

    def _excess(self, kind: str, guard: FloodGuard, now: float) -> None:
        self._services.events.dropped(kind)
        if guard.excess(now) is Flow.CLOSE:
            log.warning("flood", device=self.identity.device_id, dropped=guard.dropped)
            self._socket.close(close_codes.POLICY_VIOLATION, "too many messages")
        elif guard.dropped == 1:
            log.warning("messages dropped", device=self.identity.device_id, reason="faster than the limit")

    def _hold_back(self) -> None:
        """The device costs too much: read on later, and not at all if that does not help."""
        used, waited_s = self.usage, self.usage.waited_s
        pause_s = used.pause()
        if used.goes_on:
            log.warning("costs too much", device=self.identity.device_id, **used.milliseconds())
            self._socket.close(close_codes.POLICY_VIOLATION, "too much work")
        elif pause_s > 0:
            if not waited_s:
                log.info("slowed down", device=self.identity.device_id, **used.milliseconds())
            self._services.sleep(pause_s)

    def _malformed(self, error: ProtocolError) -> None:
        self.faults += 1
        if self.faults <= MAX_LOGGED_FAULTS:
            log.info("malformed message", device=self.identity.device_id, reason=str(error))
        if error.close_code is not None:
            self._socket.close(error.close_code, str(error))

    def _failed(self) -> None:
        self.faults += 1
        if self.faults <= MAX_LOGGED_FAULTS:
            log.exception("session failed at a message", device=self.identity.device_id)

    def _ended(self, seconds: float) -> None:
        socket, used = self._socket, self.usage
        used.received, used.sent = socket.received, socket.sent
        used.bytes_in, used.bytes_out = socket.bytes_in, socket.bytes_out
        self._services.events.connection_ended(socket.ending[0], seconds)

    def _clean_up(self) -> None:
        handler, self._handler = self._handler, None
        if handler is None:
            return
        code, reason = self._socket.ending
        try:
            with gevent.Timeout(CLEANUP_SECONDS, TimeoutError("session takes too long to clean up")):
                handler.closed(f"{code} {reason}".rstrip())
        except Exception:
            log.exception("session failed to clean up", device=self.identity.device_id)

    # --- what the session (`Link`) and the registry (`runtime.connections.Live`) may ask and order --------------------

    @property
    def device(self) -> str:
        """The device id in its normal form."""
        return self.identity.device_id

    def vitals(self) -> Vitals:
        """See Live."""
        socket, handler = self._socket, self._handler
        weight = handler.weight() if handler is not None else NO_WEIGHT
        return Vitals(
            connected_at=self._connected_at,
            received=socket.received,
            sent=socket.sent,
            last_heard=max(self.last_seen, socket.last_control),
            closing_since=socket.closing_since,
            pings=self._services.pings(self.identity),
            memory_bytes=weight.memory_bytes + socket.held_bytes,
            queue_depth=weight.queue_depth,
            bytes_in=socket.bytes_in,
            bytes_out=socket.bytes_out,
            cpu_s=self.usage.cpu_s,
        )

    def tick(self, now: float) -> None:
        """See Live."""
        if self._handler is not None:
            self._handler.tick(now)

    def trim(self) -> None:
        """See Live."""
        if self._handler is not None:
            self._handler.trim()

    def slow_down(self, seconds: float) -> None:
        """See Live."""
        self.usage.owe(seconds)

    def push(self, message: Sendable) -> bool:
        """See Live."""
        return self._handler is not None and self._handler.push(message)

    def ping(self) -> bool:
        """See Live."""
        return self._socket.ping()

    def close(self, code: int, reason: str) -> None:
        """See Link and Live."""
        self._socket.close(code, reason)

    def abort(self, reason: str) -> None:
        """See Live."""
        self._socket.abort(reason)

    def drain(self, seconds: float) -> None:
        """See Live."""
        if self._handler is not None:
            self._handler.drain(seconds)
