"""No memory between visits: every conversation starts fresh."""

from __future__ import annotations

from collections.abc import Sequence

from xiaozhi.chat import Message
from xiaozhi.providers.contracts.memory import Memory, MemoryTraits
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.registry import provider


@provider("memory", "nomem", ProviderOptions)
class NoMemory(Memory):
    """Recalls nothing, saves nothing."""

    traits = MemoryTraits(offline=True, remembers=False)

    def __init__(self, options: ProviderOptions) -> None:
        del options

    def recall(self, device_id: str, query: str) -> str:
        return ""

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        return None
