"""What starts a turn, and what became of one that nobody asked for (an announcement).

Plain data and one small object with a state; who decides when an announcement is spoken is `turn_taking.py`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from gevent.event import Event

from xiaozhi.chat import ToolCall
from xiaozhi.runtime.logs import get_logger
from xiaozhi.session.listening.listener import Utterance
from xiaozhi.session.turn_record import Outcome, TurnRecord
from xiaozhi.tools.base import ToolOutcome

log = get_logger(__name__)


class Delivery(StrEnum):
    """What became of an announcement."""

    WAITING = "waiting"
    SPEAKING = "speaking"
    SPOKEN = "spoken"
    """Heard to its end."""
    INTERRUPTED = "interrupted"
    """Begun, and cut short: by the user, by a later turn or by the loss of the connection."""
    FAILED = "failed"
    """No voice could say it."""
    DROPPED = "dropped"
    """Never begun: no moment before its deadline, too many waiting, or the session is over."""


_UNSETTLED: Final = (Delivery.WAITING, Delivery.SPEAKING)


class Announcement:
    """What the caller of `TurnTaking.announce` gets: it reads `delivery`, or waits for it."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        """Until when (monotonic s) it may begin."""
        self.delivery = Delivery.WAITING
        self.reason = ""
        """Why it was dropped, interrupted or failed; for logs."""
        self.record: TurnRecord | None = None
        """The record of its turn, once that has ended; `sentences` in it says how much of an interrupted one was
        heard."""
        self._settled: Event | None = None

    @property
    def settled(self) -> bool:
        """True when `delivery` is final."""
        return self.delivery not in _UNSETTLED

    def wait(self, seconds: float) -> Delivery:
        """Wait at most `seconds` until it is settled; what has become of it by then."""
        if not self.settled:
            if self._settled is None:
                self._settled = Event()
            self._settled.wait(timeout=seconds)
        return self.delivery

    # --- told by turn-taking and by the turn --------------------------------------------------------------------------

    def begun(self) -> None:
        """Its turn begins."""
        assert self.delivery is Delivery.WAITING
        self.delivery = Delivery.SPEAKING

    def ended(self, record: TurnRecord) -> None:
        """Its turn has ended."""
        self.record = record
        match record.outcome:
            case Outcome.ANSWERED:
                self._settle(Delivery.SPOKEN, record.reason)
            case Outcome.INTERRUPTED:
                self._settle(Delivery.INTERRUPTED, record.reason)
            case _:
                self._settle(Delivery.FAILED, record.reason)

    def drop(self, reason: str) -> None:
        """It will not be spoken."""
        log.info("announcement dropped", reason=reason)
        self._settle(Delivery.DROPPED, reason)

    def _settle(self, delivery: Delivery, reason: str) -> None:
        assert not self.settled
        self.delivery = delivery
        self.reason = reason
        if self._settled is not None:
            self._settled.set()


class LateCall(NamedTuple):
    """A call of a tool, made in an earlier turn, and what has come of it."""

    call: ToolCall
    outcome: ToolOutcome
    ms: int


@dataclass(frozen=True, slots=True)
class Opening:
    """What starts a turn: exactly one of `utterance` (spoken), `text` (typed), `fixed` or `instruction`."""

    utterance: Utterance | None = None
    text: str = ""
    """Typed; with `fixed`: what the user said to bring it about, such as a wake word."""
    fixed: str = ""
    """To be spoken as it is; no pipeline is asked."""
    shown: str = ""
    """With `fixed`: displayed although nobody has said it."""
    instruction: str = ""
    """For the language model, instead of a question; such as the prompt that ends a session."""
    late: LateCall | None = None
    """With `instruction`: what it speaks of."""
    announcement: Announcement | None = None
    """Set by `TurnTaking.announce`: nobody has asked, and somebody wants to know what became of it."""
