"""A device's packets as they came, by where their sound stands in a stretch of listening: what the history keeps of an
utterance without encoding it again.

Only for Opus, and only where nothing is done to the sound after it was decoded (an echo canceller): what is kept is to
be what was heard. Where packets were lost, packets without sound keep the time."""

from __future__ import annotations

from collections import deque

from xiaozhi.audio.opus import missing_packet, packet_duration_ms
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE


class PacketLog:
    """Positions are samples at 16 kHz since the stretch began."""

    def __init__(self) -> None:
        self._packets: deque[tuple[int, bytes]] = deque()
        """(end of its sound, packet)."""
        self.size = 0
        """Bytes of all packets."""
        self._end = 0
        self._gap = False

    def add(self, end: int, packet: bytes) -> None:
        """The next packet, whose sound ends before sample `end`; b"": it was lost."""
        if not packet:
            self._gap = True
            return
        if self._gap:
            self._gap = False
            self._fill(end, packet)
        self._end = end
        self._packets.append((end, packet))
        self.size += len(packet)

    def between(self, start: int, end: int) -> tuple[bytes, ...]:
        """The packets that have sound from `start` to `end`, whole: up to a packet more on each side."""
        found, begin = [], start
        for stop, packet in self._packets:
            if stop > start and begin < end:
                found.append(packet)
            begin = stop
        return tuple(found)

    def forget_before(self, sample: int) -> None:
        """Nobody will ask for packets that end before it."""
        packets = self._packets
        while packets and packets[0][0] <= sample:
            self.size -= len(packets.popleft()[1])

    def clear(self) -> None:
        """A new stretch begins."""
        self._packets.clear()
        self.size = self._end = 0
        self._gap = False

    def _fill(self, end: int, packet: bytes) -> None:
        # As many as were concealed: none where nothing had been heard before.
        samples = int(packet_duration_ms(packet) * ASR_SAMPLE_RATE) // 1_000
        lost = missing_packet(packet)
        for stop in range(self._end + samples, end - samples + 1, samples):
            self._packets.append((stop, lost))
            self.size += len(lost)
