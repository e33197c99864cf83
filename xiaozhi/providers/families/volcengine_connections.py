"""Connections to Volcengine's bidirectional speech service. Not sessions: `huoshan_double_stream.py` runs those."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from xiaozhi.errors import VendorError, VendorGarbage
from xiaozhi.net.websocket_client import VendorSocket
from xiaozhi.providers.families.volcengine import OK, BadFrame, Event, VolcengineFrame, pack, parse
from xiaozhi.providers.families.volcengine_errors import failure


class Line:
    """One connection, past StartConnection. One session at a time. Raises VendorError."""

    def __init__(
        self, vendor: str, url: str, headers: Mapping[str, str], *, connect: float, secrets: tuple[str, ...]
    ) -> None:
        self.vendor = vendor
        self._secrets = secrets
        self._socket = VendorSocket(vendor, url, headers=headers, connect=connect, secrets=secrets)
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

    def farewell(self) -> None:
        """Finish the connection, and hang up."""
        try:
            self.send(Event.FINISH_CONNECTION)
        except VendorError:
            pass  # gone already
        self.close()

    def close(self) -> None:
        """Hang up. Idempotent, from any greenlet."""
        self._socket.close()


def _code(said: Mapping[str, Any]) -> int:
    code = said.get("status_code", 0)
    return code if isinstance(code, int) else 0
