"""No message that names its type and has what it needs is lost over another field, whatever that field holds."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.protocol import messages as wire

_any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40)
    | st.sampled_from(["", "16000", "OPUS", "1", "true", "null", "2.1.1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)

HELLO = {
    "type": "hello",
    "version": 1,
    "transport": "websocket",
    "session_id": "s",
    "features": {"mcp": True, "aec": True, "emoji": True, "glyph_push": True},
    "audio_params": {"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": 60},
    "text_font": {"bundle": "noto", "size": 16},
}
START = {"type": "listen", "state": "start", "mode": "auto", "text": "", "session_id": "s"}
STOP = {**START, "state": "stop"}
DETECT = {"type": "listen", "state": "detect", "mode": "auto", "text": "hello", "session_id": "s"}
ABORT = {"type": "abort", "reason": "wake_word_detected", "session_id": "s"}
MCP = {"type": "mcp", "payload": {"jsonrpc": "2.0", "id": 1, "result": {}}, "session_id": "s"}
IOT = {"type": "iot", "update": True, "descriptors": [{"name": "Lamp"}], "states": [{"name": "Lamp"}]}
PING = {"type": "ping", "session_id": "s", "timestamp": 5}
GOODBYE = {"type": "goodbye", "session_id": "s", "reason": "idle"}
SERVER = {"type": "server", "action": "restart", "content": {"secret": "hush"}, "session_id": "s"}

# (message, what it cannot do without)
MESSAGES: list[tuple[Mapping[str, Any], set[str]]] = [
    (HELLO, {"type"}),
    (START, {"type", "state"}),
    (STOP, {"type", "state"}),
    (DETECT, {"type", "state", "text"}),
    (ABORT, {"type"}),
    (MCP, {"type", "payload"}),
    (IOT, {"type"}),
    (PING, {"type"}),
    (GOODBYE, {"type"}),
    (SERVER, {"type", "action"}),
]


def _fields(message: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in message.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from _fields(value, (*path, key))


def _with(message: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(dict(message))
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


ODD = [(message, path) for message, needs in MESSAGES for path in _fields(message) if path[0] not in needs]


@pytest.mark.parametrize(("message", "path"), ODD, ids=lambda part: "/".join(part) if isinstance(part, tuple) else "")
@given(value=_any_json)
def test_an_odd_field_costs_itself_only(message: Mapping[str, Any], path: tuple[str, ...], value: Any) -> None:
    expected = wire.parse_device(json.dumps(message))
    found = wire.parse_device(json.dumps(_with(message, path, value)))
    assert type(found) is type(expected)
    for key in ("state", "action", "payload"):
        assert getattr(found, key, None) == getattr(expected, key, None)
    if isinstance(expected, wire.Listen) and expected.state is wire.ListenState.DETECT:
        assert isinstance(found, wire.Listen)
        assert found.text == expected.text


@given(value=_any_json, key=st.text(max_size=12).filter(lambda key: key != "type"))
def test_fields_that_nobody_knows_change_nothing(value: Any, key: str) -> None:
    for message, _ in MESSAGES:
        if key not in message:
            assert type(wire.parse_device(json.dumps({**message, key: value}))) is type(
                wire.parse_device(json.dumps(message))
            )


@given(value=_any_json)
def test_sound_is_always_described_so_that_it_can_be_decoded(value: Any) -> None:
    for key in ("format", "sample_rate", "channels", "frame_duration"):
        hello = wire.parse_device(json.dumps(_with(HELLO, ("audio_params", key), value)))
        assert isinstance(hello, wire.Hello)
        audio = hello.audio
        assert audio.format in ("opus", "pcm")
        assert 8_000 <= audio.sample_rate <= 48_000
        assert audio.channels in (1, 2)
        assert 1 <= audio.frame_duration <= 120
