"""Connections to Volcengine's speech service, and a few idle ones kept for the next reply. Not sessions:
`huoshan_double_stream.py` runs those."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from xiaozhi.errors import VendorBusy, VendorError, VendorGarbage, VendorRejected, VendorTimeout, VendorUnavailable
from xiaozhi.net.http_errors import redact
from xiaozhi.net.websocket_client import VendorSocket
from xiaozhi.providers.families.volcengine import OK, BadFrame, Event, VolcengineFrame, pack, parse
from xiaozhi.runtime.tasks import Tasks


class Line:
    """One connection, past StartConnection. One session at a time. Raises VendorError."""

    def __init__(
        self, vendor: str, url: str, headers: Mapping[str, str], *, connect: float, secrets: tuple[str, ...]
    ) -> None:
        self.vendor = vendor
        self.idle_since = 0.0
        self._secrets = secrets
        self._socket = VendorSocket(
            vendor, url, headers={**headers, "X-Api-Connect-Id": str(uuid.uuid4())}, connect=connect, secrets=secrets
        )
        try:
            self.send(Event.START_CONNECTION)
            self.expect(Event.CONNECTION_STARTED, connect)
        except BaseException:
            self._socket.close()
            raise

    @property
    def is_idle(self) -> bool:
        """Open, and nothing has arrived since its last session."""
        return self._socket.is_idle()

    def send(self, event: Event, payload: Mapping[str, Any] | None = None, session: str | None = None) -> None:
        """Send one frame."""
        self._socket.send_binary(pack(event, payload, session))

    def receive(self, deadline: float) -> VolcengineFrame:
        """The next frame. An error frame, a failed session or connection is raised as the error it stands for."""
        data = self._socket.receive(deadline)
        if isinstance(data, str):
            raise failure(self.vendor, 0, data, self._secrets)
        try:
            frame = parse(data)
        except BadFrame as error:
            self.close()
            raise VendorGarbage(self.vendor, str(error)) from error
        if frame.code or frame.event in (Event.SESSION_FAILED, Event.CONNECTION_FAILED):
            self.close()
            said = frame.json()
            message = str(said.get("message") or said.get("error") or frame.payload.decode("utf-8", "replace"))
            raise failure(self.vendor, frame.code or _code(said), message, self._secrets)
        if frame.event == Event.SESSION_FINISHED and _code(frame.json()) not in (0, OK):
            raise failure(self.vendor, _code(frame.json()), str(frame.json().get("message", "")), self._secrets)
        return frame

    def expect(self, event: Event, deadline: float, session: str = "") -> None:
        """Wait for one event of `session`, passing over remains of earlier sessions."""
        until = time.monotonic() + deadline
        while True:
            frame = self.receive(max(0.001, until - time.monotonic()))
            if frame.event == event and frame.session == session:
                return
            if frame.event in (Event.CONNECTION_FINISHED, Event.CONNECTION_STARTED):
                raise VendorGarbage(self.vendor, f"{Event(frame.event).name} instead of {event.name}")

    def close(self) -> None:
        """Hang up. Idempotent, from any greenlet."""
        self._socket.close()


class Lines:
    """Lends connections; keeps at most `keep` idle ones for `idle_seconds`."""

    def __init__(self, dial: Callable[[], Line], *, keep: int, idle_seconds: float, tasks: Tasks) -> None:
        self._dial = dial
        self._keep = keep
        self._idle_seconds = idle_seconds
        self._tasks = tasks
        self._idle: list[Line] = []
        self._pruning = False
        self._closed = False

    @property
    def idle(self) -> int:
        """Connections that rest."""
        return len(self._idle)

    def take(self) -> tuple[Line, bool]:
        """(a connection, True when it has been used before): the one that rested least, else a new one."""
        self._prune()
        while self._idle:
            line = self._idle.pop()
            if line.is_idle:
                return line, True
            line.close()
        return self._dial(), False

    def dial(self) -> Line:
        """A new connection."""
        return self._dial()

    def give(self, line: Line) -> None:
        """A connection whose session has ended properly: keep it, or say goodbye."""
        if self._closed or len(self._idle) >= self._keep:
            self._farewell(line)
            return
        line.idle_since = time.monotonic()
        self._idle.append(line)
        if not self._pruning:
            self._pruning = True
            self._tasks.spawn_later(self._idle_seconds, "tts-idle-lines", self._prune_later)

    def close(self) -> None:
        """Hang up on all that is idle."""
        self._closed = True
        while self._idle:
            self._farewell(self._idle.pop())

    def _prune(self) -> None:
        oldest = time.monotonic() - self._idle_seconds
        while self._idle and self._idle[0].idle_since <= oldest:
            self._farewell(self._idle.pop(0))

    def _prune_later(self) -> None:
        self._prune()
        self._pruning = bool(self._idle)
        if self._pruning:
            wait = self._idle[0].idle_since + self._idle_seconds - time.monotonic()
            self._tasks.spawn_later(max(0.01, wait), "tts-idle-lines", self._prune_later)

    @staticmethod
    def _farewell(line: Line) -> None:
        try:
            line.send(Event.FINISH_CONNECTION)
        except VendorError:
            pass  # gone already
        line.close()


def _code(said: Mapping[str, Any]) -> int:
    code = said.get("status_code", 0)
    return code if isinstance(code, int) else 0


def failure(vendor: str, code: int, message: str, secrets: tuple[str, ...] = ()) -> VendorError:
    """The typed error of a status code: 45xxxxxx is our fault, 55xxxxxx theirs; a full quota is neither."""
    text = redact(f"{code} {message}" if code else message, secrets)
    words = message.lower()
    if "quota" in words or "concurrency" in words or "too many" in words:
        return VendorBusy(vendor, text)
    if "timeout" in words or "timed out" in words:
        return VendorTimeout(vendor, text)
    if code // 1_000_000 == 45 or "unauthorized" in words or "invalid" in words:
        return VendorRejected(vendor, text)
    return VendorUnavailable(vendor, text)
