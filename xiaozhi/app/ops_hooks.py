"""What operators and their tools are answered, put together from the parts of a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xiaozhi import __version__
from xiaozhi.app.generations import Generation
from xiaozhi.app.management import ManagementConsole
from xiaozhi.app.telemetry import dearest
from xiaozhi.app.vendor_health import VendorHealth
from xiaozhi.errors import Fault
from xiaozhi.runtime.connections import ConnectionRegistry
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.web.addresses import ServerAddresses
from xiaozhi.web.ops import OpsHooks, PageFacts


def ops_hooks(
    *,
    ready: Callable[[], tuple[bool, list[str]]],
    addresses: ServerAddresses,
    metrics: Metrics,
    reload: Callable[[], Sequence[Fault]],
    current: Callable[[], Generation],
    connections: ConnectionRegistry,
    vendors: VendorHealth,
    console: ManagementConsole | None,
    clock: Callable[[], float],
) -> OpsHooks:
    """`current`: what is in force. `console`: the management console, if there is one."""

    def failing() -> list[str]:
        return [*vendors.failing, *(console.failing if console is not None else ())]

    has_console = current().loaded.settings.console.enabled  # takes a restart

    def facts() -> PageFacts:
        return PageFacts(
            version=__version__,
            providers=current().agent.providers.names,
            connections=len(connections),
            failing=failing(),
            limitations=vendors.limitations,
            console=has_console,
        )

    return OpsHooks(
        ready=ready,
        addresses=addresses,
        facts=facts,
        metrics=metrics.render,
        reload=reload,
        devices=lambda: dearest(connections.members(), clock()),
        failing=failing,
    )
