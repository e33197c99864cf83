"""Client framing against wsproto, an independent reader of RFC 6455; and the device's reading of binary headers."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode

from loadtest.simulator.framing import framing_for, prepared, unwrap, wrap
from loadtest.simulator.wire import BINARY, PING, TEXT, masked, take_frame

SIZES = st.one_of(st.integers(0, 130), st.sampled_from([65_535, 65_536, 70_000]))


@given(size=SIZES, opcode=st.sampled_from([BINARY, PING]))
def test_a_strict_server_reads_our_frames(size, opcode):
    payload = bytes(index % 251 for index in range(size if opcode == BINARY else size % 126))
    server = FrameProtocol(client=False, extensions=[])
    server.receive_bytes(masked(opcode, payload))

    frames = list(server.received_frames())

    assert b"".join(bytes(frame.payload) for frame in frames) == payload
    assert {int(frame.opcode) for frame in frames[:1]} == {opcode}


@given(texts=st.lists(st.text(max_size=200), max_size=5), cuts=st.lists(st.integers(1, 50), min_size=1))
def test_we_read_a_servers_frames_in_whatever_pieces_they_come(texts, cuts):
    server = FrameProtocol(client=False, extensions=[])
    stream = b"".join(server.send_data(text, fin=True) for text in texts)
    buffer, got, at = bytearray(), [], 0
    while at < len(stream):
        cut = cuts[at % len(cuts)]
        buffer += stream[at : at + cut]
        at += cut
        while (frame := take_frame(buffer)) is not None:
            assert frame.opcode == TEXT and frame.whole
            got.append(frame.payload.decode())

    assert got == texts and not buffer


def test_long_frames_of_a_server_are_read_too():
    server = FrameProtocol(client=False, extensions=[])
    for size in (126, 65_535, 65_536):
        buffer = bytearray(server.send_data(bytes(size), fin=True))
        assert take_frame(buffer[: size // 2]) is None
        assert len(take_frame(buffer).payload) == size
    assert int(Opcode.BINARY) == BINARY


@pytest.mark.parametrize(
    "framing,expected",
    [
        ("v1", b"op"),
        ("v2", struct.pack("!HHIII", 2, 0, 0, 120, 2) + b"op"),
        ("v3", b"\x00\x00\x00\x02op"),
        ("gateway", bytes(8) + struct.pack("!II", 120, 2) + b"op"),
    ],
)
def test_headers_are_as_the_protocol_wants_them(framing, expected):
    assert wrap(framing, b"op", 120) == expected


@pytest.mark.parametrize(
    "framing,data",
    [
        ("v2", b"\x00\x02"),
        ("v2", struct.pack("!HHIII", 2, 0, 0, 0, 3) + b"op"),
        ("v2", struct.pack("!HHIII", 1, 0, 0, 0, 2) + b"op"),
        ("v3", b"\x00\x00\x00\x03op"),
        ("gateway", bytes(8) + struct.pack("!II", 0, 2) + b"op"),
    ],
)
def test_wrong_headers_are_refused(framing, data):
    with pytest.raises(ValueError):
        unwrap(framing, data)


def test_versions_have_their_framing():
    assert [framing_for(version, False) for version in (1, 2, 3)] == ["v1", "v2", "v3"]
    assert framing_for(1, True) == "gateway"
    with pytest.raises(ValueError):
        framing_for(4, False)


def test_frames_are_prepared_once_for_all_devices():
    packets = (b"one", b"two")

    assert prepared(packets, "v2", 60) is prepared(packets, "v2", 60)
