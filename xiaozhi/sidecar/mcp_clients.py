"""Clients of MCP servers, by the official SDK: programs (stdio), SSE and streamable HTTP.

A service of the sidecar. It holds connections and carries requests; when to connect, to list again or to give up is
decided in the server (`tools/server_mcp.py`). Servers are not trusted with the size of what they say: tools, results
and log lines are cut here, before they cross over.

    connect     {"name", ...}      -> {"server", "version", "protocol"}      config: see `_transport`
    list        {"name", "cursor"} -> {"tools", "nextCursor"}
    call        {"name", "tool", "arguments"} -> {"content", "isError"}; items: {"progress", "total", "message"}
    ping        {"name"}
    disconnect  {"name"}
    events      "changed" {"name"}; "closed" {"name"}; "log" {"name", "level", "text"}; "said" {"name", "line"}

A server that knows only the protocol without a handshake (2026-07-28) is found out by its refusal of the handshake."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import mcp.types as types
from mcp.client.session import ClientSession
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import listen
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from pydantic import BaseModel, ValidationError

from xiaozhi.sidecar.service import Emit, Method, ServiceError, Tell

CLIENT = types.Implementation(name="xiaozhi-server", version="1.0")
MAX_TOOL_CHARS = 32_000
"""A description with its schema as JSON; a longer one is left out."""
MAX_PAGE_CHARS = 512_000
MAX_TEXT_CHARS = 64_000
"""All texts of a result; more is cut off, and said so."""
MAX_LINE_CHARS = 500
SAID_LINES = 40
"""Lines of a program's standard error that are passed on before it is connected, and per minute afterwards."""
SAID_SECONDS = 60.0
OURS = "XIAOZHI__"
"""Our own settings in the environment are nothing for programs of others."""


class _Result(BaseModel):
    """What is read of a result; the SDK's own class also checks what nobody here looks at."""

    content: Any = None
    isError: Any = None
    structuredContent: Any = None


class McpClients:
    """The service "mcp"."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._clients: dict[str, _Client] = {}
        self._unended: set[_Client] = set()
        """Those whose programs may still run."""

    def methods(self) -> Mapping[str, Method]:
        """See Service."""
        return {
            "connect": self._connect,
            "list": self._list,
            "call": self._call,
            "ping": self._ping,
            "disconnect": self._disconnect,
        }

    async def close(self) -> None:
        """See Service."""
        self._clients.clear()
        await asyncio.gather(*(client.close() for client in self._unended), return_exceptions=True)

    async def _connect(self, params: Mapping[str, Any], _emit: Emit) -> dict[str, Any]:
        name = params["name"]
        await self._disconnect(params, _emit)
        client = self._clients[name] = _Client(name, params, self._tell)
        self._unended.add(client)
        client.ended.add_done_callback(lambda _: self._unended.discard(client))
        try:
            return await client.open()
        except BaseException:
            if self._clients.get(name) is client:
                del self._clients[name]
            await asyncio.shield(client.close())
            raise

    async def _disconnect(self, params: Mapping[str, Any], _emit: Emit) -> None:
        client = self._clients.pop(params["name"], None)
        if client is not None:
            await client.close()

    async def _list(self, params: Mapping[str, Any], _emit: Emit) -> dict[str, Any]:
        with _failures():
            return await self._client(params).tools(params.get("cursor") or None)

    async def _call(self, params: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
        with _failures():
            return await self._client(params).call(params["tool"], params["arguments"], emit)

    async def _ping(self, params: Mapping[str, Any], _emit: Emit) -> None:
        with _failures():
            await self._client(params).ping()

    def _client(self, params: Mapping[str, Any]) -> _Client:
        try:
            return self._clients[params["name"]]
        except KeyError:
            raise ServiceError("is not connected") from None


@contextlib.contextmanager
def _failures() -> Any:
    """The SDK's errors in one line each."""
    try:
        yield
    except MCPError as error:
        raise ServiceError(error.error.message or "the server reported an error") from error
    except ValidationError as error:
        # Its text quotes what the server said.
        raise ServiceError(f"an answer that does not follow the protocol ({error.title})") from error
    except (OSError, httpx2.HTTPError, RuntimeError) as error:
        raise ServiceError(f"{type(error).__name__}: {error}") from error


class _Client:
    """One connection. The SDK's contexts must be left by the task that entered them, so each connection is a task."""

    def __init__(self, name: str, config: Mapping[str, Any], tell: Tell) -> None:
        self._name = name
        self._config = config
        self._tell = tell
        self._session: ClientSession | None = None
        self._refusal = ""
        """The last HTTP status that was no success: the SDK tells that of one transport only."""
        self._opened: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self.ended = asyncio.create_task(self._live())

    async def open(self) -> dict[str, Any]:
        """Wait for the connection. Raises ServiceError."""
        return await asyncio.shield(self._opened)

    async def close(self) -> None:
        """End the connection, and the program behind it."""
        self._closing.set()
        if not self._opened.done():
            self.ended.cancel()
        await asyncio.wait([self.ended])

    async def tools(self, cursor: str | None) -> dict[str, Any]:
        params = types.PaginatedRequestParams(cursor=cursor) if cursor else None
        page = await self._alive().list_tools(params=params)
        return _bounded_page(page)

    async def call(self, tool: str, arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            await emit({"progress": progress, "total": total, "message": (message or "")[:MAX_LINE_CHARS]})

        params = types.CallToolRequestParams(name=tool, arguments=arguments)
        result = await self._alive().send_request(
            types.CallToolRequest(params=params), _Result, progress_callback=on_progress
        )
        return _bounded_result(result)

    async def ping(self) -> None:
        session = self._alive()
        if session.discover_result is not None:
            await session.send_discover(session.protocol_version or "")  # the newer protocol has no ping
        else:
            await session.send_ping()

    def _alive(self) -> ClientSession:
        if self._session is None:
            raise ServiceError("is not connected")
        return self._session

    async def _live(self) -> None:
        try:
            async with _transport(self._config, self._on_line, self._on_status) as (read, write):
                dispatcher = _Dispatcher(read, write)
                session = ClientSession(
                    dispatcher=dispatcher,
                    client_info=CLIENT,
                    logging_callback=self._on_log,
                    message_handler=self._on_message,
                )
                async with session:
                    about = await _shake_hands(session)
                    self._session = session
                    self._opened.set_result(about)
                    await self._stay(session, dispatcher)
        except Exception as error:  # noqa: BLE001  whatever an SDK raises ends this connection, and is told
            if not self._opened.done():
                words = _first_words(error)
                self._opened.set_exception(ServiceError(f"{words} ({self._refusal})" if self._refusal else words))
        finally:
            self._session = None
            if not self._opened.done():
                self._opened.cancel()
            elif not self._closing.is_set():
                self._tell("closed", {"name": self._name})

    async def _stay(self, session: ClientSession, dispatcher: _Dispatcher) -> None:
        waits: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._closing.wait()),
            asyncio.create_task(dispatcher.ended.wait()),
        ]
        if session.discover_result is not None:
            waits.append(asyncio.create_task(self._watch_list(session)))
        try:
            await asyncio.wait(waits[:2], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _watch_list(self, session: ClientSession) -> None:
        """The newer protocol tells changes only to who asked for them."""
        with contextlib.suppress(MCPError, RuntimeError, TimeoutError):
            async with listen(session, tools_list_changed=True) as events:
                async for _ in events:
                    self._tell("changed", {"name": self._name})

    async def _on_message(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._tell("changed", {"name": self._name})

    async def _on_log(self, params: types.LoggingMessageNotificationParams) -> None:
        text = params.data if isinstance(params.data, str) else json.dumps(params.data, ensure_ascii=False, default=str)
        self._tell("log", {"name": self._name, "level": params.level, "text": text[:MAX_LINE_CHARS]})

    async def _on_status(self, response: httpx2.Response) -> None:
        if response.status_code >= 400:
            self._refusal = f"HTTP {response.status_code}"

    def _on_line(self, line: str) -> None:
        self._tell("said", {"name": self._name, "line": line[:MAX_LINE_CHARS]})


class _Dispatcher(JSONRPCDispatcher):
    """The SDK's, which also says when the connection has ended."""

    def __init__(self, read: Any, write: Any) -> None:
        super().__init__(read, write)
        self.ended = asyncio.Event()

    async def run(self, *args: Any, **options: Any) -> None:
        """See JSONRPCDispatcher."""
        try:
            await super().run(*args, **options)
        finally:
            self.ended.set()


async def _shake_hands(session: ClientSession) -> dict[str, Any]:
    try:
        await session.initialize()
    except MCPError as refusal:
        if refusal.error.code not in (types.METHOD_NOT_FOUND, types.UNSUPPORTED_PROTOCOL_VERSION):
            raise
        await session.discover()
    info = session.server_info
    return {
        "server": info.name[:80] if info is not None else "",
        "version": info.version[:40] if info is not None else "",
        "protocol": session.protocol_version,
    }


# --- transports -------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _transport(config: Mapping[str, Any], on_line: Any, on_status: Any) -> AsyncIterator[Any]:
    """The SDK's streams for one of

    {"command", "args", "env", "cwd"}; {"url", "transport": "sse" | "streamable-http", "headers", "timeout",
    "sse_read_timeout", "terminate_on_close"}    (seconds)"""
    if "command" in config:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        program = StdioServerParameters(
            command=config["command"],
            args=config["args"],
            env=environment | config["env"],
            cwd=config["cwd"],
            encoding_error_handler="replace",
        )
        async with _standard_error(on_line) as errors, stdio_client(program, errlog=errors) as streams:
            yield streams
    elif config["transport"] == "sse":
        url, headers, timeout = config["url"], config["headers"], config["timeout"]
        async with sse_client(url, headers, timeout, config["sse_read_timeout"]) as streams:
            yield streams
    else:
        timeouts = httpx2.Timeout(config["timeout"], read=config["sse_read_timeout"])
        async with (
            httpx2.AsyncClient(
                headers=config["headers"], timeout=timeouts, event_hooks={"response": [on_status]}
            ) as client,
            streamable_http_client(
                config["url"], http_client=client, terminate_on_close=config["terminate_on_close"]
            ) as streams,
        ):
            yield streams


@contextlib.asynccontextmanager
async def _standard_error(on_line: Any) -> AsyncIterator[Any]:
    """A file for a program's standard error; `on_line` gets its lines, at a bounded rate."""
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_LINE_CHARS * 8)
    file = os.fdopen(reading, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    task = asyncio.create_task(_read_lines(reader, on_line))
    try:
        with os.fdopen(writing, "w") as errors:
            yield errors
    finally:
        task.cancel()
        transport.close()


async def _read_lines(reader: asyncio.StreamReader, on_line: Any) -> None:
    began, lines = asyncio.get_running_loop().time(), 0
    while True:
        try:
            line = await reader.readline()
        except ValueError:  # a line without end: what was read of it is gone
            continue
        if not line:
            return
        now = asyncio.get_running_loop().time()
        if now - began > SAID_SECONDS:
            began, lines = now, 0
        lines += 1
        text = line.decode("utf-8", "replace").strip()
        if lines <= SAID_LINES and text:
            on_line(text if lines < SAID_LINES else f"{text} (more of the same minute is left out)")


# --- bounds -----------------------------------------------------------------------------------------------------------


def _bounded_page(page: types.ListToolsResult) -> dict[str, Any]:
    """The page as JSON without tools that are too long."""
    tools, chars = [], 0
    for tool in page.tools:
        described = tool.model_dump(by_alias=True, mode="json", exclude_none=True, include={"name", "description"})
        try:
            size = len(json.dumps(tool.input_schema)) + len(tool.description or "")
        except (RecursionError, ValueError):
            continue
        if size > MAX_TOOL_CHARS or chars + size > MAX_PAGE_CHARS:
            continue
        chars += size
        tools.append({**described, "inputSchema": tool.input_schema})
    return {"tools": tools, "left_out": len(page.tools) - len(tools), "nextCursor": page.next_cursor}


def _bounded_result(result: _Result) -> dict[str, Any]:
    """Texts, and for what is no text its kind; pictures and sound stay here."""
    left = MAX_TEXT_CHARS
    content = []
    for item in result.content if isinstance(result.content, list) else ():
        text = _text_of(item)
        if text is None:
            content.append({"type": str(item.get("type")), "mimeType": str(item.get("mimeType") or "")[:80]})
            continue
        content.append({"type": "text", "text": text[:left]})
        if len(text) > left:
            content.append({"type": "text", "text": f"({len(text) - left} more characters)"})
        left = max(0, left - len(text))
    if not content and result.structuredContent is not None:
        content.append({"type": "text", "text": json.dumps(result.structuredContent, ensure_ascii=False)[:left]})
    return {"content": content, "isError": result.isError is True}


def _text_of(item: Mapping[str, Any]) -> str | None:
    """What a model can read of one part of a result; None for pictures and sound."""
    kind = item.get("type")
    if kind == "text":
        return str(item.get("text") or "")
    if kind == "resource_link":
        return " ".join(str(item[key]) for key in ("title", "name", "description", "uri") if item.get(key))
    if kind == "resource":
        resource = item.get("resource") or {}
        if isinstance(resource.get("text"), str):
            return str(resource["text"])
    return None


def _first_words(error: BaseException) -> str:
    """The first failure in whatever nest of groups an SDK raises."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, MCPError):
        return error.error.message
    if isinstance(error, ValidationError):
        return f"an answer that does not follow the protocol ({error.title})"
    return f"{type(error).__name__}: {error}"
