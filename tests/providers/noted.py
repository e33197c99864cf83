"""Providers that note when they are made, warmed up and closed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import gevent
from gevent.event import Event

from tests.e2e.stage import merged
from tests.waiting import PATIENCE_S
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.providers.contracts.intent import Intent, Intention
from xiaozhi.providers.contracts.llm import Llm, LlmTraits
from xiaozhi.providers.contracts.memory import Memory, MemoryTraits
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.pool import ProviderPool
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.resilience import BreakerState
from xiaozhi.settings import Loaded, load

ENDPOINT = {"type": "openai", "api_key": "test-key", "model_name": "m"}


class Journal:
    """What the providers of these tests went through, in order, and what holds or breaks them."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.may_warm_up = Event()
        self.may_warm_up.set()
        self.may_close = Event()
        self.may_close.set()
        self.error: Exception | None = None


journal = Journal()


class NotedOptions(ProviderOptions):
    """`file` may name a file."""

    file: str = ""


class _Noted:
    """Tells the journal of its life."""

    name = ""

    def __init__(self, options: NotedOptions) -> None:
        self.options = options
        journal.entries.append("made")

    def warm_up(self) -> None:
        journal.entries.append(f"warming up {self.name}")
        journal.may_warm_up.wait(PATIENCE_S)
        if journal.error is not None:
            raise journal.error

    def close(self) -> None:
        journal.may_close.wait(PATIENCE_S)
        journal.entries.append(f"closed {self.name}")


@provider("llm", "noted", NotedOptions)
class NotedLlm(_Noted, Llm):
    """A language model on this machine."""

    traits = LlmTraits(offline=True)

    def chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        yield "words"


@provider("llm", "remote", NotedOptions)
class RemoteLlm(NotedLlm):
    """A language model of a vendor."""

    traits = LlmTraits(offline=False)


@provider("memory", "asking", NotedOptions)
class AskingMemory(Memory):
    """A memory that works with a language model."""

    needs_services: ClassVar[bool] = True
    traits = MemoryTraits(offline=True)

    def __init__(self, options: NotedOptions, services: Services) -> None:
        self.services = services

    def llm(self, name: str = "") -> Any:
        """What the services give it."""
        assert self.services.provider is not None
        return self.services.provider("llm", name)

    def recall(self, device_id: str, query: str) -> str:
        return ""

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        return

    def close(self) -> None:
        journal.entries.append("closed the memory")


@provider("intent", "plain", NotedOptions)
class PlainIntent(Intent):
    """An intent that works alone."""

    def __init__(self, options: NotedOptions) -> None:
        del options

    def classify(
        self, text: str, history: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Intention:
        return Intention()


def loaded(**overrides: Any) -> Loaded:
    """Settings with language models A, B and C at a vendor, of which A is selected, and Own on this machine."""
    blocks: dict[str, Any] = {name: {**ENDPOINT, "base_url": f"http://127.0.0.1:9/{name}/v1"} for name in "ABC"}
    blocks["Own"] = {"type": f"{__name__}:NotedLlm"}
    blocks["Remote"] = {"type": f"{__name__}:RemoteLlm"}
    voice = {"type": "openai", "api_key": "k", "api_url": "http://127.0.0.1:9/v1", "model": "m", "voice": "v"}
    everything = {
        "selected_module": {"LLM": "A", "ASR": "A", "TTS": "A"},
        "LLM": blocks,
        "ASR": {"A": blocks["A"]},
        "TTS": {"A": voice},
        "Memory": {"Asking": {"type": f"{__name__}:AskingMemory"}},
        "Intent": {"Plain": {"type": f"{__name__}:PlainIntent"}},
    }
    return load(environ={}, overrides=merged(everything, overrides))


def new_pool(heard: list[tuple[str, BreakerState]] | None = None, **limits: Any) -> ProviderPool:
    """A pool whose breakers tell `heard`."""
    told = heard if heard is not None else []
    return ProviderPool(InferencePool(2), lambda report: None, lambda name, state: told.append((name, state)), **limits)


def a_new_journal() -> None:
    """`pytest.fixture(autouse=True)(a_new_journal)`."""
    journal.__init__()  # type: ignore[misc]


def opened_pool() -> Iterator[ProviderPool]:
    """`providers = pytest.fixture(opened_pool)`: a pool, closed in the end."""
    opened = new_pool()
    yield opened
    journal.may_close.set()
    opened.close()


def wait_for(entry: str) -> None:
    """Until the journal has this entry."""
    deadline = gevent.Timeout(PATIENCE_S, AssertionError(f"{entry!r} is not in {journal.entries}"))
    with deadline:
        while entry not in journal.entries:
            gevent.sleep(0)
