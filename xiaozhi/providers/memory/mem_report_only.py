"""No memory of its own: the conversation is only reported to the management API, which may summarise it there.

The reporting itself belongs to `history/`; this provider exists so that files which select it keep their meaning.
"""

from __future__ import annotations

from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.memory.nomem import NoMemory
from xiaozhi.providers.registry import provider


@provider("memory", "mem_report_only", ProviderOptions)
class ReportOnly(NoMemory):
    """Recalls nothing, saves nothing."""
