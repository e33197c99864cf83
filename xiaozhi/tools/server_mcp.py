"""MCP servers of the configuration: one connection per server and process, whatever the number of devices.

The connection itself is in the sidecar (`sidecar/mcp_clients.py`, the official SDK); here is the source of tools that
sessions see, and the decisions: when to connect, to list again, to ping."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from xiaozhi.errors import Overloaded, ToolError, VendorError, VendorTimeout
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.sidecar import Sidecar
from xiaozhi.tools import mcp_content
from xiaozhi.tools.base import SourceKind, ToolOutcome
from xiaozhi.tools.connected_source import ConnectedSource
from xiaozhi.tools.mcp_servers import McpServer

log = get_logger(__name__)

SERVICE = "mcp"
CONNECT_SECONDS = 90.0
"""For starting a program and shaking hands: npx loads a package first."""
LIST_SECONDS = 15.0
PING_DEADLINE_S = 10.0
CLOSE_SECONDS = 10.0
LONGEST_CALL_S = 3600.0
"""A last resort, as the toolbox's own deadline comes first."""

_numbers = itertools.count(1)


class ServerMcp(ConnectedSource):
    """One server. Options: see ConnectedSource."""

    def __init__(self, server: McpServer, sidecar: Sidecar, **options: Any) -> None:
        super().__init__(
            f"mcp:{server.name}",
            SourceKind.SERVER_MCP,
            peer=f"the MCP server {server.name}",
            call_seconds=server.call_seconds,
            late_after=server.late_after,
            secrets=server.secrets,
            **options,
        )
        self.server = server
        self._sidecar = sidecar
        # Two configurations may have servers of one name, for a while.
        self._key = f"{server.name}#{next(_numbers)}"
        self._connected = False
        """Whether the sidecar may have a connection under our key."""
        self._last_words = ""
        """What its program wrote to standard error last, before it was connected."""
        self._unlisten = sidecar.listen(SERVICE, self._on_event)

    def _ask(self, method: str, params: Mapping[str, Any], seconds: float) -> Any:
        return self._sidecar.request(SERVICE, method, {"name": self._key, **params}, seconds)

    def _open(self) -> None:
        self._last_words = ""
        self._connected = True  # perhaps: who is killed while the answer comes must hang up, too
        try:
            about = self._ask("connect", self.server.params, CONNECT_SECONDS)
        except VendorError as error:
            if self._last_words:
                raise ToolError(f"{self._shown(error)}; it said: {self._last_words}") from error
            raise
        log.info("MCP server", source=self.name, **about)

    def _page(self, cursor: str) -> Any:
        page = self._ask("list", {"cursor": cursor}, LIST_SECONDS)
        if page["left_out"]:
            log.warning("tools are too long and left out", source=self.name, count=page["left_out"])
        return page

    def _ping(self) -> None:
        self._ask("ping", {}, PING_DEADLINE_S)

    def _call(self, tool: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        params = {"name": self._key, "tool": tool, "arguments": dict(arguments)}
        try:
            with self._sidecar.stream(SERVICE, "call", params, LONGEST_CALL_S) as call:
                for progress in call:
                    log.debug("tool progress", source=self.name, tool=tool, **_numbers_of(progress))
        except VendorTimeout as error:
            raise VendorError(self.peer, "did not answer") from error
        return mcp_content.outcome(call.result, peer=self.peer)

    def _hang_up(self) -> None:
        if self._closed:
            self._unlisten()
        if self._connected and self._sidecar.pid is not None:
            tasks.spawn("mcp-disconnect", self._disconnect)
        self._connected = False

    def _disconnect(self) -> None:
        try:
            self._ask("disconnect", {}, CLOSE_SECONDS)
        except (VendorError, Overloaded) as error:
            log.debug("not disconnected", source=self.name, error=str(error)[:200])

    def _on_event(self, event: str, data: Any) -> None:
        if event == "down":
            self._connected = False
            self._connection_lost("the sidecar has ended")
        elif data["name"] != self._key:
            return
        elif event == "changed":
            self._list_changed()
        elif event == "closed":
            self._connected = False
            self._connection_lost("it has ended, or closed the connection")
        elif event == "said":
            # Before it is connected a program says why it cannot start; later it may say what it was asked.
            if self.up:
                log.debug("MCP server says", source=self.name, text=data["line"])
            else:
                self._last_words = self._clean(data["line"])
                log.info("MCP server says", source=self.name, line=self._last_words)
        elif event == "log":
            log.debug("MCP server logs", source=self.name, level=data["level"], text=data["text"])

    def _clean(self, line: str) -> str:
        return self._shown(ValueError(line))


def _numbers_of(progress: Mapping[str, Any]) -> dict[str, Any]:
    return {key: progress[key] for key in ("progress", "total") if progress.get(key) is not None}
