"""Frames of Volcengine's speech protocols: bytes <-> events of a voice (V3), results of a recogniser (V2, V3). Pure: no
sockets, no time.

    byte 0     protocol version 1 | header size 1 (x 4 bytes)
    byte 1     message type | flags (bits: 1 a sequence number follows, 2 the last of its kind, 4 an event follows)
    byte 2     serialisation (0 raw, 1 JSON) | compression (0 none, 1 gzip)
    byte 3     reserved
    a voice    int32 event | uint32 length, session or connection id | uint32 length, payload        all big-endian
    hearing    int32 sequence, where the flags say so                | uint32 length, payload
    errors     (type 0b1111) have an int32 code in place of what comes before the payload

A recogniser takes sound with or without sequence numbers and answers with them. We send none: the order of messages on
one connection is certain, and a number that is not the expected one is an error.

Sources: volcengine.com/docs/6561/1329505 (voice), /1354869 (hearing, V3), /80816 (hearing, V2): "WebSocket binary
protocol", and "event definitions" of the first.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import orjson

MAX_PAYLOAD_BYTES = 16 * 1024 * 1024


class Event(IntEnum):
    """Event numbers; below 50 and the hundreds go up, the others come down."""

    START_CONNECTION = 1
    FINISH_CONNECTION = 2
    CONNECTION_STARTED = 50
    CONNECTION_FAILED = 51
    CONNECTION_FINISHED = 52
    START_SESSION = 100
    CANCEL_SESSION = 101
    FINISH_SESSION = 102
    SESSION_STARTED = 150
    SESSION_CANCELED = 151
    SESSION_FINISHED = 152
    SESSION_FAILED = 153
    TASK_REQUEST = 200
    SENTENCE_START = 350
    SENTENCE_END = 351
    RESPONSE = 352


FULL_SERVER, AUDIO_SERVER, ERROR = 0b1001, 0b1011, 0b1111
WITH_SEQUENCE, LAST, WITH_EVENT = 0b0001, 0b0010, 0b0100
GZIP = 0b0001
OK = 20_000_000

_CLIENT_JSON = bytes((0x11, 0x10 | WITH_EVENT, 0x10, 0x00))
_REQUEST = bytes((0x11, 0x10, 0x10 | GZIP, 0x00))
_SOUND, _LAST_SOUND = bytes((0x11, 0x20, GZIP, 0x00)), bytes((0x11, 0x20 | LAST, GZIP, 0x00))
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 31
"""To zlib: 32 KB, with the header of gzip."""
# Stored: sound gets a fifth smaller at level 1, and 200 ms of it cost 400 us there, 8 us here.
_GZIP_LEVEL = 0
_CONNECTION_EVENTS = {Event.CONNECTION_STARTED, Event.CONNECTION_FAILED, Event.CONNECTION_FINISHED}


class BadFrame(ValueError):
    """Bytes that are no frame of this protocol."""


@dataclass(frozen=True, slots=True)
class VolcengineFrame:
    """What the vendor said. `event` 0: an error frame (`code` set) or a frame without an event."""

    event: int
    session: str = ""
    payload: bytes = b""
    is_audio: bool = False
    code: int = 0

    def json(self) -> Mapping[str, Any]:
        """The payload as an object; an empty one when it is none."""
        try:
            parsed = orjson.loads(self.payload)
        except orjson.JSONDecodeError:
            return {}
        return parsed if isinstance(parsed, dict) else {}


@dataclass(frozen=True, slots=True)
class RecognitionFrame:
    """What a recogniser said. `code`: of an error frame, else 0. `last`: no other follows."""

    payload: bytes
    last: bool = False
    code: int = 0

    def json(self) -> Mapping[str, Any]:
        """The payload as an object; an empty one for no payload. Raises BadFrame."""
        try:
            parsed = orjson.loads(self.payload or b"{}")
        except orjson.JSONDecodeError:
            parsed = None
        if not isinstance(parsed, dict):
            raise BadFrame(f"no JSON object: {self.payload[:16].hex()}")
        return parsed


def pack_request(request: Mapping[str, Any]) -> bytes:
    """The first message to a recogniser: what it is to do."""
    return _gzipped(_REQUEST, orjson.dumps(request))


def pack_sound(sound: bytes, *, last: bool = False) -> bytes:
    """A piece of sound for a recogniser. `sound` may be empty when it is the last."""
    return _gzipped(_LAST_SOUND if last else _SOUND, sound)


def _gzipped(header: bytes, payload: bytes) -> bytes:
    packed = zlib.compress(payload, _GZIP_LEVEL, _GZIP_WINDOW)
    return b"".join((header, struct.pack(">I", len(packed)), packed))


def parse_recognition(data: bytes) -> RecognitionFrame:
    """A message of a recogniser. Raises BadFrame."""
    kind, flags, packed, at = _header(data)
    try:
        if kind == ERROR:
            (code,) = struct.unpack_from(">I", data, at)
            payload, _ = _sized(data, at + 4)
            return RecognitionFrame(_unpacked(payload, packed and payload.startswith(_GZIP_MAGIC)), code=code)
        if kind == AUDIO_SERVER:
            return RecognitionFrame(b"")  # V2 acknowledges with it
        if kind != FULL_SERVER:
            raise BadFrame(f"message type {kind:#06b}")
        sequence = 0
        if flags & WITH_SEQUENCE:
            (sequence,) = struct.unpack_from(">i", data, at)
            at += 4
        if flags & WITH_EVENT:
            at += 4
        payload, _ = _sized(data, at)
        # The service has been seen to answer in plain JSON under a header that says gzip.
        plain = _unpacked(payload, packed and payload.startswith(_GZIP_MAGIC))
        return RecognitionFrame(plain, bool(flags & LAST) or sequence < 0)
    except struct.error as error:
        raise BadFrame(f"cut off: {data[:16].hex()}") from error


def pack(event: Event, payload: Mapping[str, Any] | None = None, session: str | None = None) -> bytes:
    """A request frame. `session` is left out for connection events."""
    body = orjson.dumps(payload or {})
    parts = [_CLIENT_JSON, struct.pack(">i", event)]
    if session is not None:
        identity = session.encode()
        parts += [struct.pack(">I", len(identity)), identity]
    parts += [struct.pack(">I", len(body)), body]
    return b"".join(parts)


def parse(data: bytes) -> VolcengineFrame:
    """A frame of a voice. Raises BadFrame."""
    kind, flags, packed, at = _header(data)
    try:
        if kind == ERROR:
            (code,) = struct.unpack_from(">i", data, at)
            payload, _ = _sized(data, at + 4)
            return VolcengineFrame(0, payload=_unpacked(payload, packed), code=code)
        if kind not in (FULL_SERVER, AUDIO_SERVER):
            raise BadFrame(f"message type {kind:#06b}")
        if not flags & WITH_EVENT:
            return VolcengineFrame(0)
        (event,) = struct.unpack_from(">i", data, at)
        identity, at = _sized(data, at + 4)
        if at < len(data):
            payload, at = _sized(data, at)
        else:  # some connection events carry nothing but their payload
            identity, payload = b"", identity
        session = "" if event in _CONNECTION_EVENTS else identity.decode("utf-8", "replace")
        return VolcengineFrame(event, session, _unpacked(payload, packed), kind == AUDIO_SERVER)
    except struct.error as error:
        raise BadFrame(f"cut off: {data[:16].hex()}") from error


def _header(data: bytes) -> tuple[int, int, bool, int]:
    """(message type, flags, whether the payload is gzip, where the header ends). Raises BadFrame."""
    if len(data) < 4 or data[0] >> 4 != 1 or not data[0] & 0x0F:
        raise BadFrame(f"no frame: {data[:16].hex()}")
    return data[1] >> 4, data[1] & 0x0F, data[2] & 0x0F == GZIP, (data[0] & 0x0F) * 4


def _sized(data: bytes, at: int) -> tuple[bytes, int]:
    (size,) = struct.unpack_from(">I", data, at)
    end = at + 4 + size
    if end > len(data):
        raise BadFrame(f"a field of {size} bytes in a frame of {len(data)}")
    return data[at + 4 : end], end


def _unpacked(payload: bytes, packed: bool) -> bytes:
    if not packed:
        return payload
    try:
        inflater = zlib.decompressobj(_GZIP_WINDOW)
        plain = inflater.decompress(payload, MAX_PAYLOAD_BYTES)
    except zlib.error as error:
        raise BadFrame(f"not gzip: {error}") from error
    if not inflater.eof:
        raise BadFrame("a compressed payload without end")
    return plain
