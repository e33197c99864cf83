"""Binary frames: golden files, round trips, and that nothing but ProtocolError ever comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden.reader import Case, cases, octets
from xiaozhi.errors import ProtocolError
from xiaozhi.protocol.frames import FrameCodec, GatewayCodec, UdpCodec, V1Codec, V2Codec, V3Codec, codec_for

_makers = {"v1": V1Codec, "v2": V2Codec, "v3": V3Codec, "gateway": GatewayCodec, "udp": UdpCodec}
_codecs = st.sampled_from(sorted(_makers)).map(lambda name: _makers[name]())


@pytest.mark.parametrize("case", cases("protocol/frames.golden"))
def test_golden(case: Case) -> None:
    verb, _, codec = case.verb.partition(":")
    if verb == "pack":
        timestamp, _, payload = case.given.partition(" ")
        assert _makers[codec]().pack(octets(payload), int(timestamp)) == octets(case.expected)
    elif case.outcome == "refused":
        with pytest.raises(ProtocolError) as refused:
            _makers[verb]().unpack(octets(case.given))
        assert str(refused.value) == case.expected
        assert refused.value.close_code is None
    else:
        assert repr(_makers[verb]().unpack(octets(case.given))) == case.expected


@given(_codecs, st.binary(min_size=1, max_size=600), st.integers(0, 2**40))
def test_what_is_packed_can_be_unpacked(codec: FrameCodec, payload: bytes, timestamp: int) -> None:
    frame = codec.unpack(codec.pack(payload, timestamp))
    assert frame.payload == payload
    assert frame.kind == "audio"
    assert frame.timestamp_ms in (None, timestamp % 2**32)


@given(_codecs, st.binary(max_size=64))
def test_any_bytes_are_a_frame_or_a_protocol_error(codec: FrameCodec, data: bytes) -> None:
    try:
        frame = codec.unpack(data)
    except ProtocolError:
        return
    assert (frame.payload or isinstance(codec, UdpCodec)) and data.endswith(frame.payload)


@given(_codecs, st.binary(min_size=1, max_size=40), st.data())
def test_a_frame_that_was_cut_is_refused_or_shorter(codec: FrameCodec, payload: bytes, data: st.DataObject) -> None:
    whole = codec.pack(payload, 7)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    if isinstance(codec, V1Codec):
        return  # has no way to know
    with pytest.raises(ProtocolError):
        codec.unpack(cut)


def test_the_gateway_counts_what_it_is_sent() -> None:
    codec = GatewayCodec()
    assert [codec.pack(b"x", 0)[4:8] for _ in range(3)] == [b"\0\0\0\0", b"\0\0\0\1", b"\0\0\0\2"]
    assert GatewayCodec().pack(b"x", 0)[4:8] == b"\0\0\0\0", "each connection counts for itself"


@pytest.mark.parametrize("codec", [V3Codec(), GatewayCodec(), UdpCodec()])
def test_packets_that_do_not_fit_are_refused(codec: FrameCodec) -> None:
    with pytest.raises(ProtocolError):
        codec.pack(bytes(65_536), 0)


@pytest.mark.parametrize("version,kind", [(None, V1Codec), (1, V1Codec), (2, V2Codec), (3, V3Codec)])
def test_the_version_chooses_the_codec(version: int | None, kind: type[FrameCodec]) -> None:
    assert type(codec_for(version, False)) is kind
    assert type(codec_for(version, True)) is GatewayCodec
    assert type(codec_for(version, False, udp=True)) is UdpCodec


@pytest.mark.parametrize("version", [0, 4, -1])
def test_unknown_versions_are_refused(version: int) -> None:
    with pytest.raises(ProtocolError) as refused:
        codec_for(version, False)
    assert refused.value.close_code == 1002
