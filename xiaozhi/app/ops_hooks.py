"""What operators and their tools are answered, put together from the parts of a server."""

from __future__ import annotations

from collections.abc import Callable

from xiaozhi import __version__
from xiaozhi.app.server_parts import ServerParts
from xiaozhi.app.telemetry import dearest
from xiaozhi.web.ops import OpsHooks, PageFacts


def ops_hooks(
    parts: ServerParts, *, ready: Callable[[], tuple[bool, list[str]]], clock: Callable[[], float]
) -> OpsHooks:
    """Where the answers come from, for a server that has a configuration in force."""
    management, vendors, connections = parts.management, parts.vendors, parts.watched.connections
    has_console = parts.current().loaded.settings.console.enabled  # takes a restart

    def failing() -> list[str]:
        return [
            *vendors.failing,
            *(management.failing if management is not None else ()),
            *(parts.shared.failing() if parts.shared is not None else ()),
        ]

    def facts() -> PageFacts:
        return PageFacts(
            version=__version__,
            providers=parts.current().agent.providers.names,
            connections=len(connections),
            failing=failing(),
            limitations=vendors.limitations,
            console=has_console,
        )

    return OpsHooks(
        ready=ready,
        addresses=parts.addresses,
        facts=facts,
        metrics=parts.metrics.render,
        reload=parts.reload,
        devices=lambda: dearest(connections.members(), clock()),
        failing=failing,
        servers=parts.shared.servers if parts.shared is not None else tuple,
    )
