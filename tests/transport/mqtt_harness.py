"""An MQTT port with sessions that only note what they are told, and a client that says whatever bytes it likes."""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from tests.transport.harness import SOCKETS, Noting, RecordedEvents
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.devices.standing import StandingConnections
from xiaozhi.errors import AuthError
from xiaozhi.protocol.udp_voice import VoiceStats
from xiaozhi.runtime.connections import ConnectionRegistry, Policy
from xiaozhi.runtime.limits import Admission, AdmissionLimits, MessageRates
from xiaozhi.session.link import Identity, Link
from xiaozhi.transport.connection import ConnectionServices
from xiaozhi.transport.mqtt_control import MqttCounts, MqttServices
from xiaozhi.transport.mqtt_endpoint import Credentials, MqttEndpoint, MqttOptions

HELLO = json.dumps({"type": "hello", "version": 3, "transport": "udp", "audio_params": {"format": "opus"}})


class FakeChannel:
    """Where sound goes."""

    key = bytes(range(16))
    nonce = bytes(range(16, 32))

    def __init__(self, deliver: Callable[[bytes], None], audio_format: str) -> None:
        self.deliver = deliver
        self.audio_format = audio_format
        self.sent: list[bytes] = []
        self.flushes = 0
        self.stats = VoiceStats()
        self.closed = False

    def send(self, frame: bytes) -> None:
        self.sent.append(frame)

    def flush(self) -> None:
        self.flushes += 1

    def close(self) -> None:
        self.closed = True


class FakeSound:
    """Makes channels and keeps them."""

    port = 8884

    def __init__(self) -> None:
        self.channels: list[FakeChannel] = []

    def open(self, deliver: Callable[[bytes], None], *, audio_format: str = "opus") -> FakeChannel:
        self.channels.append(FakeChannel(deliver, audio_format))
        return self.channels[-1]


def good_password(identity: Identity, shown: Credentials) -> bool:
    """Lets in whoever says "good"."""
    if shown.password != "good":
        raise AuthError("no good")
    return True


@dataclass
class Port:
    """A running MQTT port."""

    endpoint: MqttEndpoint
    standing: StandingConnections
    connections: ConnectionRegistry
    admission: Admission
    events: RecordedEvents
    sound: FakeSound
    sessions: list[Any] = field(default_factory=list)

    @property
    def counts(self) -> MqttCounts:
        return self.endpoint.services.counts

    def client(self, **options: Any) -> Wire:
        """A connection on which nothing has been said yet."""
        return Wire(self.endpoint.port, **options)

    @contextmanager
    def device(self, client_id: str = "aa-bb", **options: Any) -> Iterator[Wire]:
        """A device that was let in."""
        with self.client() as wire:
            assert wire.connect(client_id, **options) == 0
            wait_for(lambda: self.standing.of_device(client_id) is not None, "the device")
            yield wire

    def talk(self, wire: Wire, number: int = 1) -> Any:
        """Say hello; the session that this makes, number `number` of the port."""
        wire.publish(HELLO)
        wait_for(lambda: len(self.sessions) >= number and self.sessions[number - 1].heard, "the session")
        return self.sessions[number - 1]


@contextmanager
def serving(
    *,
    sessions: Callable[[Link], Any] = Noting,
    limits: AdmissionLimits | None = None,
    places: AdmissionLimits | None = None,
    rates: MessageRates | None = None,
    may_stay: Callable[[str], bool] = lambda device: True,
    clock: Callable[[], float] | None = None,
    **options: Any,
) -> Iterator[Port]:
    """An MQTT port on a free port of this machine. At the end everything must have ended, and every place must have
    been given back."""
    made: list[Any] = []

    def factory(link: Link) -> Any:
        session = sessions(link)
        made.append(session)
        return session

    connections = ConnectionRegistry(Policy())
    admission, standing, sound = Admission(limits or AdmissionLimits()), StandingConnections(), FakeSound()
    events = RecordedEvents()
    timed = {} if clock is None else {"clock": clock}
    services = MqttServices(
        connections=ConnectionServices(
            sessions=factory,
            connections=connections,
            events=events,
            pings=lambda identity: False,
            rates=rates or MessageRates(),
        ),
        standing=standing,
        admission=admission,
        sound=sound,
        udp_host=lambda identity: "192.168.1.5",
        **timed,
    )
    endpoint = MqttEndpoint(
        "127.0.0.1",
        0,
        services=services,
        admit=good_password,
        places=Admission(places or AdmissionLimits()),
        may_stay=may_stay,
        options=replace(MqttOptions(sockets=SOCKETS), **options),
    )
    endpoint.start()
    try:
        yield Port(endpoint, standing, connections, admission, events, sound, made)
    finally:
        endpoint.stop_accepting()
        endpoint.close_standing()
        assert endpoint.join(PATIENCE_S), "connections did not end"
    assert len(connections) == len(standing) == len(endpoint) == 0
    assert admission.total == endpoint.places.total == 0
    assert all(len(session.closings) == 1 for session in made), "closed() exactly once"
    assert all(channel.closed for channel in sound.channels)


def text(value: str | bytes) -> bytes:
    """With its length in front."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(data)) + data


def packet(first: int, body: bytes) -> bytes:
    """With type, flags and remaining length in front."""
    size, digits = len(body), bytearray()
    while True:
        size, digit = divmod(size, 128)
        digits.append(digit | 0x80 if size else digit)
        if not size:
            return bytes((first,)) + bytes(digits) + body


class Wire:
    """A client, byte by byte. Use as a context manager."""

    def __init__(self, port: int, *, tls: bool = False) -> None:
        self.sock: Any = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Any bytes."""
        self.sock.sendall(data)

    def connect(
        self,
        client_id: str = "aa-bb",
        *,
        password: str = "good",
        keepalive: int = 0,
        will: str = "",
        level: int = 4,
    ) -> int | None:
        """Say who this is; the code of the answer, None when the server just leaves."""
        flags = 0xC2 | (0x04 if will else 0)
        body = text("MQTT") + bytes((level, flags)) + struct.pack("!H", keepalive) + text(client_id)
        body += (text("last/words") + text(will)) if will else b""
        self.send(packet(0x10, body + text("user") + text(password)))
        answer = self.receive()
        assert answer is None or (answer[0], len(answer[1])) == (0x20, 2)
        return None if answer is None else answer[1][1]

    def publish(self, payload: str | bytes, *, topic: str = "device-server", qos: int = 0, packet_id: int = 1) -> None:
        """A message."""
        data = payload.encode() if isinstance(payload, str) else payload
        number = struct.pack("!H", packet_id) if qos else b""
        self.send(packet(0x30 | qos << 1, text(topic) + number + data))

    def tell(self, kind: str, **fields: Any) -> None:
        """A JSON message."""
        self.publish(json.dumps({"type": kind, **fields}))

    def receive(self) -> tuple[int, bytes] | None:
        """(type and flags, body) of the next packet; None at the end."""
        first = self._read(1)
        if not first:
            return None
        size = shift = 0
        while True:
            digit = self._read(1)[0]
            size |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                return first[0], self._read(size)

    def message(self) -> tuple[str, dict[str, Any]]:
        """(topic, message) of the next packet, which must be one."""
        answer = self.receive()
        assert answer is not None
        assert answer[0] == 0x30
        length = struct.unpack("!H", answer[1][:2])[0]
        return answer[1][2 : 2 + length].decode(), json.loads(answer[1][2 + length :])

    def ping(self) -> None:
        """A sign of life, which is answered."""
        self.send(b"\xc0\x00")
        assert self.receive() == (0xD0, b"")

    def is_closed(self) -> bool:
        """Whether the server leaves; waits for it, and for what it says before."""
        while self.receive() is not None:
            pass
        return True

    def _read(self, size: int) -> bytes:
        data = b""
        try:
            while len(data) < size and (more := self.sock.recv(size - len(data))):
                data += more
        except OSError:
            return b""
        return data
