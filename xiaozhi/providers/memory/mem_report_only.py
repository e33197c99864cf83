"""No memory of its own: the conversation is only reported to the management API, which may summarise it there.

The reporting itself belongs to `history/`; this provider exists so that files which select it keep their meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from xiaozhi.chat import Message
from xiaozhi.providers.base import Memory, ProviderOptions
from xiaozhi.providers.registry import provider


@provider("memory", "mem_report_only", ProviderOptions)
class ReportOnly(Memory):
    """Recalls nothing, saves nothing."""

    remembers: ClassVar[bool] = False
    offline: ClassVar[bool] = True

    def __init__(self, options: ProviderOptions) -> None:
        del options

    def recall(self, device_id: str, query: str) -> str:
        return ""

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        return None
