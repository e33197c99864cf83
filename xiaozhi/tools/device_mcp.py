"""The tools that a device brings along: MCP (JSON-RPC 2.0) inside the `mcp` messages of its own connection.

We are the MCP client, the device is the server: initialize, notifications/initialized, tools/list page by page, then
tools/call as the model wishes. Not the transport: `send` puts one payload on the wire, `on_payload` is handed each one
that came. The device is not trusted: `jsonrpc.py` and `mcp_content.py` bound what it may say.

Facts of the firmware (78/xiaozhi-esp32, main/mcp_server.cc and docs/mcp-protocol.md): ids must be numbers and come back
as they were; an error has a message but often no code; a page of tools is cut at 8,000 bytes and the cursor is the name
of the next tool; arguments of another JSON type than declared count as missing; a device without
capabilities.vision.url has no address to send its pictures to. Protocol: MCP 2024-11-05.

Other clients answer initialize with an error or not at all, and list their tools all the same. The MQTT gateway answers
tools/list itself, from what the device has told it so far: behind it the tools are listed again until two listings
agree."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypedDict

import orjson
from gevent import Greenlet
from gevent.lock import BoundedSemaphore

from xiaozhi.chat import ToolSpec
from xiaozhi.errors import ToolError, forget_trace
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.tools.base import SourceKind, Tool, ToolContext, ToolOutcome
from xiaozhi.tools.jsonrpc import JsonRpcClient, JsonRpcLimits
from xiaozhi.tools.mcp_content import ListingLimits, ToolListing, outcome

log = get_logger(__name__)

_TOOL_BYTES = 1_000
"""Roughly what a tool takes beside its texts."""
_BYTES_PER_CHAR = 6
"""A schema is kept as dictionaries, which take more than the text they came from."""
STATUS = "self.get_device_status"
"""The firmware's tool whose answer has `network.signal`: strong, medium or weak."""
PROTOCOL_VERSION = "2024-11-05"
CLIENT_INFO = {"name": "xiaozhi-server", "version": "1.0"}


class Vision(TypedDict):
    """Where the device's camera sends its pictures, and with which token."""

    url: str
    token: str


@dataclass(frozen=True, slots=True)
class DeviceMcpLimits:
    """Bounds of one device's MCP session."""

    initialize_timeout: float = 5.0
    """Seconds for the answer to initialize; then the tools are listed without it."""
    handshake_timeout: float = 10.0
    """Seconds for each page of tools."""
    handshake_attempts: int = 2
    call_timeout: float = 120.0
    """Seconds for the answer to a tools/call; a last resort, as the toolbox's own deadline comes first."""
    operator_timeout: float = 10.0
    """Seconds for a whole listing that an operator asks for."""
    operator_call_timeout: float = 30.0
    """Seconds for the answer to a call of an operator."""
    relist_seconds: float = 1.0
    """Least time between two listings that the device's notifications ask for, and between those behind a gateway."""
    gateway_listings: int = 5
    """Most listings behind a gateway that still learns tools."""
    rpc: JsonRpcLimits = field(default_factory=JsonRpcLimits)
    listing: ListingLimits = field(default_factory=ListingLimits)


class DeviceMcp:
    """One device's MCP session; also the toolbox's source of the tools it offers.

    `send(payload)` must not block for long and may raise ConnectionClosed. `on_server_name` is told what the device
    calls itself: firmware gives the name of its board. `on_signal` is told what it says of its signal, in answers that
    are asked for anyway: dBm (None: no number), and whether it is weak. `through_gateway`: the answers come from the
    MQTT gateway."""

    def __init__(
        self,
        send: Callable[[dict[str, Any]], None],
        tasks: Tasks,
        *,
        on_server_name: Callable[[str], None] = lambda name: None,
        on_signal: Callable[[int | None, bool], None] = lambda rssi, weak: None,
        through_gateway: bool = False,
        limits: DeviceMcpLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tasks = tasks
        self._clock = clock
        self._limits = limits or DeviceMcpLimits()
        self._tools: tuple[DeviceTool, ...] = ()
        self._chars = 0
        """Of the texts of all tools."""
        self._vision: Vision | None = None
        self._on_server_name = on_server_name
        self._on_signal = on_signal
        self._relistings_left = self._limits.gateway_listings - 1 if through_gateway else 0
        self._begun = False
        """Whether the tools were asked for."""
        self._handshake_task: Greenlet | None = None
        self._relist_task: Greenlet | None = None
        self._one_listing = BoundedSemaphore(1)
        self._one_operator = BoundedSemaphore(1)
        self.rpc = JsonRpcClient(
            send,
            peer="the device",
            limits=self._limits.rpc,
            methods={"ping": lambda params: {}},
            on_notification=self._on_notification,
        )

    @property
    def name(self) -> str:
        return "device"

    @property
    def kind(self) -> SourceKind:
        return SourceKind.DEVICE_MCP

    def tools(self) -> Sequence[Tool]:
        """What the device offers now; empty until it has listed its tools."""
        return self._tools

    @property
    def held_bytes(self) -> int:
        """Roughly what the tools take in memory."""
        return _BYTES_PER_CHAR * self._chars + _TOOL_BYTES * len(self._tools)

    @property
    def listing(self) -> bool:
        """Whether the handshake or a listing of the tools is under way, or about to begin."""
        return any(task is not None and not task.dead for task in (self._handshake_task, self._relist_task))

    def start(self, vision: Vision | None = None) -> None:
        """Begin the handshake in the background; returns at once. A second call begins it anew, with the new
        `vision`."""
        if self.rpc.closed:
            return
        self._vision = vision
        if self._handshake_task is not None:
            self._handshake_task.kill(block=False)
        self._handshake_task = self._tasks.spawn("device-mcp-handshake", self._handshake)

    def on_payload(self, payload: Any) -> None:
        """Take one payload of an `mcp` message, whatever it is. Never raises, never blocks for long."""
        self.rpc.receive(payload)

    def close(self) -> None:
        """The device is gone: every waiting call fails now, no new one is made. Idempotent."""
        self.rpc.close()
        self._tools, self._chars = (), 0
        for task in (self._handshake_task, self._relist_task):
            if task is not None:
                task.kill(block=False)
        self._handshake_task = self._relist_task = None

    def call_tool(self, name: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        """Run one of the device's tools by its own name; blocks. Raises ToolError."""
        params = {"name": name, "arguments": dict(arguments)}
        found = outcome(self.rpc.request("tools/call", params, self._limits.call_timeout))
        if name == STATUS:
            self._tell_signal(found.text)
        return found

    # --- operators ---

    def list_for_operators(self) -> list[ToolSpec]:
        """All tools of the device, those included that no language model may have, asked for anew; blocks. Raises
        ToolError."""
        with self._an_operator():
            until = self._clock() + self._limits.operator_timeout
            listing = ToolListing(self._limits.listing, for_users=True)
            cursor: str | None = ""
            while cursor is not None:
                left = until - self._clock()
                if left <= 0:
                    raise ToolError(f"the device did not list its tools within {self._limits.operator_timeout:g} s")
                cursor = listing.add(self.rpc.request("tools/list", {"cursor": cursor, "withUserTools": True}, left))
            return list(listing.specs.values())

    def call_for_operators(self, name: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        """Run any tool of the device by its own name; blocks. Raises ToolError."""
        with self._an_operator():
            params = {"name": name, "arguments": dict(arguments)}
            return outcome(self.rpc.request("tools/call", params, self._limits.operator_call_timeout))

    @contextmanager
    def _an_operator(self) -> Iterator[None]:
        # One at a time: the device's own turn has the other places for unanswered requests.
        if not self._one_operator.acquire(blocking=False):
            raise ToolError("the device is still busy with the request of an operator")
        try:
            yield
        finally:
            self._one_operator.release()

    # --- handshake and listing ---

    def _handshake(self) -> None:
        for attempt in range(1, self._limits.handshake_attempts + 1):
            try:
                self._initialize()
                self._begun = True
                self._list_tools()
                if self._relistings_left:
                    self._list_soon()
            except ToolError as error:
                forget_trace(error)
                if self.rpc.closed:
                    return
                log.warning("device mcp handshake failed", attempt=attempt, error=str(error)[:200])
            else:
                return

    def _initialize(self) -> None:
        capabilities: dict[str, Any] = {}
        if self._vision is not None:
            capabilities["vision"] = {"url": self._vision["url"], "token": self._vision["token"]}
        params = {"protocolVersion": PROTOCOL_VERSION, "capabilities": capabilities, "clientInfo": CLIENT_INFO}
        try:
            result = self.rpc.request("initialize", params, self._limits.initialize_timeout)
        except ToolError as error:
            if self.rpc.closed:
                raise
            log.info("device mcp not initialized, listing its tools all the same", error=str(error)[:200])
            return
        self._tell_name(result)
        self.rpc.notify("notifications/initialized")

    def _tell_name(self, result: Any) -> None:
        server = result.get("serverInfo") if isinstance(result, Mapping) else None
        name = server.get("name") if isinstance(server, Mapping) else None
        if isinstance(name, str) and name.isprintable():
            self._on_server_name(name)

    def _tell_signal(self, status: str) -> None:
        try:
            network = orjson.loads(status)["network"]
            rssi, signal = network.get("rssi"), network.get("signal")
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            return
        number = rssi if type(rssi) is int and -200 < rssi < 0 else None
        if number is not None or isinstance(signal, str):
            self._on_signal(number, signal == "weak")

    def _list_tools(self) -> None:
        with self._one_listing:
            listing = ToolListing(self._limits.listing)
            cursor: str | None = ""
            while cursor is not None:
                try:
                    page = self.rpc.request("tools/list", {"cursor": cursor}, self._limits.handshake_timeout)
                except ToolError:
                    if not listing.specs or self._tools:
                        # An old offer that was whole is better than a part of the new one.
                        raise
                    break
                cursor = listing.add(page)
            if not listing.whole:
                log.warning("device tool list cut off", tools=len(listing.specs), pages=listing.pages)
            self._offer(listing)

    def _offer(self, listing: ToolListing) -> None:
        if self.rpc.closed:
            return
        known = {tool.spec.name: tool for tool in self._tools}
        tools = []
        for name, spec in listing.specs.items():
            old = known.get(name)
            tools.append(old if old is not None and old.spec == spec else DeviceTool(self, spec))
        self._tools, self._chars = tuple(tools), listing.chars
        log.info("device tools", count=len(tools), skipped=listing.skipped)

    def _on_notification(self, method: str, params: Any) -> None:
        if method == "notifications/tools/list_changed" and self._begun:
            self._list_soon()

    def _list_soon(self) -> None:
        # One listing serves any number of wishes that come before it begins.
        if self._relist_task is None:
            self._relist_task = self._tasks.spawn_later(
                self._limits.relist_seconds, "device-mcp-relist", self._list_again
            )

    def _list_again(self) -> None:
        self._relist_task = None
        before = self._tools
        try:
            self._list_tools()
        except ToolError as error:
            forget_trace(error)
            if not self.rpc.closed:
                log.warning("device tools not listed again", error=str(error)[:200])
            return
        if self._relistings_left:
            self._relistings_left -= 1
            if self._relistings_left and self._tools != before:
                self._list_soon()


class DeviceTool(Tool):
    """One tool of a device, under the device's own name."""

    late_after = 0.0

    def __init__(self, device: DeviceMcp, spec: ToolSpec) -> None:
        self.spec = spec
        self._device = device

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        return self._device.call_tool(self.spec.name, arguments)
