"""Listening segment: one stretch of listening, packets in, utterances out. The base of push-to-talk and of endpointing
by voice.

A segment lives from the first packet after `start` to the next reset and is then thrown away whole, so nothing of it
can leak into the next. The listener's greenlet uses it, except for `abandon`, which may come from any greenlet. The
queue and the modes are in `listener.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from xiaozhi.protocol.messages import ListenMode
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE
from xiaozhi.session.listening.decoder import EchoCanceller, Packet, PacketDecoder
from xiaozhi.session.listening.packet_log import PacketLog
from xiaozhi.session.listening.utterance import RecogniserAccess, Utterance

FRAME_MS = 60
"""A "frame" of the settings, whatever packets a device sends."""


class ListenerSink(Protocol):
    """What a listener tells. Called in the listener's greenlet; returns quickly; may call the listener."""

    def speech_started(self) -> None:
        """Somebody speaks (manual mode: the first sound after the button)."""

    def utterance_paused(self, utterance: Utterance) -> None:
        """Perhaps complete: may be transcribed already, must not be acted upon."""

    def utterance_resumed(self) -> None:
        """The paused one was not complete; forget it. Another follows."""

    def utterance_ended(self, utterance: Utterance) -> None:
        """Complete, and the sink's from now on: the paused one if there was one and it has not been closed."""

    def utterance_dropped(self, reason: str) -> None:
        """What had started was nothing ("too short", "no sound", "no voice")."""


@dataclass(slots=True)
class ListenerStats:
    """Counts of one session."""

    packets: int = 0
    dropped: int = 0
    """Oldest packets that gave way because the queue was full."""
    ignored: int = 0
    """Packets that came while nobody listened."""
    lost: int = 0
    """Of the packets, those that were lost on the way and are concealed."""
    corrupt: int = 0
    resyncs: int = 0
    vad_late: int = 0
    vad_failed: int = 0
    utterances: int = 0
    discarded: int = 0
    """Utterances that were dropped: too short, or without any sound."""


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """How a device is heard. `audio_format` "opus" or "pcm" (s16le); rate and channels matter for pcm only.

    Frames are of 60 ms whatever the device sends. `pause_ms` None: as early as it takes to have `lead_ms` left before
    the silence ends the utterance; 0: no pauses."""

    audio_format: str = "opus"
    sample_rate: int = ASR_SAMPLE_RATE
    channels: int = 1
    max_utterance_ms: int = 30_000
    pre_roll_frames: int = 10
    min_utterance_frames: int = 15
    pause_ms: int | None = None
    lead_ms: int = 500
    """How long preparing an answer takes, as far as it is prepared in a pause."""
    queue_packets: int = 200
    """12 s of 60 ms packets; when it is full the oldest goes."""
    asr_deadline: float = 15.0
    """Seconds; see `RecogniserAccess`."""
    keeps_packets: bool = False
    """Utterances have the packets that they were made of, as far as that can be; see `packet_log.py`."""


class ListeningSegment(ABC):
    """What both kinds share."""

    def __init__(
        self,
        mode: ListenMode,
        options: ListenerOptions,
        access: RecogniserAccess,
        sink: ListenerSink,
        stats: ListenerStats,
        canceller: EchoCanceller | None = None,
    ) -> None:
        self.mode = mode
        self.abandoned = False
        self.last_voice_at = 0.0
        """When the last voice was heard (monotonic s); 0: not yet."""
        self._options = options
        self._access = access
        self._sink = sink
        self._stats = stats
        self._decoder = PacketDecoder(options.audio_format, options.sample_rate, options.channels, stats, canceller)
        self._utterance: Utterance | None = None
        self._sound = bytearray()
        self._sound_from = 0
        """The sample at which `_sound` begins."""
        self._log: PacketLog | None = None
        if options.keeps_packets and options.audio_format != "pcm" and canceller is None:
            self._log = PacketLog()
        self._count = 0

    @property
    def stalls(self) -> bool:
        """Whether an utterance is under way that must not stay open when no sound comes any more."""
        return False

    @property
    def owed(self) -> bool:
        """Whether sound waits that could not be judged yet: `hear` again soon, with nothing if nothing comes."""
        return False

    @property
    def held_bytes(self) -> int:
        """PCM and packets kept here."""
        return len(self._sound) + (self._log.size if self._log is not None else 0)

    @abstractmethod
    def hear(self, packets: Sequence[Packet]) -> None:
        """Decode and judge; tell the sink. May block for the voice detector."""

    @abstractmethod
    def stop(self) -> None:
        """End the utterance under way here and now: the device said so, or its sound stopped coming."""

    def settle(self) -> None:  # noqa: B027  push-to-talk has nothing to do
        """Another silence than before is long enough: end the utterance under way if it has been that long. No effect
        where a button decides."""

    def abandon(self) -> None:
        """Forget everything without telling anybody. Idempotent, from any greenlet: a `hear` under way ends without
        effect."""
        self.abandoned = True
        utterance, self._utterance = self._utterance, None
        if utterance is not None:
            utterance.close()

    def _begin(self, sound: bytearray, previous: Utterance | None = None) -> Utterance:
        self._count += 1
        self._sound = sound
        recognition = previous.hand_over() if previous is not None else None
        self._utterance = utterance = Utterance(self._count, self.mode, sound, self._access, recognition)
        return utterance

    def _deliver(self, utterance: Utterance) -> None:
        if self._log is not None:
            utterance.packets = self._log.between(self._sound_from, self._sound_from + utterance.samples)
        self._utterance = None
        self._sound = bytearray()
        self._stats.utterances += 1
        self._sink.utterance_ended(utterance)

    def _drop(self, reason: str) -> None:
        utterance, self._utterance = self._utterance, None
        self._sound = bytearray()
        if utterance is not None:
            utterance.close()
        self._stats.discarded += 1
        self._sink.utterance_dropped(reason)
