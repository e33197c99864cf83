"""The socket side of an outbox: records what is sent, and can be slow or dead."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.event import Event

from tests.waiting import PATIENCE_S


@dataclass(frozen=True, slots=True)
class Sent:
    """One thing that went out. `at` is what the clock said."""

    at: float
    data: str | bytes

    @property
    def message(self) -> dict[str, Any]:
        """The JSON of a text."""
        return json.loads(self.data)


@dataclass(slots=True)
class RecordingSender:
    """`send_text`, `send_binary` and `close` of `session.link.Link`.

    `hold()` makes every sender block, like a device that stopped reading; `error` makes them raise."""

    clock: Callable[[], float] = time.monotonic
    log: list[Sent] = field(default_factory=list)
    closed: tuple[int, str] | None = None
    error: Exception | None = None
    held: int = 0
    """Senders that wait."""
    _open: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self._open.set()

    def send_text(self, text: str) -> None:
        """Record a text."""
        self._send(text)

    def send_binary(self, data: bytes) -> None:
        """Record a binary frame."""
        self._send(data)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Record the first close."""
        if self.closed is None:
            self.closed = (code, reason)
        self._open.set()

    def hold(self) -> None:
        """From now on whoever sends waits."""
        self._open.clear()

    def release(self) -> None:
        """Let them go on."""
        self._open.set()

    @property
    def texts(self) -> list[str]:
        """Every text, in order."""
        return [sent.data for sent in self.log if isinstance(sent.data, str)]

    @property
    def binaries(self) -> list[bytes]:
        """Every binary frame, in order."""
        return [sent.data for sent in self.log if isinstance(sent.data, bytes)]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Every text, parsed."""
        return [json.loads(text) for text in self.texts]

    def wait_for(self, condition: Callable[[RecordingSender], Any], seconds: float = PATIENCE_S) -> None:
        """Return once `condition(self)` holds; raise TimeoutError with what was sent when it does not in `seconds`."""
        deadline = time.monotonic() + seconds
        while not condition(self):
            if time.monotonic() > deadline:
                shown = [sent.data if isinstance(sent.data, str) else f"<{len(sent.data)} bytes>" for sent in self.log]
                raise TimeoutError(f"did not happen within {seconds} s; sent so far: {shown}")
            gevent.sleep(0.002)  # sleep: between two looks

    def _send(self, data: str | bytes) -> None:
        self.held += 1
        try:
            self._open.wait()
        finally:
            self.held -= 1
        if self.error is not None:
            raise self.error
        self.log.append(Sent(self.clock(), data))
