"""A dialogue in the form that the strictest chat template takes. Pure.

What the templates of Llama, Mistral, Gemma, Qwen and the gateways in front of them refuse is left out or filled in
here, so that no server has to be asked twice: one system message, in front; then the user, and from there on turns in
alternation; nothing empty; a tool's result right behind its call, every call with its result, every result with its
call; the assistant's words between a tool's result and the user's next ones; the user or a tool last. Ids of calls are
unique.

`dialogue.py` decides what is remembered; this changes only how it is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from xiaozhi.chat import UNANSWERED, Message
from xiaozhi.providers.families.openai_deltas import ID_CHARS

NO_RESULT: Final = "(no result)"
# OpenAI takes no longer ones.
_LONGEST_ID: Final = 40


def strict_history(
    messages: Sequence[Message],
    *,
    system_role: bool = True,
    tool_role: bool = True,
    words_with_calls: bool = True,
    short_ids: bool = False,
) -> list[Message]:
    """`messages` as the strictest template takes them. False for what a server was found to refuse: system messages
    (their text goes in front of the user's first words), tool messages (results become the user's words), text beside
    calls. `short_ids`: every id is nine letters and digits."""
    if system_role and _is_strict(messages):
        return list(messages)
    system = "\n\n".join(
        message.content for message in messages if message.role == "system" and message.content.strip()
    )
    talk = [message for message in messages if message.role != "system"]
    turns = _joined(_whole(talk) if tool_role else _told(talk))
    if not turns:
        return [Message("user", system or UNANSWERED)]
    if turns[0].role != "user":
        turns.insert(0, Message("user", UNANSWERED))
    if turns[-1].role == "assistant":
        turns.append(Message("user", UNANSWERED))
    if not words_with_calls:
        turns = [Message("assistant", "", turn.tool_calls) if turn.tool_calls else turn for turn in turns]
    if system and system_role:
        turns.insert(0, Message("system", system))
    elif system:
        turns[0] = Message("user", f"{system}\n\n{turns[0].content}")
    return _with_ids(turns, short=short_ids) if any(turn.tool_calls for turn in turns) else turns


def _is_strict(messages: Sequence[Message]) -> bool:
    """Whether this is already so: nearly all dialogues without tools are."""
    roles = [message.role for message in messages]
    talk = roles[1:] if roles[:1] == ["system"] else roles
    users, others = talk[::2], talk[1::2]
    if len(users) == len(others) or users.count("user") != len(users) or others.count("assistant") != len(others):
        return False
    return not [each for each in messages if each.tool_calls or not each.content.strip()]


def _whole(messages: Sequence[Message]) -> Iterator[Message]:
    """Calls with their results right behind them, in the order of the calls; nothing that says nothing."""
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        if message.role == "tool":
            continue  # its call is not right before it
        if not message.tool_calls:
            if message.content.strip():
                yield message
            continue
        results: dict[str | None, list[str]] = {}
        while at < len(messages) and messages[at].role == "tool":
            results.setdefault(messages[at].tool_call_id, []).append(messages[at].content)
            at += 1
        yield message
        for call in message.tool_calls:
            found = results.get(call.id)
            text = found.pop(0) if found else ""
            yield Message("tool", text if text.strip() else NO_RESULT, tool_call_id=call.id)


def _told(messages: Sequence[Message]) -> Iterator[Message]:
    """The same for servers that know no tools: what a tool said becomes part of what the user says."""
    names: dict[str | None, str] = {}
    question: Message | None = None
    for message in messages:
        names |= {call.id: call.name for call in message.tool_calls}
        if message.role == "tool" and message.content.strip():
            found = f"({names.get(message.tool_call_id, 'tool')}: {message.content})"
            question = Message("user", f"{question.content}\n{found}" if question is not None else found)
        # Words in front of a call would part the question from what was found out for it.
        if message.role == "tool" or message.tool_calls or not message.content.strip():
            continue
        if question is not None:
            yield question
        question = message if message.role == "user" else None
        if question is None:
            yield message
    if question is not None:
        yield question


def _joined(messages: Iterator[Message]) -> list[Message]:
    """Alternating turns: what the assistant said in one go is joined, and where nobody answered, a placeholder does."""
    turns: list[Message] = []
    for message in messages:
        last = turns[-1] if turns else None
        if last is None or message.role == "tool":
            turns.append(message)
        elif message.role == "user" and last.role != "assistant":
            # Nobody answered, and nobody is to answer that any more.
            turns += [Message("assistant", UNANSWERED), message]
        elif message.role == last.role and not last.tool_calls:
            text = "\n".join(filter(str.strip, (last.content, message.content)))
            turns[-1] = Message(message.role, text, message.tool_calls)
        else:
            turns.append(message)
    return turns


def _with_ids(turns: list[Message], *, short: bool) -> list[Message]:
    """Every call with an id of its own, in the form that is taken, and its result with the same."""
    used: set[str] = set()
    current: dict[str, list[str]] = {}
    made: list[Message] = []
    for turn in turns:
        if turn.role == "tool":
            ids = current.get(turn.tool_call_id or "", [])
            identity = ids.pop(0) if ids else turn.tool_call_id
            made.append(turn if identity == turn.tool_call_id else Message("tool", turn.content, tool_call_id=identity))
            continue
        if not turn.tool_calls:
            made.append(turn)
            continue
        current = {}
        calls = []
        for call in turn.tool_calls:
            identity = _id(call.id, len(used), used, short=short)
            used.add(identity)
            current.setdefault(call.id, []).append(identity)
            calls.append(call if identity == call.id else replace(call, id=identity))
        made.append(Message(turn.role, turn.content, tuple(calls), interrupted=turn.interrupted))
    return made


def _id(given: str, number: int, used: set[str], *, short: bool) -> str:
    fits = len(given) == ID_CHARS and given.isalnum() and given.isascii() if short else 0 < len(given) <= _LONGEST_ID
    if fits and given not in used:
        return given
    while (made := f"c{number:0{ID_CHARS - 1}d}") in used:
        number += 1
    return made
