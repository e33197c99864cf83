"""What slow tools have found, told when it is there: in the conversation if there is one, else as a message to the
device.

    late call ends ─┬─► session: an announcement, made by its language model, which knows the dialogue
                    └─► no session, or nobody was silent: one short completion ─► `MessageSender`

Not the calls themselves (`tools/late_calls.py`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import gevent

from xiaozhi.chat import CallContext, Message
from xiaozhi.devices.messages import MAX_TEXT_CHARS, DeviceMessage, MessageKind, MessageSender
from xiaozhi.errors import Overloaded, StorageError, VendorError, VendorTimeout
from xiaozhi.providers.contracts.llm import final_text
from xiaozhi.runtime.logs import get_logger
from xiaozhi.session.agent import Agent
from xiaozhi.session.open_sessions import OpenSessions
from xiaozhi.session.turns.opening import Delivery, LateCall, Opening
from xiaozhi.settings.fields import text_in
from xiaozhi.settings.fixed_texts import NOT_FOUND_OUT
from xiaozhi.speech.cleanup import speakable
from xiaozhi.tools.base import Action
from xiaozhi.tools.late_calls import LateCalls, LateResult

log = get_logger(__name__)

MAX_QUESTION_CHARS: Final = 500
TRIES: Final = 2
"""Somebody may begin to speak before the first word of it."""
SPOKEN_S: Final = 300.0
"""How long a result is waited for until it has been heard, once it has begun."""
WRITING_S: Final = 30.0
WORTH_S: Final = 86_400.0
"""How long a message waits for its device."""
INSTRUCTION: Final = (
    "(This is not from the user.) The tool {tool}, which was called a while ago, has ended only now; its result is "
    "below. {asked}Tell the user what has come out of it, in a few spoken sentences and in the language of the "
    "conversation. Begin by saying what it is about, as they may have spoken of something else since. If it has "
    "failed, say that you could not find it out, and why."
)
ASKED: Final = 'The user had asked: "{question}". '
RESULT: Final = "\n\nThe result:\n{result}"


class LateAnswers:
    """One object per process. `sender`: how devices are reached that do not talk; None: they cannot be. `today`:
    seconds since 1970."""

    def __init__(self, *, today: Callable[[], float] = time.time) -> None:
        self.calls = LateCalls()
        self.sender: MessageSender | None = None
        self.told = {"spoken": 0, "sent": 0, "lost": 0}
        """What became of results, for metrics."""
        self._today = today

    def stop(self, seconds: float) -> bool:
        """See LateCalls; before sessions end."""
        return self.calls.stop(seconds)

    def tell(self, result: LateResult, sessions: OpenSessions, agent: Agent) -> None:
        """Tell a result; blocks for as long as it takes to be heard."""
        if self._say(result, sessions, agent):
            self.told["spoken"] += 1
        elif self._send(result, agent):
            self.told["sent"] += 1
        else:
            self.told["lost"] += 1
            log.warning("nobody could be told what a tool has found", tool=result.call.name)

    def _say(self, result: LateResult, sessions: OpenSessions, agent: Agent) -> bool:
        for _ in range(TRIES):
            session = sessions.of_device(result.device_id)
            announcement = session.tell_late(_opening(result, agent)) if session is not None else None
            if announcement is None:
                return False
            delivery = announcement.wait(SPOKEN_S)
            # Whoever cuts it short has heard what it is about, and the dialogue has it.
            if announcement.record is not None and announcement.record.sentences:
                return True
            if delivery is not Delivery.INTERRUPTED:
                return False
        return False

    def _send(self, result: LateResult, agent: Agent) -> bool:
        if self.sender is None:
            return False
        now = self._today()
        message = DeviceMessage(
            device=result.device_id,
            kind=MessageKind.NOTIFY,
            text=_written(result, agent)[:MAX_TEXT_CHARS],
            sender="tool",
            due_at=now,
            expires_at=now + WORTH_S,
        )
        try:
            self.sender.send(message)
        except (StorageError, Overloaded) as error:
            log.warning("a message was not taken", error=str(error)[:200])
            return False
        return True


class SessionTeller:
    """The `LateTeller` of one session; holds its agent while calls are late."""

    def __init__(self, answers: LateAnswers, sessions: OpenSessions, agent: Agent) -> None:
        self._answers = answers
        self._sessions = sessions
        self._agent = agent

    def begins(self) -> None:
        """See LateTeller."""
        self._agent.hold()

    def ends(self, result: LateResult | None) -> None:
        """See LateTeller."""
        try:
            if result is not None:
                self._answers.tell(result, self._sessions, self._agent)
        finally:
            self._agent.release()


def _opening(result: LateResult, agent: Agent) -> Opening:
    """What starts the turn in which a result is told."""
    outcome = result.outcome
    if outcome.action is Action.SPEAK or not agent.providers.llm.traits.writes:
        return Opening(fixed=_plain(result))
    return Opening(instruction=_instruction(result), late=LateCall(result.call, outcome, round(result.seconds * 1000)))


def _instruction(result: LateResult) -> str:
    question = result.question[:MAX_QUESTION_CHARS]
    return INSTRUCTION.format(tool=result.call.name, asked=ASKED.format(question=question) if question else "")


def _written(result: LateResult, agent: Agent) -> str:
    """A result as a text that can be spoken."""
    outcome, llm = result.outcome, agent.providers.llm
    if outcome.action is not Action.SPEAK and llm.traits.writes:
        found = RESULT.format(result=outcome.text or outcome.action.value)
        context = CallContext(result.device_id, result.client_id, language=result.language)
        try:
            with gevent.Timeout(WRITING_S, VendorTimeout(llm.name or "llm", f"nothing written in {WRITING_S:g} s")):
                text = final_text(llm.chat([Message("user", _instruction(result) + found)], [], context)).strip()
            if speakable(text):
                return text
        except (VendorError, Overloaded) as error:
            log.warning("what a tool has found could not be put into words", error=str(error)[:200])
        except Exception:
            # The user was promised an answer, and there is one without the model.
            log.exception("what a tool has found could not be put into words")
    return _plain(result)


def _plain(result: LateResult) -> str:
    """The same without a language model."""
    text = result.outcome.text.strip()
    worded = result.outcome.action in (Action.SPEAK, Action.ASK_LLM) and speakable(text) and text[0] not in "{[<"
    return text if worded else text_in(NOT_FOUND_OUT, result.language)
