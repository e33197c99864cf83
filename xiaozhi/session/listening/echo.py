"""Echo cancelling on the server, for devices whose microphone stays open while they play and that cannot do it
themselves.

    outbox ──sent──► reference: what the device plays, on the server's clock ─┐
    microphone ────► alignment: where in it this packet belongs ──────────────┴─► echo remover ─► voice detector, ASR
                                                                                       └─► is it somebody at all?

Three clocks meet here, all counted in samples at 16 kHz. The reference lies on the server's clock: a frame is played
when the one before it has been, at the earliest when it was sent. The microphone counts what it sends. Which sample of
the one belongs to which of the other:

- by timestamps (WebSocket v2, MQTT gateway, UDP): the device says with each packet which frame it was playing. It says
  so a frame or two late, so the reference is moved ahead by `LEAD_MS`: an echo must not come before it.
- by arrival, without them: the packet that was least delayed of the last second. The echo is then behind its reference
  by the way there and back and by the device's own buffers, 40 to 300 ms.

The rest of the delay is found by the remover (`audio/echo.py`), up to `MAX_DELAY_MS`.

Two witnesses must agree that somebody speaks over an answer: the voice detector, which hears the cleaned sound, and the
power that the echo does not explain (`somebody`). What is left of an echo is voice to the one, but too little for the
other; a door that slams is enough for the other, but no voice.

The recogniser is given the sound behind the linear filter and before the suppressor as soon as there may be words in it
(`SUSPECTED`): the suppressor takes parts of words away, and before there are any the residual would be words of the
device (`loadtest/bench/echo.py`, words). While nothing plays, sound passes through as it came.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from xiaozhi.audio.echo import FOUND, HISTORY, LOUD, MAX_DELAY_MS, SAMPLE_RATE, Cleaned, EchoRemover
from xiaozhi.audio.opus import Decoder
from xiaozhi.audio.pcm import Resampler, power
from xiaozhi.errors import Overloaded, ProtocolError, VendorTimeout
from xiaozhi.runtime.inference import InferenceClosed, InferencePool
from xiaozhi.session.listening.decoder import Packet, Sound

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
SEARCH_MS: Final = 3_000
"""So much is played before a device in whose sound no echo has been found is taken to have none."""
EXPLAINED: Final = 0.3
"""Share of a packet's power that the echo may leave unexplained; what is more counts for somebody, what is less
against."""
CONVINCED: Final = 1.0 - EXPLAINED
"""What the sum of those shares must exceed for somebody: two packets at least."""
SUSPECTED: Final = CONVINCED / 2
"""From this sum on there may be words, and the recogniser is given the sound before the suppressor."""
MOST: Final = CONVINCED + 1.0
"""What the sum is at most, so that it forgets within some packets."""
PACKET_MS: Final = 60
"""What a packet's share counts for; a shorter one counts less."""
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

    @property
    def held_bytes(self) -> int:
        """Memory for sound."""
        return sum([len(packet) for _, packet in self._waiting]) + len(self._frames) * 2 * self._frame

    def forget(self) -> None:
        """Nothing of what was played is asked for any more."""
        self._waiting.clear()
        self._frames.clear()

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
        self._remover: EchoRemover | None = None
        self._goes_on = 0
        """Where the next packet begins, unless the alignment was changed."""
        self._searched = 0
        """Samples that were played while no echo was found."""
        self._evidence = 0.0
        self._playing = False
        self._began = clock()

    def sent(self, packet: bytes, timestamp_ms: int) -> None:
        """For `Outbox.on_sent`."""
        self._played.add(packet, timestamp_ms, self._position(self._clock()))

    @property
    def somebody(self) -> bool:
        """See EchoCanceller."""
        return not self._playing or self._evidence > CONVINCED

    def cancel(self, pcm: bytes, packet: Packet) -> Sound:
        """See EchoCanceller. Sound that cannot be cancelled in time is silence: not to hear somebody for a moment is
        better than to be interrupted by oneself."""
        played = self._played
        timestamp, told = packet.timestamp_ms, None
        if timestamp and timestamp != self._timestamp:  # said again, it would be a frame further back
            told = played.end_of(timestamp)
        self._timestamp = timestamp
        count = len(pcm) // 2
        start = self._alignment.place(count, self._position(packet.arrived_at), told)
        self._playing = start <= played.end + TAIL_MS * _MS
        if not self._playing:
            self._evidence = 0.0
            return Sound(pcm, pcm)
        goes_on = start == self._goes_on
        cleaned = self._cleaned(pcm, start, start + count)
        if cleaned is not None and cleaned.unexplained is None:
            cleaned = self._without_echo(pcm, start + count)
        if cleaned is None or cleaned.unexplained is None:
            self._evidence = 0.0
            silence = bytes(len(pcm))
            return Sound(silence, silence)
        self._weigh((cleaned.unexplained - EXPLAINED) * count / (PACKET_MS * _MS), packet, goes_on)
        return Sound(cleaned.suppressed, cleaned.filtered if self._evidence > SUSPECTED else cleaned.suppressed)

    def _weigh(self, share: float, packet: Packet, goes_on: bool) -> None:
        if not goes_on:
            # A burst after a stall moves the alignment with every packet: until it is right, nothing is explained.
            self._evidence = 0.0
            return
        if not packet.payload:
            share = min(share, 0.0)  # what was lost is made up and proves nothing
        self._evidence = min(MOST, max(0.0, self._evidence + share))

    def _cleaned(self, pcm: bytes, start: int, end: int) -> Cleaned | None:
        if self._remover is None:
            self._remover, self._searched = EchoRemover(), 0
        elif start != self._goes_on:
            self._remover.restart()
        loudspeaker = self._played.read(start - HISTORY, end - start + HISTORY)
        try:
            # A millisecond: twenty times what it costs to hand it to a thread.
            cleaned = self._inference.run(self._remover.take_out, pcm, loudspeaker, kind="codec", deadline=DEADLINE_S)
        except (Overloaded, InferenceClosed):
            return None
        except VendorTimeout:
            self._remover = None  # a thread may still be at work with it
            return None
        self._goes_on = end
        return cleaned

    def _without_echo(self, pcm: bytes, end: int) -> Cleaned | None:
        """What is to be heard while no echo has been found: nothing, and everything once it was looked for long
        enough."""
        remover = self._remover
        if remover is None or remover.delay is not None:
            return None
        if end <= self._played.end:
            self._searched += len(pcm) // 2
        if self._searched < SEARCH_MS * _MS or remover.correlation > FOUND:
            return None
        return Cleaned(pcm, pcm, 1.0 if power(pcm) > LOUD else 0.0)

    @property
    def held_bytes(self) -> int:
        """See EchoCanceller."""
        return self._played.held_bytes + (EchoRemover.HELD_BYTES if self._remover is not None else 0)

    def forget(self) -> None:
        """The microphone is closed: give the memory back."""
        self._remover = None
        self._played.forget()

    def _position(self, at: float) -> int:
        return int((at - self._began) * SAMPLE_RATE)
