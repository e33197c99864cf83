"""Packets of a device -> s16le mono PCM at 16 kHz: decoding, and the place of an echo canceller.

    packet ─► codec (Opus, PCM) ─► echo canceller, if there is one ─► voice detector

A lost packet (UDP only) is a packet without payload. Its sound is made when the next one comes, which may carry a copy
of it (Opus in-band FEC); where it does not, Opus conceals the gap. PCM gets silence.

Decoding is done on the hub. Decoding in the pool, in the same job as the voice detector, was tried: it takes 25 to
30 us per packet off the hub and costs the same CPU in all, but each decode then waits for the interpreter lock in its
thread: with a busy hub and 250 talking devices a voice was judged 65 ms after it came instead of 25.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from xiaozhi.audio.opus import Decoder
from xiaozhi.audio.pcm import Resampler, to_mono
from xiaozhi.errors import ProtocolError
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

RESYNC_AFTER = 10
"""The decoder starts anew after so many corrupt packets in a row."""


class Packet(NamedTuple):
    """One packet of sound as it came."""

    payload: bytes
    """b"": it was lost."""
    arrived_at: float
    """Monotonic s."""
    timestamp_ms: int | None = None
    """What the server was playing when it was recorded: the device's playback clock, by which an echo canceller finds
    the sound that may be in it. None or 0: the device does not tell."""


class Sound(NamedTuple):
    """What was heard: s16le mono at 16 kHz. Both are the same sound where nothing was cancelled, and of equal length
    otherwise."""

    for_detector: bytes
    """In which the voice detector looks for a voice."""
    for_recogniser: bytes
    """From which words are recognised."""


SILENT: Final = Sound(b"", b"")


class EchoCanceller(Protocol):
    """Takes out of the microphone's sound what the loudspeaker played. One per session; called by the listener's
    greenlet."""

    @property
    def somebody(self) -> bool:
        """Whether in what was cancelled last there may be somebody. False: it was the loudspeaker alone, even if what
        is left of it sounds like a voice."""

    @property
    def held_bytes(self) -> int:
        """Memory that it holds now."""

    def cancel(self, pcm: bytes, packet: Packet) -> Sound:
        """The sound of this packet (s16le mono 16 kHz) without echo, of the same length. May block for the pool."""

    def forget(self) -> None:
        """No sound has come for a while: give memory back."""


class DecoderStats(Protocol):
    """Where the decoder counts."""

    corrupt: int
    resyncs: int


class PacketDecoder:
    """Packets in, s16le mono 16 kHz out. A corrupt packet is counted and skipped. `audio_format` is "opus" or "pcm"
    (s16le); `sample_rate` (Hz) and `channels` are those of PCM."""

    def __init__(
        self,
        audio_format: str,
        sample_rate: int,
        channels: int,
        stats: DecoderStats,
        canceller: EchoCanceller | None = None,
    ) -> None:
        self._stats = stats
        self._corrupt_run = 0
        self._opus = Decoder(ASR_SAMPLE_RATE) if audio_format != "pcm" else None
        self._channels = channels
        self._resampler = Resampler(sample_rate, ASR_SAMPLE_RATE)
        self._canceller = canceller
        self._lost: list[Packet] = []
        """Packets without payload since the last that had one."""
        self._pcm_bytes = 0
        """Of the last packet of PCM."""

    def decode(self, packet: Packet) -> Sound:
        """The sound of one packet, behind that of those that were lost before it; none for a corrupt or lost one."""
        if not packet.payload:
            self._lost.append(packet)
            return SILENT
        concealed = self._conceal(packet.payload) if self._lost else []
        pcm = self._sound(packet.payload)
        if not pcm:
            return SILENT
        sound = self._cancelled(pcm, packet)
        return joined([*concealed, sound]) if concealed else sound

    def _conceal(self, following: bytes) -> list[Sound]:
        lost, self._lost = self._lost, []
        return [self._cancelled(self._missing(following if packet is lost[-1] else b""), packet) for packet in lost]

    def _cancelled(self, pcm: bytes, packet: Packet) -> Sound:
        if self._canceller is None or not pcm:
            return Sound(pcm, pcm)
        return self._canceller.cancel(pcm, packet)

    def _missing(self, following: bytes) -> bytes:
        if self._opus is None:
            return bytes(self._pcm_bytes)
        try:
            return self._opus.recover(following) if following else self._opus.decode(b"")
        except ProtocolError:
            return b""

    def _sound(self, payload: bytes) -> bytes:
        if self._opus is None:
            sound = self._resampler.feed(to_mono(payload, self._channels))
            self._pcm_bytes = len(sound)
            return sound
        try:
            pcm = self._opus.decode(payload)
        except ProtocolError:
            self._stats.corrupt += 1
            self._corrupt_run += 1
            if self._corrupt_run == RESYNC_AFTER:
                self._corrupt_run = 0
                self._stats.resyncs += 1
                self._opus.reset()
                if self._stats.resyncs == 1:
                    # Once per session: a device that sends noise fills its counters, not the log.
                    log.info("decoder restarted", corrupt=self._stats.corrupt)
            return b""
        self._corrupt_run = 0
        return pcm


def joined(sounds: Sequence[Sound]) -> Sound:
    """One after the other."""
    return Sound(b"".join([sound.for_detector for sound in sounds]), b"".join([one.for_recogniser for one in sounds]))
