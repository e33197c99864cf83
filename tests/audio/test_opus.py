"""Opus: every legal packet decodes, nonsense is refused without harm, encoding keeps what does not fill a frame,
merging is lossless."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.simulator.opus import encode
from loadtest.simulator.speech import speak
from tests.fakes.sound import energy_dbfs, silence, tone
from xiaozhi.audio import libopus
from xiaozhi.audio.opus import (
    FRAME_MS,
    SAMPLE_RATES,
    CannotMerge,
    Decoder,
    Encoder,
    OpusError,
    Repacketizer,
    frame_duration_ms,
    merge,
    mergeable,
    packet_duration_ms,
    packet_frames,
    split,
)
from xiaozhi.errors import ProtocolError


def packet(config: int, code: int, *rest: int, stereo: bool = False) -> bytes:
    """A packet's first byte as RFC 6716, section 3.1 draws it, and more bytes."""
    return bytes([config << 3 | stereo << 2 | code, *rest])


# --- table of contents ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config,ms",
    [
        (0, 10),
        (1, 20),
        (2, 40),
        (3, 60),
        (9, 20),
        (11, 60),
        (12, 10),
        (13, 20),
        (14, 10),
        (15, 20),
        (16, 2.5),
        (17, 5),
        (18, 10),
        (31, 20),
    ],
)
def test_frame_durations_are_those_of_the_rfc(config: int, ms: float) -> None:
    assert frame_duration_ms(config << 3) == ms
    assert packet_duration_ms(packet(config, 0)) == ms


def test_codes_tell_the_number_of_frames() -> None:
    assert packet_frames(packet(1, 0)) == 1
    assert packet_frames(packet(1, 1)) == packet_frames(packet(1, 2)) == 2
    assert packet_frames(packet(16, 3, 48)) == 48 and packet_duration_ms(packet(16, 3, 48)) == 120
    assert packet_frames(packet(1, 3, 0xC0 | 3)) == 3, "the upper bits say VBR and padding"


@pytest.mark.parametrize("bad", [b"", packet(1, 3), packet(1, 3, 0), packet(3, 3, 3), packet(31, 3, 7)])
def test_what_no_packet_can_be_is_refused(bad: bytes) -> None:
    with pytest.raises(OpusError):
        packet_duration_ms(bad)
    assert issubclass(OpusError, ProtocolError)


@given(st.binary(min_size=1, max_size=6))
def test_durations_agree_with_libopus(data: bytes) -> None:
    count = libopus.HELD["opus_packet_get_nb_samples"]
    count.argtypes = (ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32)
    samples = count(data, len(data), 48_000)
    try:
        ours = packet_duration_ms(data)
    except OpusError:
        assert samples <= 0
    else:
        assert samples == ours * 48


# --- decoding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame_ms", FRAME_MS)
@pytest.mark.parametrize("rate", SAMPLE_RATES)
def test_any_rate_and_duration_decodes_to_16_khz(rate: int, frame_ms: int) -> None:
    packets = Encoder(rate, frame_ms).encode(tone(600, rate))
    assert len(packets) == 600 // frame_ms
    decoder = Decoder()
    pieces = [decoder.decode(each) for each in packets]
    assert {len(piece) for piece in pieces} == {frame_ms * 32}
    assert energy_dbfs(b"".join(pieces)) == pytest.approx(energy_dbfs(tone(600)), abs=1.5)


@pytest.mark.parametrize("frame_ms", [2.5, 5, 10, 20, 40, 60])
def test_stereo_music_of_any_duration_decodes_to_mono(frame_ms: float) -> None:
    sound = tone(60, 48_000)
    stereo = b"".join(sound[at : at + 2] * 2 for at in range(0, int(48 * frame_ms) * 2, 2)) * 3
    packets = encode(stereo, frame_ms, sample_rate=48_000, channels=2, bits_per_s=96_000)
    assert packets[0][0] & 4, "a stereo packet"
    decoder = Decoder()
    assert [len(decoder.decode(each)) for each in packets] == [int(frame_ms * 32)] * 3


def test_120_ms_packets_decode() -> None:
    merged = merge(Encoder(16_000, 60).encode(tone(120)))
    assert packet_duration_ms(merged) == 120
    assert len(Decoder().decode(merged)) == 120 * 32


def test_an_empty_packet_conceals_as_much_as_the_last_one_had() -> None:
    decoder = Decoder()
    assert decoder.decode(b"") == b"", "nothing was ever there"
    packets = Encoder(16_000, 40).encode(tone(200))
    for each in packets[:3]:
        decoder.decode(each)
    concealed = decoder.decode(b"")
    assert len(concealed) == 40 * 32
    assert energy_dbfs(concealed) > -40, "the tone goes on for a moment"


@given(st.binary(max_size=300))
def test_noise_is_decoded_or_refused_and_does_no_harm(data: bytes) -> None:
    decoder = Decoder()
    try:
        pcm = decoder.decode(data)
    except OpusError:
        pass
    else:
        assert len(pcm) <= 120 * 32 and len(pcm) % 2 == 0
    good = Encoder(16_000, 60).encode(tone(60))[0]
    assert len(decoder.decode(good)) == 60 * 32
    try:
        assert len(decoder.recover(data)) == 60 * 32
    except OpusError:
        pass
    assert len(decoder.decode(good)) == 60 * 32


def test_reset_forgets() -> None:
    packets = Encoder(16_000, 60).encode(tone(300))
    fresh, used = Decoder(), Decoder()
    for each in packets:
        used.decode(each)
    used.reset()
    assert used.decode(b"") == b""
    assert used.decode(packets[0]) == fresh.decode(packets[0])


# --- encoding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 7, 320, 1919, 1920, 5000])
def test_pcm_may_come_in_any_pieces(cut: int) -> None:
    pcm = tone(500)
    whole = Encoder(16_000, 60).encode(pcm)
    encoder, packets = Encoder(16_000, 60), []
    for start in range(0, len(pcm), cut):
        packets += encoder.encode(pcm[start : start + cut])
    assert packets == whole
    last = encoder.flush()
    assert len(last) == 1 and packet_duration_ms(last[0]) == 60
    assert encoder.flush() == []


@pytest.mark.parametrize("rate", SAMPLE_RATES)
@pytest.mark.parametrize("frame_ms", FRAME_MS)
def test_many_frames_at_once_are_the_same_as_one_by_one(rate: int, frame_ms: int) -> None:
    pcm = b"".join(tone(90, rate, hz) + silence(35, rate) for hz in (150, 400, 1_100, 3_000, 700))
    size = rate * frame_ms // 1000 * 2
    at_once, alone, held = (Encoder(rate, frame_ms) for _ in range(3))

    packets = at_once.encode(pcm)

    assert packets == [
        packet for start in range(0, len(pcm), size) for packet in alone.encode(pcm[start : start + size])
    ]
    assert packets == held.encode(pcm, hold_gil=True)
    assert {packet_duration_ms(each) for each in packets} == {frame_ms}


def test_at_low_bitrates_many_frames_at_once_are_as_good_as_one_by_one() -> None:
    """Not bit for bit: the speech layer of later libopus shares out its bits over a packet of two frames."""
    pcm = speak("What time is it?").pcm
    at_once, held = (Encoder(16_000, 60, bitrate=12_000) for _ in range(2))

    for packets in (at_once.encode(pcm), held.encode(pcm, hold_gil=True)):
        assert {packet_duration_ms(each) for each in packets} == {60}
        decoder = Decoder()
        sound = b"".join(decoder.decode(each) for each in packets)
        assert energy_dbfs(sound) == pytest.approx(energy_dbfs(pcm), abs=1.5)


def test_a_packet_is_taken_apart_without_decoding() -> None:
    packets = Encoder(24_000, 60).encode(tone(120, 24_000))
    assert split(merge(packets), 2) == packets
    assert [packet_duration_ms(each) for each in split(packets[0], 3)] == [20, 20, 20]
    with pytest.raises(CannotMerge, match="3 frames into 2"):
        split(packets[0], 2)
    with pytest.raises(CannotMerge):
        split(b"", 2)


def test_speech_is_encoded_with_the_cheap_layer_unless_bits_are_scarce() -> None:
    assert all(each[0] >> 3 >= 16 for each in Encoder(24_000, 60).encode(tone(300, 24_000))), "CELT"
    assert all(each[0] >> 3 < 12 for each in Encoder(16_000, 60, bitrate=12_000).encode(tone(300))), "SILK"


def test_bitrate_and_complexity_reach_the_library() -> None:
    pcm = tone(3000, 24_000, hz=300)
    thin = sum(map(len, Encoder(24_000, 60, bitrate=24_000).encode(pcm)))
    thick = sum(map(len, Encoder(24_000, 60, bitrate=64_000).encode(pcm)))
    assert thick > 2 * thin
    with pytest.raises(ValueError, match="control"):
        Encoder(24_000, 60, complexity=11)


def test_reset_drops_what_waits() -> None:
    encoder = Encoder(16_000, 60)
    first = encoder.encode(tone(70))
    encoder.reset()
    assert encoder.flush() == []
    assert encoder.encode(tone(60)) == first


@pytest.mark.parametrize("rate,frame_ms", [(44_100, 60), (16_000, 30), (0, 20)])
def test_what_opus_does_not_know_is_refused(rate: int, frame_ms: int) -> None:
    with pytest.raises(ValueError):
        Encoder(rate, frame_ms)
    with pytest.raises(ValueError):
        Decoder(44_100)


# --- merging ----------------------------------------------------------------------------------------------------------


def decoded(packets: list[bytes]) -> bytes:
    decoder = Decoder(24_000)
    return b"".join(decoder.decode(each) for each in packets)


def test_three_packets_of_20_ms_become_one_of_60_without_loss() -> None:
    short = Encoder(24_000, 20).encode(tone(600, 24_000) + silence(120, 24_000))
    repacketizer = Repacketizer(60)
    merged = [out for each in short for out in repacketizer.feed(each)]
    assert len(merged) == len(short) // 3 == 12 and not repacketizer.held
    assert {packet_duration_ms(each) for each in merged} == {60}
    assert decoded(merged) == decoded(short)


def test_packets_that_already_fit_pass_unchanged() -> None:
    long = Encoder(24_000, 60).encode(tone(180, 24_000))
    repacketizer = Repacketizer(60)
    assert [repacketizer.feed(each) for each in long] == [[each] for each in long]


def test_a_change_of_mode_is_reported_with_what_was_held() -> None:
    celt = Encoder(24_000, 20).encode(tone(40, 24_000))
    silk = Encoder(16_000, 20, bitrate=12_000).encode(tone(40))
    repacketizer = Repacketizer(60)
    assert repacketizer.feed(celt[0]) == repacketizer.feed(celt[1]) == []
    with pytest.raises(CannotMerge):
        repacketizer.feed(silk[0])
    assert repacketizer.held == [*celt, silk[0]], "the caller can decode these and go on by encoding"
    repacketizer.reset()
    assert repacketizer.feed(silk[0]) == []


def test_a_duration_that_does_not_divide_is_reported() -> None:
    forty = Encoder(24_000, 40).encode(tone(80, 24_000))
    repacketizer = Repacketizer(60)
    repacketizer.feed(forty[0])
    with pytest.raises(CannotMerge):
        repacketizer.feed(forty[1])


def test_merge_refuses_what_cannot_be_one_packet() -> None:
    packets = Encoder(24_000, 60).encode(tone(180, 24_000))
    assert not mergeable(packets) and not mergeable([]) and not mergeable([b""])
    with pytest.raises(CannotMerge):
        merge(packets)
    with pytest.raises(OpusError):
        Repacketizer().feed(b"")
