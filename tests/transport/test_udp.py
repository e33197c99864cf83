"""The UDP port over real sockets: whose packets are taken, whose are not, and what is sent."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.clock import FakeClock
from tests.transport.udp_line import LOOPBACK, UdpDevice
from tests.waiting import take_turns, wait_for
from xiaozhi.net.tcp import AddressError
from xiaozhi.protocol.frames import UdpCodec
from xiaozhi.protocol.udp_voice import MAX_JUMP, RESTART_AFTER
from xiaozhi.transport.udp import HELD_FRAMES, HELD_S, UdpChannel, UdpPort

CODEC = UdpCodec()
SOUND = [b"\x58" + bytes([number]) * 20 for number in range(200)]
"""SILK, 60 ms (by their first byte)."""


class Ends:
    """A port, one channel of it, and the device that it is for."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.port = UdpPort(LOOPBACK, 0, clock=self.clock)
        self.port.start()
        self.heard: list[bytes] = []
        self.channel = self.open(self.heard)
        self.device = self.device_for(self.channel)

    def open(self, heard: list[bytes], audio_format: str = "opus") -> UdpChannel:
        return self.port.open(lambda frame: heard.append(CODEC.unpack(frame).payload), audio_format=audio_format)

    def device_for(self, channel: UdpChannel) -> UdpDevice:
        return UdpDevice(channel.key, channel.nonce, self.port.port)

    def settle(self) -> None:
        """Everything that was sent before has been read: a packet of a channel of its own follows it."""
        got: list[bytes] = []
        last = self.open(got)
        after = self.device_for(last)
        after.say(SOUND[0])
        wait_for(lambda: got, "the last datagram")
        last.close()
        after.close()

    def told(self, *names: str) -> list[int]:
        return [getattr(self.channel.stats, name) for name in names]


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.device.close()
    made.port.close()
    assert made.port.channels == 0


def test_both_ways(ends: Ends) -> None:
    ends.device.say(*SOUND[:3])
    wait_for(lambda: len(ends.heard) == 3, "three packets")
    assert ends.heard == SOUND[:3]
    for number in range(3):
        ends.channel.send(CODEC.pack(SOUND[number], number * 60))
    assert [ends.device.receive() for _ in range(3)] == [(n + 1, n * 60, SOUND[n]) for n in range(3)]
    assert ends.told("received", "sent", "bytes_in", "bytes_out") == [3, 3, 3 * 37, 3 * 37]


def test_channels_do_not_hear_each_other(ends: Ends) -> None:
    other: list[bytes] = []
    channel = ends.open(other)
    device = ends.device_for(channel)
    assert channel.key != ends.channel.key
    assert channel.ssrc != ends.channel.ssrc
    for number in range(10):
        ends.device.say(SOUND[number])
        device.say(SOUND[100 + number])
    ends.settle()
    assert (ends.heard, other) == (SOUND[:10], SOUND[100:110])
    device.close()


def test_a_replay_is_refused_wherever_it_comes_from(ends: Ends) -> None:
    recorded = [ends.device.datagram(sound) for sound in SOUND[:5]]
    ends.device.send(*recorded)
    ends.settle()
    where = ends.channel.address
    ends.device.send(*recorded)
    ends.device.move()
    ends.device.send(*recorded)
    ends.settle()
    assert ends.heard == SOUND[:5]
    assert ends.told("duplicates", "moved") == [10, 0]
    assert ends.channel.address == where


def test_the_device_may_move(ends: Ends) -> None:
    ends.device.say(SOUND[0])
    ends.settle()
    ends.device.move()
    ends.device.say(SOUND[1])
    ends.settle()
    ends.channel.send(CODEC.pack(SOUND[9], 0))
    assert ends.device.receive()[2] == SOUND[9]
    assert ends.told("moved") == [1]


def test_whoever_does_not_know_the_key_does_not_become_the_device(ends: Ends) -> None:
    ends.device.say(SOUND[0])
    ends.settle()
    where = ends.channel.address
    # Knows the ssrc and the sequence, which are not secret. One byte out of many deciphers to a plausible first one:
    # here it never does.
    thief = UdpDevice(bytes(16), ends.channel.nonce, ends.port.port)
    right = ends.device.datagram(SOUND[1], sequence=2)
    false = [bytearray(right) for _ in range(20)]
    for number, datagram in enumerate(false):
        datagram[16] ^= 0x08 + (number % 2) * 0x80  # SILK of 40 ms, CELT
    thief.send(*map(bytes, false))
    ends.settle()
    assert ends.channel.address == where
    assert ends.told("refused", "moved") == [20, 0]
    ends.device.send(right)
    ends.settle()
    assert ends.heard == SOUND[:2]
    thief.close()


def test_a_stranger_cannot_be_sent_ahead(ends: Ends) -> None:
    ends.device.say(*SOUND[:5])
    ends.settle()
    copy = ends.device.datagram(SOUND[5], sequence=4)
    stranger = UdpDevice(ends.channel.key, ends.channel.nonce, ends.port.port)
    far = [stranger.datagram(SOUND[0], sequence=6 + MAX_JUMP + 1 + number) for number in range(10)]
    stranger.send(copy, *far)
    ends.settle()
    assert ends.told("refused", "moved", "duplicates") == [10, 0, 1]
    ends.device.say(SOUND[5])
    ends.settle()
    assert ends.heard == SOUND[:6]
    stranger.close()


def test_a_single_packet_far_ahead_changes_nothing_but_several_do(ends: Ends) -> None:
    ends.device.say(SOUND[0])
    ends.device.send(ends.device.datagram(SOUND[1], sequence=2**32 - 1))
    ends.device.say(SOUND[1])
    ends.settle()
    assert (ends.heard, ends.told("refused")) == (SOUND[:2], [1])
    ends.device.sequence = 5000
    ends.device.say(*SOUND[10:20])
    ends.settle()
    assert ends.heard == SOUND[:2] + SOUND[10 + RESTART_AFTER - 1 : 20]


def test_lost_packets_are_delivered_without_payload_when_their_time_is_over(ends: Ends) -> None:
    first, lost, *others = [ends.device.datagram(sound) for sound in SOUND[:4]]
    ends.device.send(first, others[0])
    ends.settle()
    assert ends.heard == SOUND[:1]
    ends.clock.advance(1.0)
    wait_for(lambda: len(ends.heard) == 3, "the end of the wait")
    ends.device.send(lost, others[1])
    ends.settle()
    assert ends.heard == [SOUND[0], b"", *SOUND[2:4]]
    assert ends.told("lost", "late") == [1, 1]


def test_what_waits_can_be_had_at_once(ends: Ends) -> None:
    packets = [ends.device.datagram(sound) for sound in SOUND[:3]]
    ends.device.send(packets[0], packets[2])
    ends.settle()
    ends.channel.flush()
    assert ends.heard == [SOUND[0], b"", SOUND[2]]


def test_a_message_that_ends_the_sound_may_be_faster_than_the_sound(ends: Ends) -> None:
    packets = [ends.device.datagram(sound) for sound in SOUND[:100]]
    for packet in packets:
        if packet is not packets[2]:
            ends.device.send(packet)
    ends.channel.flush()  # the receiver has not had its turn
    assert ends.heard == [*SOUND[:2], b"", *SOUND[3:100]]


def test_what_is_sent_before_the_device_is_found_waits_a_moment(ends: Ends) -> None:
    for number in range(HELD_FRAMES + 2):
        ends.channel.send(CODEC.pack(SOUND[number], number * 60))
    ends.device.say(SOUND[0])
    got = [ends.device.receive() for _ in range(HELD_FRAMES)]
    assert [sequence for sequence, _, _ in got] == [1, 2, 3, 4]
    assert [payload for _, _, payload in got] == SOUND[2 : HELD_FRAMES + 2]
    assert ends.told("unaddressed", "sent") == [2, HELD_FRAMES]


def test_what_has_waited_too_long_is_not_sent(ends: Ends) -> None:
    ends.channel.send(CODEC.pack(SOUND[0], 0))
    ends.clock.advance(HELD_S + 0.1)
    ends.channel.send(CODEC.pack(SOUND[1], 60))
    ends.device.say(SOUND[0])
    assert ends.device.receive()[2] == SOUND[1]
    assert ends.told("unaddressed") == [1]


def test_dtx_and_pcm_are_sound_too(ends: Ends) -> None:
    ends.device.say(SOUND[0], b"\x58", b"\x58\x00", SOUND[1])
    pcm: list[bytes] = []
    channel = ends.open(pcm, "pcm")
    device = ends.device_for(channel)
    device.say(bytes(1920), b"\1\2" * 960)
    ends.settle()
    assert ends.heard == [SOUND[0], b"\x58", b"\x58\x00", SOUND[1]]
    assert pcm == [bytes(1920), b"\1\2" * 960]
    device.close()


def test_a_closed_channel_neither_hears_nor_speaks(ends: Ends) -> None:
    ends.device.say(SOUND[0])
    ends.settle()
    ends.channel.close()
    ends.channel.close()
    ends.device.say(SOUND[1])
    ends.channel.send(CODEC.pack(SOUND[0], 0))
    ends.channel.flush()
    ends.settle()
    assert (ends.heard, ends.told("sent"), ends.port.stats.unknown) == (SOUND[:1], [0], 1)


def test_a_channel_may_be_closed_by_what_it_delivers(ends: Ends) -> None:
    def deliver(frame: bytes) -> None:
        heard.append(frame)
        channel.close()

    heard: list[bytes] = []
    channel = ends.port.open(deliver)
    device = ends.device_for(channel)
    packets = [device.datagram(sound) for sound in SOUND[:5]]
    device.send(packets[2], packets[1], packets[0], *packets[3:])
    ends.settle()
    assert len(heard) == 1
    device.close()


def test_a_receiver_that_fails_does_not_make_the_port_deaf(ends: Ends, logged: list[Any]) -> None:
    def deliver(frame: bytes) -> None:
        raise RuntimeError("full")

    channel = ends.port.open(deliver)
    device = ends.device_for(channel)
    for sound in SOUND[:10]:
        device.say(sound)
        ends.settle()
    ends.device.say(SOUND[0])
    ends.settle()
    assert ends.heard == SOUND[:1]
    assert ends.port.stats.faults == 10
    assert 0 < len([line for line in logged if line["log_level"] == "error"]) < 10
    device.close()


def test_strangers_get_no_answer_and_no_line_in_the_log(ends: Ends, logged: list[Any]) -> None:
    stranger = UdpDevice(ends.channel.key, b"\1\0\0\0" + b"\xaa" * 4 + bytes(8), ends.port.port)
    stranger.sock.setblocking(False)
    good = ends.device.datagram(SOUND[0])
    malformed = [b"", b"\1", good[:16], good[:-1], good + b"\0", b"\2" + good[1:], bytes(60_000)]
    stranger.send(*malformed, *[stranger.datagram(SOUND[1]) for _ in range(100)])
    ends.settle()
    take_turns()
    with pytest.raises(BlockingIOError):
        stranger.sock.recv(1)
    assert (ends.port.stats.malformed + ends.port.stats.unknown, ends.told("received")) == (107, [0])
    assert not logged
    stranger.close()


def test_several_processes_have_a_port_each(ends: Ends) -> None:
    second = UdpPort(LOOPBACK, ends.port.port, reuse=True)
    with pytest.raises(AddressError):
        UdpPort(LOOPBACK, ends.port.port).start()
    second.start()
    assert second.port > ends.port.port
    second.close()
    second.close()


def test_nothing_is_left_of_a_port_that_was_closed() -> None:
    port = UdpPort(LOOPBACK, 0)
    port.close()
    port.start()
    channel = port.open(lambda frame: None)
    port.close()
    channel.send(CODEC.pack(SOUND[0], 0))
    assert port.channels == 0
    taken = UdpPort(LOOPBACK, 0)
    taken.start()
    taken.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=80), max_size=10), st.integers(0, 2**32))
def test_nothing_that_comes_does_harm(ends: Ends, noise: list[bytes], seed: int) -> None:
    chance = random.Random(seed)
    ends.channel.close()
    ends.device.close()
    ends.heard.clear()
    ends.channel = ends.open(ends.heard)
    ends.device = ends.device_for(ends.channel)
    for datagram in noise:
        head = bytearray(
            ends.device.datagram(datagram or b"\0", sequence=chance.choice((1, 2, 40, chance.getrandbits(32))))
        )
        for _ in range(chance.randrange(3)):
            head[chance.randrange(len(head))] = chance.getrandbits(8)
        ends.device.send(datagram, bytes(head))
    ends.settle()
    assert ends.port.stats.faults == 0
    assert len(ends.heard) <= 10 * len(noise) * 2
    assert ends.port.channels == 1
    gevent.idle()
