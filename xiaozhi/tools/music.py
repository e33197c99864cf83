"""Music as tools and sessions speak of it: one file that is played, and what a session remembers of its music.

Data and arithmetic only: which song is next is decided by the tools (`plugins/play_music.py`), a file is played by the
turn that it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FULL_VOLUME: Final = 100


@dataclass(slots=True, eq=False)
class Track:
    """A file that one answer plays."""

    path: Path
    title: str = ""
    start_ms: float = 0.0
    """Where in the file it begins."""
    gain: float = 1.0
    """How loud, 0 to 1, of the file's own amplitude."""
    heard_ms: float = 0.0
    """How far into the file the device has heard."""
    ended: bool = False
    """Heard to its end."""
    _begins_at: float | None = None
    _ends_at: float | None = None

    def __post_init__(self) -> None:
        self.heard_ms = self.start_ms

    @property
    def begun(self) -> bool:
        """Whether any of it was sent."""
        return self._begins_at is not None

    def begin(self, sent_ms: float) -> None:
        """Its first frame comes next; so much of the answer's sound was sent before it."""
        self._begins_at = sent_ms

    def end(self, sent_ms: float) -> None:
        """Its last frame was sent; so much of the answer's sound was sent with it."""
        self._ends_at = sent_ms

    def settle(self, played_ms: float) -> None:
        """The answer is over, and the device has played so much of its sound."""
        if self._begins_at is None:
            return
        self.ended = self._ends_at is not None and played_ms >= self._ends_at
        until = played_ms if self._ends_at is None else min(played_ms, self._ends_at)
        self.heard_ms = self.start_ms + max(0.0, until - self._begins_at)


@dataclass(slots=True)
class Music:
    """What a session remembers of its music, until it ends. `track` and `interrupted` are the session's to write, the
    rest the tools'."""

    track: Track | None = None
    """What was played last."""
    interrupted: bool = False
    """It was cut short, and no other question was answered since."""
    held: bool = False
    """The user wants silence for now: paused or stopped."""
    volume: int = FULL_VOLUME
    """0 to 100."""
    seed: int | None = None
    """Of the shuffled order; None: songs follow each other as they stand on the shelf."""
    goes_on: bool = False
    """The user wants one song after another."""

    @property
    def gain(self) -> float:
        """What `volume` means for the amplitude: half the volume sounds about half as loud."""
        return (self.volume / FULL_VOLUME) ** 2

    def turn_ended(self, tracks: Sequence[Track], *, asked: bool) -> None:
        """A turn that was to play `tracks` is over; `asked`: it answered a question."""
        if tracks:
            self.track = next((track for track in reversed(tracks) if track.begun), tracks[0])
            self.interrupted = not self.track.ended
        elif asked:
            self.interrupted = False
