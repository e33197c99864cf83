"""`server.py tools`: what a session would be offered, where each tool comes from, and what is not available and why.

Devices' own tools are not among it: they are known when a device connects. MCP servers and the endpoint are really
connected to."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator, Sequence

from xiaozhi.app.wiring import selected_tools, warnings
from xiaozhi.settings import Loaded
from xiaozhi.settings.zone import zone_of
from xiaozhi.tools.base import ToolServices, ToolSource
from xiaozhi.tools.connected_source import ConnectedSource
from xiaozhi.tools.shared_tools import SharedTools
from xiaozhi.tools.toolbox import Toolbox

CONNECT_SECONDS = 30.0
CLOSE_SECONDS = 10.0

Row = tuple[str, str, str]
"""(name as the model sees it, source, availability)"""


def print_tools(loaded: Loaded, connect_seconds: float = CONNECT_SECONDS) -> int:
    """Print the table; the exit code. Blocks until every source is connected, or has failed, or `connect_seconds` have
    passed."""
    rows, notes = list_tools(loaded, connect_seconds)
    widths = [max(len(row[column]) for row in [HEAD, *rows]) for column in (0, 1)]
    for row in [HEAD, *rows]:
        print(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}")
    for note in notes:
        print(f"\nwarning: {note}")
    return 0


HEAD: Row = ("TOOL", "SOURCE", "AVAILABLE")


def list_tools(loaded: Loaded, connect_seconds: float) -> tuple[list[Row], list[str]]:
    """The rows of the table, and what the configuration says that has no effect."""
    settings = loaded.settings
    here = zone_of(settings)
    selection = selected_tools(settings)
    plugins = selection.build(ToolServices(now=lambda: datetime.datetime.now(here))).source
    cannot = {
        chosen.found.name: chosen.options.missing_under_console()
        if settings.under_console
        else chosen.options.missing()
        for chosen in selection.chosen
    }
    shared = SharedTools()
    lease = shared.lease(settings)
    try:
        until = time.monotonic() + connect_seconds
        for source in lease.sources:
            source.settle(max(0.0, until - time.monotonic()))
        toolbox = Toolbox(plugins, *lease.sources)
        rows = [
            *(
                (name, source, f"no: {cannot[name]}" if source == plugins.name and cannot.get(name) else "yes")
                for name, source, _ in toolbox.offered()
            ),
            *_hidden(toolbox, [plugins, *lease.sources]),
            *_missing(lease.sources),
        ]
    finally:
        lease.release()
        shared.close(CLOSE_SECONDS)
    return rows, warnings(loaded)


def _hidden(toolbox: Toolbox, sources: Sequence[ToolSource]) -> Iterator[Row]:
    """Tools that another one of the same name stands in front of."""
    offered = {(source, tool.spec.name) for _, source, tool in toolbox.offered()}
    winners = {tool.spec.name: source for _, source, tool in toolbox.offered()}
    for source in sources:
        for tool in source.tools():
            name = tool.spec.name
            if (source.name, name) not in offered:
                winner = winners.get(name)
                yield name, source.name, f"no: {winner} has a tool of this name" if winner else "no: there are too many"


def _missing(sources: Sequence[ConnectedSource]) -> Iterator[Row]:
    for source in sources:
        if not source.up:
            yield "-", source.name, f"no: {source.fault}"
        elif source.left_out:
            yield "-", source.name, f"no: {source.left_out} tools are too long, too many, or none"
