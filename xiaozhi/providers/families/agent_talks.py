"""What the platforms of ready-made assistants share (Dify, Coze, FastGPT): the vendor keeps the conversation.

Each question holds what the vendor does not know yet, and nothing of the dialogue or of the prompt of this server: the
assistant's prompt is written on the platform. A request that belongs to no dialogue (`CallContext.turn_id` 0: a
summary, a decision, a probe) is a conversation of its own and is told its instruction.

Where a session's conversation stands at the vendor is kept here, in one bounded table per provider: a session that was
silent for `TALK_SECONDS`, or the one that was silent longest when there are `MAX_TALKS`, begins a new conversation."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cachetools import TTLCache
from gevent import Greenlet

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import VendorError, VendorGarbage, VendorRejected, VendorTimeout
from xiaozhi.net.http import VendorHttp
from xiaozhi.providers.contracts.llm import Llm, LlmTraits, Retraction
from xiaozhi.providers.families.answer_text import AnswerText
from xiaozhi.providers.families.call_arguments import BadToolCall
from xiaozhi.providers.families.completion import Completion
from xiaozhi.providers.families.told_tools import instruction_of, question_of, told, tool_key
from xiaozhi.providers.families.tool_names import Offer
from xiaozhi.runtime.deadlines import at_most
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks

log = get_logger(__name__)

MAX_TALKS: Final = 10_000
TALK_SECONDS: Final = 6 * 3600.0
STOP_SECONDS: Final = 3.0
"""How long the vendor is waited for that is told to stop."""
STOP_WAIT_S: Final = 1.0
"""How long the next question of the same session waits for that."""
SIGN_OF_LIFE_S: Final = 1.0


class Talk:
    """One conversation as the vendor knows it. `alone`: it consists of one question and is not kept."""

    def __init__(self, *, alone: bool = False) -> None:
        self.id = ""
        """The vendor's name for it, "" before it has begun."""
        self.alone = alone
        self._told: set[bytes] = set()
        self._telling: set[bytes] = set()
        self._stopping: Greenlet | None = None

    def query(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> str:
        """What the vendor is to be told now."""
        keys = {tool_key(tool): tool for tool in tools}
        news = {key: tool for key, tool in keys.items() if key not in self._told}
        self._telling = set(news)
        parts = [
            instruction_of(messages) if self.alone else "",
            told(list(news.values()), first=not self._told),
            question_of(messages),
        ]
        return "\n\n".join(filter(None, parts))

    def began(self, identity: str) -> None:
        """The vendor has the question, in the conversation of this name."""
        self.id = identity
        self._told |= self._telling

    def forget(self) -> None:
        """The vendor does not know it any more."""
        self.id = ""
        self._told.clear()

    def left(self, stopping: Greenlet) -> None:
        """The answer was left early; `stopping` tells the vendor."""
        self._stopping = stopping

    def settle(self) -> None:
        """Wait a moment until an answer that was left is over: some vendors take one question at a time."""
        if self._stopping is not None:
            self._stopping.join(STOP_WAIT_S)
            self._stopping = None


class Talks:
    """The conversations of all sessions; see the module."""

    def __init__(self, timer: Callable[[], float] = time.monotonic, *, most: int = MAX_TALKS) -> None:
        self._talks: TTLCache[str, Talk] = TTLCache(most, TALK_SECONDS, timer)

    def __len__(self) -> int:
        return len(self._talks)

    def of(self, context: CallContext) -> Talk:
        """The conversation that a question belongs to."""
        if not (context.turn_id and context.session_id):
            return Talk(alone=True)
        talk = self._talks.get(context.session_id) or Talk()
        self._talks[context.session_id] = talk  # its time begins anew
        return talk


@dataclass(frozen=True, slots=True)
class Replaced:
    """Everything said so far is withdrawn in favour of `text`."""

    text: str


Piece: TypeAlias = str | Replaced | Mapping[str, Any]
"""Of an answer: text ("" as a sign of life), or a value of a chat completion."""


def spoken(vendor: str, answer: Completion, pieces: Iterator[Piece]) -> Iterator[str | ToolCall]:
    """What `Llm.chat` yields for the pieces of a vendor's answer, read with a fresh `answer`. Raises VendorError."""
    retractions = 0
    sign_at = time.monotonic() + SIGN_OF_LIFE_S
    try:
        for piece in pieces:
            if piece == "":
                if time.monotonic() >= sign_at:
                    sign_at = time.monotonic() + SIGN_OF_LIFE_S
                    yield ""
                continue
            if isinstance(piece, Replaced):
                answer.text = AnswerText()
                retractions = 0
                yield Retraction()
                piece = piece.text
            text = answer.take(_chunk(piece) if isinstance(piece, str) else piece)
            if answer.text.retractions != retractions:
                retractions = answer.text.retractions
                yield Retraction()
            if text:
                yield text
        for item in answer.end():
            if answer.text.retractions != retractions:
                retractions = answer.text.retractions
                yield Retraction()
            yield item
    except BadToolCall as error:
        raise VendorGarbage(vendor, str(error)) from error


def _chunk(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


class AgentLlm(Llm):
    """Base: write `_pieces`, which asks and yields. One pooled client for all devices."""

    traits = LlmTraits(keeps_dialogue=True)

    def __init__(self, http: VendorHttp) -> None:
        self._http = http
        self._talks = Talks()
        self._stops = Tasks()

    def chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        """The assistant's answer to what was said last. A conversation that the vendor has forgotten begins anew."""
        talk = self._talks.of(context)
        talk.settle()
        offer = Offer(tools)
        while True:
            answer = Completion(self._http.vendor, offer)
            try:
                with closing(self._pieces(talk.query(messages, tools), talk, context)) as pieces:
                    yield from spoken(self._http.vendor, answer, pieces)
                return
            except VendorRejected as error:
                if answer.heard or not talk.id or not self._has_forgotten(error):
                    raise
                talk.forget()

    @abstractmethod
    def _pieces(self, query: str, talk: Talk, context: CallContext) -> Generator[Piece]:
        """Ask `query`, a generator: closing it ends the request. Calls `talk.began` where the vendor keeps a
        conversation. Raises VendorError."""

    def _has_forgotten(self, error: VendorRejected) -> bool:
        """Whether the vendor says that there is no such conversation."""
        return False

    def _stop(self, talk: Talk, url: str, body: Mapping[str, str]) -> None:
        """Tell the vendor that nobody listens to this answer any more; does not wait."""
        talk.left(self._stops.spawn("agent-stop", self._tell_stop, url, body))

    def _tell_stop(self, url: str, body: Mapping[str, str]) -> None:
        vendor = self._http.vendor
        try:
            with at_most(STOP_SECONDS, VendorTimeout(vendor, f"not stopped within {STOP_SECONDS:g} s")):
                self._http.read("POST", url, json=dict(body))
        except VendorError as error:
            log.debug("an answer was not stopped", provider=self.name, vendor=vendor, error=error.message)

    def close(self) -> None:
        """Break off what runs."""
        self._stops.kill()
        self._http.close()
