"""Which pauses of a speaker are worth preparing an answer in, so that preparing costs at most half a recognition more
per utterance.

Pure: no clock, no sound. It knows one speaker: it outlives the segments of the microphone and dies with the listener.

Two rules. A bound: a preparation that is thrown away takes 1 from an allowance that each utterance raises by a half, so
after n utterances at most (n + 1) / 2 were thrown away. And a habit: who went on after 300 ms of silence will do so
again, so the next pause has to be longer than the longest one that was gone on from; that is forgotten by a quarter per
utterance."""

from __future__ import annotations

import math
from typing import Final

PER_UTTERANCE: Final = 0.5
PER_JUDGED_UTTERANCE: Final = 1.0
"""Where the text of a pause helps to tell whether it is the end, and no vendor is paid for it: an answer to half a
question costs more than a recognition on this machine."""
MOST: Final = 2.0
_KEPT: Final = 0.75
"""What is left of a habit after an utterance without such a pause."""


class PauseBudget:
    """See the module. All silences in ms. `per_utterance`: how many preparations may be thrown away for each."""

    def __init__(self, per_utterance: float = PER_UTTERANCE) -> None:
        self._per_utterance = per_utterance
        self._left = 2 * per_utterance
        self._habit_ms = 0.0
        self._longest_ms = 0.0
        """Of this utterance, of the silences that the voice went on from."""

    def needed_ms(self, pause_ms: float, latest_ms: float = math.inf) -> float:
        """After how much silence a pause may be told that is otherwise told after `pause_ms`; infinite when none may.
        Silence must be longer than a habit, as far as that is not longer than `latest_ms`."""
        if self._left < 1.0:
            return math.inf
        habit_ms = math.nextafter(max(self._habit_ms, self._longest_ms), math.inf)
        return max(pause_ms, min(habit_ms, latest_ms))

    def went_on(self, silence_ms: float, *, prepared: bool) -> None:
        """The voice went on after `silence_ms`; `prepared`: this pause had been told, and what was made of it is
        lost."""
        self._longest_ms = max(self._longest_ms, silence_ms)
        if prepared:
            self._left -= 1.0

    def ended(self) -> None:
        """An utterance is complete, so it is recognised."""
        self._left = min(MOST, self._left + self._per_utterance)
        self._habit_ms = max(self._longest_ms, self._habit_ms * _KEPT)
        self._longest_ms = 0.0
