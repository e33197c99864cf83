"""Tools that the server itself brings: one file each, found by the name of the tool.

A plugin file `xiaozhi/tools/plugins/<tool name>.py` has a function `build(options, services) -> Tool`. Its options are
the block `plugins.<tool name>` of the configuration, as written there. No list is edited to add one, and nothing is
imported that is not asked for. Not for tools of devices or of foreign MCP servers: those come live from their sources.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from xiaozhi.errors import Fault, SettingsError
from xiaozhi.tools.base import FixedTools, Tool

T = TypeVar("T")

ALWAYS = ("handle_exit_intent", "get_time")
"""On offer whatever the configuration lists."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _inline(function: Callable[[], T]) -> T:
    return function()


@dataclass(frozen=True, slots=True)
class PluginServices:
    """What the composition root lends to plugins."""

    now: Callable[[], datetime] = _utc_now
    """The time where the server's owner lives (aware)."""
    offload: Callable[[Callable[[], Any]], Any] = _inline
    """Runs what keeps a CPU or a disk busy for more than a millisecond off the hub, and waits for it."""


@dataclass(frozen=True, slots=True)
class Plugins:
    """What `load` found."""

    source: FixedTools
    unknown: tuple[str, ...]
    """Names that were asked for but do not exist, to be named in a warning."""


def known_plugins() -> list[str]:
    """Names of the plugins that ship with this tree."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(names: Iterable[str], options: Mapping[str, Any], services: PluginServices | None = None) -> Plugins:
    """Build the named plugins, and those that are always there, with their blocks of `options`.

    Names nobody knows are reported, not refused: files of the existing server list plugins that this one may not have.
    Raises SettingsError with every wrong option."""
    known = set(known_plugins())
    wanted = list(dict.fromkeys([*ALWAYS, *names]))
    tools: list[Tool] = []
    faults: list[Fault] = []
    for name in wanted:
        if name not in known:
            continue
        block = options.get(name)
        module = importlib.import_module(f"{__name__}.{name}")
        try:
            tools.append(module.build(block if isinstance(block, Mapping) else {}, services or PluginServices()))
        except SettingsError as error:
            faults.extend(error.faults)
    if faults:
        raise SettingsError(faults)
    return Plugins(FixedTools("plugins", tools), tuple(name for name in wanted if name not in known))
