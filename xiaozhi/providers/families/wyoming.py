"""Wyoming, the protocol of the speech services of Home Assistant: events over TCP.

    {"type": ..., "data": {...}, "data_length": n, "payload_length": m}\\n
    n bytes     JSON, on top of `data`
    m bytes     sound

A service says what it offers when it is asked (`describe`, `info`). Nobody has to prove who he is, so it belongs in a
network of one's own. Source: github.com/OHF-Voice/wyoming, README."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

import orjson
from pydantic import Field

from xiaozhi.errors import VendorError, VendorGarbage, VendorRejected, VendorUnavailable
from xiaozhi.net.http_errors import redact
from xiaozhi.net.tcp_client import VendorTcp
from xiaozhi.providers.families.http_options import BlankFree
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

MAX_HEADER_BYTES: Final = 1024 * 1024
"""Old services have all of an event in its header, and `info` may name hundreds of voices."""
MAX_PART_BYTES: Final = 16 * 1024 * 1024


class BadEvent(ValueError):
    """Bytes that are no event."""


@dataclass(frozen=True, slots=True)
class WyomingEvent:
    """One event."""

    type: str
    data: Mapping[str, Any] = field(default_factory=dict)
    payload: bytes = b""


def pack(event: WyomingEvent) -> bytes:
    """An event as it is sent."""
    header: dict[str, Any] = {"type": event.type}
    data = orjson.dumps(event.data) if event.data else b""
    if data:
        header["data_length"] = len(data)
    if event.payload:
        header["payload_length"] = len(event.payload)
    return b"".join((orjson.dumps(header), b"\n", data, event.payload))


class EventDecoder:
    """Bytes in, events out. Raises BadEvent."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._header: Mapping[str, Any] | None = None

    def feed(self, data: bytes) -> list[WyomingEvent]:
        """The events that `data` completes."""
        self._bytes += data
        events: list[WyomingEvent] = []
        while (event := self._next()) is not None:
            events.append(event)
        return events

    def _next(self) -> WyomingEvent | None:
        if self._header is None:
            end = self._bytes.find(b"\n")
            if end < 0:
                if len(self._bytes) > MAX_HEADER_BYTES:
                    raise BadEvent(f"a header of more than {MAX_HEADER_BYTES} bytes")
                return None
            self._header = _object(bytes(self._bytes[:end]))
            del self._bytes[: end + 1]
        header = self._header
        inner, payload = _length(header, "data_length"), _length(header, "payload_length")
        if len(self._bytes) < inner + payload:
            return None
        if not isinstance(header.get("type"), str):
            raise BadEvent("an event without a type")
        data = header.get("data") or {}
        if not isinstance(data, Mapping):
            raise BadEvent("data that is no object")
        if inner:
            data = {**data, **_object(bytes(self._bytes[:inner]))}
        event = WyomingEvent(header["type"], data, bytes(self._bytes[inner : inner + payload]))
        del self._bytes[: inner + payload]
        self._header = None
        return event


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        parsed = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadEvent(f"not JSON: {line[:80]!r}") from error
    if not isinstance(parsed, dict):
        raise BadEvent(f"no object: {line[:80]!r}")
    return parsed


def _length(header: Mapping[str, Any], key: str) -> int:
    length = header.get(key) or 0
    if not isinstance(length, int) or not 0 <= length <= MAX_PART_BYTES:
        raise BadEvent(f"{key} {length!r}")
    return length


class WyomingOptions(BlankFree):
    """Where the service is."""

    host: str = Field("127.0.0.1", min_length=1)
    connect_timeout: float = Field(3.0, gt=0)


class WyomingConnection:
    """One connection: events in both directions. Raises VendorError."""

    def __init__(self, vendor: str, host: str, port: int, *, connect: float) -> None:
        self.vendor = vendor
        self._tcp = VendorTcp(vendor, host, port, connect=connect)
        self._decoder = EventDecoder()
        self._events: deque[WyomingEvent] = deque()

    def __enter__(self) -> WyomingConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, type_name: str, data: Mapping[str, Any] | None = None, payload: bytes = b"") -> None:
        """Send one event."""
        self._tcp.send(pack(WyomingEvent(type_name, data or {}, payload)))

    def receive(self, deadline: float) -> WyomingEvent:
        """The next event. An `error` is raised."""
        while not self._events:
            try:
                self._events += self._decoder.feed(self._tcp.receive(deadline))
            except BadEvent as error:
                self.close()
                raise VendorGarbage(self.vendor, redact(str(error))) from error
        event = self._events.popleft()
        if event.type == "error":
            self.close()
            said = f"{event.data.get('code') or ''} {event.data.get('text') or ''}".strip()
            raise VendorUnavailable(self.vendor, redact(said) or "the service failed")
        return event

    def close(self) -> None:
        """Hang up. Idempotent, from any greenlet."""
        self._tcp.close()


class WyomingService:
    """One service: connections to it, and what it offers. `kind`: the programs of interest, "asr" or "tts"."""

    def __init__(self, kind: str, options: WyomingOptions, port: int) -> None:
        self._kind = kind
        self._options = options
        self._port = port
        self._programs: Sequence[Mapping[str, Any]] = ()

    def connect(self, vendor: str) -> WyomingConnection:
        """A connection. Raises VendorError."""
        return WyomingConnection(vendor, self._options.host, self._port, connect=self._options.connect_timeout)

    def programs(self, vendor: str) -> Sequence[Mapping[str, Any]]:
        """What the service offers of its kind; it is asked once. Raises VendorError, VendorRejected when that is
        nothing."""
        if not self._programs:
            with self.connect(vendor) as connection:
                connection.send("describe")
                while (event := connection.receive(self._options.connect_timeout)).type != "info":
                    pass
            self._programs = self._of_interest(vendor, event.data)
        return self._programs

    def warm_up(self, vendor: str, key: str, wanted: str) -> None:
        """Ask what it offers, and tell in the log when the model or voice `wanted` is not under `key`. A service that
        does not answer is asked again when it is needed."""
        try:
            programs = self.programs(vendor)
        except VendorError as error:
            log.warning("a Wyoming service does not say what it offers", provider=vendor, error=str(error))
            return
        listed = [each for program in programs for each in program.get(key) or ()]
        names = [str(each.get("name")) for each in listed if isinstance(each, Mapping)]
        if wanted and wanted not in names:
            log.warning("a Wyoming service does not list this name", provider=vendor, name=wanted, listed=names[:20])

    def _of_interest(self, vendor: str, info: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        def installed(kind: str) -> list[Mapping[str, Any]]:
            programs = info.get(kind)
            listed = programs if isinstance(programs, list) else []
            return [each for each in listed if isinstance(each, Mapping) and each.get("installed", True)]

        if programs := installed(self._kind):
            return programs
        others = ", ".join(kind for kind in info if installed(kind))
        raise VendorRejected(vendor, f"the service has no {self._kind}; it offers: {others or 'nothing'}")
