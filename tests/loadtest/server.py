"""A WebSocket server for the tests of the simulated device, on wsproto: a strict second opinion on the device's own
framing.

It does what a script says: the test gives a function that gets one `Peer` per connection and speaks with the device in
blocking style."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent.server import StreamServer
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)


class Gone(Exception):
    """The device has left."""


class Peer:
    """One connected device, from the server's side. `received` is every event that came, messages whole."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._ws = WSConnection(ConnectionType.SERVER)
        self._events: Iterator[Event] = iter(())
        self.request = self._expect(Request)
        self.headers = {name.decode().lower(): value.decode() for name, value in self.request.extra_headers}
        self.received: list[Event] = []

    def accept(self) -> None:
        """Answer the upgrade with 101."""
        self._send(AcceptConnection())

    def refuse(self, status: int, body: bytes) -> None:
        """Answer the upgrade with something else."""
        headers = [(b"content-length", str(len(body)).encode()), (b"retry-after", b"7")]
        self._send(RejectConnection(status_code=status, headers=headers, has_body=True))
        self._send(RejectData(data=body))

    def send(self, message: dict[str, Any] | bytes) -> None:
        """A JSON message or a binary frame."""
        self._send(BytesMessage(data=message) if isinstance(message, bytes) else TextMessage(data=json.dumps(message)))

    def send_event(self, event: Event) -> None:
        """Anything else: pings, pieces of messages, a close."""
        self._send(event)

    def send_raw(self, data: bytes) -> None:
        """Bytes below the WebSocket."""
        self.socket.sendall(data)

    def swallow(self) -> None:
        """Read until the device leaves, whatever comes."""
        while self._socket.recv(65_536):
            pass

    def receive(self) -> dict[str, Any] | bytes:
        """The next message. Raises Gone at a close or the end of the stream."""
        text, data = "", b""
        for event in self._all_events():
            self.received.append(event)
            match event:
                case TextMessage():
                    text += event.data
                    if event.message_finished:
                        return json.loads(text)
                case BytesMessage():
                    data += bytes(event.data)
                    if event.message_finished:
                        return data
                case CloseConnection():
                    if self._ws.state is ConnectionState.REMOTE_CLOSING:
                        self._send(event.response())
                    raise Gone
                case Ping():
                    self._send(event.response())
                case Pong():
                    continue
        raise Gone

    def receive_json(self, **fields: Any) -> dict[str, Any]:
        """The next JSON message with these fields; skips everything else."""
        while True:
            message = self.receive()
            if isinstance(message, dict) and all(message.get(key) == value for key, value in fields.items()):
                return message

    def hello(self, **audio: Any) -> dict[str, Any]:
        """Accept, take the device's hello and answer it."""
        self.accept()
        hello = self.receive_json(type="hello")
        parameters = {"format": "opus", "sample_rate": 24000, "channels": 1, "frame_duration": 60, **audio}
        self.send({"type": "hello", "transport": "websocket", "session_id": "s-1", "audio_params": parameters})
        return hello

    def _expect(self, kind: type[Event]) -> Any:
        event = next(self._all_events())
        assert isinstance(event, kind), event
        return event

    def _all_events(self) -> Iterator[Event]:
        while True:
            for event in self._events:  # noqa: UP028  (`yield from` would close what the next call still needs)
                yield event
            data = self.socket.recv(65536)
            if not data:
                return
            self._ws.receive_data(data)
            self._events = self._ws.events()

    def _send(self, event: Event) -> None:
        self.socket.sendall(self._ws.send(event))


@contextmanager
def serving(script: Callable[[Peer], None]) -> Iterator[str]:
    """The URL of a server that runs `script` for each device; what goes wrong in it is raised at the end."""
    errors: list[Exception] = []

    def handle(connected: socket.socket, address: object) -> None:
        try:
            script(Peer(connected))
        except (Gone, ConnectionError):
            return
        except Exception as error:  # noqa: BLE001  whatever a handler raises is told to the test
            errors.append(error)
        finally:
            connected.close()

    server = StreamServer(("127.0.0.1", 0), handle, spawn=16)
    server.start()
    try:
        yield f"ws://127.0.0.1:{server.server_port}/xiaozhi/v1/"
    finally:
        server.stop(timeout=1)
        gevent.sleep(0)
    if errors:
        raise errors[0]
