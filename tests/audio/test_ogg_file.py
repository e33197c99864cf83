"""Ogg Opus files that are written here: read by our own demuxer and by FFmpeg."""

from __future__ import annotations

import io

import av
import pytest

from loadtest.vendors.sounds import hum
from xiaozhi.audio.ogg import PRE_SKIP, OggOpusDemuxer, ogg_opus
from xiaozhi.audio.opus import Encoder


def packets(seconds: float, rate: int = 24_000, frame_ms: int = 60) -> list[bytes]:
    encoder = Encoder(rate, frame_ms)
    return encoder.encode(hum(seconds, rate)) + encoder.flush()


@pytest.mark.parametrize(("rate", "frame_ms"), [(16_000, 60), (24_000, 60), (24_000, 20), (48_000, 40)])
def test_both_read_every_packet(rate: int, frame_ms: int) -> None:
    made = packets(3.3, rate, frame_ms)
    file = ogg_opus(made, packet_ms=frame_ms, sample_rate=rate)

    demuxer = OggOpusDemuxer()
    assert demuxer.feed(file) == made
    demuxer.finish()

    # FFmpeg leaves out pages whose checksum is wrong.
    with av.open(io.BytesIO(file)) as opened:
        [stream] = opened.streams
        assert (stream.codec_context.name, stream.codec_context.channels) == ("opus", 1)  # type: ignore[union-attr]
        samples = sum(frame.samples for frame in opened.decode(stream))
    assert len(made) * frame_ms * 48 - PRE_SKIP <= samples <= len(made) * frame_ms * 48


def test_a_wrong_bit_is_noticed() -> None:
    file = bytearray(ogg_opus(packets(0.5), packet_ms=60, sample_rate=24_000))
    file[-10] ^= 1
    with pytest.raises(av.error.EOFError), av.open(io.BytesIO(bytes(file))):
        raise AssertionError("the only page with sound is refused")


def test_pages_are_short_and_packets_may_be_long() -> None:
    file = ogg_opus([b"\x78" * 255, b"\x78" * 600, b"\x78"] * 20, packet_ms=60, sample_rate=24_000)
    demuxer = OggOpusDemuxer()
    assert [len(packet) for packet in demuxer.feed(file)] == [255, 600, 1] * 20
    assert file.count(b"OggS") == 2 + 4, "a page for each second"
