"""What both kinds of listening share, and the simple kind: one stretch of it, packets in, utterances out.

Not the queue and not the modes (`session/listener.py` has those), and not listening by voice
(`session/endpointing.py`). A stretch lives from the first packet after `start` to the next reset and is then thrown
away whole, so nothing of it can leak into the next. It is used by the listener's greenlet only, except for `abandon`.

Decoding is done here, on the hub. Tried: decoding in the pool, in the same job as the voice detector. It takes 25 to 30
us per packet off the hub and costs the same CPU in all, but each decode then waits for the GIL in the thread: with a
busy hub and 250 devices talking, a voice was judged 65 ms after it came instead of 25. The simple way is also the one
that degrades gently."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from xiaozhi.audio.opus import Decoder
from xiaozhi.audio.pcm import Resampler, to_mono
from xiaozhi.errors import ProtocolError
from xiaozhi.protocol.messages import ListenMode
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE
from xiaozhi.runtime.logs import get_logger
from xiaozhi.session.listening.utterance import BYTES_PER_MS, RecogniserAccess, Utterance

log = get_logger(__name__)

Packet = tuple[bytes, float]
"""(payload, when it arrived: monotonic s)"""

FRAME_MS = 60
"""What a "frame" of the settings is, whatever packets a device sends."""
RESYNC_AFTER = 10
"""So many corrupt packets in a row, and the decoder starts anew."""


class ListenerSink(Protocol):
    """What the ears tell. Called in the listener's greenlet; returns quickly; may call the listener."""

    def speech_started(self) -> None:
        """Somebody speaks (manual mode: the first sound after the button)."""

    def utterance_paused(self, utterance: Utterance) -> None:
        """Perhaps complete: may be transcribed already, must not be acted upon."""

    def utterance_resumed(self) -> None:
        """The paused one was not complete; forget it. Another follows."""

    def utterance_ended(self, utterance: Utterance) -> None:
        """Complete, and the sink's from now on: the paused one if there was one and it has not been closed."""

    def utterance_dropped(self, reason: str) -> None:
        """What had started was nothing ("too short", "no sound")."""


@dataclass(slots=True)
class ListenerStats:
    """Counts of one visit."""

    packets: int = 0
    dropped: int = 0
    """Oldest packets that gave way because the queue was full."""
    ignored: int = 0
    """Packets that came while nobody listened."""
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

    Frames are of 60 ms whatever the device sends. `pause_ms` is used unless the voice detector's own options have
    one."""

    audio_format: str = "opus"
    sample_rate: int = ASR_SAMPLE_RATE
    channels: int = 1
    max_utterance_ms: int = 30_000
    pre_roll_frames: int = 10
    min_utterance_frames: int = 15
    pause_ms: int = 250
    queue_packets: int = 200
    """12 s of 60 ms packets; when it is full the oldest goes."""
    asr_deadline: float = 15.0
    """Seconds; see `RecogniserAccess`."""


class PacketDecoder:
    """Packets of a device -> s16le mono 16 kHz. A corrupt one is counted and skipped."""

    def __init__(self, options: ListenerOptions, stats: ListenerStats) -> None:
        self._stats = stats
        self._corrupt_run = 0
        self._opus = Decoder(ASR_SAMPLE_RATE) if options.audio_format != "pcm" else None
        self._channels = options.channels
        self._resampler = Resampler(options.sample_rate, ASR_SAMPLE_RATE)

    def decode(self, payload: bytes) -> bytes:
        """The sound of one packet, b"" for a corrupt one."""
        if self._opus is None:
            return self._resampler.feed(to_mono(payload, self._channels))
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
                    # Once per visit: a device that sends noise fills its counters, not the log.
                    log.info("decoder restarted", corrupt=self._stats.corrupt)
            return b""
        self._corrupt_run = 0
        return pcm


class ListeningSegment(ABC):
    """What both kinds share."""

    def __init__(
        self,
        mode: ListenMode,
        options: ListenerOptions,
        access: RecogniserAccess,
        sink: ListenerSink,
        stats: ListenerStats,
    ) -> None:
        self.mode = mode
        self.abandoned = False
        self.last_voice_at = 0.0
        """When the last voice was heard (monotonic s, see the module); 0: not yet."""
        self._options = options
        self._access = access
        self._sink = sink
        self._stats = stats
        self._decoder = PacketDecoder(options, stats)
        self._utterance: Utterance | None = None
        self._sound = bytearray()
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
        """PCM kept here."""
        return len(self._sound)

    @abstractmethod
    def hear(self, packets: Sequence[Packet]) -> None:
        """Decode and judge; tell the sink. May block for the voice detector."""

    @abstractmethod
    def stop(self) -> None:
        """End the utterance under way here and now."""

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


class PushToTalk(ListeningSegment):
    """Manual mode: everything between start and stop is one utterance; no voice detector. Beyond `max_utterance_ms`
    nothing is added."""

    _arrived = 0.0

    def hear(self, packets: Sequence[Packet]) -> None:
        heard = bytearray()
        for payload, arrival in packets:
            heard += self._decoder.decode(payload)
            self._arrived = arrival
        if not heard:
            return
        self.last_voice_at = self._arrived
        utterance = self._utterance
        if utterance is None:
            utterance = self._begin(bytearray())
            self._sink.speech_started()
        room = self._options.max_utterance_ms * BYTES_PER_MS - len(self._sound)
        if room > 0 and not self.abandoned:
            self._sound += heard[:room]
            utterance.grew()

    def stop(self) -> None:
        utterance = self._utterance
        if utterance is None:
            self._drop("no sound")
        elif utterance.duration_ms < self._options.min_utterance_frames * FRAME_MS:
            self._drop("too short")
        else:
            utterance.complete(self._arrived, utterance.duration_ms)
            self._deliver(utterance)
