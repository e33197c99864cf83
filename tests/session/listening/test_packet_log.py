"""What a device sent of an utterance is found again, packet by packet, and nothing of its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.fakes.sound import silence, tone
from tests.session.listening.ears import Ears, Make, ears_factory, ms, settle
from xiaozhi.audio.opus import Decoder, Encoder
from xiaozhi.protocol.messages import ListenMode
from xiaozhi.session.listening.decoder import Packet, Sound
from xiaozhi.session.listening.packet_log import PacketLog
from xiaozhi.session.listening.utterance import Utterance

make = pytest.fixture(ears_factory)
PACKET_MS = 60


def test_packets_are_found_by_the_sound_in_them() -> None:
    log = PacketLog()
    for number in range(10):
        log.add((number + 1) * 960, bytes([number]) * 10)

    assert b"".join(log.between(960, 2 * 960)) == b"\1" * 10
    assert [packet[0] for packet in log.between(1_000, 3_000)] == [1, 2, 3]
    log.forget_before(4 * 960)
    assert [packet[0] for packet in log.between(0, 100_000)] == [4, 5, 6, 7, 8, 9]
    assert log.size == 60
    log.clear()
    assert (log.between(0, 100_000), log.size) == ((), 0)


class Echo:
    """Changes what was heard."""

    somebody = True
    held_bytes = 0

    def cancel(self, pcm: bytes, packet: Packet) -> Sound:
        return Sound(pcm, pcm)

    def forget(self) -> None: ...


def send(ears: Ears, packets: Sequence[bytes]) -> None:
    for packet in packets:
        ears.clock.advance(PACKET_MS / 1000)
        ears.listener.hear(packet)
        settle()


def heard(utterance: Utterance) -> float:
    """How long the kept packets sound, ms."""
    decoder = Decoder(16_000)
    return sum(ms(decoder.decode(packet)) for packet in utterance.packets)


def place(utterance: Utterance, packets: Sequence[bytes]) -> int:
    """Where what was kept begins, among what was sent; all of it, in order. (Silence looks alike: the last such
    place.)"""
    count = len(utterance.packets)
    return max(at for at in range(len(packets)) if tuple(packets[at : at + count]) == utterance.packets)


def test_two_utterances_have_each_its_own_packets(make: Make) -> None:
    ears = make(audio_format="opus", keeps_packets=True, pre_roll_frames=5)
    packets = Encoder(16_000, PACKET_MS).encode(
        silence(1200) + tone(900) + silence(1800) + tone(600, hz=700) + silence(600)
    )

    send(ears, packets)

    first, second = ears.sink.utterances
    for utterance in (first, second):
        assert 0 <= heard(utterance) - ms(utterance.pcm) <= 2 * PACKET_MS
    assert place(second, packets) >= place(first, packets) + len(first.packets)
    first.close()
    assert first.packets == ()


def test_push_to_talk_keeps_what_it_heard_and_no_more(make: Make) -> None:
    ears = make(audio_format="opus", keeps_packets=True, max_utterance_ms=1200)
    ears.listener.start(ListenMode.MANUAL)
    packets = Encoder(16_000, PACKET_MS).encode(tone(2400))

    send(ears, packets)
    ears.listener.stop()
    settle()

    (utterance,) = ears.sink.utterances
    assert list(utterance.packets) == packets[:20]
    assert ms(utterance.pcm) == 1200


def test_silence_is_not_gathered(make: Make) -> None:
    """A device that listens for minutes while nobody speaks."""
    ears = make(audio_format="opus", keeps_packets=True)
    held = []
    for _ in range(3):
        send(ears, Encoder(16_000, PACKET_MS).encode(silence(30_000)))
        held.append(ears.listener.queued_bytes)

    assert max(held) < 50_000


@pytest.mark.parametrize(
    "options",
    [{"keeps_packets": False}, {"keeps_packets": True, "canceller": Echo()}],
    ids=["off", "an echo canceller"],
)
def test_nothing_is_kept_that_is_not_wanted_or_not_what_was_heard(make: Make, options: dict[str, object]) -> None:
    ears = make(audio_format="opus", **options)
    ears.listener.start(ListenMode.REALTIME)

    send(ears, Encoder(16_000, PACKET_MS).encode(silence(300) + tone(900) + silence(600)))

    (utterance,) = ears.sink.utterances
    assert utterance.packets == () and utterance.pcm


def test_sound_that_is_no_opus_has_no_packets(make: Make) -> None:
    ears = make(keeps_packets=True)

    ears.hear(silence(300) + tone(900) + silence(600))

    assert ears.sink.utterances[0].packets == ()
