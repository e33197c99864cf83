"""Keys that are accepted and have no effect yet: ONE table. Whoever brings a feature removes its lines here.

A key is told about, with a warning, when a layer gives it another value than its default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xiaozhi.settings.layers import Merged, Path, ships


@dataclass(frozen=True, slots=True)
class NotYet:
    """One key without effect. `says`: what that means for whoever has set it."""

    key: str
    default: Any
    says: str

    @property
    def path(self) -> Path:
        return tuple(self.key.split("."))


_UNSET = ("", "null", "none", "[]", "()", "{}")

NOT_YET: tuple[NotYet, ...] = (
    NotYet("server.udp_gateway", "", "the UDP side of a gateway is announced by the gateway itself"),
    NotYet("delete_audio", True, "`history: {mode: sound}` keeps what users say"),
    NotYet("xiaozhi.version", 1, "the hello says version 1; `boards.<name>.protocol_version` chooses the framing"),
    NotYet("llm_timeout.connect", 5, "`timeout: {connect: ...}` in the block of the language model decides"),
    NotYet("module_test", None, "this server has no test of modules; `make check` tries the vendors"),
    NotYet("protocols", None, "devices may use the WebSocket, and MQTT where `mqtt.port` is set"),
    NotYet("mqtt_server", None, "`mqtt: {port: 1883}` opens a port for MQTT"),
)
"""Blocks of `plugins` without a plugin need no line: `tools/registry.py` knows which plugins there are."""


def warnings_of(merged: Merged, tree: Mapping[str, Any] | None = None) -> list[str]:
    """A warning for every key without effect in `tree` (by default the whole of `merged`)."""
    found = []
    for row in _written(merged.tree if tree is None else tree):
        length = len(row.path)
        sources = {source: None for path, source in merged.origins.items() if path[:length] == row.path}
        own = [source for source in sources if not ships(source)]
        if own:
            found.append(f"{row.key} has no effect: {row.says} (set by {', '.join(own)})")
    return found


def told_here(key: str) -> bool:
    """Whether `key`, dotted, stands in the table, so that nobody else need speak of it."""
    return any(key == row.key for row in NOT_YET)


def _written(tree: Mapping[str, Any]) -> Iterator[NotYet]:
    for row in NOT_YET:
        value: Any = tree
        for key in row.path:
            value = value.get(key) if isinstance(value, Mapping) else None
        text = str(value).strip().casefold()
        unset = value is None or text in _UNSET
        if not unset and value != row.default and text != str(row.default).casefold():
            yield row
