"""Entries to the journal's JSON and back, and recorded sound to what is kept of it.

What is read back may have been written by an earlier version: unknown keys are ignored, missing ones have defaults."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

from xiaozhi.audio.opus import Encoder
from xiaozhi.history.entries import (
    SOUND_FRAME_MS,
    SOUND_RATE,
    EndedSession,
    HistoryEntry,
    KeptSound,
    SessionInfo,
    ToolUse,
)

BITRATE: Final = 24_000
"""Bits per second: 3 KB a second of speech, where PCM takes 32."""
_LARGEST: Final = 2**53
"""Whole numbers beyond it are texts: not everything that reads JSON has larger ones."""
_LENGTH: Final = struct.Struct("<H")
_VOICE: Final = 0xFFFF
"""In the place of a length, which no packet has: another sound begins."""
_ENTRY_FIELDS: Final = frozenset(field.name for field in fields(HistoryEntry)) - {
    "session", "tools", "spoken", "sound", "voices"
}  # fmt: skip


def compressed(pcm: bytes) -> KeptSound:
    """PCM (s16le, mono, 16 kHz) as it is kept. Takes about 1 ms a second of sound: not for the hub."""
    encoder = Encoder(SOUND_RATE, SOUND_FRAME_MS, bitrate=BITRATE)
    return KeptSound((*encoder.encode(pcm), *encoder.flush()))


def packed(sound: KeptSound) -> bytes:
    """Its packets as one string of bytes, each behind its length."""
    return b"".join(_LENGTH.pack(len(packet)) + packet for packet in sound.packets)


def packed_voices(voices: Iterable[KeptSound]) -> bytes:
    """What follows the user's sound where the assistant's is kept too."""
    return b"".join(_LENGTH.pack(_VOICE) + packed(voice) for voice in voices)


def unpacked(content: bytes) -> KeptSound:
    """The sound that `packed` made; what is cut off at its end is left out."""
    return sounds_in(content)[0]


def sounds_in(content: bytes) -> tuple[KeptSound, tuple[KeptSound, ...]]:
    """The user's sound (without packets: none) and the assistant's, from `packed` and `packed_voices` together."""
    sounds: list[list[bytes]] = [[]]
    at = 0
    while at + _LENGTH.size <= len(content):
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size
        if length == _VOICE:
            sounds.append([])
            continue
        if at + length > len(content):
            break
        sounds[-1].append(content[at : at + length])
        at += length
    said, *voices = (KeptSound(tuple(packets)) for packets in sounds)
    return said, tuple(voices)


def body_of(record: HistoryEntry | EndedSession) -> dict[str, Any]:
    """A record without its sound, for JSON: texts without what no JSON, and no database, can hold."""
    session = _clean(asdict(record.session))
    if isinstance(record, EndedSession):
        return {"ended": session, "at": record.ended_at, "turns": record.turns}
    return {
        "session": session,
        **{name: _clean(getattr(record, name)) for name in sorted(_ENTRY_FIELDS)},
        "spoken": _clean(record.spoken),
        "tools": [_clean(tool_body(use)) for use in record.tools],
    }


def _clean(value: Any) -> Any:
    """Arguments of tools are whatever a language model wrote; half a surrogate pair comes from devices as well."""
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool | float | None):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST else str(value)
    if isinstance(value, Mapping):
        return {_clean(str(key)): _clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    return _clean(str(value))


def record_of(body: Mapping[str, Any], sound: bytes | None) -> HistoryEntry | EndedSession:
    """What `body_of` was made of. Raises KeyError, TypeError for what it never made."""
    if "ended" in body:
        return EndedSession(_session_of(body["ended"]), body["at"], body["turns"])
    said, voices = sounds_in(sound or b"")
    return HistoryEntry(
        session=_session_of(body["session"]),
        spoken=tuple(body.get("spoken", ())),
        tools=tools_of(body.get("tools", ())),
        sound=said if said.packets else None,
        voices=voices,
        **{name: body[name] for name in _ENTRY_FIELDS if name in body},
    )


def tool_body(use: ToolUse) -> dict[str, Any]:
    """One call of a tool, for JSON."""
    return {
        "name": use.name,
        "arguments": dict(use.arguments),
        "outcome": use.outcome,
        "result": use.result,
        "ms": use.ms,
    }


def tools_of(bodies: Sequence[Mapping[str, Any]]) -> tuple[ToolUse, ...]:
    """The calls that `tool_body` was made of."""
    return tuple(
        ToolUse(body["name"], body.get("arguments", {}), body["outcome"], body.get("result", ""), body.get("ms"))
        for body in bodies
    )


def _session_of(body: Mapping[str, Any]) -> SessionInfo:
    return SessionInfo(body["id"], body["device_id"], body["client_id"], body["began_at"])
