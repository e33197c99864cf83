"""The body of an answer -> the JSON values in it, as they arrive.

The form is judged by what is there and never by the content type, which many servers and gateways get wrong:
server-sent events (WHATWG HTML, 9.2), JSON lines, one object, objects one behind the other, a list. One odd line costs
that line: it is kept for the error message, in case nothing else was good."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import orjson

from xiaozhi.net.http import MAX_LINE_BYTES, HttpReply

DONE: Final = object()
"""The mark behind the last event ("[DONE]")."""

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""Of a body that has to be read whole."""
_BOM: Final = b"\xef\xbb\xbf"
# With the mark in front of each value in RFC 7464.
_BLANKS: Final = b" \t\r\n\x1e"
_FIELDS: Final = (b"event:", b"id:", b"retry:")
_DONE_EVENT: Final = b"data: [DONE]\n\n"
_DONE_WORDS: Final = frozenset({b"[DONE]", b"[done]", b'"[DONE]"', b"[DONE", b"DONE", b"[Done]"})
_ERROR_EVENTS: Final = frozenset({"error", "exception", "fail", "failed", "fault"})
# JSON's own separators, and those of RFC 7464.
_BETWEEN_VALUES: Final = " \t\r\n,;\x1e[]"


def json_values(reply: HttpReply, body: JsonBody) -> Iterator[Any]:
    """The values in `reply`, each as soon as it is whole. Raises VendorError."""
    for piece in reply.chunks():
        if body.between_events and piece[:7] == b"data: {" and piece.find(b"\n") == len(piece) - 2:
            # One event per piece, as nearly all servers send it.
            try:
                value = orjson.loads(piece[6:])
            except orjson.JSONDecodeError:
                pass
            else:
                yield value
                continue
        if piece == _DONE_EVENT:
            yield DONE
            return
        yield from body.feed(piece)
        if body.overfull:
            reply.garbage("an answer without line or end")
    yield from body.end()


class JsonBody:
    """`feed` what arrives, `end` when the body is complete. An event named "error" comes as {"error": ...}."""

    def __init__(self) -> None:
        self.odd = b""
        """The first line that could not be understood."""
        self.between_events = True
        """Nothing is waiting for its rest: an event that comes in one piece can be read by itself."""
        self._rest = b""
        self._undecided = True
        self._whole = False
        self._event = ""
        self._half = b""

    @property
    def overfull(self) -> bool:
        """More has come without a line's end, or of a body without lines, than anybody means."""
        return len(self._rest) > (MAX_BODY_BYTES if self._whole else MAX_LINE_BYTES)

    def feed(self, piece: bytes) -> list[Any]:
        """The values that `piece` completes."""
        found = self._feed(piece)
        self.between_events = not (self._rest or self._event or self._half or self._whole)
        return found

    def _feed(self, piece: bytes) -> list[Any]:
        buffer = self._rest + piece if self._rest else piece
        if self._undecided and not self._decide(buffer):
            self._rest = buffer
            return []
        if self._whole:
            self._rest = buffer
            return []
        # A carriage return at the very end may be half of a line's end.
        cut = max(buffer.rfind(b"\n"), buffer.rfind(b"\r", 0, -1)) + 1
        self._rest = buffer[cut:]
        found: list[Any] = []
        for line in buffer[:cut].splitlines():
            self._line(line, found)
        return found

    def end(self) -> list[Any]:
        """What is left when the body is complete."""
        found: list[Any] = []
        rest, self._rest = self._rest, b""
        if self._whole or (self._undecided and rest.removeprefix(_BOM).lstrip(_BLANKS)[:1] in (b"{", b"[")):
            self._values(rest.removeprefix(_BOM), found)
            return found
        for line in rest.splitlines():
            self._line(line, found)
        self._give_up_half()
        return found

    def _decide(self, buffer: bytes) -> bool:
        """Find out the form; False when too little has arrived."""
        bare = buffer.removeprefix(_BOM).lstrip(_BLANKS)
        if not bare:
            return False
        if bare[:1] in (b"{", b"["):
            line, newline, _ = bare.partition(b"\n")
            if not newline:
                return False
            # A first line that is no value by itself: an object over several lines, or a list of objects.
            self._whole = _loaded(line) is None and not line.startswith((b"[DONE", b"[done"))
        self._undecided = False
        return True

    def _line(self, line: bytes, found: list[Any]) -> None:
        line = line.strip(_BLANKS).removeprefix(_BOM)
        if not line:
            self._give_up_half()
            self._event = ""
        elif line.startswith(b"data:"):
            data = line[5:].strip()
            while data.startswith(b"data:"):  # a gateway that packs events once more
                data = data[5:].strip()
            if data:
                self._data(data, found)
        elif line[:1] in (b"{", b"["):
            self._data(line, found)
        elif line.startswith(b"event:"):
            self._event = line[6:].strip().decode("utf-8", "replace").lower()
        elif not line.startswith(_FIELDS) and line[:1] != b":":
            if self._half:
                self._data(line, found)
            else:
                self._put_aside(line)

    def _data(self, data: bytes, found: list[Any]) -> None:
        if data in _DONE_WORDS:
            self._give_up_half()
            found.append(DONE)
            return
        value = _loaded(data)
        if value is None and self._half:
            data = self._half + b"\n" + data
            self._half = b""
            value = _loaded(data)
        elif self._half:
            self._give_up_half()
        if value is None:
            if data[:1] in (b"{", b"[") and len(data) <= MAX_LINE_BYTES:
                self._half = data  # an event may be spread over several data lines
            elif self._event in _ERROR_EVENTS:
                found.append({"error": data.decode("utf-8", "replace")})
            else:
                self._put_aside(data)
            return
        if self._event in _ERROR_EVENTS and not (isinstance(value, dict) and value.get("error")):
            value = {"error": value}
        found.append(value)

    def _give_up_half(self) -> None:
        if self._half:
            self._put_aside(self._half)
            self._half = b""

    def _put_aside(self, line: bytes) -> None:
        self.odd = self.odd or line[:2_000]

    def _values(self, body: bytes, found: list[Any]) -> None:
        whole = _loaded(body)
        if whole is not None:
            found += whole if isinstance(whole, list) else [whole]
            return
        text = body.decode("utf-8", "replace")
        decoder = json.JSONDecoder(strict=False)
        at = 0
        while True:
            while at < len(text) and text[at] in _BETWEEN_VALUES:
                at += 1
            if at >= len(text):
                return
            try:
                value, at = decoder.raw_decode(text, at)
            except (ValueError, RecursionError):
                self._put_aside(text[at:].encode())
                return
            found.append(value)


def _loaded(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
