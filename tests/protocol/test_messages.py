"""JSON messages of both directions: golden files, round trips, and that nothing but ProtocolError ever comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden.reader import Case, cases
from xiaozhi.errors import ProtocolError
from xiaozhi.protocol import messages as wire
from xiaozhi.protocol.device import MAX_BARE_CHARS, MAX_HELLO_CHARS, MAX_SPOKEN_CHARS, MAX_TYPE_CHARS
from xiaozhi.protocol.jsontext import MAX_DEPTH

# Anything a careless firmware may send: also what JSON does not allow.
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_payload = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)
_known_types = [
    "hello", "listen", "abort", "mcp", "iot", "ping", "goodbye", "server", "stt", "llm", "tts", "system", "alert",
    "notify", "pong",
]  # fmt: skip
_known_keys = [
    "version", "transport", "features", "audio_params", "session_id", "text_font", "state", "mode", "text", "reason",
    "payload",
    "descriptors", "states", "action", "content", "commands", "subtitles", "timestamp", "status", "emotion",
]  # fmt: skip
_audio = st.builds(
    wire.AudioParams,
    st.sampled_from(["opus", "pcm"]),
    st.sampled_from([8000, 16000, 24000, 48000]),
    st.integers(1, 2),
    st.integers(1, 120),
)
_features = st.builds(
    lambda raw: wire.Features.read(raw), st.dictionaries(st.sampled_from(["mcp", "aec", "emoji", "x"]), st.booleans())
)

_device_messages = st.one_of(
    st.builds(wire.Hello, st.text(max_size=MAX_TYPE_CHARS), _features, _audio, st.just(""), _payload),
    st.builds(
        wire.Listen,
        st.sampled_from([wire.ListenState.START, wire.ListenState.STOP]),
        st.none() | st.sampled_from(wire.ListenMode),
    ),
    st.builds(
        wire.Listen,
        st.just(wire.ListenState.DETECT),
        st.none() | st.sampled_from(wire.ListenMode),
        st.text(),
    ),
    st.builds(wire.Abort, st.text(max_size=MAX_TYPE_CHARS)),
    st.builds(wire.Mcp, _payload.filter(bool)),
    st.builds(wire.Iot, st.lists(_payload, max_size=2).map(tuple), st.lists(_payload, max_size=2).map(tuple)),
    st.just(wire.Ping()),
    st.just(wire.Goodbye()),
    st.builds(
        wire.ServerCommand,
        st.text(min_size=1, max_size=MAX_TYPE_CHARS),
        st.text(),
        _payload.map(lambda content: {key: value for key, value in content.items() if key != "secret"}),
    ),
)
_server_messages = st.one_of(
    st.builds(wire.HelloReply, _audio, st.text(), st.integers(0, 0xFFFF)),
    st.builds(wire.Stt, st.text()),
    st.builds(wire.LlmEmotion, st.text(), st.text()),
    st.builds(wire.TtsState, st.sampled_from(wire.TtsPhase), st.none() | st.text()),
    st.builds(wire.Mcp, _payload.filter(bool)),
    st.builds(wire.IotCommands, st.lists(_payload, max_size=2).map(tuple)),
    st.builds(wire.SystemCommand, st.text()),
    st.builds(wire.Alert, st.text(), st.text(), st.text()),
    st.builds(
        wire.Notify,
        st.text(),
        st.lists(st.builds(wire.Subtitle, st.integers(0, 10**9), st.text()), max_size=3).map(tuple),
    ),
    st.just(wire.Goodbye()),
    st.builds(wire.Pong, st.integers(0, 2**53)),
    st.builds(wire.ServerReply, st.sampled_from(["success", "error"]), st.text(), st.text()),
)


@pytest.mark.parametrize("case", cases("protocol/device.golden"))
def test_golden_device(case: Case) -> None:
    assert case.verb == "device"
    if case.outcome == "refused":
        with pytest.raises(ProtocolError) as refused:
            wire.parse_device(case.given)
        assert str(refused.value) == case.expected
    else:
        assert repr(wire.parse_device(case.given)) == case.expected


@pytest.mark.parametrize("case", cases("protocol/server.golden"))
def test_golden_server(case: Case) -> None:
    if case.verb == "server":
        message = eval(case.given, vars(wire))  # the repository's own golden file
        assert wire.encode(message, "s1") == case.expected
        back = wire.parse_server(case.expected)
        assert type(back) is type(message)
        assert wire.encode(back, "s1") == case.expected
    elif case.outcome == "refused":
        with pytest.raises(ProtocolError) as refused:
            wire.parse_server(case.given)
        assert str(refused.value) == case.expected
    else:
        assert repr(wire.parse_server(case.given)) == case.expected


@given(_device_messages)
def test_what_a_device_says_survives_the_wire(message: wire.Sendable) -> None:
    assert wire.parse_device(wire.encode(message)) == message


@given(_server_messages)
def test_what_the_server_says_survives_the_wire(message: wire.Sendable) -> None:
    assert wire.parse_server(wire.encode(message)) == message


@given(st.text())
def test_any_text_is_a_message_or_a_protocol_error(text: str) -> None:
    _parse_both(text)


@given(st.binary())
def test_any_bytes_are_a_message_or_a_protocol_error(data: bytes) -> None:
    _parse_both(data.decode("utf-8", "surrogateescape"))


@given(_json)
def test_any_json_is_a_message_or_a_protocol_error(value: Any) -> None:
    _parse_both(json.dumps(value))


@given(st.sampled_from(_known_types), st.dictionaries(st.sampled_from(_known_keys), _json, max_size=6))
def test_known_types_with_any_fields_are_messages_or_protocol_errors(kind: str, fields: dict[str, Any]) -> None:
    _parse_both(json.dumps({"type": kind, **fields}))


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=20))
def test_any_text_can_be_sent(text: str) -> None:
    """Lone surrogates come out of language models that stream half an emoji."""
    sent = wire.encode(wire.Stt(text), "s1")
    sent.encode()
    heard = json.loads(sent)["text"]
    assert heard == text.encode("utf-8", "replace").decode()


def test_nesting_has_a_limit() -> None:
    def nested(depth: int) -> str:
        return '{"type":"mcp","payload":{"a":' + "[" * (depth - 2) + "]" * (depth - 2) + "}}"

    assert isinstance(wire.parse_device(nested(MAX_DEPTH)), wire.Mcp)
    for depth in (MAX_DEPTH + 1, 1000, 5000, 100_000):
        with pytest.raises(ProtocolError):
            wire.parse_device(nested(depth))


def test_many_brackets_are_not_deep() -> None:
    message = wire.parse_device(json.dumps({"type": "mcp", "payload": {"tools": [{"a": [1], "b": "[{" * 50}] * 100}}))
    assert isinstance(message, wire.Mcp)


def test_bare_text_has_a_limit() -> None:
    assert wire.parse_device("x" * MAX_BARE_CHARS) == wire.Bare("x" * MAX_BARE_CHARS)
    with pytest.raises(ProtocolError):
        wire.parse_device("x" * (MAX_BARE_CHARS + 1))


def test_typed_text_has_a_limit() -> None:
    def typed(chars: int) -> wire.DeviceMessage:
        return wire.parse_device(json.dumps({"type": "listen", "state": "detect", "text": "说" * chars}))

    assert isinstance(typed(MAX_SPOKEN_CHARS), wire.Listen)
    with pytest.raises(ProtocolError, match="text is longer"):
        typed(MAX_SPOKEN_CHARS + 1)


def test_what_is_kept_or_logged_has_a_limit() -> None:
    """An abort is obeyed whatever its reason is, a long hello is answered; a command that is longer than any real one
    is refused."""
    assert wire.parse_device(json.dumps({"type": "abort", "reason": "x" * 1000})) == wire.Abort("x" * MAX_TYPE_CHARS)
    with pytest.raises(ProtocolError, match="action is longer"):
        wire.parse_device(json.dumps({"type": "server", "action": "x" * (MAX_TYPE_CHARS + 1)}))
    much = [0] * MAX_HELLO_CHARS
    hello = {"type": "hello", "features": {"x": much, "mcp": True}, "text_font": {"x": much}, "transport": "x" * 1000}
    assert wire.parse_device(json.dumps(hello)) == wire.Hello("x" * MAX_TYPE_CHARS, wire.Features(mcp=True))


def test_text_that_cannot_be_sent_back_is_refused() -> None:
    with pytest.raises(ProtocolError):
        wire.parse_device("half \ud83d an emoji")


def test_the_secret_is_read_but_not_shown() -> None:
    command = wire.parse_device('{"type":"server","action":"restart","content":{"secret":"hush"}}')
    assert isinstance(command, wire.ServerCommand)
    assert command.secret == "hush"
    assert "hush" not in repr(command)
    assert "secret" not in command.content


def test_huge_numbers_in_a_payload_are_written_out() -> None:
    assert json.loads(wire.encode(wire.Mcp({"id": 2**70}), "s"))["payload"]["id"] == 2**70


@pytest.mark.parametrize("payload", [{"x": object()}, {"x": {1, 2}}, {"x": b"bytes"}])
def test_payloads_that_are_no_json_are_refused(payload: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        wire.encode(wire.Mcp(payload))


def test_payloads_in_circles_are_refused() -> None:
    payload: dict[str, object] = {}
    payload["self"] = payload
    with pytest.raises(ProtocolError):
        wire.encode(wire.Mcp(payload))


def _parse_both(text: str) -> None:
    for parse in (wire.parse_device, wire.parse_server):
        try:
            message = parse(text)
        except ProtocolError:
            continue
        assert isinstance(repr(message), str)
        if isinstance(message, wire.Bare):
            message.text.encode()
