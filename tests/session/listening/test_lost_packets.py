"""Packets that were lost on the way: their sound is made up or recovered, and the time goes on."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.fakes.sound import energy_dbfs, silence, tone
from tests.session.listening.ears import Ears, Make, ears_factory, ms, settle
from xiaozhi.audio.opus import Decoder, Encoder, missing_packet, packet_duration_ms
from xiaozhi.protocol.messages import ListenMode
from xiaozhi.session.listening.decoder import EchoCanceller, Packet, PacketDecoder, Sound
from xiaozhi.session.listening.packet_log import PacketLog
from xiaozhi.session.listening.segment import ListenerStats

make = pytest.fixture(ears_factory)
SPOKEN = silence(300) + tone(900) + silence(600)
LOST = (8, 12, 13)
"""Packets in the middle of the tone."""


def send(ears: Ears, packets: list[bytes]) -> None:
    for packet in packets:
        ears.clock.advance(0.06)
        ears.listener.hear(packet)
        settle()


def decoder(audio_format: str = "opus", canceller: EchoCanceller | None = None) -> PacketDecoder:
    return PacketDecoder(audio_format, 16_000, 1, ListenerStats(), canceller)


class Cancelled:
    """An echo canceller that only notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, int | None]] = []
        self.somebody = True
        self.held_bytes = 0

    def cancel(self, pcm: bytes, packet: Packet) -> Sound:
        self.asked.append((ms(pcm), packet.timestamp_ms))
        return Sound(pcm, bytes(len(pcm)))

    def forget(self) -> None: ...


def test_a_lost_packet_takes_as_long_as_one_that_came(make: Make) -> None:
    packets = Encoder(16_000, 60).encode(SPOKEN)
    whole, holed = make(audio_format="opus"), make(audio_format="opus")

    send(whole, packets)
    send(holed, [b"" if number in LOST else packet for number, packet in enumerate(packets)])

    (expected,), (utterance,) = whole.sink.utterances, holed.sink.utterances
    assert utterance.duration_ms == expected.duration_ms
    assert utterance.ended_at == expected.ended_at
    assert (holed.listener.stats.lost, holed.listener.stats.packets) == (len(LOST), len(packets))
    loud = [energy_dbfs(utterance.pcm[at : at + 960]) > -40 for at in range(0, len(utterance.pcm), 960)]
    assert loud.count(True) >= 30, "the tone goes on in the gaps"


def test_button_and_lost_packets(make: Make) -> None:
    ears = make(audio_format="opus", keeps_packets=True)
    packets = Encoder(16_000, 60).encode(tone(1200))
    ears.listener.start(ListenMode.MANUAL)

    send(ears, [b"", b"", *[b"" if number in LOST else packet for number, packet in enumerate(packets)], b""])
    ears.listener.stop()
    settle()

    (utterance,) = ears.sink.utterances
    assert ms(utterance.pcm) == 1200, "neither before the first nor behind the last is anything made up"
    assert [len(packet) <= 2 for packet in utterance.packets] == [number in LOST for number in range(20)]


def test_packets_that_are_kept_keep_the_time(make: Make) -> None:
    ears = make(audio_format="opus", keeps_packets=True)
    packets = Encoder(16_000, 60).encode(SPOKEN)

    send(ears, [b"" if number in LOST else packet for number, packet in enumerate(packets)])

    (utterance,) = ears.sink.utterances
    kept = sum(packet_duration_ms(packet) for packet in utterance.packets)
    assert 0 <= kept - ms(utterance.pcm) <= 2 * 60
    assert sum(packet not in packets for packet in utterance.packets) == len(LOST)


def test_nothing_is_heard_of_a_packet_lost_before_all_others(make: Make) -> None:
    ears = make(audio_format="opus")
    ears.listener.hear(b"")
    settle()
    assert len(ears.tasks) == 0


def test_a_copy_in_the_next_packet_is_used() -> None:
    pcm = tone(60, hz=300) + tone(60, hz=450) + tone(60, hz=700) + tone(60, hz=1100) + tone(60, hz=500)
    with_copies, without = _with_copies(pcm, "1"), _with_copies(pcm, "0")
    errors = {}
    for name, packets in (("copy", with_copies), ("none", without)):
        reference, holed = decoder(), decoder()
        whole = [reference.decode(Packet(packet, 0.0)).for_recogniser for packet in packets]
        holes = [Packet(b"" if number == 3 else packet, 0.0) for number, packet in enumerate(packets)]
        heard = [holed.decode(packet).for_recogniser for packet in holes]
        assert heard[3] == b""
        assert len(heard[4]) == 2 * len(whole[4])
        errors[name] = _difference(heard[4][: len(whole[3])], whole[3])
    assert errors["copy"] < 0.6 * errors["none"], errors


def _with_copies(pcm: bytes, fec: str) -> list[bytes]:
    """Packets of the speech layer, of which each carries the one before it again if `fec`."""
    encoder = av.AudioCodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 16_000, "mono", "s16"
    encoder.bit_rate, encoder.time_base = 24_000, Fraction(1, 16_000)
    encoder.options = {"application": "voip", "frame_duration": "60", "fec": fec, "packet_loss": "30"}
    packets = []
    for start in range(0, len(pcm), 1920):
        frame = av.AudioFrame.from_ndarray(
            np.frombuffer(pcm[start : start + 1920], "<i2").reshape(1, -1), "s16", "mono"
        )
        frame.sample_rate = 16_000
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets


def _difference(one: bytes, other: bytes) -> float:
    """Of the spectra."""
    spectra = [np.abs(np.fft.rfft(np.frombuffer(pcm, "<i2").astype(float))) for pcm in (one, other)]
    return float(np.linalg.norm(spectra[0] - spectra[1]))


def test_a_corrupt_packet_behind_a_gap_is_only_one_more() -> None:
    good = Encoder(16_000, 60).encode(tone(180))
    decode = decoder()
    heard = [decode.decode(Packet(payload, 0.0)) for payload in (good[0], b"", b"\xff\xff\xff", good[1], good[2])]
    assert [ms(sound.for_recogniser) for sound in heard] == [60, 0, 0, 60, 60]


def test_lost_pcm_is_silence_and_the_canceller_sees_every_packet() -> None:
    canceller = Cancelled()
    decode = decoder("pcm", canceller)
    heard = [
        decode.decode(Packet(payload, 0.0, timestamp))
        for payload, timestamp in ((tone(60), 60), (b"", 120), (b"", 180), (tone(60), 240))
    ]
    assert heard[3] == Sound(bytes(2 * 1920) + tone(60), bytes(3 * 1920))
    assert canceller.asked == [(60, 60), (60, 120), (60, 180), (60, 240)]


@pytest.mark.parametrize("like", [b"\x58\1\2", b"\x59\1\2", b"\x5a\1\2\3", b"\x0b\x86\1\2", b"\xff\x43\1", b"\x58"])
def test_what_stands_for_a_lost_packet_has_its_duration(like: bytes) -> None:
    stand_in = missing_packet(like)
    assert len(stand_in) <= 2
    assert packet_duration_ms(stand_in) == packet_duration_ms(like)
    assert ms(Decoder().decode(stand_in)) == packet_duration_ms(like)


def test_the_log_fills_gaps_with_what_was_concealed() -> None:
    log = PacketLog()
    log.add(0, b"")
    log.add(960, b"\x58one")
    log.add(960, b"")
    log.add(960, b"")
    log.add(4 * 960, b"\x58two")
    assert log.between(0, 9_999) == (b"\x58one", b"\x58", b"\x58", b"\x58two")
    assert log.between(960, 2 * 960) == (b"\x58",)
    assert log.size == 10
    log.forget_before(2 * 960)
    assert log.size == 5
    log.clear()
    log.add(960, b"\x58new")
    assert log.between(0, 960) == (b"\x58new",)
