"""Sound -> frames of a device: encoded, or passed on bit for bit, with nothing lost between sentences."""

from __future__ import annotations

import gevent
import pytest

from tests.fakes.inference import InlineInference
from tests.fakes.sound import tone
from tests.waiting import PATIENCE_S
from xiaozhi.audio.opus import Decoder, Encoder, OpusError, packet_duration_ms
from xiaozhi.session.speaking.encoder import FrameEncoder, VoiceFormat


def maker(voice: VoiceFormat | None = None) -> tuple[FrameEncoder, InlineInference]:
    pool = InlineInference()
    return FrameEncoder(voice or VoiceFormat(), pool), pool  # type: ignore[arg-type]


def vendor_packets(ms: int, *, frame_ms: int = 20, rate: int = 48_000, bitrate: int | None = None) -> list[bytes]:
    """What a vendor's encoder makes of a tone."""
    return Encoder(rate, frame_ms, bitrate=bitrate).encode(tone(ms, rate))


def milliseconds(frames: list[bytes]) -> float:
    return sum(packet_duration_ms(frame) for frame in frames)


def test_pcm_is_encoded_and_the_last_frame_filled_up() -> None:
    frames_of, _ = maker()

    frames = frames_of.pcm(tone(100, 24_000), 24_000)
    frames += frames_of.end()

    assert [packet_duration_ms(frame) for frame in frames] == [60, 60]


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_the_end_of_a_sentence_goes_with_its_last_sound(rate: int) -> None:
    apart, _ = maker()
    together, pool = maker()
    sound = tone(400, rate)

    expected = [*apart.pcm(sound, rate), *apart.end()]
    frames = together.end(sound, rate)

    assert frames == expected
    assert len(pool.calls) == 1
    assert together.end() == []


def test_a_last_frame_alone_does_not_go_to_the_pool() -> None:
    frames_of, pool = maker()

    frames = [*frames_of.pcm(tone(100, 24_000), 24_000), *frames_of.end()]

    assert len(frames) == 2
    assert len(pool.calls) == 1


def test_the_first_frames_can_be_made_without_the_pool() -> None:
    frames_of, pool = maker()
    whole, _ = maker()
    sound = tone(600, 24_000)
    cut = frames_of.at_once_bytes(24_000)

    assert cut == 480 * 24 * 2
    frames = frames_of.at_once(sound[:cut])
    assert len(frames) == 8 and pool.calls == []
    frames += frames_of.end(sound[cut:], 24_000)
    assert frames == [*whole.pcm(sound, 24_000), *whole.end()]


def test_what_is_dear_is_never_made_at_once() -> None:
    for voice, rate in (
        (VoiceFormat(), 16_000),
        (VoiceFormat(format="pcm"), 24_000),
        (VoiceFormat(complexity=5), 24_000),
    ):
        assert maker(voice)[0].at_once_bytes(rate) == 0
    frames_of, _ = maker()
    frames_of.packets(vendor_packets(20))
    assert frames_of.at_once_bytes(24_000) == 0  # ready packets wait to be merged
    frames_of.end()
    frames_of.pcm(tone(100, 16_000), 16_000)
    assert frames_of.at_once_bytes(24_000) == 0  # a resampler holds some sound


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_any_rate_fits_any_device(rate: int) -> None:
    frames_of, _ = maker(VoiceFormat(sample_rate=16_000, frame_ms=20))

    frames = [*frames_of.pcm(tone(500, rate), rate), *frames_of.end()]

    assert 500 <= milliseconds(frames) <= 540


def test_a_change_of_rate_in_mid_sentence_loses_nothing() -> None:
    frames_of, _ = maker()

    frames = frames_of.pcm(tone(300, 16_000), 16_000)
    frames += frames_of.pcm(tone(300, 48_000), 48_000)
    frames += frames_of.pcm(tone(300, 24_000), 24_000)
    frames += frames_of.end()

    assert 900 <= milliseconds(frames) <= 960


def test_pcm_devices_get_whole_frames_of_samples() -> None:
    frames_of, _ = maker(VoiceFormat(format="pcm", sample_rate=16_000, frame_ms=20))

    frames = [*frames_of.pcm(tone(50, 16_000), 16_000), *frames_of.pcm(tone(25, 16_000), 16_000), *frames_of.end()]

    assert [len(frame) for frame in frames] == [640] * 4
    assert frames[0] + frames[1] == tone(50, 16_000)[:1280]


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_packets_are_merged_without_decoding_however_they_come(pieces: int) -> None:
    packets = vendor_packets(600)
    frames_of, pool = maker()

    frames: list[bytes] = []
    for start in range(0, len(packets), pieces):
        frames += frames_of.packets(packets[start : start + pieces])
    frames += frames_of.end()

    assert pool.calls == []
    assert [packet_duration_ms(frame) for frame in frames] == [60] * 10
    decoder, merged = Decoder(24_000), Decoder(24_000)
    assert b"".join(map(merged.decode, frames)) == b"".join(map(decoder.decode, packets)), "bit for bit the same sound"


@pytest.mark.parametrize("left_over", [1, 2])
def test_the_last_frame_is_filled_up_without_encoding(left_over: int) -> None:
    packets = vendor_packets(600)[: 27 + left_over]
    frames_of, pool = maker()

    frames = [*frames_of.packets(packets), *frames_of.end()]

    assert pool.calls == []
    assert [packet_duration_ms(frame) for frame in frames] == [60] * 10
    decoder = Decoder(24_000)
    assert all(len(decoder.decode(frame)) == 60 * 24 * 2 for frame in frames)


def test_a_last_frame_that_cannot_be_filled_up_is_encoded_anew() -> None:
    """40 ms are left, and a second packet of 40 would be too long."""
    frames_of, pool = maker()

    frames = [*frames_of.packets(vendor_packets(80, frame_ms=40, rate=16_000, bitrate=12_000)[:1]), *frames_of.end()]

    assert len(pool.calls) == 1
    assert [packet_duration_ms(frame) for frame in frames] == [60]


def test_a_full_pool_is_waited_for() -> None:
    frames_of, pool = maker()
    pool.full = True
    greenlet = gevent.spawn(frames_of.pcm, tone(120, 24_000), 24_000)
    gevent.sleep(0)
    assert not greenlet.ready()

    pool.full = False

    assert len(greenlet.get(timeout=PATIENCE_S)) == 2


def test_frames_of_the_devices_own_length_are_passed_on() -> None:
    packets = vendor_packets(600, frame_ms=60)
    frames_of, pool = maker()

    assert frames_of.packets(packets) + frames_of.end() == packets
    assert pool.calls == []


def test_packets_that_cannot_be_merged_are_encoded_anew_to_the_end_of_the_sentence() -> None:
    speech, music = vendor_packets(200, rate=16_000, bitrate=12_000), vendor_packets(200)
    assert speech[0][0] >> 3 != music[0][0] >> 3
    frames_of, pool = maker()

    frames = [*frames_of.packets(speech[:4]), *frames_of.packets(music), *frames_of.end()]

    assert pool.calls
    assert {packet_duration_ms(frame) for frame in frames} == {60}
    assert 280 <= milliseconds(frames) <= 340
    jobs = len(pool.calls)
    assert len(frames_of.packets(music[:3]) + frames_of.end()) == 1
    assert len(pool.calls) == jobs, "the next sentence is passed on again"


def test_packets_longer_than_a_frame_are_encoded_anew() -> None:
    frames_of, pool = maker(VoiceFormat(frame_ms=20))

    frames = [*frames_of.packets(vendor_packets(600, frame_ms=60)), *frames_of.end()]

    assert pool.calls
    assert {packet_duration_ms(frame) for frame in frames} == {20}
    assert 600 <= milliseconds(frames) <= 640


def test_opus_for_a_pcm_device_is_decoded() -> None:
    frames_of, _ = maker(VoiceFormat(format="pcm", sample_rate=24_000, frame_ms=60))

    frames = [*frames_of.packets(vendor_packets(600)), *frames_of.end()]

    assert [len(frame) for frame in frames] == [2_880] * 10


def test_sound_of_both_kinds_keeps_its_order() -> None:
    frames_of, _ = maker()

    frames = frames_of.packets(vendor_packets(600)[:4])
    assert len(frames) == 1
    frames += frames_of.pcm(tone(60, 24_000), 24_000)

    assert [packet_duration_ms(frame) for frame in frames] == [60, 60, 60], "what was held comes before what follows"


def test_what_is_no_packet_is_refused() -> None:
    frames_of, _ = maker()

    with pytest.raises(OpusError):
        frames_of.packets([b""])


def test_an_end_without_sound_is_nothing() -> None:
    frames_of, pool = maker()

    assert frames_of.end() == []
    assert pool.calls == []
