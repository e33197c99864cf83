"""What MCP says, read forgivingly: pages of tools and results of calls, as devices and servers really write them.

Pure functions and data of decoded JSON; no session and no I/O (`device_mcp.py` has those). Nothing here raises for a
wrong shape: what cannot be read is skipped, or becomes a word in brackets. Protocol: MCP 2024-11-05."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from xiaozhi.chat import ToolSpec
from xiaozhi.tools.base import Action, ToolOutcome
from xiaozhi.tools.schemas import SchemaTooLarge, json_chars, object_schema


@dataclass(frozen=True, slots=True)
class ListingLimits:
    """Bounds of one listing of a peer's tools: they are kept, and shown to the model with every question."""

    pages: int = 32
    tools: int = 128
    name_chars: int = 200
    description_chars: int = 4000
    schema_chars: int = 8_000
    """Of one tool's parameters as JSON; a page of the firmware has no room for more."""
    total_chars: int = 128_000
    """Names, descriptions and parameters of all tools together."""
    oversized: int = 8
    """Schemas that are too large before no other is looked at: each costs a millisecond."""
    cursor_chars: int = 1000
    """A longer cursor ends the listing: it would have to be sent back."""


class ToolListing:
    """Collects the pages of `tools/list`. `for_users`: also the tools that are not for a language model."""

    def __init__(self, limits: ListingLimits, *, for_users: bool = False) -> None:
        self._limits = limits
        self._for_users = for_users
        self._cursors: set[str] = set()
        self.chars = 0
        """Names, descriptions and parameters of what was found."""
        self._oversized = 0
        self.specs: dict[str, ToolSpec] = {}
        """What was found, by the peer's own name; the first of two of one name."""
        self.pages = 0
        """Pages added so far."""
        self.skipped = 0
        """Descriptions that were no tools, or had no room."""
        self.whole = False
        """Whether the peer's last page was added."""

    def add(self, page: Any) -> str | None:
        """Take one page; returns the cursor to ask for the next one with, None when no other is wanted."""
        given = page if isinstance(page, Mapping) else {}
        listed, cursor = given.get("tools"), given.get("nextCursor")
        for described in listed if isinstance(listed, list) else ():
            self._add_tool(described)
        self.pages += 1
        if not isinstance(cursor, str) or not cursor:
            self.whole = True
            return None
        full = self.pages >= self._limits.pages or len(self.specs) >= self._limits.tools
        if full or len(cursor) > self._limits.cursor_chars or cursor in self._cursors:
            return None
        self._cursors.add(cursor)
        return cursor

    def _add_tool(self, described: Any) -> None:
        limits = self._limits
        name = described.get("name") if isinstance(described, Mapping) else None
        if isinstance(name, str) and (name in self.specs or not (self._for_users or _for_models(described))):
            return
        if len(self.specs) >= limits.tools or not isinstance(name, str) or not 0 < len(name) <= limits.name_chars:
            self.skipped += 1
            return
        description = described.get("description")
        text = description[: limits.description_chars] if isinstance(description, str) else ""
        parameters = self._parameters(described.get("inputSchema"))
        chars = len(name) + len(text) + json_chars(parameters)
        if parameters is None or self.chars + chars > limits.total_chars:
            self.skipped += 1
            return
        self.chars += chars
        self.specs[name] = ToolSpec(name, text, parameters)

    def _parameters(self, schema: Any) -> dict[str, Any] | None:
        """The schema made fit for models, None when it is too large."""
        if self._oversized >= self._limits.oversized:
            return None
        try:
            parameters = object_schema(schema)
            if json_chars(parameters) <= self._limits.schema_chars:
                return parameters
        except SchemaTooLarge:
            pass
        self._oversized += 1
        return None


def _for_models(described: Mapping[str, Any]) -> bool:
    """Whether a language model may have this tool: its annotations may say that it is for the user alone."""
    annotations = described.get("annotations")
    audience = annotations.get("audience") if isinstance(annotations, Mapping) else None
    if isinstance(audience, str):
        audience = [audience]
    return not isinstance(audience, list) or not audience or "assistant" in audience


_ACTIONS: Final[Mapping[str, Action]] = {
    "RESPONSE": Action.SPEAK,
    "REQLLM": Action.ASK_LLM,
    "RECORD": Action.RECORD,
    "NONE": Action.NOTHING,
    "ERROR": Action.ERROR,
    "NOTFOUND": Action.ERROR,
}
"""What follows, by the names that results carry under "action"."""


def outcome(result: Any, peer: str = "the device") -> ToolOutcome:
    """What the model is told of a tools/call result: its texts, and a word for what is no text. A result may say itself
    what follows: {"action": "RESPONSE", "response": "..."}, the answer of the vision service, is spoken as it is.
    `peer` names the other side."""
    content = result.get("content") if isinstance(result, Mapping) else None
    if isinstance(content, list):
        text = "\n".join(_content_text(item) for item in content)
    elif isinstance(result, str):
        text = result
    else:
        # Not what the protocol says, but some boards answer with a bare value.
        text = _written(result)
    failed = isinstance(result, Mapping) and result.get("isError") is True
    if failed:
        return ToolOutcome(Action.ERROR, text or f"{peer} reported an error", result)
    return _decided(text, result) or ToolOutcome(Action.ASK_LLM, text, result)


def _decided(text: str, result: Any) -> ToolOutcome | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    named = said.get("action")
    action = _ACTIONS.get(named.upper()) if isinstance(named, str) else None
    words = said.get("response") or said.get("result")
    if action is None or not (isinstance(words, str) or action is Action.NOTHING):
        return None
    return ToolOutcome(action, words.strip() if isinstance(words, str) else "", result)


def _written(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return "[unknown content]"


def _content_text(item: Any) -> str:
    if isinstance(item, Mapping):
        text = item.get("text")
        if isinstance(text, str):
            return text
        kind = item.get("type")
        return f"[{kind}]" if isinstance(kind, str) else "[unknown content]"
    return item if isinstance(item, str) else "[unknown content]"
