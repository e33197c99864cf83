"""Voice over UDP without a socket: the cipher against the standard's own figures, and the order of frames whatever the
network does to the packets."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.protocol.frames import UdpCodec
from xiaozhi.protocol.udp_voice import (
    HEADER,
    MAX_CONCEALED,
    MAX_JUMP,
    MAX_WAIT_S,
    MIN_WAIT_S,
    REORDER_PACKETS,
    JitterBuffer,
    JitterMeter,
    Verdict,
    VoiceCipher,
    VoiceStats,
    nonce_template,
)

CODEC = UdpCodec()


def test_the_cipher_is_that_of_the_standard() -> None:
    # NIST SP 800-38A, F.5.1: CTR-AES128, four blocks, so that the counter's steps are checked too.
    cipher = VoiceCipher(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"))
    header = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    plain = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    secret = (
        "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
        "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"
    )
    for _ in range(2):  # the context is used again
        assert cipher.apply(header, plain).hex() == secret
        assert cipher.apply(header, bytes.fromhex(secret)) == plain


def test_the_template_is_a_header_to_fill_in() -> None:
    assert nonce_template(0x11223344).hex() == "01000000112233440000000000000000"


class Line:
    """A jitter buffer and what it delivers: sequences of what came, 0 for what was lost."""

    def __init__(self) -> None:
        self.stats = VoiceStats()
        self.out: list[int] = []
        self.stamps: list[int | None] = []
        self.buffer = JitterBuffer(self._deliver, self.stats)

    def _deliver(self, data: bytes) -> None:
        frame = CODEC.unpack(data)
        self.stamps.append(frame.timestamp_ms)
        self.out.append(int.from_bytes(frame.payload, "big"))

    def come(self, sequence: int, now: float, timestamp: int | None = None) -> Verdict:
        verdict = self.buffer.judge(sequence)
        if verdict is Verdict.NEW:
            stamp = sequence * 60 if timestamp is None else timestamp
            payload = sequence.to_bytes(4, "big")
            self.buffer.put(sequence, stamp, HEADER.pack(1, 0, 4, 7, stamp, sequence) + payload, now)
        return verdict


def test_in_order_packets_are_not_held() -> None:
    line = Line()
    for sequence in range(1, 5):
        line.come(sequence, 0.0)
        assert line.out[-1] == sequence
        assert line.buffer.deadline is None


def test_a_packet_that_was_overtaken_gets_its_place() -> None:
    line = Line()
    for sequence in (1, 3, 2, 4):
        line.come(sequence, 0.0)
    assert line.out == [1, 2, 3, 4]
    assert (line.stats.lost, line.stats.reordered) == (0, 1)
    assert line.buffer.deadline is None


def test_a_gap_is_given_up_at_its_deadline_and_its_packet_is_late_then() -> None:
    line = Line()
    line.come(1, 0.0)
    line.come(3, 0.06)
    assert line.buffer.deadline == pytest.approx(0.06 + MIN_WAIT_S)
    line.buffer.expire(0.06 + MIN_WAIT_S / 2)
    assert line.out == [1]
    line.buffer.expire(0.06 + MIN_WAIT_S)
    assert line.out == [1, 0, 3]
    assert line.stamps == [60, 120, 180], "a lost packet has the time between its neighbours"
    assert line.buffer.deadline is None
    assert line.come(2, 0.2) is Verdict.LATE
    assert line.come(2, 0.2) is Verdict.DUPLICATE, "a second copy is one"
    assert line.stats.lost == 1


def test_the_wait_follows_the_jitter_within_bounds() -> None:
    line = Line()
    line.come(1, 0.0)
    line.stats.jitter_ms = 20.0
    line.come(3, 0.0)
    assert line.buffer.deadline == pytest.approx(0.08)
    line.buffer.flush(0.0)
    line.stats.jitter_ms = 900.0
    line.come(5, 0.0)
    assert line.buffer.deadline == pytest.approx(MAX_WAIT_S)


def test_enough_packets_behind_a_gap_end_the_wait() -> None:
    line = Line()
    line.come(1, 0.0)
    for sequence in range(3, 3 + REORDER_PACKETS):
        line.come(sequence, 0.0)
    assert line.out == [1, 0, 3, 4, 5]


def test_two_gaps_are_two_waits() -> None:
    line = Line()
    for sequence in (1, 3, 5):
        line.come(sequence, 0.0)
    line.buffer.expire(MIN_WAIT_S)
    assert line.out == [1, 0, 3]
    assert line.buffer.deadline == pytest.approx(2 * MIN_WAIT_S)
    line.buffer.expire(2 * MIN_WAIT_S)
    assert line.out == [1, 0, 3, 0, 5]


def test_a_long_gap_is_told_in_part_and_counted_in_full() -> None:
    line = Line()
    line.come(1, 0.0)
    line.come(41, 2.4)
    line.buffer.flush(2.4)
    assert line.out == [1, *[0] * MAX_CONCEALED, 41]
    assert line.stats.lost == 39
    assert line.stamps == [60, *range(31 * 60, 42 * 60, 60)]


def test_devices_without_a_clock_send_no_times() -> None:
    line = Line()
    line.come(1, 0.0, timestamp=0)
    line.come(3, 0.0, timestamp=0)
    line.buffer.flush(0.0)
    assert line.stamps == [0, 0, 0]


def test_replays_are_refused_for_ever() -> None:
    line = Line()
    for sequence in range(1, 300):
        line.come(sequence, 0.0)
    assert {line.come(sequence, 1.0) for sequence in range(300)} == {Verdict.DUPLICATE}
    assert len(line.out) == 299


def test_one_false_packet_ahead_costs_the_device_nothing_but_one() -> None:
    line = Line()
    line.come(1, 0.0)
    assert line.come(2 + MAX_JUMP + 1, 0.0) is Verdict.FAR
    line.come(40, 0.0)
    for sequence in range(2, 60):
        line.come(sequence, sequence * 0.06)
        line.buffer.expire(sequence * 0.06)
    assert [heard for heard in line.out if heard] == list(range(1, 60))


def test_after_a_restart_the_sound_goes_on_from_there() -> None:
    line = Line()
    line.come(1, 0.0)
    line.buffer.restart(5000, 9.0)
    line.come(5000, 9.0)
    assert line.out == [1, 5000]
    assert line.stats.lost == MAX_JUMP
    assert line.come(2, 9.0) is Verdict.DUPLICATE


@given(st.lists(st.tuples(st.integers(0, 120), st.floats(0, 0.2)), max_size=200))
def test_whatever_comes_is_delivered_once_in_order_and_little_is_held(arrivals: list[tuple[int, float]]) -> None:
    line, now, taken = Line(), 0.0, Counter[int]()
    for sequence, apart in arrivals:
        now += apart
        if line.come(sequence, now) is Verdict.NEW:
            taken[sequence] += 1
        line.buffer.expire(now)
    line.buffer.flush(now)
    heard = [sequence for sequence in line.out if sequence]
    assert heard == sorted(taken)
    assert set(taken.values()) <= {1}
    assert line.buffer.deadline is None
    assert line.stats.lost == max(taken, default=0) - len(taken)
    assert line.out.count(0) <= line.stats.lost


@given(st.lists(st.integers(0, 2**32 - 1), max_size=100))
def test_no_sequence_makes_it_hold_more_than_its_window(sequences: list[int]) -> None:
    line = Line()
    for sequence in sequences:
        line.come(sequence, 0.0)
        assert line.buffer.judge(line.buffer.expected) is Verdict.NEW, "the next one of the device is always taken"
    assert line.buffer.newest - line.buffer.expected <= MAX_JUMP


def test_jitter_is_the_deviation_of_arrivals() -> None:
    meter = JitterMeter(stats := VoiceStats())
    for sequence in range(1, 200):
        meter.arrived(sequence, 100.0 + sequence * 0.06)
    assert stats.jitter_ms == pytest.approx(0.0, abs=0.01)
    for sequence in range(200, 400):
        meter.arrived(sequence, 100.0 + sequence * 0.06 + (0.01 if sequence % 2 else 0.0))
    assert stats.jitter_ms == pytest.approx(10.0, abs=0.1)
    before = stats.jitter_ms
    meter.arrived(400, 200.0)  # the device was silent while it was spoken to
    meter.arrived(90_000, 200.06)
    assert stats.jitter_ms == before
    meter.packet_ms = 20.0
    meter.arrived(90_001, 200.08)
    assert stats.jitter_ms < before
