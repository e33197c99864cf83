"""Tools for vendors that have no field for them: described in the words of a question. Pure.

The calls come back as text, which `answer_text.py` reads. Used for assistants that are made on a platform and keep the
conversation themselves (Dify, Coze, FastGPT): they are told of each tool once per conversation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import orjson

from xiaozhi.chat import UNANSWERED, Message, ToolSpec
from xiaozhi.providers.families.tool_schemas import MAX_TOOLS, function_of

_HOW: Final = """You can use tools. To use one, answer with nothing but this, and wait for its result:
<tool_call>{"name": "NAME", "arguments": {"ARGUMENT": "VALUE"}}</tool_call>
Use a tool only when a request needs it and only with arguments that it has. Answer everything else in words."""


def tool_key(tool: ToolSpec) -> bytes:
    """The same for tools that are described in the same words."""
    written = orjson.dumps((tool.name, tool.description, tool.parameters), default=str)
    return hashlib.blake2b(written, digest_size=16).digest()


def told(tools: Sequence[ToolSpec], *, first: bool) -> str:
    """The description of `tools`, "" for none. `first`: how they are used has not been said yet."""
    if not tools:
        return ""
    functions = [orjson.dumps(function_of(tool)["function"], default=str).decode() for tool in tools[:MAX_TOOLS]]
    head = f"{_HOW}\nTools, their arguments as JSON Schema:" if first else "There are more tools:"
    return "\n".join([head, *functions])


def question_of(messages: Sequence[Message]) -> str:
    """What the user said last, with what was found out for it since by tools."""
    at = next((place for place in range(len(messages) - 1, -1, -1) if messages[place].role == "user"), -1)
    asked = messages[at].content if at >= 0 else ""
    names: dict[str | None, str] = {}
    results = []
    for message in messages[at + 1 :]:
        names |= {call.id: call.name for call in message.tool_calls}
        if message.role == "tool":
            results.append(f"- {names.get(message.tool_call_id, 'tool')}: {message.content}")
    if results:
        asked = "\n".join([asked, "", "Results of your tools:", *results, "Answer with them."])
    return asked.strip() or UNANSWERED


def instruction_of(messages: Sequence[Message]) -> str:
    """All system messages in one."""
    return "\n\n".join(each.content for each in messages if each.role == "system" and each.content.strip())
