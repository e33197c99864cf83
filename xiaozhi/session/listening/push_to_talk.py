"""Push-to-talk (manual mode): everything between start and stop is one utterance; no voice detector is asked.

Beyond `max_utterance_ms` nothing is added. An utterance shorter than `min_utterance_frames` is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

from xiaozhi.session.listening.decoder import Packet
from xiaozhi.session.listening.segment import FRAME_MS, ListeningSegment
from xiaozhi.session.listening.utterance import BYTES_PER_MS


class PushToTalk(ListeningSegment):
    """See the module."""

    _arrived = 0.0

    def hear(self, packets: Sequence[Packet]) -> None:
        heard = bytearray()
        for packet in packets:
            heard += self._decoder.decode(packet)
            self._arrived = packet.arrived_at
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
