"""MQTT 3.1.1: golden files with the statements of the standard, lengths at their bounds, and that nothing but
ProtocolError ever comes out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden.reader import Case, cases, octets
from xiaozhi.errors import ProtocolError
from xiaozhi.protocol import close_codes, mqtt

MAX = 1 << 20
SAID: dict[str, Callable[..., bytes]] = {
    "connack": lambda code: mqtt.connack(mqtt.ConnectCode(int(code))),
    "publish": lambda topic, payload: mqtt.publish(topic.encode(), payload.encode()),
    "puback": lambda number: mqtt.puback(int(number)),
    "suback": lambda number, count: mqtt.suback(int(number), int(count)),
    "unsuback": lambda number: mqtt.unsuback(int(number)),
    "pingresp": lambda: mqtt.PINGRESP,
}


def heard(data: bytes, max_bytes: int = MAX) -> mqtt.ClientPacket | None:
    inbound = mqtt.MqttInbound(max_bytes)
    inbound.feed(data)
    return inbound.next()


@pytest.mark.parametrize("case", cases("protocol/mqtt.golden"))
def test_golden(case: Case) -> None:
    if case.verb != "client":
        assert SAID[case.verb](*case.given.split()) == octets(case.expected)
        return
    if case.outcome == "refused":
        with pytest.raises(ProtocolError) as refusal:
            heard(octets(case.given))
        assert str(refusal.value) == case.expected
        return
    inbound = mqtt.MqttInbound(MAX)
    inbound.feed(octets(case.given))
    packet = inbound.next()
    if case.outcome == "waits":
        assert packet is None
        assert inbound.held_bytes == int(case.expected)
    else:
        assert repr(packet) == case.expected


@pytest.mark.parametrize("size", [0, 127, 128, 2_000, 16_383, 16_384, 70_000])
def test_lengths(size: int) -> None:
    """One, two and three bytes of remaining length; bytes that come one by one, or several packets at once."""
    packet = mqtt.publish(b"t", bytes(size))
    inbound = mqtt.MqttInbound(MAX)
    for byte in packet[:10]:
        assert inbound.next() is None
        inbound.feed(bytes((byte,)))
    inbound.feed(packet[10:] + packet)
    for _ in range(2):
        message = inbound.next()
        assert isinstance(message, mqtt.Publish)
        assert message.payload == bytes(size)
    assert inbound.next() is None
    assert inbound.held_bytes == 0


def test_the_largest_packet() -> None:
    packet = mqtt.publish(b"t", bytes(1_995))
    assert len(packet) == 2_001
    assert heard(packet, 2_001) is not None
    with pytest.raises(ProtocolError) as refusal:
        heard(packet[:3], 2_000)
    assert refusal.value.close_code == close_codes.TOO_BIG, "before it has come"
    with pytest.raises(ProtocolError):
        mqtt.publish(b"t", bytes(1 << 28))


@given(st.binary(max_size=300), st.integers(1, 7))
def test_whatever_comes(data: bytes, pieces: int) -> None:
    """Any bytes, in any pieces: packets or ProtocolError."""
    inbound = mqtt.MqttInbound(200)
    try:
        for start in range(0, len(data), pieces):
            inbound.feed(data[start : start + pieces])
            while inbound.next() is not None:
                pass
    except ProtocolError:
        return
    assert inbound.held_bytes <= 200


@given(st.sampled_from(range(1, 16)), st.integers(0, 15), st.binary(max_size=60))
def test_whatever_is_in_a_packet(kind: int, flags: int, body: bytes) -> None:
    try:
        packet = heard(bytes((kind << 4 | flags, len(body))) + body)
    except ProtocolError:
        return
    assert packet is not None


def test_secrets_are_not_shown() -> None:
    assert "hunter2" not in repr(mqtt.Connect("a", username="u", password=b"hunter2"))
