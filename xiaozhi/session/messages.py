"""From one JSON text to one handler call: parsed once on arrival, matched by type, never fatal.

Not the behaviour itself (that is `session.py`). Malformed or unknown messages are counted and logged a few times per
connection; a healthy session is never closed for them. Text that is not a JSON object is echoed back, as the existing
server does and as some connection checkers expect."""

from __future__ import annotations

from typing import Protocol

from xiaozhi.errors import ProtocolError
from xiaozhi.protocol import messages as wire
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

MAX_LOGGED_FAULTS = 3
"""Per connection: a faulty device may fill its own counters, not the log."""


class MessageHandlers(Protocol):
    """What a session does about each message."""

    def on_hello(self, message: wire.Hello) -> None: ...
    def on_listen(self, message: wire.Listen) -> None: ...
    def on_abort(self, message: wire.Abort) -> None: ...
    def on_mcp(self, message: wire.Mcp) -> None: ...
    def on_iot(self, message: wire.Iot) -> None: ...
    def on_ping(self) -> None: ...
    def on_goodbye(self) -> None: ...
    def on_server_command(self, message: wire.ServerCommand) -> None: ...
    def echo(self, text: str) -> None: ...


class MessageRouter:
    """`read` each text, then `route` the message. Counts what it could not read or route."""

    def __init__(self, handlers: MessageHandlers) -> None:
        self._handlers = handlers
        self.faults = 0

    def read(self, text: str) -> wire.DeviceMessage | None:
        """The message in a text; None when there is none that can be read."""
        try:
            return wire.parse_device(text)
        except ProtocolError as error:
            self._fault("unreadable message", str(error))
            return None

    def route(self, message: wire.DeviceMessage) -> None:
        """Hand a message to its handler. Raises only what the handler raises."""
        match message:
            case wire.Listen():
                self._handlers.on_listen(message)
            case wire.Mcp():
                self._handlers.on_mcp(message)
            case wire.Abort():
                self._handlers.on_abort(message)
            case wire.Hello():
                self._handlers.on_hello(message)
            case wire.Iot():
                self._handlers.on_iot(message)
            case wire.Ping():
                self._handlers.on_ping()
            case wire.Goodbye():
                self._handlers.on_goodbye()
            case wire.ServerCommand():
                self._handlers.on_server_command(message)
            case wire.Bare():
                self._handlers.echo(message.text)
            case _:
                self._fault("unknown message", str(message))

    def _fault(self, event: str, detail: str) -> None:
        self.faults += 1
        if self.faults <= MAX_LOGGED_FAULTS:
            log.warning(event, detail=detail[:120], last=self.faults == MAX_LOGGED_FAULTS)
