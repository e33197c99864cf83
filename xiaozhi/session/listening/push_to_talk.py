"""Push-to-talk (manual mode): everything between start and stop is one utterance, whatever the voice detector thinks.

The detector is asked one thing only, whether anybody spoke at all: a recogniser makes words of silence, so silence is
not sent to it. The utterance begins when the detector first finds something like a voice, and holds everything since
the button. What the detector could not judge counts as a voice.

Beyond `max_utterance_ms` nothing is added. An utterance shorter than `min_utterance_frames` is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

from xiaozhi.errors import Overloaded, VendorError
from xiaozhi.protocol.messages import ListenMode
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE
from xiaozhi.providers.contracts.vad import Vad
from xiaozhi.runtime.logs import get_logger
from xiaozhi.session.listening.decoder import Packet
from xiaozhi.session.listening.segment import (
    FRAME_MS,
    ListenerOptions,
    ListenerSink,
    ListenerStats,
    ListeningSegment,
)
from xiaozhi.session.listening.utterance import BYTES_PER_MS, RecogniserAccess

log = get_logger(__name__)


SAMPLES_PER_MS = ASR_SAMPLE_RATE // 1_000


class PushToTalk(ListeningSegment):
    """See the module."""

    def __init__(
        self,
        mode: ListenMode,
        vad: Vad,
        options: ListenerOptions,
        access: RecogniserAccess,
        sink: ListenerSink,
        stats: ListenerStats,
    ) -> None:
        super().__init__(mode, options, access, sink, stats)
        self._vad = vad.open()
        self._traits = vad.traits
        self._window_ms = vad.traits.window_samples * 1_000 / ASR_SAMPLE_RATE
        self._voiced_ms = 0.0
        self._judges = True
        """False: the detector has failed, and all that comes is voice."""
        self._owed = False
        self._arrived = 0.0
        self._samples = 0
        """Of the packets that are kept."""

    @property
    def owed(self) -> bool:
        return self._owed

    def hear(self, packets: Sequence[Packet]) -> None:
        heard = bytearray()
        for packet in packets:
            pcm = self._decoder.decode(packet).for_recogniser
            heard += pcm
            self._arrived = packet.arrived_at
            if self._log is not None and self._samples < self._options.max_utterance_ms * SAMPLES_PER_MS:
                self._samples += len(pcm) // 2
                if pcm or not packet.payload:
                    self._log.add(self._samples, packet.payload)
        if heard:
            self.last_voice_at = self._arrived
            if not self._sound:
                self._sink.speech_started()
            room = max(0, self._options.max_utterance_ms * BYTES_PER_MS - len(self._sound))
            self._sound += heard[:room]
        elif not self._owed:
            return
        self._judge(bytes(heard))
        if self._utterance is not None:
            self._utterance.grew()

    def stop(self) -> None:
        duration_ms = len(self._sound) / BYTES_PER_MS
        if not self._sound:
            self._drop("no sound")
            return
        if duration_ms < self._options.min_utterance_frames * FRAME_MS:
            self._drop("too short")
            return
        if self._owed:
            self._judge(b"")
        if self._owed or not self._judges:
            self._found_voice()
            self._voiced_ms = duration_ms
        utterance = self._utterance
        if utterance is not None:
            utterance.complete(self._arrived, self._voiced_ms)
            self._deliver(utterance)
        elif not self.abandoned:
            self._drop("no voice")

    def _judge(self, pcm: bytes) -> None:
        if not self._judges:
            return
        try:
            probabilities = self._vad.feed(pcm)
        except Overloaded:
            self._stats.vad_late += 1
            self._owed = True
            return
        except VendorError as error:
            log.warning("voice detector failed", error=str(error))
            self._stats.vad_failed += 1
            self._judges = self._owed = False
            self._found_voice()
            return
        self._owed = False
        voiced = sum(probability >= self._traits.threshold for probability in probabilities)
        self._voiced_ms += voiced * self._window_ms
        if any(probability > self._traits.threshold_low for probability in probabilities):
            self._found_voice()

    def _found_voice(self) -> None:
        if self._utterance is None and not self.abandoned:
            self._begin(self._sound)
