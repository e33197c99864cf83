"""What tools may ask of their session (`tools.base.SessionActions`), and what they find out of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from xiaozhi.session.parts import SessionParts
from xiaozhi.session.turns.turn_taking import TurnTaking
from xiaozhi.tools.music import Music, Track


class Actions:
    """Those of one session. `leave`: the session is to end when the current answer has been spoken."""

    def __init__(self, parts: SessionParts, turn_taking: TurnTaking, leave: Callable[[], None]) -> None:
        self.music = Music()
        self._parts = parts
        self._turn_taking = turn_taking
        self._leave = leave

    def close_after_reply(self) -> None:
        """See SessionActions."""
        self._leave()

    def set_prompt(self, text: str) -> None:
        """See SessionActions."""
        self._parts.role = text

    def play(self, path: Path, *, title: str = "", start_ms: float = 0.0, gain: float = 1.0) -> None:
        """See SessionActions."""
        if self._turn_taking.current is not None:
            self._turn_taking.current.play(Track(path, title or path.stem, start_ms, gain))
