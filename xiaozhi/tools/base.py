"""What a tool is: something the assistant can do, described for a language model, that says what follows when it is
done.

The contract of this room: tools, the sources they come from, and what a tool is given. Not a registry (`registry.py`
finds the server's own tools) and not the toolbox (`toolbox.py` collects the tools of one session and calls them). A
tool knows neither the turn nor the socket: it gets its arguments and a `ToolContext`, and asks the session for
something through the few methods of `SessionActions`. Blocking style: a tool may wait for a vendor or a device; the
caller owns the greenlet and the deadline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import Field, model_validator

from xiaozhi.chat import ToolSpec
from xiaozhi.net.guarded_fetch import GuardedFetch
from xiaozhi.net.http import VendorHttp
from xiaozhi.reminders.book import ReminderBook
from xiaozhi.settings.fields import Section
from xiaozhi.speech.voice_likeness import VoiceSample
from xiaozhi.tools.calls import AddressBook, Ring, nobody_is_there
from xiaozhi.tools.household import NoOtherDevices, OtherDevices
from xiaozhi.tools.music import Music
from xiaozhi.tools.voices import VoiceBook, VoiceEnrolment


class Action(Enum):
    """What follows a tool call. In brackets: what the existing xiaozhi server calls it."""

    SPEAK = "speak"
    """`text` is spoken as it is; the model is not asked again. (RESPONSE)"""
    ASK_LLM = "ask_llm"
    """`text` is the result; the model is asked again and goes on with it. (REQLLM)"""
    RECORD = "record"
    """`text` is kept in the dialogue; nothing is spoken. (RECORD)"""
    NOTHING = "nothing"
    """Nothing follows. (NONE)"""
    ERROR = "error"
    """It did not work; `text` tells the model why. (ERROR)"""
    NOT_FOUND = "not_found"
    """There is no such tool; `text` tells the model so. (NOTFOUND)"""


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """How a call ended. `data` is for programs (never sent to a model), such as the device's raw result."""

    action: Action
    text: str = ""
    data: Any = None


class SessionActions(Protocol):
    """What a tool may ask of the session it works for. Each method returns at once; what it asks for happens in the
    order of the answer."""

    def close_after_reply(self) -> None:
        """Speak the current answer to its end, then close the connection."""

    def set_prompt(self, text: str) -> None:
        """Use `text` as the system prompt of this session, beginning with the next turn."""

    @property
    def music(self) -> Music:
        """What was played last and how far it was heard, and how this session plays music."""

    @property
    def enrolment(self) -> VoiceEnrolment:
        """What was asked about keeping a voice, and not answered yet."""

    @property
    def recent_voices(self) -> Sequence[VoiceSample]:
        """What the last voices of this session can be remembered by, the latest last; none where voices are not
        learnt."""

    @property
    def called(self) -> bool:
        """Another device has called this one through a gateway."""

    def keep_line_open(self) -> None:
        """A gateway calls another device for this one: from now on the device is not told any more that an answer has
        ended, as it would begin to listen."""

    def play(self, path: Path, *, title: str = "", start_ms: float = 0.0, gain: float = 1.0) -> None:
        """Play an audio file after the text of this tool's outcome, from `start_ms` on and `gain` times (0 to 1) as
        loud; it is part of the turn and ends with it. Several files play one after another."""


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """What a turn answers."""

    turn: int = 0
    """1, 2, ... within the session."""
    text: str = ""
    spoken: bool = False
    """False: typed, or nobody asked."""
    voice: VoiceSample | None = None
    """What the voice can be remembered by; None where voices are not learnt, or too little was heard."""
    speaker: str = ""
    """The known person who spoke; "" when unknown, or not identified in time."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """On whose behalf a tool runs."""

    device_id: str
    session_id: str
    actions: SessionActions
    client_id: str = ""
    language: str = ""
    """BCP 47 tag of the language the user speaks ("zh-CN", "en"); "" when unknown."""
    client_ip: str = ""
    """Where the device is; "" when unknown."""
    user: str = ""
    """The name under which the user of this device is remembered; "": that of the device."""
    question: AskedQuestion = AskedQuestion()

    @property
    def chinese(self) -> bool:
        """Whether to answer in Chinese; without a known language, yes, as most devices of this protocol speak it."""
        return not self.language or self.language.lower().startswith(("zh", "yue", "cn"))


class Tool(ABC):
    """One thing that can be done.

    `spec.name` is the name its source knows it by, of any length and alphabet; the toolbox makes it fit for language
    models. A source returns the same Tool object as long as the tool is unchanged: the toolbox then keeps its index."""

    spec: ToolSpec
    uninterruptible: bool = False
    """True: once started it runs to its end, even if the turn that asked for it is interrupted."""
    timeout: float | None = None
    """Seconds until it is given up; None: the toolbox's default."""
    late_after: float | None = None
    """Seconds after which the conversation goes on without its result, which is told later (`late_calls.py`); 0: never,
    as of a tool that acts on the answer it is called in; None: the toolbox's default."""
    also_called: str = ""
    """Another name that calls may use, such as the one that the existing xiaozhi server gives it; never offered."""
    answers_directly: str = ""
    """Name of the argument that holds the answer itself, where a call of this tool does nothing but carry the model's
    answer; "" for all other tools. Such a tool is offered in the first round of a turn only, and its answer is spoken
    instead of running it."""

    @abstractmethod
    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        """Do it. `arguments` fit `spec.parameters`. Raises ToolError with a text for the model, VendorError, ..."""


class FunctionTool(Tool):
    """A tool made of a plain function `(arguments, context) -> ToolOutcome`."""

    def __init__(
        self,
        spec: ToolSpec,
        function: Callable[[Mapping[str, Any], ToolContext], ToolOutcome],
        *,
        uninterruptible: bool = False,
        timeout: float | None = None,
        late_after: float | None = None,
        answers_directly: str = "",
    ) -> None:
        self.spec = spec
        self.uninterruptible = uninterruptible
        self.timeout = timeout
        self.late_after = late_after
        self.answers_directly = answers_directly
        self._function = function

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        return self._function(arguments, context)


class SourceKind(IntEnum):
    """Where tools come from. Of two tools of one name the one whose source has the higher kind is offered, as in the
    existing xiaozhi server."""

    PLUGINS = 1
    SERVER_MCP = 2
    DEVICE_IOT = 3
    DEVICE_MCP = 4
    MCP_ENDPOINT = 5


class ToolSource(Protocol):
    """Somewhere tools come from: the plugins, a device, a server. What it offers may change between two calls of
    `tools`."""

    @property
    def name(self) -> str:
        """Short and constant, unique within a toolbox; a label in metrics."""

    @property
    def kind(self) -> SourceKind:
        """Decides which of two tools of one name is offered."""

    def tools(self) -> Sequence[Tool]:
        """What is on offer now; quick, never blocks."""


class FixedTools:
    """A source whose tools never change, such as the plugins."""

    def __init__(self, name: str, tools: Sequence[Tool], kind: SourceKind = SourceKind.PLUGINS) -> None:
        self._name = name
        self._tools = tuple(tools)
        self._kind = kind

    @property
    def name(self) -> str:
        return self._name

    @property
    def kind(self) -> SourceKind:
        return self._kind

    def tools(self) -> Sequence[Tool]:
        return self._tools


class ToolOptions(Section):
    """Base of a tool's options: its block below `plugins` in the configuration. Frozen and typed; a value of the wrong
    type refuses the configuration, an unknown key is warned about."""

    blocks: ClassVar[tuple[str, ...]] = ()
    """Names of the block below `plugins`, where it is not the name of the tool's file; the first one that the
    configuration has is used. Tools of several files share a block by sharing the class of their options."""

    description: str = Field("", description="Replaces the description that the language model sees.")

    @model_validator(mode="before")
    @classmethod
    def _nothing_written_is_the_default(cls, block: Mapping[str, Any]) -> dict[str, Any]:
        # `music_dir:` with nothing behind it.
        return {key: value for key, value in block.items() if value is not None}

    def words(self) -> Mapping[str, str]:
        """What is put in place of `{word}` in the descriptions of the tool and of its parameters, such as the names
        that the configuration allows."""
        return {}

    def missing(self) -> str:
        """What is missing before the tools of this block can work, as "key: reason"; "" when nothing is.

        It is told at the start and by `--check-config`. The tools stay on offer, so that the assistant can tell the
        user. Must be quick: no network."""
        return ""

    def missing_under_console(self) -> str:
        """The same where a management console says how devices are served: it may have what is missing here."""
        return self.missing()

    def briefing(self) -> str:
        """What the language model is told in the system prompt while a tool of this block is on offer, such as the
        things there are in a house."""
        return ""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _on_this_thread(function: Callable[[], Any]) -> Any:
    return function()


@dataclass(frozen=True, slots=True)
class ToolServices:
    """What the composition root lends to the server's own tools."""

    now: Callable[[], datetime] = _utc_now
    """The time where the server's owner lives (aware)."""
    offload: Callable[[Callable[[], Any]], Any] = _on_this_thread
    """Runs what keeps a CPU or a disk busy for more than a millisecond off the hub, and waits for it. The function may
    use nothing of gevent."""
    http: Callable[..., VendorHttp] = VendorHttp
    """Makes an HTTP client: `http("acme", total=5.0, secrets=[key])`; parameters as of VendorHttp. Make it once, in the
    constructor of a class of tools; it is closed with the configuration it belongs to."""
    ring: Ring = nobody_is_there
    """Calls another device."""
    address_book: AddressBook | None = None
    """A console's, which places calls itself; None: there is no console."""
    others: OtherDevices = field(default_factory=NoOtherDevices)
    """The other devices of the household."""
    reminders: ReminderBook | None = None
    """Timers, alarms and reminders of all devices; None: none are kept."""
    voices: VoiceBook | None = None
    """Keeps voices of people; None: voices are not learnt."""
    fetch: Callable[..., GuardedFetch] = GuardedFetch
    """Makes a client for pages whose address comes from elsewhere: `fetch("news", named_hosts=["rss.example"])`."""
