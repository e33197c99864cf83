"""MQTT 3.1.1, the server's side: bytes from a client to packets, and packets for a client to bytes.

No I/O, no clock, no sessions: what a packet means for a device is decided in `transport/`. Only what a server hears is
read and only what it says is written. Source: OASIS standard "MQTT Version 3.1.1" (2014-10-29); the numbers in brackets
are its normative statements.

A packet is one byte of type and flags, its remaining length (7 bits a byte, least significant first, at most four
bytes), and that many bytes. Numbers are big-endian, texts have a length of two bytes in front."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NoReturn

from xiaozhi.errors import ProtocolError
from xiaozhi.protocol import close_codes

LEVEL: Final = 4
"""The protocol level of 3.1.1."""
_NAMES: Final = ("MQTT", "MQIsdp")
"""Of 3.1.1 and later versions, and of 3.1."""
_MAX_LENGTH_BYTES: Final = 4
_U16: Final = struct.Struct("!H")
_WILDCARDS: Final = frozenset("+#")
_GRANTED_QOS_0: Final = 0


class PacketType(IntEnum):
    """The upper four bits of a packet."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class ConnectCode(IntEnum):
    """What CONNACK says; all but ACCEPTED end the connection."""

    ACCEPTED = 0
    WRONG_VERSION = 1
    WRONG_CLIENT_ID = 2
    UNAVAILABLE = 3
    WRONG_LOGIN = 4
    NOT_AUTHORIZED = 5


class WrongVersion(ProtocolError):
    """A CONNECT of another version of MQTT: it is told so (CONNACK 1) and closed."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the server is to take as said when the connection is lost without DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Connect:
    """Who comes. `keepalive` in seconds, 0: none; `username` and `password` None: not sent."""

    client_id: str
    keepalive: int = 0
    clean_session: bool = True
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    will: Will | None = None


@dataclass(frozen=True, slots=True)
class Publish:
    """A message. `packet_id` is 0 for QoS 0."""

    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    dup: bool = False
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Puback:
    """The client has a message of QoS 1."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """(filter, QoS asked for) each."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Filters that are given up."""

    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pingreq:
    """A sign of life, to be answered."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The client leaves as planned: its will is forgotten."""


ClientPacket = Connect | Publish | Puback | Subscribe | Unsubscribe | Pingreq | Disconnect

# --- what the server says ---------------------------------------------------------------------------------------------

PINGRESP: Final = bytes((PacketType.PINGRESP << 4, 0))


def connack(code: ConnectCode) -> bytes:
    """The answer to CONNECT. No session is ever kept, so none is ever present."""
    return bytes((PacketType.CONNACK << 4, 2, 0, code))


def publish(topic: bytes, payload: bytes) -> bytes:
    """A message of QoS 0. `topic`: UTF-8, at most 65,535 bytes. Raises ProtocolError for more than MQTT can carry."""
    size = 2 + len(topic) + len(payload)
    return b"".join((b"\x30", _length(size), _U16.pack(len(topic)), topic, payload))


def puback(packet_id: int) -> bytes:
    """A message of QoS 1 has been taken."""
    return bytes((PacketType.PUBACK << 4, 2)) + _U16.pack(packet_id)


def suback(packet_id: int, count: int) -> bytes:
    """So many filters are granted, with QoS 0."""
    body = _U16.pack(packet_id) + bytes((_GRANTED_QOS_0,)) * count
    return bytes((PacketType.SUBACK << 4,)) + _length(len(body)) + body


def unsuback(packet_id: int) -> bytes:
    """Filters are given up."""
    return bytes((PacketType.UNSUBACK << 4, 2)) + _U16.pack(packet_id)


def _length(size: int) -> bytes:
    digits = bytearray()
    rest = size
    while True:
        rest, digit = divmod(rest, 128)
        digits.append(digit | 0x80 if rest else digit)
        if not rest:
            break
    if len(digits) > _MAX_LENGTH_BYTES:
        raise ProtocolError(f"{size} bytes do not fit into an MQTT packet")
    return bytes(digits)


# --- what the client says ---------------------------------------------------------------------------------------------


class MqttInbound:
    """Bytes as they come, packets as they are whole. `feed`, then `next` until it is None.

    `max_bytes`: the largest packet; may be changed at any time."""

    __slots__ = ("_buffer", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._buffer = b""

    @property
    def held_bytes(self) -> int:
        """Of a packet that is not whole."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Bytes that have come."""
        self._buffer = self._buffer + data if self._buffer else data

    def next(self) -> ClientPacket | None:
        """The next packet; None when more bytes are needed. Raises ProtocolError: after that the stream cannot be read
        any more."""
        buffer = self._buffer
        end = 1
        size = shift = 0
        while True:
            if end >= len(buffer):
                return None
            digit = buffer[end]
            end += 1
            size |= (digit & 0x7F) << shift
            if digit < 0x80:
                break
            shift += 7
            if end > _MAX_LENGTH_BYTES:
                _malformed("a remaining length of more than four bytes")
        if end + size > self.max_bytes:
            raise ProtocolError(
                f"an MQTT packet of {end + size} bytes; {self.max_bytes} are allowed", close_code=close_codes.TOO_BIG
            )
        if len(buffer) < end + size:
            return None
        self._buffer = buffer[end + size :]
        return _packet(buffer[0], buffer[end : end + size])


def _packet(first: int, body: bytes) -> ClientPacket:
    kind, flags = first >> 4, first & 0x0F
    if kind == PacketType.PUBLISH:
        return _publish(flags, body)
    read = _READERS.get(kind)
    if read is None:
        _malformed(f"packet type {kind} from a client")
    wanted = 0b0010 if kind in (PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE) else 0
    if flags != wanted:
        _malformed(f"flags {flags:04b} of packet type {kind}")  # [MQTT-2.2.2-2]
    fields = _Fields(body)
    packet = read(fields)
    fields.end()
    return packet


class _Fields:
    """Reads the fields of one packet in their order. Raises ProtocolError when they end too early."""

    __slots__ = ("_at", "_body")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._body) - self._at

    def byte(self) -> int:
        return self._take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self._take(2), "big")

    def packet_id(self) -> int:
        number = self.number()
        if not number:
            _malformed("packet id 0")  # [MQTT-2.3.1-1]
        return number

    def binary(self) -> bytes:
        return self._take(self.number())

    def text(self) -> str:
        """[MQTT-1.5.3-1] and [MQTT-1.5.3-2]: well-formed UTF-8 without surrogates and without U+0000."""
        try:
            text = self.binary().decode()
        except UnicodeDecodeError:
            _malformed("a text that is not UTF-8")
        if "\0" in text:
            _malformed("a text with U+0000")
        return text

    def rest(self) -> bytes:
        return self._take(self.left)

    def end(self) -> None:
        """Nothing may be left."""
        if self.left:
            _malformed(f"{self.left} bytes too many in a packet")

    def _take(self, count: int) -> bytes:
        if count > self.left:
            _malformed("a packet that ends too early")
        at, self._at = self._at, self._at + count
        return self._body[at : self._at]


def _connect(fields: _Fields) -> Connect:
    name, level = fields.text(), fields.byte()
    if name not in _NAMES:
        _malformed("a CONNECT of another protocol")  # [MQTT-3.1.2-1]
    if name != _NAMES[0] or level != LEVEL:
        raise WrongVersion(f"MQTT of protocol level {level}; this is level {LEVEL} (3.1.1)")
    flags, keepalive = fields.byte(), fields.number()
    has_will, will_qos, will_retain = bool(flags & 0x04), flags >> 3 & 3, bool(flags & 0x20)
    has_password, has_username = bool(flags & 0x40), bool(flags & 0x80)
    if flags & 0x01:
        _malformed("the reserved flag of CONNECT")  # [MQTT-3.1.2-3]
    if will_qos == 3 or (not has_will and (will_qos or will_retain)):
        _malformed("flags of a will")  # [MQTT-3.1.2-11], [MQTT-3.1.2-13], [MQTT-3.1.2-14], [MQTT-3.1.2-15]
    if has_password and not has_username:
        _malformed("a password without a username")  # [MQTT-3.1.2-22]
    client_id = fields.text()
    will = Will(_topic(fields.text()), fields.binary(), will_qos, will_retain) if has_will else None
    username = fields.text() if has_username else None
    password = fields.binary() if has_password else None
    return Connect(client_id, keepalive, bool(flags & 0x02), username, password, will)


def _publish(flags: int, body: bytes) -> Publish:
    dup, qos, retain = bool(flags & 8), flags >> 1 & 3, bool(flags & 1)
    if qos == 3 or (dup and not qos):
        _malformed(f"flags {flags:04b} of PUBLISH")  # [MQTT-3.3.1-2], [MQTT-3.3.1-4]
    fields = _Fields(body)
    topic = _topic(fields.text())
    packet_id = fields.packet_id() if qos else 0
    return Publish(topic, fields.rest(), qos, packet_id, dup, retain)


def _topic(topic: str) -> str:
    """[MQTT-3.3.2-2], [MQTT-4.7.3-1]."""
    if not topic or not _WILDCARDS.isdisjoint(topic):
        _malformed("a topic that is empty or has wildcards")
    return topic


def _subscribe(fields: _Fields) -> Subscribe:
    packet_id = fields.packet_id()
    filters: list[tuple[str, int]] = []
    while fields.left or not filters:  # one at least [MQTT-3.8.3-3]
        wanted = fields.text()
        qos = fields.byte()
        if qos > 2 or not wanted:
            _malformed("a filter that is empty, or its QoS")  # [MQTT-3-8.3-4], [MQTT-4.7.3-1]
        filters.append((wanted, qos))
    return Subscribe(packet_id, tuple(filters))


def _unsubscribe(fields: _Fields) -> Unsubscribe:
    packet_id = fields.packet_id()
    filters: list[str] = []
    while fields.left or not filters:  # [MQTT-3.10.3-2]
        filters.append(fields.text())
    return Unsubscribe(packet_id, tuple(filters))


_READERS: Final[Mapping[int, Callable[[_Fields], ClientPacket]]] = {
    PacketType.CONNECT: _connect,
    PacketType.PUBACK: lambda fields: Puback(fields.packet_id()),
    PacketType.SUBSCRIBE: _subscribe,
    PacketType.UNSUBSCRIBE: _unsubscribe,
    PacketType.PINGREQ: lambda fields: Pingreq(),
    PacketType.DISCONNECT: lambda fields: Disconnect(),
}


def _malformed(what: str) -> NoReturn:
    raise ProtocolError(f"no MQTT 3.1.1: {what}", close_code=close_codes.PROTOCOL_ERROR)
