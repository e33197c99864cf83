"""How long a slow voice would keep somebody waiting: the work ahead of a piece of speech, in seconds. Time is an
argument; one for each model and pool.

The estimate of what a piece costs is learnt from pieces that were made: this machine's pace, at its present load."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

PACE_S: Final = 0.15
"""Seconds per character on a core of 2023, before anything was measured."""
FIXED: Final = 3
"""What a piece costs beside its characters, in characters: the silence around it is computed, too."""
_WEIGHT: Final = 0.2


@dataclass(slots=True, eq=False)
class Piece:
    """A piece of speech that waits or is being made. `began`: when its work began, as far as can be told."""

    cost_s: float
    characters: int
    began: float


class SpeechBacklog:
    """`workers`: pieces made at the same time."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pieces: deque[Piece] = deque()
        self._pace_s = PACE_S

    def cost_s(self, characters: int) -> float:
        """Seconds of work of a piece of so many characters."""
        return self._pace_s * (FIXED + characters)

    def wait_s(self, now: float) -> float:
        """Seconds until a piece that came now would begin."""
        if len(self._pieces) < self._workers:
            return 0.0
        left = [max(0.0, piece.cost_s - (now - piece.began)) for piece in list(self._pieces)[: self._workers]]
        left += [piece.cost_s for piece in list(self._pieces)[self._workers :]]
        return sum(left) / self._workers

    def is_late(self, characters: int, now: float, limit_s: float) -> bool:
        """Whether a sentence that begins with so many characters would be heard later than `limit_s` from now because
        of others; never when nobody is ahead of it."""
        wait_s = self.wait_s(now)
        return wait_s > 0 and wait_s + self.cost_s(characters) > limit_s

    def begin(self, characters: int, now: float) -> Piece:
        """A piece goes into the queue; `end` takes it out."""
        piece = Piece(self.cost_s(characters), characters, now)
        self._pieces.append(piece)
        return piece

    def end(self, piece: Piece, now: float, *, worked_s: float = 0.0) -> None:
        """It has been made, or nobody wants it any more. `worked_s`: how long it took on its thread, if it did."""
        ran = self._pieces.index(piece) < self._workers
        self._pieces.remove(piece)
        if ran and len(self._pieces) >= self._workers:
            self._pieces[self._workers - 1].began = now
        if worked_s:
            pace_s = worked_s / (FIXED + piece.characters)
            self._pace_s += _WEIGHT * (pace_s - self._pace_s)
