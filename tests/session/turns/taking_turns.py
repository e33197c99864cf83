"""Turn-taking with turns that do as they are told."""

from __future__ import annotations

from typing import Any

from tests.fakes.alarm import FakeAlarm
from tests.fakes.clock import FakeClock
from xiaozhi.chat import Message
from xiaozhi.errors import Overloaded
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.turn_record import Outcome, Timeline, TurnRecord
from xiaozhi.session.turns.opening import Opening
from xiaozhi.session.turns.turn_taking import TurnTaking

TEA = Opening(fixed="The tea is ready.")


LATER = Opening(fixed="Dinner too.")


class FakeTurn:
    """A turn that is what the test says it is; writes what is done with it into the stage's log."""

    def __init__(self, stage: Stage, number: int, opening: Opening) -> None:
        self.opening = opening
        self.utterance = opening.utterance
        self.ended = False
        self.speaking = False
        self.name = opening.fixed or opening.text or opening.instruction or f"answer {number}"
        self._stage = stage

    def start(self, *, prepared: bool) -> None:
        self._stage.log.append(f"{'prepare' if prepared else 'start'} {self.name}")

    def release(self) -> None:
        self._stage.log.append(f"release {self.name}")

    def discard(self) -> None:
        if not self.ended:
            self.ended = True
            self._stage.log.append(f"discard {self.name}")

    def interrupt(self, reason: str) -> bool:
        if self.ended:
            return False
        self.end(Outcome.INTERRUPTED, reason)
        return True

    def end(self, outcome: Outcome = Outcome.ANSWERED, reason: str = "") -> None:
        """What a turn does when it ends; its session tells turn-taking."""
        self.ended, self.speaking = True, False
        self._stage.log.append(f"end {self.name}: {reason or outcome}")
        if self.opening.announcement is not None:
            record = TurnRecord(1, outcome, Timeline(), False, reason=reason, script=[Message("user", "x")])
            self.opening.announcement.ended(record)
        self._stage.taking.turn_ended()


class Stage:
    """Turn-taking, and the session around it."""

    def __init__(self, *, prepares: bool = True) -> None:
        self.log: list[str] = []
        self.turns: list[FakeTurn] = []
        self.tasks = Tasks()
        self.clock = FakeClock()
        self.alarm = FakeAlarm(self.clock)
        self.accepts = True
        self.realtime = False
        self.voices = 0
        self.error: Exception | None = None
        self.overloaded = False
        self.taking = TurnTaking(
            self._make,
            tasks=self.tasks,
            accepts=lambda: self.accepts,
            barges_in=lambda: self.realtime,
            on_voice=self._on_voice,
            prepares=prepares,
            admit=self._admit,
            clock=self.clock,
            alarm=self.alarm,
        )

    def _make(self, opening: Opening) -> Any:
        if self.error is not None:
            raise self.error
        self.turns.append(FakeTurn(self, len(self.turns) + 1, opening))
        return self.turns[-1]

    def _admit(self) -> None:
        if self.overloaded:
            raise Overloaded("server")

    def _on_voice(self) -> None:
        self.voices += 1

    def news(self) -> list[str]:
        """What has happened since the last call."""
        news, self.log = self.log, []
        return news

    def ended(self, utterance: Any) -> None:
        self.taking.utterance_ended(utterance)

    def paused(self, utterance: Any) -> None:
        self.taking.utterance_paused(utterance)
