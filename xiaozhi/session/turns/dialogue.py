"""The dialogue of a session as a language model is shown it: whole exchanges, trimmed, never more than was heard.

Every exchange begins with the user, ends with the assistant and holds each tool call with its result, so that whatever
is left of them after trimming is what the strictest template takes. A question that nobody answered is marked
(`UNANSWERED`): it is not to be answered later.

Not a record for people (history/ is) and not a summary (memory providers are). Two objects:

- `Exchange`: what one turn adds. It belongs to the turn, so a speculation is discarded with the object and nothing has
  to be undone. When the turn ends it says what may be remembered: everything, or only the sentences whose sound was
  sent.
- `Dialogue`: the exchanges of a session. It is trimmed by whole exchanges, so a tool call never loses its result. Its
  snapshots are kept by `devices/dialogues.py`, so that a short loss of the network loses no thread.

Tokens are estimated (a CJK character is about one, four other characters are about one): a budget needs no tokenizer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, get_args

import orjson

from xiaozhi.chat import UNANSWERED, Message, Role, ToolCall
from xiaozhi.history.entries import ToolUse
from xiaozhi.runtime.logs import get_logger
from xiaozhi.speech.sentences import units
from xiaozhi.speech.tidy import is_wide

log = get_logger(__name__)

MAX_TURNS: Final = 20
MAX_TOKENS: Final = 6_000
# What a message costs beside its text: role, separators.
_TOKENS_PER_MESSAGE: Final = 4
# Texts are not clipped below this, however small the budget.
_MIN_CLIPPED_TOKENS: Final = 50
_BYTES_PER_MESSAGE: Final = 200
_SNAPSHOT_VERSION: Final = 1
NOT_MADE: Final = "error: the call was not made"
STARTED: Final = "started; result unknown, as the answer was interrupted"
"""What stands for the result of a call until there is one."""


def estimate_tokens(text: str) -> int:
    """About how many tokens `text` is: one per CJK character, one per four others."""
    wide = (units(text) - len(text)) // 2
    return wide + (len(text) - wide + 3) // 4


def join_sentences(sentences: Iterable[str]) -> str:
    """Sentences as one text: a space between Latin ones, none beside Chinese."""
    text = ""
    for sentence in sentences:
        if text and sentence and not is_wide(text[-1]) and not is_wide(sentence[0]):
            text += " "
        text += sentence
    return text


def whole_exchanges(messages: Iterable[Message]) -> list[Message]:
    """`messages` without tool results that nobody asked for, tool calls that got no result, and messages that say
    nothing."""
    kept: list[Message] = []
    pending = list(messages)
    index = 0
    while index < len(pending):
        message = pending[index]
        index += 1
        if message.role == "tool":
            continue  # its call is not right before it
        if not message.tool_calls:
            if message.content.strip():
                kept.append(message)
            continue
        results: dict[str | None, Message] = {}
        while index < len(pending) and pending[index].role == "tool":
            results.setdefault(pending[index].tool_call_id, pending[index])
            index += 1
        answered = tuple(call for call in message.tool_calls if call.id in results)
        if answered:
            kept.append(Message("assistant", message.content, answered, interrupted=message.interrupted))
            kept += [results[call.id] for call in answered]
        elif message.content.strip():
            kept.append(Message("assistant", message.content, interrupted=message.interrupted))
    return kept


def as_exchange(messages: Iterable[Message]) -> tuple[Message, ...]:
    """What one turn left as an exchange: see the module. Empty when it left nothing."""
    exchange = whole_exchanges(messages)
    if not exchange:
        return ()
    if exchange[0].role != "user":
        exchange.insert(0, Message("user", UNANSWERED))  # the server spoke first
    if exchange[-1].role != "assistant":
        exchange.append(Message("assistant", UNANSWERED, interrupted=True))
    return tuple(exchange)


def _is_unanswered(exchange: tuple[Message, ...]) -> bool:
    """Whether it is a question and nothing else."""
    return len(exchange) == 2 and exchange[1].interrupted and exchange[1].content == UNANSWERED


class Exchange:
    """What one turn adds to a dialogue: what the user said, the tools that were called, the answer, and how much of it
    was heard."""

    def __init__(self) -> None:
        self._script: list[Message] = []
        self._heard: list[str] = []
        self._results_at = 0
        self.speaker = ""
        """Who asked, as far as speakers are told apart."""
        self._uses: list[ToolUse] = []
        self._uses_at = 0

    @property
    def messages(self) -> list[Message]:
        """Everything as it was written, for the next round with the language model."""
        return list(self._script)

    @property
    def heard(self) -> tuple[str, ...]:
        """The sentences whose sound was sent so far."""
        return tuple(self._heard)

    @property
    def tool_calls(self) -> int:
        """How many tools were called, those included whose results have not come."""
        return sum(len(message.tool_calls) for message in self._script)

    @property
    def tools(self) -> tuple[ToolUse, ...]:
        """The calls of tools so far, in order."""
        return tuple(self._uses)

    def asked(self, text: str, speaker: str = "") -> None:
        """What the user said, and who that was; "" when nobody has."""
        self.speaker = speaker
        if text:
            self._script.append(Message("user", text))

    def calling(self, said: str, calls: Sequence[ToolCall]) -> None:
        """The model calls tools, after saying `said`. Until `call_started` and `call_ended` say otherwise, none of the
        calls was made."""
        self._script.append(Message("assistant", said, tuple(calls)))
        self._results_at = len(self._script)
        self._script += [Message("tool", NOT_MADE, tool_call_id=call.id) for call in calls]
        self._uses_at = len(self._uses)
        self._uses += [ToolUse(call.name, call.arguments, "skipped") for call in calls]

    def call_started(self, number: int) -> None:
        """Call `number` (0, 1, ...) of the last `calling` is under way: whatever happens to the turn now, it may have
        had its effect."""
        self._put_result(number, STARTED)
        self._put_use(number, "started")

    def call_ended(self, number: int, result: str, *, failed: bool = False, ms: int | None = None) -> None:
        """The result of that call, and how long it took."""
        self._put_result(number, result)
        self._put_use(number, "failed" if failed else "done", result, ms)

    def answered(self, text: str) -> None:
        """The model's answer, whole, as it wrote it."""
        self._script.append(Message("assistant", text))

    def sentence_heard(self, sentence: str) -> None:
        """Sound of this sentence was sent to the device."""
        self._heard.append(sentence)

    def forget_heard(self, since: int) -> None:
        """The sentences behind the first `since` that were heard were no part of the answer."""
        del self._heard[since:]

    def remembered(self, *, whole: bool) -> list[Message]:
        """What the dialogue may keep: all of it, or (interrupted, failed) of the assistant's words only what was
        heard."""
        if whole:
            return whole_exchanges(self._script)
        kept = [
            Message(
                message.role, "" if message.tool_calls else message.content, message.tool_calls, message.tool_call_id
            )
            for message in self._script
            if message.role != "assistant" or message.tool_calls
        ]
        if self._heard:
            kept.append(Message("assistant", join_sentences(self._heard), interrupted=True))
        return whole_exchanges(kept)

    def _put_result(self, number: int, text: str) -> None:
        at = self._results_at + number
        self._script[at] = Message("tool", text, tool_call_id=self._script[at].tool_call_id)

    def _put_use(self, number: int, outcome: str, result: str = "", ms: int | None = None) -> None:
        at = self._uses_at + number
        self._uses[at] = ToolUse(self._uses[at].name, self._uses[at].arguments, outcome, result, ms)


class Dialogue:
    """The exchanges of a session, at most `max_turns` and about `max_tokens` of them. `system`: the prompt in front, if
    it is kept here."""

    def __init__(self, *, max_turns: int = MAX_TURNS, max_tokens: int = MAX_TOKENS, system: str = "") -> None:
        self.system = system
        self._max_turns = max_turns
        self._max_tokens = max_tokens
        self._exchanges: deque[tuple[Message, ...]] = deque()
        self._tokens: deque[int] = deque()

    @property
    def turns(self) -> int:
        """How many exchanges are remembered."""
        return len(self._exchanges)

    @property
    def tokens(self) -> int:
        """About how many tokens the exchanges are, the system prompt not counted."""
        return sum(self._tokens)

    @property
    def size_bytes(self) -> int:
        """About how much memory the exchanges take."""
        return sum(
            len(message.content) * 2 + _BYTES_PER_MESSAGE for exchange in self._exchanges for message in exchange
        )

    def append(self, *messages: Message) -> None:
        """Add what one turn left (see `Exchange.remembered`), as an exchange; trims. Of questions in a row that nobody
        answered, the newest stays: a model that reads many of them goes on not answering."""
        exchange = as_exchange(messages)
        if not exchange:
            return
        if self._exchanges and _is_unanswered(exchange) and _is_unanswered(self._exchanges[-1]):
            self._exchanges.pop()
            self._tokens.pop()
        self._add(exchange)
        self.trim()

    def messages(self) -> list[Message]:
        """All of it in order, the system prompt first if there is one here."""
        system = [Message("system", self.system)] if self.system else []
        return system + [message for exchange in self._exchanges for message in exchange]

    def trim(self, turns: int | None = None) -> None:
        """Forget the oldest exchanges until at most `turns` (default: the limit) are left and they fit the budget of
        tokens."""
        limit = self._max_turns if turns is None else turns
        while len(self._exchanges) > limit or (len(self._exchanges) > 1 and self.tokens > self._max_tokens):
            self._exchanges.popleft()
            self._tokens.popleft()
        if self.tokens > self._max_tokens:
            # One exchange beyond the whole budget, such as a tool that returned a book.
            only = _clipped(self._exchanges.pop(), self._max_tokens)
            self._tokens.pop()
            self._add(only)

    def snapshot(self) -> bytes:
        """The exchanges as bytes (JSON) that `restore` understands; the system prompt is not among them."""
        exchanges = [[_to_json(message) for message in exchange] for exchange in self._exchanges]
        return orjson.dumps({"version": _SNAPSHOT_VERSION, "exchanges": exchanges}, default=str)

    def restore(self, snapshot: bytes) -> bool:
        """Put the exchanges of a snapshot before those that are here. False when it cannot be read, which changes
        nothing."""
        try:
            body = orjson.loads(snapshot)
            if body["version"] != _SNAPSHOT_VERSION:
                return False
            earlier = [as_exchange(map(_from_json, exchange)) for exchange in body["exchanges"]]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            log.warning("unreadable dialogue snapshot")
            return False
        later = list(self._exchanges)
        self._exchanges.clear()
        self._tokens.clear()
        for exchange in [*filter(None, earlier), *later]:
            self._add(exchange)
        self.trim()
        return True

    def _add(self, exchange: tuple[Message, ...]) -> None:
        self._exchanges.append(exchange)
        self._tokens.append(sum(map(_tokens_of, exchange)))


def _tokens_of(message: Message) -> int:
    calls = sum(estimate_tokens(call.name + str(dict(call.arguments))) for call in message.tool_calls)
    return _TOKENS_PER_MESSAGE + estimate_tokens(message.content) + calls


def _clipped(exchange: tuple[Message, ...], budget: int) -> tuple[Message, ...]:
    messages = list(exchange)
    while sum(map(_tokens_of, messages)) > budget:
        longest = max(range(len(messages)), key=lambda index: estimate_tokens(messages[index].content))
        message = messages[longest]
        if estimate_tokens(message.content) <= _MIN_CLIPPED_TOKENS:
            break
        shorter = message.content[: len(message.content) // 2] + "…"
        messages[longest] = Message(
            message.role, shorter, message.tool_calls, message.tool_call_id, message.interrupted
        )
    return tuple(messages)


def _to_json(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        body["calls"] = [[call.id, call.name, dict(call.arguments)] for call in message.tool_calls]
    if message.tool_call_id is not None:
        body["call"] = message.tool_call_id
    if message.interrupted:
        body["interrupted"] = True
    return body


def _from_json(body: dict[str, Any]) -> Message:
    role: Role = body["role"]
    if role not in get_args(Role):
        raise ValueError(f"role {role!r}")
    calls = tuple(
        ToolCall(str(call_id), str(name), dict(arguments)) for call_id, name, arguments in body.get("calls", ())
    )
    return Message(role, str(body["content"]), calls, body.get("call"), bool(body.get("interrupted", False)))
