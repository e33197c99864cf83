"""The tools a device brings along: MCP (JSON-RPC 2.0) spoken through the `mcp` messages of its own connection.

We are the MCP client, the device is the server: initialize, notifications/initialized, tools/list page by page, then
tools/call as the mind wishes. Not the transport: `send` puts one payload on the wire, `on_payload` is handed each one
that came. What comes is never trusted: unknown or repeated ids, answers that come too late, cursors that go in circles
and plain garbage are counted and otherwise ignored.

Facts of the firmware (78/xiaozhi-esp32, main/mcp_server.cc and docs/mcp-protocol.md): ids must be numbers and come back
as they were; an error has a message but often no code; a page of tools is cut at 8,000 bytes and the cursor is the name
of the next tool; arguments of another JSON type than declared count as missing; a device without
capabilities.vision.url has no address to send its photographs to. Protocol: MCP 2024-11-05."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from gevent import Greenlet
from gevent.event import AsyncResult, Event
from gevent.lock import BoundedSemaphore

from xiaozhi.chat import ToolSpec
from xiaozhi.errors import ConnectionClosed, ToolError
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.tools.base import Tool, ToolContext, ToolOutcome
from xiaozhi.tools.mcp_content import answer_id, error_text, json_chars, may_echo, object_schema, outcome

log = get_logger(__name__)

PROTOCOL_VERSION = "2024-11-05"
CLIENT_INFO = {"name": "xiaozhi-server", "version": "1.0"}
_METHOD_NOT_FOUND = -32601


class Vision(TypedDict):
    """Where the device's camera sends its pictures, and with which token."""

    url: str
    token: str


@dataclass(frozen=True, slots=True)
class DeviceMcpLimits:
    """Bounds of one device's MCP session."""

    handshake_timeout: float = 10.0
    """Seconds for the answer to initialize and for each page of tools."""
    handshake_attempts: int = 2
    call_timeout: float = 120.0
    """Seconds for the answer to a tools/call; a last resort, as the toolbox's own deadline comes first."""
    pending: int = 16
    """Requests waiting for an answer at once; one more is refused."""
    pages: int = 32
    tools: int = 128
    description_chars: int = 4000
    schema_chars: int = 8_000
    """Of one tool's parameters as JSON; a page of the firmware has no room for more."""
    offer_chars: int = 128_000
    """Names, descriptions and parameters of all tools together: they are kept, and shown to the model with every
    question."""
    name_chars: int = 200
    cursor_chars: int = 1000
    """A longer cursor ends the listing: it would have to be sent back."""
    batch: int = 32
    """Payloads looked at in one JSON-RPC batch."""
    relist_seconds: float = 1.0
    """Least time between two listings that the device's notifications ask for."""


@dataclass(slots=True)
class DeviceMcpCounts:
    """What came from the device that was not simply an answer we waited for."""

    garbage: int = 0
    unknown_ids: int = 0
    """Answers to requests that were never made, or were answered or given up already."""
    notifications: int = 0
    requests: int = 0
    timeouts: int = 0
    refused: int = 0
    skipped_tools: int = 0


class DeviceMcp:
    """One device's MCP session; also the toolbox's source of the tools it offers.

    `send(payload)` must not block for long and may raise ConnectionClosed. `changed()` is called when the offer has
    changed."""

    def __init__(
        self,
        send: Callable[[dict[str, Any]], None],
        tasks: Tasks,
        *,
        limits: DeviceMcpLimits | None = None,
        changed: Callable[[], None] | None = None,
    ) -> None:
        self._send = send
        self._tasks = tasks
        self._limits = limits or DeviceMcpLimits()
        self._changed = changed
        self._next_id = 1
        self._pending: dict[int, AsyncResult] = {}
        self._tools: tuple[DeviceTool, ...] = ()
        self._vision: Vision | None = None
        self._closed = False
        self._initialized = False
        self._shaking: Greenlet | None = None
        self._relist: Greenlet | None = None
        self._listing = BoundedSemaphore(1)
        self._logged_garbage = False
        self.ready = Event()
        """Set when the device's tools have been listed for the first time; stays clear when it never answers."""
        self.server_info: Mapping[str, str] = {}
        """What the device said of itself: name (of the board) and version (of the firmware)."""
        self.counts = DeviceMcpCounts()

    @property
    def name(self) -> str:
        return "device"

    def tools(self) -> Sequence[Tool]:
        """What the device offers now; empty until `ready`."""
        return self._tools

    @property
    def pending(self) -> int:
        """Requests waiting for an answer."""
        return len(self._pending)

    def start(self, vision: Vision | None = None) -> None:
        """Begin the handshake in the background; returns at once. A second call begins it anew, with the new
        `vision`."""
        if self._closed:
            return
        self._vision = vision
        if self._shaking is not None:
            self._shaking.kill(block=False)
        self._shaking = self._tasks.spawn("device-mcp-handshake", self._handshake)

    def close(self) -> None:
        """The device is gone: every pending request fails now, no new one is made. Idempotent."""
        self._closed = True
        self._tools = ()
        pending, self._pending = self._pending, {}
        for result in pending.values():
            result.set_exception(ToolError("the device has disconnected"))
        for task in (self._shaking, self._relist):
            if task is not None:
                task.kill(block=False)
        self._shaking = self._relist = None

    # --- requests to the device ---

    def request(self, method: str, params: Mapping[str, Any], timeout: float) -> Any:
        """Send a request and wait at most `timeout` seconds for its result.

        Raises ToolError: the device refused, did not answer in time, has disconnected, or owes us too many answers."""
        if self._closed:
            raise ToolError("the device has disconnected")
        if len(self._pending) >= self._limits.pending:
            self.counts.refused += 1
            raise ToolError("the device has too many unanswered requests")
        number = self._next_id
        self._next_id += 1
        result = self._pending[number] = AsyncResult()
        try:
            self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": dict(params)})
            # wait, not get: its own timeout comes back as an unset result, so that one of the caller's is never
            # mistaken for it.
            result.wait(timeout=timeout)
        except ConnectionClosed:
            raise ToolError("the device has disconnected") from None
        finally:
            self._pending.pop(number, None)
        if not result.ready():
            self.counts.timeouts += 1
            raise ToolError(f"the device did not answer within {timeout:g} seconds")
        return result.get(block=False)

    def call_tool(self, name: str, arguments: Mapping[str, Any], timeout: float | None = None) -> ToolOutcome:
        """Run one of the device's tools by its own name. Raises ToolError."""
        seconds = self._limits.call_timeout if timeout is None else timeout
        result = self.request("tools/call", {"name": name, "arguments": dict(arguments)}, seconds)
        return outcome(result)

    def _handshake(self) -> None:
        for attempt in range(1, self._limits.handshake_attempts + 1):
            try:
                self._initialize()
                with self._listing:
                    self._list_tools()
            except ToolError as error:
                if self._closed:
                    return
                log.warning("device mcp handshake failed", attempt=attempt, error=str(error)[:200])
            else:
                return

    def _initialize(self) -> None:
        capabilities: dict[str, Any] = {}
        if self._vision is not None:
            capabilities["vision"] = {"url": self._vision["url"], "token": self._vision["token"]}
        params = {"protocolVersion": PROTOCOL_VERSION, "capabilities": capabilities, "clientInfo": CLIENT_INFO}
        result = self.request("initialize", params, self._limits.handshake_timeout)
        info = result.get("serverInfo") if isinstance(result, Mapping) else None
        known = info if isinstance(info, Mapping) else {}
        self.server_info = {
            key: value[: self._limits.name_chars]
            for key in ("name", "version")
            if isinstance(value := known.get(key), str)
        }
        self._initialized = True
        try:
            self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        except ConnectionClosed:
            raise ToolError("the device has disconnected") from None

    def _list_tools(self) -> None:
        found: dict[str, DeviceTool] = {}
        known = {tool.spec.name: tool for tool in self._tools}
        cursors: set[str] = set()
        cursor = ""
        whole = False
        for _ in range(self._limits.pages):
            try:
                page = self.request("tools/list", {"cursor": cursor}, self._limits.handshake_timeout)
            except ToolError:
                if not found or known:
                    # An old offer that was whole is better than a part of the new one.
                    raise
                break
            cursor = self._read_page(page, found, known)
            if not cursor:
                whole = True
                break
            if cursor in cursors or len(found) >= self._limits.tools:
                break
            cursors.add(cursor)
        if not whole:
            log.warning("device tool list cut off", tools=len(found), pages=len(cursors) + 1)
        self._offer(tuple(found.values()))

    def _read_page(self, page: Any, found: dict[str, DeviceTool], known: Mapping[str, DeviceTool]) -> str:
        """Add the tools of one page to `found`; returns the cursor of the next one, "" at the end."""
        if not isinstance(page, Mapping):
            self._garbage("tools/list result is no object")
            return ""
        listed = page.get("tools")
        for described in listed if isinstance(listed, list) else ():
            if len(found) >= self._limits.tools:
                self.counts.skipped_tools += 1
                continue
            tool = self._tool(described)
            if tool is None or sum(other.chars for other in found.values()) + tool.chars > self._limits.offer_chars:
                self.counts.skipped_tools += 1
            elif tool.spec.name not in found:
                old = known.get(tool.spec.name)
                found[tool.spec.name] = old if old is not None and old.spec == tool.spec else tool
        cursor = page.get("nextCursor")
        return cursor if isinstance(cursor, str) and len(cursor) <= self._limits.cursor_chars else ""

    def _tool(self, described: Any) -> DeviceTool | None:
        if not isinstance(described, Mapping):
            return None
        name, description, schema = described.get("name"), described.get("description"), described.get("inputSchema")
        if not isinstance(name, str) or not name or len(name) > self._limits.name_chars:
            return None
        text = description[: self._limits.description_chars] if isinstance(description, str) else ""
        parameters = object_schema(schema)
        size = json_chars(parameters)
        if size > self._limits.schema_chars:
            return None
        return DeviceTool(self, ToolSpec(name, text, parameters), len(name) + len(text) + size)

    def _offer(self, tools: tuple[DeviceTool, ...]) -> None:
        if self._closed:
            return
        changed = tools != self._tools
        self._tools = tools
        self.ready.set()
        log.info("device tools", count=len(tools))
        if changed and self._changed is not None:
            self._changed()

    # --- what the device sends ---

    def on_payload(self, payload: Any) -> None:
        """Take one payload of an `mcp` message, whatever it is. Never raises, never blocks for long."""
        if self._closed:
            return
        if isinstance(payload, list):
            for item in payload[: self._limits.batch]:
                self._take(item)
        else:
            self._take(payload)

    def _take(self, payload: Any) -> None:
        if not isinstance(payload, Mapping):
            self._garbage("payload is no object")
        elif "method" in payload:
            self._take_method(payload)
        elif "result" in payload or "error" in payload:
            self._take_answer(payload)
        else:
            self._garbage("payload is neither request nor answer")

    def _take_answer(self, payload: Mapping[str, Any]) -> None:
        number = answer_id(payload.get("id"))
        result = self._pending.pop(number, None) if number is not None else None
        if result is None:
            self.counts.unknown_ids += 1
            return
        error = payload.get("error")
        if error is not None:
            result.set_exception(ToolError(error_text(error)))
        else:
            result.set(payload.get("result"))

    def _take_method(self, payload: Mapping[str, Any]) -> None:
        method = payload["method"]
        if not isinstance(method, str):
            self._garbage("method is no text")
            return
        identity = payload.get("id")
        if identity is None:
            self.counts.notifications += 1
            if method == "notifications/tools/list_changed":
                self._tools_changed()
            return
        self.counts.requests += 1
        if not may_echo(identity):
            self._garbage("id of a request is neither a number nor a short text")
            return
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": identity}
        if method == "ping":
            answer["result"] = {}
        else:
            answer["error"] = {"code": _METHOD_NOT_FOUND, "message": "method not found"}
        try:
            self._send(answer)
        except ConnectionClosed:
            log.debug("device left before its request was answered")

    def _tools_changed(self) -> None:
        # One listing serves any number of notifications that come before it begins.
        if self._initialized and self._relist is None:
            self._relist = self._tasks.spawn_later(self._limits.relist_seconds, "device-mcp-relist", self._list_again)

    def _list_again(self) -> None:
        self._relist = None
        try:
            with self._listing:
                self._list_tools()
        except ToolError as error:
            if not self._closed:
                log.warning("device tools not listed again", error=str(error)[:200])

    def _garbage(self, what: str) -> None:
        self.counts.garbage += 1
        if not self._logged_garbage:
            # Once per visit: a babbling device fills its counter, not the log.
            self._logged_garbage = True
            log.warning("device mcp garbage", what=what)


class DeviceTool(Tool):
    """One tool of a device, under the device's own name."""

    def __init__(self, device: DeviceMcp, spec: ToolSpec, chars: int) -> None:
        self.spec = spec
        self.chars = chars
        """How long the description is that models are shown."""
        self._device = device

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        return self._device.call_tool(self.spec.name, arguments)
