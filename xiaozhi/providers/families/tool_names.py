"""The tools on offer, found under the names that models write: `functions.get_time:0`, `self.audio.set_volume` for
`self_audio_set_volume`, a name with a mark of the chat template stuck to it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from xiaozhi.chat import ToolSpec

_PREFIXES = ("functions.", "function.", "tools.", "tool.", "default_api.", "api.")
_COUNTER = re.compile(r":\d+\Z")
_TOKEN = re.compile(r"[^\s<>|\[\](){}\"'`,;=]+")
_UNSAFE = re.compile(r"[^a-z0-9_]")


def folded(name: str) -> str:
    """What stays the same when a model changes case, dots and dashes."""
    return _UNSAFE.sub("_", name.lower())


class Offer:
    """What can be called in an answer. Worth keeping for the next."""

    def __init__(self, tools: Sequence[ToolSpec] = ()) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._folded: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._tools)

    def resolve(self, written: str) -> str | None:
        """The offered name that `written` means; None when no tool on offer is meant."""
        name = written.strip()
        if name in self._tools:
            return name
        token = _TOKEN.match(name)
        if token is None:
            return None
        name = _COUNTER.sub("", token.group())
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        if name in self._tools:
            return name
        return self._by_folded().get(folded(name))

    def starts(self, beginning: str) -> bool:
        """Whether a tool's name could begin like this, with or without a prefix."""
        if any(prefix.startswith(beginning) for prefix in _PREFIXES):
            return True
        for prefix in _PREFIXES:
            beginning = beginning.removeprefix(prefix)
        begun = folded(beginning)
        return any(name.startswith(begun) for name in self._by_folded())

    def _by_folded(self) -> dict[str, str]:
        if not self._folded:
            self._folded = {folded(name): name for name in self._tools}
        return self._folded

    def properties(self, name: str) -> Mapping[str, Any]:
        """The declared arguments of a tool, in their order."""
        found = self._tools[name].parameters.get("properties") if name in self._tools else None
        return found if isinstance(found, Mapping) else {}


NOTHING_OFFERED: Final = Offer()
