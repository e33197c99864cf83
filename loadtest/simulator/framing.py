"""The ways a device wraps an audio packet: bare (v1), with a long (v2) or short (v3) header, or as the MQTT gateway
does. Over UDP the header is the channel's business (`mqtt_device.py`).

The client's own reading of the protocol, on purpose not the server's: a fault in one does not hide in the other.
"""

from __future__ import annotations

import functools
import struct
from typing import Literal

from loadtest.simulator.wire import BINARY, masked

Framing = Literal["v1", "v2", "v3", "gateway", "udp"]

_V2 = struct.Struct("!HHIII")  # version 2 | type 0 opus | reserved | timestamp ms | payload bytes
_V3 = struct.Struct("!BBH")  # type 0 opus | reserved | payload bytes
_GATEWAY = struct.Struct("!8xII")  # unused | timestamp ms | payload bytes
HEADER_BYTES = {"v1": 0, "v2": _V2.size, "v3": _V3.size, "gateway": _GATEWAY.size, "udp": 0}


def framing_for(protocol_version: int, gateway: bool) -> Framing:
    """How a device that announced this version frames its audio. Raises ValueError."""
    if gateway:
        return "gateway"
    if protocol_version not in (1, 2, 3):
        raise ValueError(f"protocol version {protocol_version}; 1, 2 and 3 exist")
    return ("v1", "v2", "v3")[protocol_version - 1]


def wrap(framing: Framing, packet: bytes, timestamp_ms: int) -> bytes:
    """The payload of one binary WebSocket frame."""
    match framing:
        case "v1" | "udp":
            return packet
        case "v2":
            return _V2.pack(2, 0, 0, timestamp_ms, len(packet)) + packet
        case "v3":
            return _V3.pack(0, 0, len(packet)) + packet
        case "gateway":
            return _GATEWAY.pack(timestamp_ms, len(packet)) + packet


def unwrap(framing: Framing, data: bytes) -> bytes:
    """The packet in what the server sent. Raises ValueError when header and length do not fit together."""
    size = HEADER_BYTES[framing]
    packet = data[size:]
    if framing in ("v1", "udp"):
        return packet
    if len(data) < size:
        raise ValueError(f"{len(data)} bytes are no {framing} frame")
    claimed = struct.unpack_from("!H", data, 2)[0] if framing == "v3" else struct.unpack_from("!I", data, 12)[0]
    if claimed != len(packet):
        raise ValueError(f"{framing} header claims {claimed} bytes, {len(packet)} follow")
    if framing == "v2" and data[:4] != b"\0\2\0\0":
        raise ValueError(f"not a v2 audio header: {data[:4].hex()}")
    if framing == "gateway" and data[0] != 1:
        raise ValueError(f"not a gateway audio header: {data[:4].hex()}")
    return packet


@functools.lru_cache(maxsize=256)
def prepared(packets: tuple[bytes, ...], framing: Framing, frame_ms: int) -> tuple[bytes, ...]:
    """Packets as whole masked WebSocket frames with running timestamps, ready for the socket of any device; made
    once. Packets for UDP stay as they are: each device has a key of its own."""
    if framing == "udp":
        return packets
    return tuple(masked(BINARY, wrap(framing, packet, index * frame_ms)) for index, packet in enumerate(packets))
