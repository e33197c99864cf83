"""What a session reports while it works. The composition root implements it (`app/telemetry.py`): metrics, one log line
per turn, traces."""

from __future__ import annotations

from typing import Protocol

from xiaozhi.session.turn_record import TurnRecord
from xiaozhi.tools.base import Action


class Telemetry(Protocol):
    """Every method returns at once and raises nothing."""

    def turn_ended(self, device_id: str, record: TurnRecord) -> None:
        """A turn has ended, however it did."""

    def prepared_in_vain(self) -> None:
        """An answer that was prepared during a pause was thrown away."""

    def frame_sent(self, late_s: float) -> None:
        """An audio frame was sent, so many seconds late. Called per frame."""

    def tool_called(self, source: str, seconds: float, action: Action) -> None:
        """A tool of this source was called; `action` is what followed."""

    def dropped(self, queue: str) -> None:
        """A bounded queue ("microphone", "waiting") was full and something in it was dropped."""
