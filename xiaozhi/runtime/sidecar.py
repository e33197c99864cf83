"""The server's side of its sidecar: one child process for libraries that need asyncio, which does not live beside
monkey-patching.

    greenlet ── request / stream ──► [outgoing] ─► writer ─► socket ─► child
             ◄── result, items ───── reader ◄──────────────── socket

Started in the background when it is first needed, watched (its loop must answer, its memory is bounded), started again
with growing pauses. A call that is under way when the child ends gets its error at once. What the child writes to
standard error goes to our log, at a bounded rate. Not a service: those live in `xiaozhi/sidecar/`, and what they mean
is known to whoever calls them."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import orjson
import psutil
from gevent import os as gevent_os
from gevent import socket
from gevent.event import Event
from gevent.queue import Full, Queue

from xiaozhi.errors import Overloaded, VendorError, VendorGarbage, VendorTimeout, VendorUnavailable
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.resilience import RetryOptions
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.sidecar import wire

log = get_logger(__name__)

SERVICES: Mapping[str, str] = {"mcp": "xiaozhi.sidecar.mcp_clients:McpClients"}
"""What lives in the sidecar: name -> "module:Class"."""
NAME = "sidecar"
MAX_CALLS = 1_000
"""Calls under way at once; one more is refused."""
OUTGOING = 256
"""Messages that wait for the socket; one more call is refused."""
LINES = 20
"""Lines of standard error that are logged per `LINES_SECONDS`; the rest is counted."""
LINES_SECONDS = 10.0
LINE_CHARS = 300
READ_BYTES = 65_536
STEADY_SECONDS = 60.0
"""A child that has lived so long is no longer thought to be broken."""
_ROOT = Path(__file__).resolve().parent.parent.parent
_PROGRAM = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from xiaozhi.sidecar.host import main; main()"
_SOCKET = 3
"""Number of the child's end of the socket, in the child."""


RESTART = RetryOptions(attempts=0, first=0.5, longest=30.0)


@dataclass(frozen=True, slots=True)
class SidecarOptions:
    """Seconds and bytes."""

    beat_seconds: float = 10.0
    """Between two looks at the child; it has as long to answer. 0: it is never looked at."""
    memory_bytes: int = 1 << 30
    """A child that takes more is ended, and started again."""
    restart: RetryOptions = RESTART
    """Pauses before a child is started again."""


Listener = Callable[[str, Any], None]
"""(event, data); must be quick and raise nothing. When the child has ended: ("down", None)."""


class _Child:
    """One process."""

    def __init__(self, pid: int, connection: Any, errors: int, began: float) -> None:
        self.pid = pid
        self.connection = connection
        self.errors = errors
        """Where its standard error can be read."""
        self.began = began
        self.ended = Event()
        """It was waited for; its number may belong to somebody else."""

    def kill(self) -> None:
        """End it and what runs in its session, now."""
        if not self.ended.is_set():
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has ended of its own accord


class SidecarCall:
    """One call under way: iterate over its items, then read `result`. `close` gives it up."""

    def __init__(self, sidecar: Sidecar, number: int, deadline: float) -> None:
        self.number = number
        self.result: Any = None
        self._sidecar = sidecar
        self._deadline = deadline
        self._items: deque[Any] = deque()
        self._news = Event()
        self._over = False
        self._error: VendorError | None = None

    def __enter__(self) -> SidecarCall:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        """Waits for each item. Raises VendorTimeout when the call is not over by its deadline, VendorUnavailable when
        the child ends, VendorError for what the service says."""
        while True:
            while self._items:
                item = self._items.popleft()
                self._sidecar.took_one(self)
                yield item
            if self._over:
                break
            self._news.clear()
            if not self._news.wait(timeout=max(0.0, self._deadline - self._sidecar.clock())):
                self.close()
                raise VendorTimeout(NAME, "no result in time")
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Nobody waits any more. Idempotent."""
        if not self._over:
            self._over = True
            self._sidecar.give_up(self)

    def take_item(self, item: Any) -> None:
        """The child sends an item."""
        self._items.append(item)
        self._news.set()

    def end(self, result: Any = None, error: VendorError | None = None) -> None:
        """The child has answered, or is gone."""
        self.result, self._error, self._over = result, error, True
        self._news.set()


class Sidecar:
    """See the module. `services`: what the child can be asked for. `stop` once."""

    def __init__(
        self,
        services: Mapping[str, str] = SERVICES,
        *,
        options: SidecarOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.restarts = 0
        self.clock = clock
        self._services = dict(services)
        self._options = options or SidecarOptions()
        self._chance = chance
        self._mark = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._tasks = Tasks()
        self._started = False
        self._stopping = Event()
        self._child: _Child | None = None
        self._up = Event()
        self._outgoing: Queue[bytes] = Queue(OUTGOING)
        self._calls: dict[int, SidecarCall] = {}
        self._next_number = 1
        self._listeners: dict[str, list[Listener]] = {}

    # --- for everybody ------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The child's process, None while there is none."""
        return self._child.pid if self._child is not None else None

    @property
    def started(self) -> bool:
        """Whether it was needed so far."""
        return self._started

    @property
    def calls(self) -> int:
        """Calls under way."""
        return len(self._calls)

    @property
    def resident_bytes(self) -> int:
        """Memory of the child; 0 while there is none."""
        child = self._child
        try:
            return psutil.Process(child.pid).memory_info().rss if child is not None else 0
        except psutil.Error:
            return 0

    def start(self) -> None:
        """Begin to run the child in the background; returns at once. Calls do it by themselves. Idempotent."""
        if not self._started and not self._stopping.is_set():
            self._started = True
            self._tasks.spawn("sidecar", self._keep)

    def request(self, service: str, method: str, params: Mapping[str, Any], deadline: float) -> Any:
        """The result of a call that has no items, or whose items are of no interest; blocks at most `deadline` seconds.
        Raises as `SidecarCall`, and Overloaded."""
        with self.stream(service, method, params, deadline) as call:
            for _ in call:
                pass
            return call.result

    def stream(self, service: str, method: str, params: Mapping[str, Any], deadline: float) -> SidecarCall:
        """A call that is under way; it is over in `deadline` seconds at the latest. Waits for the child if there is
        none yet. Raises VendorUnavailable, VendorTimeout, Overloaded; VendorGarbage for params that are too long."""
        until = self.clock() + deadline
        self.start()
        if not self._stopping.is_set() and not self._up.wait(timeout=deadline):
            raise VendorTimeout(NAME, "has not started in time")
        if self._stopping.is_set():
            raise VendorUnavailable(NAME, "the server is stopping")
        if len(self._calls) >= MAX_CALLS:
            raise Overloaded(NAME)
        number = self._next_number
        try:
            message = wire.pack({"id": number, "service": service, "method": method, "params": params})
        except (wire.FrameTooLong, TypeError) as error:
            raise VendorGarbage(NAME, f"cannot be asked this: {error}") from error
        self._next_number += 1
        call = SidecarCall(self, number, until)
        try:
            self._outgoing.put_nowait(message)
        except Full:
            raise Overloaded(NAME) from None
        self._calls[number] = call
        return call

    def listen(self, service: str, listener: Listener) -> Callable[[], None]:
        """Be told of a service's events; returns what ends it."""
        listeners = self._listeners.setdefault(service, [])
        listeners.append(listener)
        return lambda: listeners.remove(listener) if listener in listeners else None

    def stop(self, seconds: float = 10.0) -> bool:
        """Let the child end what it has begun, at most `seconds`; then end it. False when it had to be killed.
        Idempotent."""
        self._stopping.set()
        child = self._child
        if child is not None:
            self._shut(child)
        gently = self._tasks.join(seconds)
        if not gently:
            log.warning("the sidecar does not end")
            if child is not None:
                child.kill()
            self._tasks.join(seconds)
        self._tasks.kill()
        return gently

    # --- for calls ----------------------------------------------------------------------------------------------------

    def took_one(self, call: SidecarCall) -> None:
        """An item was taken: the child may send another one."""
        self._post({"more": call.number, "count": 1})

    def give_up(self, call: SidecarCall) -> None:
        """Nobody waits for this call any more."""
        if self._calls.pop(call.number, None) is not None:
            self._post({"cancel": call.number})

    def _post(self, message: Mapping[str, Any]) -> None:
        try:
            self._outgoing.put_nowait(wire.pack(message))
        except Full:
            pass  # a child that reads nothing any more is found by its beat

    # --- the child ----------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Run one child after the other."""
        failures = 0
        while not self._stopping.is_set():
            began = self.clock()
            try:
                self._run()
            except OSError as error:
                log.error("the sidecar does not start", error=str(error))
            if self._stopping.is_set():
                return
            failures = 1 if self.clock() - began > STEADY_SECONDS else failures + 1
            self.restarts += 1
            pause = self._options.restart.wait(failures, self._chance())
            log.warning("the sidecar has ended and is started again", seconds=round(pause, 1))
            self._stopping.wait(timeout=pause)

    def _run(self) -> None:
        """One child, from its first to its last breath. Raises OSError when there is none."""
        child = self._child = self._spawn()
        log.info("sidecar", pid=child.pid)
        helpers = Tasks()
        try:
            self._outgoing = Queue(OUTGOING)
            helpers.spawn("sidecar-writer", self._write, child, self._outgoing)
            helpers.spawn("sidecar-errors", _log_lines, child.errors)
            if self._options.beat_seconds:
                helpers.spawn("sidecar-beat", self._watch, child)
            self._up.set()
            self._read(child)
        finally:
            self._up.clear()
            self._child = None
            if not self._stopping.is_set():
                child.kill()  # an end of the stream without an end of the process helps nobody
            self._fail_calls()
            child.connection.close()
            self._wait_for(child)
            helpers.kill()
            os.close(child.errors)

    def _spawn(self) -> _Child:
        ours, theirs = socket.socketpair()
        errors, their_errors = os.pipe()
        arguments = [sys.executable, "-c", _PROGRAM, str(_SOCKET), json.dumps(self._services)]
        try:
            pid = os.posix_spawn(
                sys.executable,
                arguments,
                {**os.environ, wire.MARK: self._mark},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, their_errors, 1),  # what an SDK prints must not get among our messages
                    (os.POSIX_SPAWN_DUP2, their_errors, 2),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), _SOCKET),
                ],
                setsid=True,  # Ctrl-C is for the server, which lets its answers finish first
                setsigdef=[signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM, signal.SIGINT],
            )
        except OSError:
            ours.close()
            os.close(errors)
            raise
        finally:
            theirs.close()
            os.close(their_errors)
        gevent_os.make_nonblocking(errors)
        return _Child(pid, ours, errors, self.clock())

    def _write(self, child: _Child, outgoing: Queue[bytes]) -> None:
        try:
            while True:
                child.connection.sendall(outgoing.get())
        except OSError:
            pass  # the reader sees the end, too

    def _read(self, child: _Child) -> None:
        """Take what the child sends until there is no more."""
        received = bytearray()
        while True:
            try:
                piece = child.connection.recv(READ_BYTES)
            except OSError:
                return
            if not piece:
                return
            received += piece
            while len(received) >= wire.HEADER.size:
                size = wire.HEADER.unpack_from(received)[0]
                if size > wire.MAX_FRAME:
                    log.error("the sidecar sends nonsense")
                    return
                end = wire.HEADER.size + size
                if len(received) < end:
                    break
                self._take(orjson.loads(received[wire.HEADER.size : end]))
                del received[:end]

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            for listener in tuple(self._listeners.get(message["service"], ())):
                listener(message["event"], message["data"])
            return
        number = message["id"]
        call = self._calls.get(number)
        if call is None:
            return  # given up meanwhile
        if "item" in message:
            call.take_item(message["item"])
            return
        del self._calls[number]
        error = message.get("error")
        failure = VendorError(NAME, str(error)) if error is not None else None
        call.end(message.get("result"), failure)

    def _watch(self, child: _Child) -> None:
        """End a child whose loop does not turn, or that has grown too large."""
        while True:
            gevent.sleep(self._options.beat_seconds)
            reason = ""
            try:
                self.request(wire.HOST, "ping", {}, self._options.beat_seconds)
            except Overloaded:
                reason = "it takes no more calls"
            except VendorTimeout:
                reason = "it does not answer"
            except VendorError:
                return
            if self.resident_bytes > self._options.memory_bytes:
                reason = "it takes too much memory"
            if reason:
                log.error("the sidecar is ended", reason=reason)
                child.kill()
                return

    def _shut(self, child: _Child) -> None:
        try:
            child.connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has just ended

    def _wait_for(self, child: _Child) -> None:
        try:
            os.waitpid(child.pid, 0)
        except ChildProcessError:
            pass  # somebody else has waited for it
        child.ended.set()

    def _fail_calls(self) -> None:
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.end(error=VendorUnavailable(NAME, "has ended"))
        for listeners in self._listeners.values():
            for listener in tuple(listeners):
                listener("down", None)


def _log_lines(descriptor: int) -> None:
    """Log what is written to standard error, at a bounded rate."""
    began, lines, rest = time.monotonic(), 0, b""
    while True:
        try:
            piece = gevent_os.nb_read(descriptor, READ_BYTES)
        except OSError:
            return
        if not piece:
            return
        *whole, rest = (rest + piece).split(b"\n")
        rest = rest[-READ_BYTES:]
        for line in whole:
            if time.monotonic() - began > LINES_SECONDS:
                if lines > LINES:
                    log.warning("sidecar", left_out_lines=lines - LINES)
                began, lines = time.monotonic(), 0
            lines += 1
            if lines <= LINES and line.strip():
                log.warning("sidecar", line=line[:LINE_CHARS].decode("utf-8", "replace").strip())
