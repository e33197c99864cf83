"""Endpointing by voice (auto and realtime mode): the voice detector gives probabilities, the segmenter decides, and
utterances are cut out of the sound.

The decision itself is in `speech/segmenter.py` (pure). Positions are counted in samples at 16 kHz since the segment
began; the segmenter gets them in ms. The wall clock enters in one place: a packet's arrival stands
for the moment its last sample was spoken. `Utterance.ended_at` is computed from that, however late the packet was
judged.

Overload of the voice detector loses nothing: sound that could not be judged in time stays in its stream and here, and
its probabilities come with a later packet. Silence is never assumed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from xiaozhi.errors import Overloaded, VendorError
from xiaozhi.protocol.messages import ListenMode
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE
from xiaozhi.providers.contracts.vad import Vad
from xiaozhi.runtime.logs import get_logger
from xiaozhi.session.listening.decoder import EchoCanceller, Packet, Sound, joined
from xiaozhi.session.listening.end_of_turn import PAUSE_MS, JudgedPause, Witnesses
from xiaozhi.session.listening.segment import (
    FRAME_MS,
    ListenerOptions,
    ListenerSink,
    ListenerStats,
    ListeningSegment,
)
from xiaozhi.session.listening.utterance import Ending, RecogniserAccess, Utterance
from xiaozhi.speech.pauses import PauseBudget
from xiaozhi.speech.segmenter import Ended, Event, Paused, Resumed, Segmenter, SegmenterOptions, Started, TooShort

log = get_logger(__name__)

_SAMPLES_PER_MS = ASR_SAMPLE_RATE // 1000
_TRIM_BYTES = 8_192
"""Old sound is cut off in pieces of this size, not with every packet."""


class VoiceSegment(ListeningSegment):
    """Auto and realtime mode: the voice detector and the segmenter decide."""

    def __init__(
        self,
        mode: ListenMode,
        vad: Vad,
        options: ListenerOptions,
        access: RecogniserAccess,
        sink: ListenerSink,
        stats: ListenerStats,
        canceller: EchoCanceller | None = None,
        pauses: PauseBudget | None = None,
        witnesses: Witnesses | None = None,
        on_judged: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_judged`: told in greenlets of others that `settle` should be called soon in the listener's."""
        super().__init__(mode, options, access, sink, stats, canceller)
        self._canceller = canceller
        self._witnesses = witnesses
        self._on_judged = on_judged
        self._judged: JudgedPause | None = None
        self._vad = vad.open()
        self._window = vad.traits.window_samples
        self._lag_s = vad.traits.lag_ms / 1000
        self._segmenter = Segmenter(segmenter_options(vad, options, judged=witnesses is not None), pauses)
        judged_by = self._segmenter.options
        self._keep = int((judged_by.pre_roll_ms + judged_by.window_ms * judged_by.voiced_of) * _SAMPLES_PER_MS)
        self._at = 0
        """Everything before this sample has been judged."""
        self._end = 0
        """Everything before this sample has arrived."""
        self._heard = bytearray()
        """Sound from sample `_heard_from` on: the pre-roll, and what waits to be judged."""
        self._heard_from = 0
        self._arrivals: deque[tuple[int, float]] = deque()
        """(end of a packet in samples, its arrival) of packets not judged to their end."""
        self._owed = False

    @property
    def stalls(self) -> bool:
        return self._utterance is not None

    @property
    def owed(self) -> bool:
        return self._owed

    @property
    def held_bytes(self) -> int:
        return super().held_bytes + len(self._heard)

    def hear(self, packets: Sequence[Packet]) -> None:
        sounds = [self._arrive(packet) for packet in packets]
        sound = sounds[0] if len(sounds) == 1 else joined(sounds)
        self._heard += sound.for_recogniser
        try:
            probabilities = self._vad.feed(sound.for_detector)
        except Overloaded:
            self._stats.vad_late += 1
            self._owed = True
            return
        except VendorError as error:
            log.warning("voice detector failed, listening anew", error=str(error))
            self._stats.vad_failed += 1
            if not self.abandoned:
                self._end_here()
            return
        self._owed = False
        if not self.abandoned:
            self._judge(probabilities)

    def stop(self) -> None:
        if self._owed:
            self.hear(())
        if not self.abandoned:
            self._vad.reset()
            self._end_here()

    def settle(self) -> None:
        event = self._segmenter.settle()
        if event is not None:
            self._obey(event)

    def abandon(self) -> None:
        super().abandon()
        self._close_judgement()

    def _arrive(self, packet: Packet) -> Sound:
        sound = self._decoder.decode(packet)
        pcm = sound.for_recogniser
        self._end += len(pcm) // 2
        self._arrivals.append((self._end, packet.arrived_at))
        if self._log is not None and (pcm or not packet.payload):
            self._log.add(self._end, packet.payload)
        return sound

    def _judge(self, probabilities: Sequence[float]) -> None:
        segmenter = self._segmenter
        if self._canceller is not None and self._utterance is None and not self._canceller.somebody:
            probabilities = [0.0] * len(probabilities)
        for probability in probabilities:
            self._at += self._window
            at = self._at / _SAMPLES_PER_MS
            before = segmenter.voice_end
            event = segmenter.feed(probability, at)
            if segmenter.voice_end != before:
                heard = self._arrival_of(int(segmenter.voice_end * _SAMPLES_PER_MS))
                self.last_voice_at = heard - self._lag_s
            if event is not None:
                self._obey(event)
                if self.abandoned:
                    return
        self._hand_on(self._at)

    def _arrival_of(self, sample: int) -> float:
        arrivals = self._arrivals
        while len(arrivals) > 1 and arrivals[0][0] < sample:
            arrivals.popleft()
        end, arrival = arrivals[0]
        return arrival - max(0, end - sample) / ASR_SAMPLE_RATE

    def _obey(self, event: Event) -> None:
        match event:
            case Started():
                self._forget_before(int(event.audio_from * _SAMPLES_PER_MS))
                self._sound_from = self._heard_from
                self._begin(bytearray())
                self._sink.speech_started()
            case Paused():
                utterance = self._completed(event)
                # First: a recogniser on this machine may keep the pool's threads for longer than the pause lasts.
                self._judge_pause(utterance)
                self._sink.utterance_paused(utterance)
            case Resumed():
                self._close_judgement()
                paused = self._current()
                self._begin(self._sound, paused)
                self._sink.utterance_resumed()
                paused.close()
            case Ended():
                self._close_judgement()
                ending = self._ending()
                utterance = self._completed(event)
                utterance.ending = ending
                self._deliver(utterance)
            case TooShort():
                self._hand_on(self._at)
                self._drop("too short")

    def _judge_pause(self, utterance: Utterance) -> None:
        if self._witnesses is None or self.abandoned:
            return
        plain_ms = self._segmenter.options.min_silence_ms
        self._judged = JudgedPause(self._witnesses, utterance, plain_ms, self._require, self._access.tasks)
        self._judged.ask()

    def _require(self, silence_ms: float) -> None:
        self._segmenter.require(silence_ms)
        self._on_judged()

    def _close_judgement(self) -> None:
        judged, self._judged = self._judged, None
        if judged is not None:
            judged.close()

    def _completed(self, event: Paused | Ended) -> Utterance:
        self._hand_on(self._at)
        utterance = self._current()
        if utterance.closed:
            # The sink gave up what had paused (a failed preparation), but the user's words are still worth an answer.
            utterance = self._begin(self._sound)
        if not utterance.completed:
            utterance.complete(self.last_voice_at, event.voiced_ms)
        return utterance

    def _ending(self) -> Ending:
        silent_at = self._arrival_of(self._at)
        return Ending(self.last_voice_at + self._lag_s, silent_at, max(silent_at, self._arrivals[0][1]))

    def _current(self) -> Utterance:
        if self._utterance is None:
            raise RuntimeError("no utterance under way")
        return self._utterance

    def _hand_on(self, sample: int) -> None:
        # Sound before `sample` goes to the utterance under way; without one, what is too old for a pre-roll goes.
        if self._utterance is None:
            if (sample - self._heard_from - self._keep) * 2 > _TRIM_BYTES:
                self._forget_before(sample - self._keep)
                if self._log is not None:
                    self._log.forget_before(self._heard_from)
            return
        self._sound += self._heard[: (sample - self._heard_from) * 2]
        self._forget_before(sample)
        self._utterance.grew()

    def _forget_before(self, sample: int) -> None:
        if sample > self._heard_from:
            del self._heard[: (sample - self._heard_from) * 2]
            self._heard_from = sample
        while len(self._arrivals) > 1 and self._arrivals[0][0] <= self._at:
            self._arrivals.popleft()

    def _end_here(self) -> None:
        self._close_judgement()
        # What has arrived but was never judged belongs to what is under way: it is better heard twice than lost.
        self._at = self._end
        event = self._segmenter.stop()
        if event is not None:
            self._obey(event)
        self._segmenter.reset()
        self._at = self._end = self._heard_from = 0
        self._heard = bytearray()
        self._arrivals.clear()
        if self._log is not None:
            self._log.clear()
        self._owed = False


def segmenter_options(vad: Vad, options: ListenerOptions, *, judged: bool = False) -> SegmenterOptions:
    """How utterances are cut: thresholds and silence as the voice detector says, lengths as the conversation's settings
    say. `judged`: somebody is asked about pauses, and wants to be asked early enough to shorten them."""
    traits = vad.traits
    window_ms = traits.window_samples / _SAMPLES_PER_MS
    pause_ms: float | None = options.pause_ms
    if pause_ms is None:
        # At the earliest with the first window below the threshold.
        lead_ms = traits.min_silence_ms - options.lead_ms
        pause_ms = max(window_ms, min(PAUSE_MS, lead_ms) if judged else lead_ms)
    # A judgement must come before the silence has decided, also about a speaker who has paused for longer before.
    latest_pause_ms = max(pause_ms, traits.min_silence_ms / 2) if judged else math.inf
    return SegmenterOptions(
        threshold=traits.threshold,
        threshold_low=traits.threshold_low,
        min_silence_ms=traits.min_silence_ms,
        pause_ms=pause_ms,
        latest_pause_ms=latest_pause_ms,
        pre_roll_ms=options.pre_roll_frames * FRAME_MS,
        min_utterance_ms=options.min_utterance_frames * FRAME_MS,
        max_utterance_ms=options.max_utterance_ms,
        window_ms=window_ms,
    )
