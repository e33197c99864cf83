"""What a tool is: something the mind can do, described for a language model, that says what is to follow when it is
done.

Not a registry (`toolbox.py` collects tools and calls them) and not tied to a turn: a tool gets its arguments and a
`ToolContext`, and reaches the visit only through the few verbs of `SessionActions`. Blocking style, as everywhere: a
tool may wait for a vendor or a device, its caller owns the greenlet and the deadline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from xiaozhi.chat import ToolSpec


class Action(Enum):
    """What follows a tool call."""

    SPEAK = "speak"
    """`text` is spoken as it is; the model is not asked."""
    ASK_LLM = "ask_llm"
    """`text` is the result; the model is asked to go on with it."""
    RECORD = "record"
    """`text` is kept in the dialogue; nothing is said."""
    NOTHING = "nothing"
    """Nothing follows."""
    ERROR = "error"
    """It did not work; `text` tells the model why."""
    NOT_FOUND = "not_found"
    """There is no such tool; `text` tells the model so."""


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """How a call ended. `data` is for programmes (never sent to a model), such as the device's raw result."""

    action: Action
    text: str = ""
    data: Any = None


class SessionActions(Protocol):
    """What a tool may ask of the visit it works for. Each returns at once; what it asks for happens in the order of the
    reply."""

    def close_after_reply(self) -> None:
        """Say the current reply to its end, then close the connection."""

    def set_prompt(self, text: str) -> None:
        """From the next turn on, use `text` as the system prompt of this visit."""

    def play(self, path: Path) -> None:
        """Play an audio file after what this tool's outcome says has been spoken; it is part of the turn and ends with
        it."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """On whose behalf a tool runs."""

    device_id: str
    session_id: str
    actions: SessionActions
    client_id: str = ""
    language: str = ""
    """BCP 47 tag of the language the user speaks ("zh-CN", "en"); "" when unknown."""

    @property
    def chinese(self) -> bool:
        """Whether to answer in Chinese; without a known language, yes, as most devices of this protocol speak it."""
        return not self.language or self.language.lower().startswith(("zh", "yue", "cn"))


class Tool(ABC):
    """One thing that can be done.

    `spec.name` is the name its source knows it by, of any length and alphabet; the toolbox makes it fit for language
    models. The same Tool object must be returned as long as the tool is unchanged, which lets the toolbox keep its
    index."""

    spec: ToolSpec
    uninterruptible: bool = False
    """True: once begun it runs to its end even if the turn that asked for it is interrupted."""
    timeout: float | None = None
    """Seconds until it is given up; None: the toolbox's default."""

    @abstractmethod
    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        """Do it. `arguments` have been made to fit `spec.parameters`. Raises ToolError with a text fit for the model,
        VendorError, ..."""


class FunctionTool(Tool):
    """A tool made of a plain function `(arguments, context) -> ToolOutcome`."""

    def __init__(
        self,
        spec: ToolSpec,
        function: Callable[[Mapping[str, Any], ToolContext], ToolOutcome],
        *,
        uninterruptible: bool = False,
        timeout: float | None = None,
    ) -> None:
        self.spec = spec
        self.uninterruptible = uninterruptible
        self.timeout = timeout
        self._function = function

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        return self._function(arguments, context)


class ToolSource(Protocol):
    """Somewhere tools come from: a device, the plugins, a server. What it offers may change from one call of `tools` to
    the next."""

    @property
    def name(self) -> str:
        """Short and constant, unique within a toolbox."""

    def tools(self) -> Sequence[Tool]:
        """What is on offer now; quick, never blocks."""


class FixedTools:
    """A source whose tools never change, such as the plugins."""

    def __init__(self, name: str, tools: Sequence[Tool]) -> None:
        self._name = name
        self._tools = tuple(tools)

    @property
    def name(self) -> str:
        return self._name

    def tools(self) -> Sequence[Tool]:
        return self._tools
