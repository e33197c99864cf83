"""Speech probabilities -> utterances: where one starts, pauses, goes on, ends, or has become too long.

Pure: it holds no sound and knows no clock. Time is the position in the recording, in ms of audio since the last
`reset`, so a burst after a network stall is judged like the same sound on time. What a position means on the wall clock
is the listener's business.

How it decides. Each window (32 ms) is voiced or not, with hysteresis: voiced from `threshold` up, unvoiced from
`threshold_low` down, in between as the window before. Speech is `voiced_needed` of the last `voiced_of` windows (three
of five): a click is not speech, and a dropped window is not silence. Silence is counted from the end of the last window
of speech that reached `threshold`, to the millisecond: the windows in which a detector fades from one threshold to the
other are silence already, once it has faded. Where they are many (more than `fade_ms`) it is a faint voice.

An utterance ends only when the detector is sure (unvoiced). After how much silence is a matter of the options, unless
whoever judges the pause under way says otherwise (`require`): that holds until the voice goes on. A pause is told on
the bare probability, from the first window below `threshold` on if `pause_ms` allows it: what is prepared then does no
harm when the voice goes on. How many of these guesses may be wrong is the speaker's `PauseBudget`.

How long an utterance is. Its sound runs from `pre_roll_ms` before the first voiced window to where it ended, trailing
silence included. For the test against `min_utterance_ms` the pre-roll counts in full even where less had been recorded,
so that "yes" said in the instant the microphone opens is not shorter than the same "yes" a second later."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from xiaozhi.speech.pauses import PauseBudget


@dataclass(frozen=True, slots=True)
class SegmenterOptions:
    """How an utterance is cut. `pause_ms` 0, or at or above `min_silence_ms`: no pauses are told. `latest_pause_ms`: a
    pause so long is told whatever the speaker's habit, while there is an allowance for it. `fade_ms`: the longest that
    a detector takes from `threshold` to `threshold_low` when a voice has ended. Raises ValueError for
    contradictions."""

    threshold: float = 0.5
    threshold_low: float = 0.2
    min_silence_ms: float = 700.0
    pause_ms: float = 300.0
    latest_pause_ms: float = math.inf
    pre_roll_ms: float = 600.0
    min_utterance_ms: float = 900.0
    max_utterance_ms: float = 30_000.0
    window_ms: float = 32.0
    voiced_needed: int = 3
    voiced_of: int = 5
    fade_ms: float = 96.0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold_low <= self.threshold <= 1:
            raise ValueError(f"thresholds {self.threshold_low} and {self.threshold}: 0 <= low <= high <= 1")
        if not 1 <= self.voiced_needed <= self.voiced_of:
            raise ValueError(f"{self.voiced_needed} of {self.voiced_of} windows")
        if self.window_ms <= 0 or self.max_utterance_ms < self.window_ms * self.voiced_of:
            raise ValueError(f"windows of {self.window_ms} ms in utterances of {self.max_utterance_ms} ms")


class EndReason(StrEnum):
    """Why an utterance is over."""

    SILENCE = "silence"
    TOO_LONG = "too long"
    STOPPED = "stopped"
    END_OF_TURN = "end of turn"


@dataclass(frozen=True, slots=True)
class Started:
    """Speech has begun; its sound, pre-roll included, starts at `audio_from`."""

    at: float
    audio_from: float


@dataclass(frozen=True, slots=True)
class Paused:
    """Silent for `pause_ms` at least: perhaps the end. `voice_end`: where the voice ended; `voiced_ms`: how much of it
    there was."""

    at: float
    audio_from: float
    voice_end: float
    voiced_ms: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """It was not the end."""

    at: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The utterance is over; its sound ends at `at`, its voice ended at `voice_end`."""

    at: float
    audio_from: float
    voice_end: float
    voiced_ms: float
    reason: EndReason


@dataclass(frozen=True, slots=True)
class TooShort:
    """The utterance is over and was shorter than `min_utterance_ms`: a cough, not a question."""

    at: float
    audio_ms: float


Event = Started | Paused | Resumed | Ended | TooShort


class Segmenter:
    """One microphone's utterances. At most one event per window; between `Started` and `Ended`/`TooShort` there is one
    utterance. `pauses` is what is known of the speaker; a reset does not forget it."""

    def __init__(self, options: SegmenterOptions | None = None, pauses: PauseBudget | None = None) -> None:
        self.options = options or SegmenterOptions()
        self._pauses = pauses or PauseBudget()
        self._recent: deque[bool] = deque(maxlen=self.options.voiced_of)
        self.reset()

    @property
    def speaking(self) -> bool:
        """Whether an utterance is under way (pauses included)."""
        return self._speaking

    @property
    def paused(self) -> bool:
        """Whether the utterance under way has been told as paused."""
        return self._paused

    @property
    def voice_end(self) -> float:
        """Position where the voice of the utterance under way (or the last one) was last heard."""
        return self._voice_end

    def reset(self) -> None:
        """A new recording begins at position 0; an utterance under way is forgotten."""
        self._recent.clear()
        self._voiced = False
        self._speaking = False
        self._paused = False
        self._at = 0.0
        self._earliest = 0.0  # no sound before this may be used: it belongs to the utterance before
        self._audio_from = 0.0
        self._counted_from = 0.0  # like _audio_from, as if the pre-roll had been recorded in full
        self._voice_end = 0.0
        self._voiced_windows = 0
        self._needed_ms = self.options.min_silence_ms

    def feed(self, probability: float, at: float) -> Event | None:
        """Judge one window that ends at position `at` (ms); positions must not go back. What it changed, if
        anything."""
        self._at = at
        options = self.options
        loud = probability >= options.threshold
        if loud:
            self._voiced = True
        elif probability <= options.threshold_low:
            self._voiced = False
        voiced = self._voiced
        self._recent.append(voiced)
        speech = voiced and self._recent.count(True) >= options.voiced_needed
        return self._go_on(voiced, loud, speech, at) if self._speaking else self._listen(speech, at)

    def stop(self) -> Event | None:
        """End the utterance under way here and now (the device said so, or the sound stopped coming). None if there is
        none."""
        return self._end(self._at, EndReason.STOPPED) if self._speaking else None

    def require(self, ms: float) -> None:
        """Let the silence under way end the utterance after `ms`, shorter or longer than usual; until the voice goes
        on. Never lengthens an utterance beyond `max_utterance_ms`. Without effect where nobody speaks."""
        if self._speaking:
            self._needed_ms = ms

    def settle(self) -> Event | None:
        """The end of the utterance under way, if the silence so far is long enough; for whoever has just called
        `require`. None if it is not."""
        if self._speaking and not self._voiced and self._at - self._voice_end >= self._needed_ms:
            return self._end(self._at, self._end_reason())
        return None

    def _listen(self, speech: bool, at: float) -> Event | None:
        if not speech:
            return None
        window = self.options.window_ms
        # After a cut for length some of the votes belong to the utterance before.
        mine = max(1, round((at - self._earliest) / window))
        history = list(self._recent)[-mine:]
        first_voice = max(self._earliest, at - (len(history) - history.index(True)) * window)
        self._speaking = True
        self._audio_from = max(self._earliest, first_voice - self.options.pre_roll_ms)
        self._counted_from = first_voice - self.options.pre_roll_ms
        self._voiced_windows = history.count(True)
        self._voice_end = at
        return Started(at, self._audio_from)

    def _go_on(self, voiced: bool, loud: bool, speech: bool, at: float) -> Event | None:
        options = self.options
        self._voiced_windows += voiced
        before = self._voice_end
        if speech:
            self._voice_end = max(before, at if loud else at - options.fade_ms)
        goes_on = self._voice_end > before
        if goes_on:
            self._needed_ms = options.min_silence_ms
            bridged = at - options.window_ms - before
            if bridged > 0:
                self._pauses.went_on(bridged, prepared=self._paused)
        silence = at - self._voice_end
        # A voiced window is never the end, even if it is no speech yet: with two more it will be, and the user has gone
        # on in time.
        if not voiced and silence >= self._needed_ms:
            return self._end(at, self._end_reason())
        if at - self._audio_from >= options.max_utterance_ms:
            return self._end(at, EndReason.TOO_LONG)
        if self._paused:
            if goes_on:
                self._paused = False
                return Resumed(at)
        elif not loud and self._may_pause(silence) and at - self._counted_from >= options.min_utterance_ms:
            self._paused = True
            return Paused(at, self._audio_from, self._voice_end, self._voiced_windows * options.window_ms)
        return None

    def _may_pause(self, silence: float) -> bool:
        options = self.options
        if not 0 < options.pause_ms <= silence < options.min_silence_ms:
            return False
        return silence >= self._pauses.needed_ms(options.pause_ms, options.latest_pause_ms)

    def _end_reason(self) -> EndReason:
        return EndReason.SILENCE if self._needed_ms >= self.options.min_silence_ms else EndReason.END_OF_TURN

    def _end(self, at: float, reason: EndReason) -> Event:
        length = at - self._counted_from
        ended = Ended(at, self._audio_from, self._voice_end, self._voiced_windows * self.options.window_ms, reason)
        self._speaking = False
        self._paused = False
        self._needed_ms = self.options.min_silence_ms
        self._earliest = at
        if reason is not EndReason.TOO_LONG:
            # After a cut for length the voice goes on, and the votes with it: the next utterance starts with the next
            # window.
            self._recent.clear()
            self._voiced = False
        if length < self.options.min_utterance_ms:
            return TooShort(at, length)
        self._pauses.ended()
        return ended
