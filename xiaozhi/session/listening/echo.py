"""Echo cancelling on the server, for devices whose microphone stays open while they play and that cannot do it
themselves.

    outbox ──sent──► reference: what the device plays, on the server's clock ─┐
    microphone ────► alignment: where in it this packet belongs ──────────────┴─► AEC3 ─► voice detector, ASR

Three clocks meet here, all counted in samples at 16 kHz. The reference lies on the server's clock: a frame is played
when the one before it has been, at the earliest when it was sent. The microphone counts what it sends. Which sample of
the one belongs to which of the other:

- by timestamps (WebSocket v2, MQTT gateway, UDP): the device says with each packet which frame it was playing. It says
  so a frame or two late, so the reference is moved ahead by `LEAD_MS`: a canceller needs it before its echo.
- by arrival, without them: the packet that was least delayed of the last second. The echo is then behind its reference
  by the way there and back and by the device's own buffers, 40 to 300 ms.

The rest of the delay is found by the canceller (`audio/echo.py`), up to half a second. It takes a second to find it
anew, so an alignment that is right within a frame is left alone.

The same cleaned sound goes to the voice detector and to the recogniser (docs/performance.md: with the raw sound a
recogniser gets more words wrong, as it hears the device's too). While nothing plays, sound passes through as it came.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from xiaozhi.audio.echo import MAX_DELAY_MS, SAMPLE_RATE, Aec3, likeness
from xiaozhi.audio.opus import Decoder
from xiaozhi.audio.pcm import Resampler, power
from xiaozhi.errors import Overloaded, ProtocolError, VendorTimeout
from xiaozhi.runtime.inference import InferenceClosed, InferencePool
from xiaozhi.session.listening.decoder import Packet

_MS: Final = SAMPLE_RATE // 1_000
KEPT_MS: Final = 3_000
"""Of what was sent, so much is kept."""
LEAD_MS: Final = 120
"""How far the reference is ahead of what the device says it plays: it has so much of it in its buffer."""
TOLD_WITHIN_MS: Final = 90
"""An alignment by timestamps is changed when it is wrong by more: they come in steps of a frame."""
GUESSED_WITHIN_MS: Final = 30
"""The same by arrival: where a packet was lost, it is wrong by that packet."""
GUESSES: Final = 16
"""Packets whose arrival counts: about a second."""
GAP_MS: Final = 1_000
"""After so long without a packet the microphone's clock starts anew."""
TAIL_MS: Final = MAX_DELAY_MS + 300
"""How long after the end of what is played its echo may come: the longest delay, and a room that rings."""
WARM_UP_MS: Final = 1_500
"""So much of what is played a new canceller has to hear at least before it is relied upon."""
DOUBT_MS: Final = 3_000
"""Where an answer begins, the delay may be another than before. Nobody is heard until `PROOFS` packets in a row show
that the echo is taken out, or until so much was played."""
PROOFS: Final = 3
PAUSE_MS: Final = 500
"""After so long a silence of the device an answer begins."""
TAKEN_OUT: Final = 10.0
"""Power of the raw sound over that of the cleaned one, in a packet that shows it."""
ALIKE: Final = 0.6
"""From this likeness on, what the microphone hears is what was played and nobody else."""
LOOKED_AT: Final = 3
"""Packets that are compared."""
LOUD: Final = 100.0**2
"""Power of a packet that can show it: -50 dBFS."""
FADING: Final = 0.7
"""What is left of the level of the microphone's sound (power) with each packet: 25 dB fade in a second."""
RESIDUAL: Final = 50.0
"""A cleaned packet whose power is so much less than that level (17 dB) is what is left of the echo, and of the room
that rings. A voice detector hears a faint voice in it."""
DEADLINE_S: Final = 0.5
_U32: Final = 0xFFFF_FFFF


class PlayedSound:
    """What the device plays, by position (samples) on the server's clock. Packets are decoded when they are first read,
    so a device that is not listened to costs an entry per frame."""

    def __init__(self, frame_ms: int, audio_format: str = "opus", sample_rate: int = SAMPLE_RATE) -> None:
        """`audio_format`: of the packets, "opus" or "pcm" (s16le mono at `sample_rate` Hz)."""
        self._frame = frame_ms * _MS
        self._kept = max(1, KEPT_MS // frame_ms)
        self._opus = Decoder(SAMPLE_RATE) if audio_format != "pcm" else None
        self._resampler = Resampler(sample_rate, SAMPLE_RATE)
        # What a resampler keeps inside comes out with the next packet: a little in hand makes all of the same length.
        self._in_hand = bytes(2 * 10 * _MS)
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._frames: deque[tuple[int, bytes]] = deque()
        self._ends: dict[int, int] = {}
        self.end = -KEPT_MS * _MS
        """Where the last frame ends."""

    def add(self, packet: bytes, timestamp_ms: int, at: int) -> None:
        """A frame was sent at position `at`. `timestamp_ms`: what the device will call it."""
        start = max(self.end, at)
        self.end = start + self._frame
        self._waiting.append((start, packet))
        if len(self._waiting) > self._kept:
            self._waiting.popleft()
        name = timestamp_ms & _U32
        self._ends.pop(name, None)  # the last turn that had a frame of this name counts
        self._ends[name] = self.end
        if len(self._ends) > self._kept:
            del self._ends[next(iter(self._ends))]

    def end_of(self, timestamp_ms: int) -> int | None:
        """Where the frame with this timestamp ends; None for one that is not kept."""
        return self._ends.get(timestamp_ms)

    def read(self, start: int, count: int) -> bytes:
        """The sound (s16le) of `count` samples from position `start`; silence where nothing was sent."""
        frames, frame = self._frames, self._frame
        while self._waiting:
            at, packet = self._waiting.popleft()
            frames.append((at, self._decoded(packet)))
            if len(frames) > self._kept:
                frames.popleft()
        sound = bytearray(2 * count)
        for at, pcm in reversed(frames):
            first, last = max(at, start), min(at + frame, start + count)
            if first < last:
                sound[2 * (first - start) : 2 * (last - start)] = pcm[2 * (first - at) : 2 * (last - at)]
            elif at + frame <= start:
                break
        return bytes(sound)

    def _decoded(self, packet: bytes) -> bytes:
        size = 2 * self._frame
        if self._opus is None:
            sound = self._in_hand + self._resampler.feed(packet)
            pcm, self._in_hand = sound[:size], sound[size:]
        else:
            try:
                pcm = self._opus.decode(packet)
            except ProtocolError:
                pcm = b""  # whatever the device makes of it
        return pcm[:size].ljust(size, b"\0")


class Alignment:
    """Where on the server's clock the microphone's sound lies. All in samples."""

    def __init__(self) -> None:
        self.jumps = 0
        """How often it was changed after it had been found."""
        self._heard = 0
        self._arrived = 0
        self._offset: int | None = None
        self._told = False
        self._guesses: deque[int] = deque(maxlen=GUESSES)

    def place(self, count: int, arrived: int, told: int | None = None) -> int:
        """The position at which the next `count` samples begin. `arrived`: when their packet came; `told`: where the
        frame ends that the device was playing, None if that is not known."""
        if arrived - self._arrived > GAP_MS * _MS:
            self._guesses.clear()
            self._offset = None
            self._told = False
        self._arrived = arrived
        self._heard += count
        self._guesses.append(arrived - self._heard)
        if told is not None:
            self._told = True
            self._settle(told + LEAD_MS * _MS - self._heard, TOLD_WITHIN_MS)
        elif not self._told:
            # Between answers nothing is told, and what was told before goes on to hold.
            self._settle(min(self._guesses), GUESSED_WITHIN_MS)
        assert self._offset is not None
        return self._offset + self._heard - count

    def _settle(self, offset: int, within_ms: int) -> None:
        if self._offset is None:
            self._offset = offset
        elif abs(offset - self._offset) > within_ms * _MS:
            self._offset = offset
            self.jumps += 1


class LoudspeakerEcho:
    """The `EchoCanceller` of one session. `frame_ms`, `audio_format`, `sample_rate`: of what the device is sent."""

    def __init__(
        self,
        inference: InferencePool,
        *,
        frame_ms: int,
        audio_format: str,
        sample_rate: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inference = inference
        self._clock = clock
        self._played = PlayedSound(frame_ms, audio_format, sample_rate)
        self._alignment = Alignment()
        self._timestamp: int | None = None
        self._aec: Aec3 | None = None
        self._new = 0
        """Samples until the canceller is not new any more."""
        self._doubt = 0
        """Samples until it is relied upon."""
        self._proofs = 0
        self._raw: deque[bytes] = deque(maxlen=LOOKED_AT)
        self._pause = 0
        """Samples since something was played."""
        self._level = 0.0
        """Of the microphone's sound in the last second, a power."""
        self._began = clock()

    def sent(self, packet: bytes, timestamp_ms: int) -> None:
        """For `Outbox.on_sent`."""
        self._played.add(packet, timestamp_ms, self._position(self._clock()))

    def cancel(self, pcm: bytes, packet: Packet) -> bytes:
        """See EchoCanceller. Sound that cannot be cancelled in time is silence: not to hear somebody for a moment is
        better than to be interrupted by oneself."""
        played = self._played
        timestamp, told = packet.timestamp_ms, None
        if timestamp and timestamp != self._timestamp:  # said again, it would be a frame further back
            told = played.end_of(timestamp)
        self._timestamp = timestamp
        count = len(pcm) // 2
        start = self._alignment.place(count, self._position(packet.arrived_at), told)
        if start > played.end + TAIL_MS * _MS:
            return pcm
        if self._aec is None:
            self._aec, self._new, self._doubt = Aec3(), WARM_UP_MS * _MS, DOUBT_MS * _MS
        loudspeaker = played.read(start, count)
        try:
            # Half a millisecond: ten times what it costs to hand it to a thread.
            cleaned = self._inference.run(self._aec.cancel, pcm, loudspeaker, kind="codec", deadline=DEADLINE_S)
        except (Overloaded, InferenceClosed):
            return bytes(len(pcm))
        except VendorTimeout:
            self._aec = None  # a thread may still be at work with it
            return bytes(len(pcm))
        self._raw.append(pcm)
        before, after = power(pcm), power(cleaned)
        self._level = max(before, self._level * FADING)
        if self._doubtful(count, before, after, any(loudspeaker)):
            return bytes(len(pcm))
        if after * RESIDUAL < self._level or (before > LOUD and self._left_in(start + count)):
            return bytes(len(pcm))
        return cleaned

    def _left_in(self, end: int) -> bool:
        """Whether the canceller has lost the echo, as it does for a second when the delay changes."""
        sound = b"".join(self._raw)
        count = len(sound) // 2 + MAX_DELAY_MS * _MS
        played = self._played.read(end - count, count)
        try:
            return self._inference.run(likeness, sound, played, kind="codec", deadline=DEADLINE_S) > ALIKE
        except (Overloaded, InferenceClosed, VendorTimeout):
            return True

    def _doubtful(self, count: int, before: float, after: float, playing: bool) -> bool:
        if not playing:
            self._pause += count
            return self._doubt > 0
        if self._pause > PAUSE_MS * _MS:
            self._doubt, self._proofs = DOUBT_MS * _MS, 0
        self._pause = 0
        if self._doubt <= 0:
            return False
        self._doubt -= count
        self._new -= count
        if before > LOUD:
            self._proofs = self._proofs + 1 if before > TAKEN_OUT * after else 0
        if self._proofs >= PROOFS and self._new <= 0:
            self._doubt = 0
        return True

    def forget(self) -> None:
        """The microphone is closed: give the memory back."""
        self._aec = None

    def _position(self, at: float) -> int:
        return int((at - self._began) * SAMPLE_RATE)
