"""The vocabulary of a dialogue: messages, tool descriptions and tool calls, as every language model knows them.

Pure data, below providers, tools and session, so that none of them has to know the others. Not a history
(`session/dialogue.py` owns that) and not a vendor's wire format (each `providers/llm/` file translates).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Role = Literal["system", "user", "assistant", "tool"]

UNANSWERED: Final = "…"
"""Stands in a dialogue where templates demand somebody's words and nobody said any. A model that imitates it is not
heard."""
UNKNOWN_SPEAKER: Final[Mapping[str, str]] = {"zh": "未知说话人", "": "unknown speaker"}
"""Stands in the place of a name, where speakers are told apart and this one is not known; by language, "": others."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool on offer. `name` matches [A-Za-z0-9_-]{1,64}; `parameters` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


@dataclass(frozen=True, slots=True)
class Seal:
    """What a vendor put on a call, and refuses to see the call again without. Nobody else is shown it."""

    vendor: str
    content: bytes
    """JSON, sent back as it came."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model wants a tool run. `arguments` is already parsed; `id` pairs the result with the call.

    `fault`: why the call could not be understood ("": it was). Such a call is never run; the model is told the fault in
    place of a result.
    """

    id: str
    name: str
    arguments: Mapping[str, Any]
    fault: str = ""
    seal: Seal | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a dialogue.

    `tool_calls` is only set on assistant messages; `tool_call_id` only on tool messages. `interrupted` marks an
    assistant message of which only a part was heard.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class CallContext:
    """On whose behalf a provider is called: for vendors that keep conversations, and for logs. Never for decisions
    about sound."""

    device_id: str = ""
    client_id: str = ""
    session_id: str = ""
    turn_id: int = 0
    """0: the call belongs to no turn of the dialogue (a summary, a decision, a probe)."""
    language: str = ""
