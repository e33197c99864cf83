"""The sidecar: a child process of the server, in which asyncio lives without monkey-patching.

It reads calls from a socket, runs each as a task of the service it is for, and writes what comes of it. It ends with
the server, however that one ends: by the end of the stream, and should that not be seen, by the change of its parent.
What its services have started ends with it. Not a supervisor: `runtime/sidecar.py` starts it, watches it and starts it
again.

    python -c "from xiaozhi.sidecar.host import main; main()" FD SERVICES     SERVICES: {"name": "module:Class"} as JSON
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import orjson
import psutil

from xiaozhi.sidecar import wire
from xiaozhi.sidecar.service import Method, Service, ServiceError

log = logging.getLogger(__name__)

OUTGOING = 256
"""Messages that wait for the socket. Full: results and items wait, events are lost."""
CLOSE_SECONDS = 8.0
"""For services to end what they have started; longer than the MCP SDK takes for a program that does not want to."""
MAX_ERROR_CHARS = 2_000


class Host:
    """One connection with the server. `services`: name -> "module:Class"."""

    def __init__(self, services: Mapping[str, str]) -> None:
        self._places = services
        self._services: dict[str, Service] = {}
        self._methods: dict[tuple[str, str], Method] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._windows: dict[int, asyncio.Semaphore] = {}
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue(OUTGOING)
        self._lost = 0

    async def serve(self, connection: socket.socket) -> None:
        """Until the server closes its side."""
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=wire.MAX_FRAME)
        sending = asyncio.create_task(self._send(writer))
        try:
            while True:
                size = wire.HEADER.unpack(await reader.readexactly(wire.HEADER.size))[0]
                self._take(orjson.loads(await reader.readexactly(size)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the order to stop
        finally:
            for task in self._calls.values():
                task.cancel()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._close(), CLOSE_SECONDS)
            sending.cancel()

    def tell(self, service: str, event: str, data: Any) -> None:
        """See `Tell`."""
        try:
            self._outgoing.put_nowait(wire.pack({"event": event, "service": service, "data": data}))
        except (asyncio.QueueFull, ValueError, TypeError):
            self._lost += 1
            if self._lost == 1:
                log.warning("events are lost: the server does not read them, or they are too long")

    async def _close(self) -> None:
        await asyncio.gather(*(service.close() for service in self._services.values()), return_exceptions=True)

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(await self._outgoing.get())
            await writer.drain()

    def _take(self, message: dict[str, Any]) -> None:
        if "cancel" in message:
            task = self._calls.get(message["cancel"])
            if task is not None:
                task.cancel()
        elif "more" in message:
            window = self._windows.get(message["more"])
            for _ in range(message["count"] if window is not None else 0):
                window.release()  # type: ignore[union-attr]
        else:
            number = message["id"]
            task = asyncio.create_task(self._call(number, message))
            self._calls[number] = task
            task.add_done_callback(lambda _: self._calls.pop(number, None))

    async def _call(self, number: int, message: Mapping[str, Any]) -> None:
        window = self._windows[number] = asyncio.Semaphore(wire.WINDOW)

        async def emit(item: Any) -> None:
            await window.acquire()
            await self._outgoing.put(wire.pack({"id": number, "item": item}))

        try:
            result = await self._method(message["service"], message["method"])(message["params"], emit)
            answer = wire.pack({"id": number, "result": result})
        except ServiceError as error:
            answer = wire.pack({"id": number, "error": str(error)[:MAX_ERROR_CHARS]})
        except Exception as error:  # noqa: BLE001  told to the caller, who has to know that there is no result
            log.warning("%s.%s failed: %s", message["service"], message["method"], type(error).__name__)
            text = f"{type(error).__name__}: {error}"
            answer = wire.pack({"id": number, "error": text[:MAX_ERROR_CHARS]})
        finally:
            del self._windows[number]
        await self._outgoing.put(answer)

    def _method(self, service: str, name: str) -> Method:
        if (service, name) == (wire.HOST, "ping"):
            return _pong
        if service not in self._services:
            self._open(service)
        try:
            return self._methods[service, name]
        except KeyError:
            raise ServiceError(f"there is no {service}.{name}") from None

    def _open(self, service: str) -> None:
        if service not in self._places:
            raise ServiceError(f"there is no service {service}")
        module, _, name = self._places[service].partition(":")
        made: Service = getattr(importlib.import_module(module), name)(
            lambda event, data: self.tell(service, event, data)
        )
        self._services[service] = made
        self._methods |= {(service, method): function for method, function in made.methods().items()}


async def _pong(_params: Mapping[str, Any], _emit: Any) -> None:
    """Shows that the loop turns."""


# --- the process ------------------------------------------------------------------------------------------------------


class _Plain(logging.Formatter):
    """One line per record, without a traceback: the messages of exceptions quote what was said and sent."""

    def format(self, record: logging.LogRecord) -> str:
        kind = record.exc_info[0] if record.exc_info else None
        return f"{record.levelname} {record.name}: {record.getMessage()}{f' ({kind.__name__})' if kind else ''}"


def main() -> None:
    """Serve the socket whose number is the first argument, until it is closed."""
    parent = os.getppid()
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    end_orphans()
    threading.Thread(target=_outlive_nobody, args=(parent,), daemon=True).start()
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    asyncio.run(_until_told(Host(json.loads(sys.argv[2])), connection))
    end_orphans()  # what did not want to end in time
    # Not by way of the interpreter's end: a thread of an SDK might keep it.
    sys.stderr.flush()
    os._exit(0)


async def _until_told(host: Host, connection: socket.socket) -> None:
    serving = asyncio.create_task(host.serve(connection))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def _outlive_nobody(parent: int) -> None:
    """End this process when the server is gone and the end of the stream was not seen, as when a library keeps the
    loop."""
    while os.getppid() == parent:
        time.sleep(1.0)
    time.sleep(CLOSE_SECONDS + 2.0)
    end_orphans()
    os._exit(1)


def end_orphans() -> None:
    """Kill whatever carries our mark and is not us: what an earlier sidecar of the same server has left behind, and in
    the end what we would."""
    mark = os.environ.get(wire.MARK)
    for process in psutil.process_iter() if mark else ():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(wire.MARK) == mark:
                process.kill()
