"""Voice over UDP, as devices with an MQTT control connection speak it: one datagram, its cipher, and the order of what
arrives.

    0: u8 type = 1 | 1: u8 flags | 2: u16 payload size | 4: u32 ssrc | 8: u32 timestamp ms | 12: u32 sequence | payload

Big-endian, 16 bytes; both ways. The payload is encrypted with AES-128 in counter mode, and those 16 bytes are the first
counter block. The sequence starts at 1 with the channel and rises. Source: `mqtt_protocol.cc` of the public firmware.

What the format does not give: counter mode proves nothing about the sender, so whoever sees the datagrams can send
false ones; and both directions share one key and one counter space, so two packets of the same length, timestamp and
neighbouring sequence share key stream. Neither can be mended without another firmware.

No I/O, no clock: time is an argument."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

HEADER: Final = struct.Struct("!BBHIII")
"""type, flags, payload length, ssrc, timestamp, sequence."""
AUDIO: Final = 1
"""The only type there is."""
KEY_BYTES: Final = 16
REORDER_PACKETS: Final = 3
"""So many packets behind a gap end the wait for it."""
MIN_WAIT_S: Final = 0.03
MAX_WAIT_S: Final = 0.12
"""How long a gap is waited for: four times the jitter, within these bounds."""
MAX_JUMP: Final = 50
"""A sequence further ahead (3 s of 60 ms packets) is not believed at once: a single false packet must not make the real
ones look old."""
RESTART_AFTER: Final = 3
"""Packets in a row that continue a jump make it believed."""
MAX_CONCEALED: Final = 10
"""Lost packets of one gap that are told. Concealment has faded to silence long before."""
_REMEMBERED: Final = 64
"""Lost packets whose late arrival is recognised."""
_NO_JITTER_MS: Final = 1000.0
"""What is further off than that was not delayed: the device had stopped sending, or packets are missing."""


def nonce_template(ssrc: int) -> bytes:
    """The header that a device fills in: 16 bytes with length, timestamp and sequence 0."""
    return HEADER.pack(AUDIO, 0, 0, ssrc, 0, 0)


class VoiceCipher:
    """AES-128-CTR under one key, both ways. One context for all packets: a new one each time costs eight times as much
    as the encryption. For one thread. The first one loads the library (6.6 MB), so that a server without MQTT does not.
    """

    __slots__ = ("_context",)

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        self._context = Cipher(algorithms.AES128(key), modes.CTR(bytes(KEY_BYTES))).encryptor()

    def apply(self, header: bytes, payload: bytes) -> bytes:
        """Encrypt or decrypt the payload of the packet with this header (16 bytes)."""
        context = self._context
        context.reset_nonce(header)
        return context.update(payload)


@dataclass(slots=True)
class VoiceStats:
    """Counts of one channel, uplink unless it says otherwise."""

    received: int = 0
    """Packets that were taken."""
    bytes_in: int = 0
    lost: int = 0
    """Packets that did not come in time."""
    late: int = 0
    """Of these, packets that came after they had been given up."""
    duplicates: int = 0
    """Packets that had come before: copies made by the network, or replays."""
    reordered: int = 0
    """Packets that came after a later one, but in time."""
    refused: int = 0
    """Packets that cannot be the device's: implausible sound, sequence or address."""
    moved: int = 0
    """Changes of the device's address."""
    jitter_ms: float = 0.0
    """Mean deviation of the arrivals, RFC 3550, section 6.4.1."""
    sent: int = 0
    """Packets sent to the device."""
    bytes_out: int = 0
    send_dropped: int = 0
    """Packets for the device that the kernel did not take."""
    unaddressed: int = 0
    """Packets for the device that were dropped because its address was not known in time."""


class SequenceVerdict(Enum):
    """What a sequence number says about its packet."""

    NEW = auto()
    LATE = auto()
    """It was given up."""
    DUPLICATE = auto()
    FAR = auto()
    """More than `MAX_JUMP` ahead."""


class JitterBuffer:
    """Packets by sequence -> frames in order, for one channel.

    What comes in order passes at once. Behind a gap packets wait until it is filled, until `REORDER_PACKETS` wait, or
    until `deadline`; then the missing ones are delivered as frames without payload, and what waited follows. As long as
    packets in order come, the gap is moving and its deadline with it: so one false packet ahead costs at most itself.

    `deliver(frame)`: 16 bytes of header (not encrypted), then the payload."""

    __slots__ = ("_deliver", "_given_up", "_held", "_stats", "_timestamp", "deadline", "expected", "newest")

    def __init__(self, deliver: Callable[[bytes], None], stats: VoiceStats) -> None:
        self._deliver = deliver
        self._stats = stats
        self._held: dict[int, tuple[int, bytes]] = {}
        self._given_up: dict[int, None] = {}
        self._timestamp = 0
        self.expected = 1
        """The sequence that is delivered next."""
        self.newest = 0
        """The highest sequence that was taken."""
        self.deadline: float | None = None
        """When the gap in front of what waits is given up (s); None: nothing waits."""

    def judge(self, sequence: int) -> SequenceVerdict:
        """Whether the packet with this sequence is to be taken: only NEW ones may be put."""
        if sequence < self.expected:
            if sequence in self._given_up:
                del self._given_up[sequence]
                return SequenceVerdict.LATE
            return SequenceVerdict.DUPLICATE
        if sequence in self._held:
            return SequenceVerdict.DUPLICATE
        return SequenceVerdict.FAR if sequence - self.expected > MAX_JUMP else SequenceVerdict.NEW

    def put(self, sequence: int, timestamp: int, frame: bytes, now: float) -> None:
        """Take a NEW packet."""
        if sequence > self.newest:
            self.newest = sequence
        else:
            self._stats.reordered += 1
        if sequence == self.expected:
            self.expected = sequence + 1
            self._timestamp = timestamp
            self._deliver(frame)
            if self._held:
                self._release(now)
            return
        self._held[sequence] = (timestamp, frame)
        if self.deadline is None:
            self.deadline = now + self._wait_s()
        if len(self._held) >= REORDER_PACKETS:
            self._give_up(now)

    def expire(self, now: float) -> None:
        """Give up the gap whose deadline has come, if it has."""
        if self.deadline is not None and now >= self.deadline:
            self._give_up(now)

    def flush(self, now: float) -> None:
        """Give up all gaps: deliver what waits."""
        while self._held:
            self._give_up(now)

    def restart(self, sequence: int, now: float) -> None:
        """Go on at `sequence`, far ahead: the device was away, or what it sent."""
        self.flush(now)
        self._stats.lost += min(sequence - self.expected, MAX_JUMP)
        self._given_up.clear()
        self.expected = sequence

    def clear(self) -> None:
        """Forget what waits."""
        self._held.clear()
        self.deadline = None

    def _wait_s(self) -> float:
        return min(MAX_WAIT_S, max(MIN_WAIT_S, self._stats.jitter_ms * 0.004))

    def _release(self, now: float) -> None:
        held = self._held
        while (waiting := held.pop(self.expected, None)) is not None:
            self.expected += 1
            self._timestamp, frame = waiting
            self._deliver(frame)
        self.deadline = now + self._wait_s() if held else None

    def _give_up(self, now: float) -> None:
        first = min(self._held)
        missing = first - self.expected
        self._stats.lost += missing
        for sequence in range(max(self.expected, first - _REMEMBERED), first):
            self._given_up[sequence] = None
        while len(self._given_up) > _REMEMBERED:
            del self._given_up[next(iter(self._given_up))]
        begin, end = self._timestamp, self._held[first][0]
        step = (end - begin) / (missing + 1) if 0 < begin < end else 0.0
        self.expected = first
        for number in range(max(0, missing - MAX_CONCEALED), missing):
            self._deliver(HEADER.pack(AUDIO, 0, 0, 0, begin + int(step * (number + 1)), 0))
        self._release(now)


class JitterMeter:
    """The jitter of arrivals into `VoiceStats.jitter_ms`. The device's clock is its sequence: timestamps are 0 on
    devices that do not cancel the echo on the server."""

    __slots__ = ("_at", "_sequence", "_stats", "packet_ms")

    def __init__(self, stats: VoiceStats) -> None:
        self._stats = stats
        self._at = 0.0
        self._sequence = 0
        self.packet_ms = 60.0
        """Sound in one packet."""

    def arrived(self, sequence: int, now: float) -> None:
        """A packet has come; `now` in s."""
        off_ms = abs((now - self._at) * 1000.0 - (sequence - self._sequence) * self.packet_ms)
        if off_ms < _NO_JITTER_MS:
            stats = self._stats
            stats.jitter_ms += (off_ms - stats.jitter_ms) / 16.0
        self._at = now
        self._sequence = sequence
