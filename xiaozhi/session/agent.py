"""What one device's assistant is: settings, providers, prompt, voice, tools. And where a session gets it from.

An agent is made from the configuration and a device's own settings (`app/wiring.py`). Devices with equal settings share
one; its holders are counted, and it is closed when the last of them has released it. Nothing of any one session lives
here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from xiaozhi.protocol import messages as wire
from xiaozhi.providers.contracts.asr import Asr
from xiaozhi.providers.contracts.end_of_turn import EndOfTurn
from xiaozhi.providers.contracts.intent import Intent
from xiaozhi.providers.contracts.llm import Llm
from xiaozhi.providers.contracts.memory import Memory
from xiaozhi.providers.contracts.tts import Tts
from xiaozhi.providers.contracts.vad import Vad
from xiaozhi.providers.contracts.vllm import Vllm
from xiaozhi.providers.contracts.voiceprint import Voiceprint
from xiaozhi.session.link import Identity
from xiaozhi.session.speaking.phrases import Phrases
from xiaozhi.session.turns.answer_cache import AnswerCache
from xiaozhi.session.turns.prompt import Prompter
from xiaozhi.settings import Settings
from xiaozhi.tools.base import ToolSource


@dataclass(frozen=True, slots=True)
class ProviderSet:
    """The providers that an agent works with."""

    vad: Vad
    asr: Asr
    llm: Llm
    tts: Tts
    memory: Memory
    intent: Intent
    vllm: Vllm | None = None
    voiceprint: Voiceprint | None = None
    end_of_turn: EndOfTurn | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    """kind -> name of the selected block, for people."""


def _nobody_is_told(agent: Agent) -> None:
    """For agents that live as long as the process."""


class Holders:
    """How many hold an agent. Whoever makes one holds it."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 1


@dataclass(frozen=True, slots=True, eq=False)
class Agent:
    """See the module. Who has one from an `AgentSource` calls `release` once."""

    settings: Settings
    """The configuration with the device's own settings over it."""
    providers: ProviderSet
    prompter: Prompter
    phrases: Phrases
    plugins: ToolSource
    shared_tools: tuple[ToolSource, ...] = ()
    """MCP servers and endpoints, whose connections other agents may use as well."""
    answers: AnswerCache | None = None
    """None: the language model is asked every question."""
    output_limit: int | None = None
    """Characters a day (0: no limit) for a device with settings of its own; None: the general limit."""
    close: Callable[[], None] = lambda: None
    """Gives back what the agent works with, its leases of providers among them; returns at once, idempotent. For the
    one who is told by `on_unused`; everybody else calls `release`."""
    on_unused: Callable[[Agent], None] = _nobody_is_told
    """Told once, when nobody holds the agent any more; returns at once."""
    holders: Holders = field(default_factory=Holders)

    def hold(self) -> Agent:
        """This agent, held by one more."""
        self.holders.count += 1
        return self

    def release(self) -> None:
        """One holder less."""
        self.holders.count -= 1
        if self.holders.count == 0:
            self.on_unused(self)


class AgentSource(Protocol):
    """Decides which agent a device gets. Agents come held: release them once."""

    def default(self) -> Agent:
        """The agent of a device without settings of its own. Never blocks."""

    def has_own(self, identity: Identity) -> bool:
        """True: `resolve` has to be asked. False: the default is this device's agent. Never blocks."""

    def resolve(self, identity: Identity, hello: wire.Hello | None) -> Agent:
        """The agent of a device; `hello` is what it said of itself, None when it has not said anything yet. May block;
        the caller has a deadline.

        Raises Overloaded and AuthError when the device must not talk now, NotServed when it is to be told why it has no
        agent, and asked for again. Whatever else it raises means that the device
        is served by the default agent."""
