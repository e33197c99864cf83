"""Tools behind an MCP endpoint: a WebSocket that we dial, with somebody's MCP servers on its other side.

The endpoint service has two doors: tool sides come in by `/mcp/`, those who call them by `/call/`. People are given the
address of the first, so it is turned into the second. One connection per address serves all devices that have it.
Protocol: MCP 2024-11-05, one JSON-RPC message per text message; the other side is not trusted (`jsonrpc.py`,
`mcp_content.py`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
from gevent import Greenlet

from xiaozhi.errors import ConnectionClosed, ToolError, VendorError
from xiaozhi.net.websocket_client import VendorSocket
from xiaozhi.protocol import close_codes
from xiaozhi.runtime.logs import get_logger
from xiaozhi.tools import mcp_content
from xiaozhi.tools.base import SourceKind, ToolOutcome
from xiaozhi.tools.connected_source import ConnectedSource
from xiaozhi.tools.jsonrpc import JsonRpcClient, JsonRpcLimits

log = get_logger(__name__)

NAME = "mcp_endpoint"
PROTOCOL_VERSION = "2024-11-05"
CLIENT_INFO = {"name": "XiaozhiMCPEndpointClient", "version": "1.0.0"}
CAPABILITIES: Mapping[str, Any] = {"roots": {"listChanged": True}, "sampling": {}}
CONNECT_SECONDS = 10.0
HANDSHAKE_SECONDS = 15.0
LIST_SECONDS = 15.0
PING_DEADLINE_S = 15.0
LONGEST_CALL_S = 3600.0
"""A last resort, as the toolbox's own deadline comes first."""
LONGEST_SILENCE_S = 3600.0
"""Pings are heard long before."""
MAX_MESSAGE_BYTES = 1 << 20
"""A longer message ends the connection: it would be decoded in one go."""
PENDING = 256
"""Calls of all devices that wait for an answer at once."""
_PLACEHOLDER = re.compile(r"你的|^(null|none)$", re.IGNORECASE)


def call_address(configured: str) -> str:
    """Where to dial for a configured address; "" when there is none. Raises ValueError saying what is wrong with it."""
    address = configured.strip()
    if not address or _PLACEHOLDER.search(address):
        return ""
    parts = urlsplit(address)
    if parts.scheme not in ("ws", "wss"):
        raise ValueError("must start with ws:// or wss://")
    # Only the path: a token may hold any word.
    steps = parts.path.split("/")
    if "mcp" in steps:
        steps[len(steps) - 1 - steps[::-1].index("mcp")] = "call"
    elif "call" not in steps:
        raise ValueError("must be the address of an endpoint, with /mcp/ or /call/ in its path")
    return parts._replace(path="/".join(steps)).geturl()


class McpEndpoint(ConnectedSource):
    """One endpoint; `address` as `call_address` gives it. Options: see ConnectedSource."""

    def __init__(self, address: str, **options: Any) -> None:
        secrets = [value for _, value in parse_qsl(urlsplit(address).query) if value]
        super().__init__(NAME, SourceKind.MCP_ENDPOINT, peer="the MCP endpoint", secrets=secrets, **options)
        self._address = address
        self._socket: VendorSocket | None = None
        self._rpc: JsonRpcClient | None = None
        self._reader: Greenlet | None = None

    def _open(self) -> None:
        socket = self._socket = VendorSocket(
            NAME, self._address, connect=CONNECT_SECONDS, secrets=self._secrets, max_message=MAX_MESSAGE_BYTES
        )
        rpc = self._rpc = JsonRpcClient(
            lambda message: _send(socket, message),
            peer=self.peer,
            limits=JsonRpcLimits(pending=PENDING),
            methods={"ping": lambda params: {}, "roots/list": lambda params: {"roots": []}},
            on_notification=self._on_notification,
        )
        self._reader = self._tasks.spawn("mcp-endpoint-reader", self._read, socket, rpc)
        params = {"protocolVersion": PROTOCOL_VERSION, "capabilities": CAPABILITIES, "clientInfo": CLIENT_INFO}
        rpc.request("initialize", params, HANDSHAKE_SECONDS)
        rpc.notify("notifications/initialized")

    def _page(self, cursor: str) -> Any:
        return self._request("tools/list", {"cursor": cursor} if cursor else {}, LIST_SECONDS)

    def _ping(self) -> None:
        rpc = self._rpc
        if rpc is None or rpc.closed:
            raise ToolError(f"{self.peer} has disconnected")
        before = rpc.counts.timeouts
        try:
            rpc.request("ping", {}, PING_DEADLINE_S)
        except ToolError:
            # A refusal is an answer, too.
            if rpc.closed or rpc.counts.timeouts > before:
                raise

    def _call(self, tool: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        params = {"name": tool, "arguments": dict(arguments)}
        return mcp_content.outcome(self._request("tools/call", params, LONGEST_CALL_S), peer=self.peer)

    def _request(self, method: str, params: Mapping[str, Any], seconds: float) -> Any:
        if self._rpc is None:
            raise ToolError(f"{self.peer} has disconnected")
        return self._rpc.request(method, params, seconds)

    def _hang_up(self) -> None:
        socket, rpc, reader = self._socket, self._rpc, self._reader
        self._socket = self._rpc = self._reader = None
        if rpc is not None:
            rpc.close()
        if reader is not None:
            reader.kill(block=False)
        if socket is not None:
            socket.close()

    def _read(self, socket: VendorSocket, rpc: JsonRpcClient) -> None:
        try:
            while True:
                message = socket.receive(LONGEST_SILENCE_S)
                try:
                    rpc.receive(orjson.loads(message))
                except orjson.JSONDecodeError:
                    rpc.receive(None)  # counted as garbage
        except VendorError as error:
            rpc.close()
            self._connection_lost(self._shown(error))

    def _on_notification(self, method: str, params: Any) -> None:
        if method == "notifications/tools/list_changed":
            self._list_changed()


def _send(socket: VendorSocket, message: Mapping[str, Any]) -> None:
    try:
        socket.send_text(orjson.dumps(message, default=str).decode())
    except VendorError as error:
        raise ConnectionClosed(close_codes.ABNORMAL, str(error)) from error
