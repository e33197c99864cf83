"""Sources of tools that many agents use at once, leased by what they are: an MCP server by its block, an endpoint by
its address.

A reload that changes nothing, and two devices with equal settings, share one connection. It is closed when its last
lease has been released. Not for plugins, which belong to one configuration, nor for a device's own tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from xiaozhi.errors import Fault
from xiaozhi.runtime.sidecar import Sidecar
from xiaozhi.settings import Settings
from xiaozhi.tools.connected_source import ConnectedSource
from xiaozhi.tools.mcp_endpoint import McpEndpoint, call_address
from xiaozhi.tools.mcp_servers import configured_servers
from xiaozhi.tools.server_mcp import ServerMcp


class SharedTools:
    """One object per process."""

    def __init__(self, sidecar: Sidecar | None = None) -> None:
        self.sidecar = sidecar or Sidecar()
        self._sources: dict[str, ConnectedSource] = {}
        self._users: dict[str, int] = {}

    def __iter__(self) -> Iterator[ConnectedSource]:
        """Those in use."""
        return iter(tuple(self._sources.values()))

    def lease(self, settings: Settings) -> SourceLease:
        """The sources that a configuration names, connecting in the background. Never blocks."""
        wanted: dict[str, Callable[[], ConnectedSource]] = {
            server.key: lambda server=server: ServerMcp(server, self.sidecar)  # type: ignore[misc]
            for server in configured_servers(settings).servers
        }
        address = _address(settings)
        if address:
            wanted[address] = lambda: McpEndpoint(address)
        return SourceLease(self, [(key, self._held(key, make)) for key, make in wanted.items()])

    def _held(self, key: str, make: Callable[[], ConnectedSource]) -> ConnectedSource:
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = make()
            self._users[key] = 0
            source.start()
        self._users[key] += 1
        return source

    def left(self, key: str) -> None:
        """One user less."""
        self._users[key] -= 1
        if self._users[key] == 0:
            del self._users[key]
            self._sources.pop(key).close()

    def close(self, seconds: float) -> bool:
        """Hang up everything that is still in use and end the sidecar, which has `seconds`; False when it had to be
        killed."""
        for source in self:
            source.close()
        return self.sidecar.stop(seconds)


class SourceLease:
    """Some sources, until `release`."""

    def __init__(self, shared: SharedTools, held: Sequence[tuple[str, ConnectedSource]]) -> None:
        self.sources = tuple(source for _, source in held)
        self._shared = shared
        self._keys = [key for key, _ in held]

    def release(self) -> None:
        """Give them back; returns at once. Idempotent."""
        keys, self._keys = self._keys, []
        for key in keys:
            self._shared.left(key)


def check_shared(settings: Settings) -> tuple[list[Fault], list[str]]:
    """What is wrong with the servers and the endpoint of a configuration: (faults, warnings). Connects nothing."""
    found = configured_servers(settings)
    faults = list(found.faults)
    try:
        call_address(settings.mcp_endpoint)
    except ValueError as error:
        faults.append(Fault("mcp_endpoint", "an address of another kind", str(error)))
    return faults, found.warnings


def _address(settings: Settings) -> str:
    try:
        return call_address(settings.mcp_endpoint)
    except ValueError:
        return ""  # a configuration with this fault is refused before
