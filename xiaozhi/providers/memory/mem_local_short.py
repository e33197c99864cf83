"""A short memory per device, written by a language model at the end of each visit and kept on this machine.

Not a transcript: the model is given the old memory and the visit, and returns the new memory, a page at most. Nothing
leaves the machine except what the chosen language model is told. The offline assistant cannot summarise: with it the
memory stays as it is. Kept in the server's database, which its workers share; what earlier versions and the existing
server kept in files was taken over at start (`storage/earlier_files.py`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeVar

from cachetools import LRUCache
from pydantic import Field

from xiaozhi.chat import CallContext, Message
from xiaozhi.errors import Overloaded, StorageError, VendorError, VendorUnavailable
from xiaozhi.providers.contracts.llm import Llm, final_text
from xiaozhi.providers.contracts.memory import Memory, MemoryTraits
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.registry import provider
from xiaozhi.storage import summaries
from xiaozhi.storage.database import Database

T = TypeVar("T")

CACHED_DEVICES = 2_000
FRESH_S = 30.0
"""How long a summary is believed before it is read again: the device may have talked to another worker meanwhile."""
RECALL_DEADLINE_S = 1.0
STORE_DEADLINE_S = 10.0
_INSTRUCTION = """You keep the long-term memory of a voice assistant about one user.
Merge the conversation below into the existing memory and return the complete new memory as plain text, in the
language the user speaks.
Keep: names and how to address people, family, likes and dislikes, plans with their dates, promises the
assistant made, open topics.
Drop: small talk, weather, commands to the device, anything that is outdated or contradicted by what is newer.
Short statements, one per line, at most {limit} characters in all. Return nothing but the memory."""


class LocalShortMemoryOptions(ProviderOptions):
    """`llm`: name of the LLM block that summarises; empty: the selected one."""

    llm: str = ""
    max_chars: int = Field(1_500, ge=100, le=20_000)
    """Length of a memory, characters."""
    min_messages: int = Field(2, ge=1, le=100)
    """Shorter visits leave the memory as it is."""


@provider("memory", "mem_local_short", LocalShortMemoryOptions)
class LocalShortMemory(Memory):
    """One summary per device, in the table `memory_summary`."""

    needs_services: ClassVar[bool] = True
    traits = MemoryTraits(offline=True)

    def __init__(self, options: LocalShortMemoryOptions, services: Services) -> None:
        self._options = options
        self._services = services
        # device -> (summary, when it was read)
        self._cache: LRUCache[str, tuple[str, float]] = LRUCache(CACHED_DEVICES)

    def recall(self, device_id: str, query: str) -> str:
        known = self._cache.get(device_id)
        if known is not None and time.monotonic() - known[1] < FRESH_S:
            return known[0]
        try:
            return self._load(device_id, RECALL_DEADLINE_S)
        except VendorError:
            if known is None:
                raise
            return known[0]  # better what was true a while ago than nothing

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        said = [message for message in messages if message.role in ("user", "assistant") and message.content]
        if len(said) < self._options.min_messages:
            return
        summariser = self._summariser()
        if not summariser.traits.writes:
            return  # it would only say that it did not understand, and that would be remembered
        talk = "\n".join(f"{'User' if message.role == 'user' else 'Assistant'}: {message.content}" for message in said)
        request = [
            Message("system", _INSTRUCTION.format(limit=self._options.max_chars)),
            Message(
                "user",
                f"Existing memory:\n{self._load(device_id, STORE_DEADLINE_S) or '(none)'}\n\nConversation:\n{talk}",
            ),
        ]
        context = CallContext(device_id=device_id, session_id=session_id)
        summary = final_text(summariser.chat(request, (), context)).strip()
        if summary:
            self._store(device_id, summary[: self._options.max_chars])

    def _summariser(self) -> Llm:
        if self._services.provider is None:
            raise VendorUnavailable(self.name, "no language model to summarise with")
        found: Llm = self._services.provider("llm", self._options.llm)
        return found

    def _load(self, device_id: str, deadline: float) -> str:
        summary = self._ask(
            lambda database: database.read(lambda connection: summaries.of(connection, device_id), deadline=deadline)
        )
        self._cache[device_id] = summary, time.monotonic()
        return summary

    def _store(self, device_id: str, summary: str) -> None:
        self._ask(
            lambda database: database.run(
                lambda connection: summaries.keep(connection, device_id, summary, time.time()),
                deadline=STORE_DEADLINE_S,
            )
        )
        self._cache[device_id] = summary, time.monotonic()

    def _ask(self, query: Callable[[Database], T]) -> T:
        if self._services.database is None:
            raise VendorUnavailable(self.name, "no database to keep memories in")
        try:
            return query(self._services.database)
        except (StorageError, Overloaded) as error:
            raise VendorUnavailable(self.name, str(error)) from error
