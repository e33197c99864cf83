"""Binary frames: what stands around one Opus packet, by protocol version and for the MQTT gateway. All numbers are
big-endian.

    v1        the packet itself
    v2        u16 version = 2 | u16 type: 0 opus, 1 json | u32 reserved | u32 timestamp ms | u32 payload size | payload
    v3        u8 type: 0 opus, 1 json | u8 reserved | u16 payload size | payload
    gateway   16 bytes | packet. Bytes 8..11: u32 timestamp ms, 12..15: u32 packet size.
              Towards the gateway also 0: u8 1, 2..3: u16 packet size, 4..7: u32 sequence
    udp       the header of `udp_voice.py` | packet, deciphered. A packet that was lost is a header alone

Sources: `BinaryProtocol2` and `BinaryProtocol3` of the public firmware (`protocols/protocol.h`), and the public MQTT
gateway's UDP bridge. Not a place for Opus: a payload is not looked into, except that an empty one is refused, where it
does not stand for a lost packet. The timestamp of v2, of the gateway and of UDP is the device's playback clock."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from typing import Final, Literal, NamedTuple

from xiaozhi.errors import ProtocolError
from xiaozhi.protocol import close_codes
from xiaozhi.protocol.udp_voice import AUDIO
from xiaozhi.protocol.udp_voice import HEADER as _UDP

Kind = Literal["audio", "json"]

_V2: Final = struct.Struct("!HHIII")
_V3: Final = struct.Struct("!BBH")
_GATEWAY: Final = struct.Struct("!BBHIII")
_U32: Final = 0xFFFF_FFFF
_U16: Final = 0xFFFF
_KINDS: Final[tuple[Kind, ...]] = ("audio", "json")


class Frame(NamedTuple):
    """One binary frame taken apart. `timestamp_ms` is None where the format carries none."""

    payload: bytes
    """b"": this packet was lost (UDP only)."""
    timestamp_ms: int | None
    kind: Kind


class FrameCodec(ABC):
    """The framing of one connection. May hold state, so one object per connection."""

    @abstractmethod
    def unpack(self, data: bytes) -> Frame:
        """Take a frame from the device apart. Raises ProtocolError, without a close code: one bad frame is no reason to
        hang up."""

    @abstractmethod
    def pack(self, payload: bytes, timestamp_ms: int) -> bytes:
        """The frame for the device around one packet. `timestamp_ms` wraps at 32 bits. Raises ProtocolError if it is
        too large."""


class V1Codec(FrameCodec):
    """The packet itself."""

    def unpack(self, data: bytes) -> Frame:
        """See FrameCodec."""
        if not data:
            raise ProtocolError("empty frame")
        return Frame(data, None, "audio")

    def pack(self, payload: bytes, timestamp_ms: int) -> bytes:
        """See FrameCodec."""
        return payload


class V2Codec(FrameCodec):
    """16 bytes of header with a timestamp, for echo cancelling on the server."""

    def unpack(self, data: bytes) -> Frame:
        """See FrameCodec."""
        if len(data) <= _V2.size:
            raise ProtocolError("v2 frame without payload")
        version, kind, _, timestamp, size = _V2.unpack_from(data)
        if version != 2:
            raise ProtocolError(f"v2 frame says version {version}")
        if size != len(data) - _V2.size:
            raise ProtocolError(f"v2 frame says {size} bytes, has {len(data) - _V2.size}")
        return Frame(data[_V2.size :], timestamp, _kind(kind))

    def pack(self, payload: bytes, timestamp_ms: int) -> bytes:
        """See FrameCodec."""
        return _V2.pack(2, 0, 0, timestamp_ms & _U32, len(payload)) + payload


class V3Codec(FrameCodec):
    """4 bytes of header."""

    def unpack(self, data: bytes) -> Frame:
        """See FrameCodec."""
        if len(data) <= _V3.size:
            raise ProtocolError("v3 frame without payload")
        kind, _, size = _V3.unpack_from(data)
        if size != len(data) - _V3.size:
            raise ProtocolError(f"v3 frame says {size} bytes, has {len(data) - _V3.size}")
        return Frame(data[_V3.size :], None, _kind(kind))

    def pack(self, payload: bytes, timestamp_ms: int) -> bytes:
        """See FrameCodec."""
        if len(payload) > _U16:
            raise ProtocolError(f"{len(payload)} bytes in a v3 frame")
        return _V3.pack(0, 0, len(payload)) + payload


class GatewayCodec(FrameCodec):
    """The MQTT gateway's header. The sequence number of what is sent lives here, and starts at 0 with the
    connection."""

    def __init__(self) -> None:
        self._sequence = 0

    def unpack(self, data: bytes) -> Frame:
        """See FrameCodec. A packet size of 0 means all the rest: bridges exist that leave it out."""
        if len(data) <= _GATEWAY.size:
            raise ProtocolError("gateway frame without payload")
        timestamp, size = struct.unpack_from("!II", data, 8)
        room = len(data) - _GATEWAY.size
        if size not in (0, room):
            raise ProtocolError(f"gateway frame says {size} bytes, has {room}")
        return Frame(data[_GATEWAY.size :], timestamp, "audio")

    def pack(self, payload: bytes, timestamp_ms: int) -> bytes:
        """See FrameCodec."""
        size = len(payload)
        if size > _U16:
            raise ProtocolError(f"{size} bytes in a gateway frame")
        sequence = self._sequence
        self._sequence = (sequence + 1) & _U32
        return _GATEWAY.pack(1, 0, size, sequence, timestamp_ms & _U32, size) + payload


class UdpCodec(FrameCodec):
    """What a UDP channel (`transport/udp.py`) takes and delivers. The channel fills in ssrc and sequence."""

    def unpack(self, data: bytes) -> Frame:
        """See FrameCodec. A frame without payload stands for a lost packet."""
        if len(data) < _UDP.size:
            raise ProtocolError("UDP frame without header")
        kind, _, size, _, timestamp, _ = _UDP.unpack_from(data)
        if kind != AUDIO:
            raise ProtocolError(f"UDP frame of type {kind}")
        if size != len(data) - _UDP.size:
            raise ProtocolError(f"UDP frame says {size} bytes, has {len(data) - _UDP.size}")
        return Frame(data[_UDP.size :], timestamp, "audio")

    def pack(self, payload: bytes, timestamp_ms: int) -> bytes:
        """See FrameCodec."""
        size = len(payload)
        if size > _U16:
            raise ProtocolError(f"{size} bytes in a UDP frame")
        return _UDP.pack(AUDIO, 0, size, 0, timestamp_ms & _U32, 0) + payload


def codec_for(version: int | None, gateway: bool, udp: bool = False) -> FrameCodec:
    """A new codec. The headers of the gateway and of UDP do not depend on the version; None (nothing announced) is
    version 1.

    Raises ProtocolError (close 1002) for a version this server does not know.
    """
    if udp:
        return UdpCodec()
    if gateway:
        return GatewayCodec()
    match version:
        case None | 1:
            return V1Codec()
        case 2:
            return V2Codec()
        case 3:
            return V3Codec()
    raise ProtocolError(f"unknown protocol version {version}", close_code=close_codes.PROTOCOL_ERROR)


def _kind(number: int) -> Kind:
    if number >= len(_KINDS):
        raise ProtocolError(f"frame of type {number}")
    return _KINDS[number]
