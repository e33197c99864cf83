"""Frames of Volcengine's binary protocol: written as documented, read in all forms, refused when they are none."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.providers.families.volcengine import BadFrame, Event, pack, parse


def test_request_frames_are_as_documented() -> None:
    assert pack(Event.START_CONNECTION) == bytes.fromhex("11141000 00000001 00000002") + b"{}"
    assert (
        pack(Event.FINISH_SESSION, None, "abc")
        == bytes.fromhex("11141000 00000066 00000003") + b"abc" + bytes.fromhex("00000002") + b"{}"
    )


def test_answer_frames_in_all_their_forms() -> None:
    audio = parse(bytes.fromhex("11b40000 00000160 00000001") + b"s" + struct.pack(">I", 3) + b"pcm")
    assert (audio.event, audio.session, audio.payload, audio.is_audio) == (Event.RESPONSE, "s", b"pcm", True)
    bare = parse(bytes.fromhex("11941000 00000033 00000002") + b"{}")
    assert (bare.event, bare.session, bare.payload) == (Event.CONNECTION_FAILED, "", b"{}")
    error = parse(bytes.fromhex("11f01000 02aea541 00000004") + b"oops")
    assert (error.event, error.code, error.payload, error.json()) == (0, 45_000_001, b"oops", {})
    assert parse(bytes.fromhex("11901000")).event == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x21\x94\x10\x00",
        b"\x10\x94\x10\x00",
        b"\x11\x14\x10\x00\x00\x00\x00\x01",
        b"\x11\x94\x10\x00\x00",
        b"\x11\x94\x10\x00\x00\x00\x00\x32\x00\x00\xff\xff",
        b"\x11\x94\x11\x00\x00\x00\x00\x32\x00\x00\x00\x00\x00\x00\x00\x01x",
    ],
)
def test_bad_frames(data: bytes) -> None:
    with pytest.raises(BadFrame):
        parse(data)


@given(st.binary(max_size=80))
def test_noise_is_a_frame_or_a_bad_frame(data: bytes) -> None:
    for start in (b"", b"\x11\x94\x10\x00", b"\x11\xf0\x11\x00", b"\x11\xb4\x01\x00"):
        try:
            parse(start + data)
        except BadFrame:
            pass
