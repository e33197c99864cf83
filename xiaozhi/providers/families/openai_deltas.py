"""Fragments of tool calls in a streamed chat completion -> whole calls. Pure: no network, no time.

The key of a call is its index. Vendors differ: the index is missing, is 0 for every call or counts the fragments; ids
are missing, repeated, or new with every fragment; names come again with every fragment or in pieces; arguments come as
text, as an object, or longer each time. An id or a name opens another call only when the call before it is whole. A
call whose arguments cannot be understood is reported with the reason (`ToolCall.fault`) and never run."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from xiaozhi.chat import Seal, ToolCall
from xiaozhi.providers.families.call_arguments import MAX_ARGUMENT_CHARS, BadToolCall, is_whole, parse_arguments
from xiaozhi.providers.families.tool_names import Offer

MAX_TOOL_CALLS = 32
MAX_SEAL_BYTES = 65_536
"""Of a `Seal`; a longer one is not kept in a dialogue."""
ID_CHARS = 9
"""Mistral's models take ids of nine letters and digits and nothing else; everybody else takes those too."""


def new_call_id() -> str:
    """An id for a call that came without one, in the form every vendor takes."""
    return uuid.uuid4().hex[:ID_CHARS]


@dataclass(slots=True, eq=False)
class _Growing:
    id: str = ""
    names: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    chars: int = 0
    seal: Any = None

    @property
    def whole(self) -> bool:
        # The last character first: this is asked for every fragment.
        return bool(self.arguments) and self.arguments[-1].rstrip()[-1:] == "}" and is_whole("".join(self.arguments))


class ToolCalls:
    """Puts the fragments of tool calls together."""

    def __init__(self) -> None:
        self._calls: list[_Growing] = []
        self._at: dict[int, _Growing] = {}
        self._last: _Growing | None = None

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, fragments: Any) -> None:
        """Add the `tool_calls` of one delta. Raises BadToolCall for what has no end; what is no fragment is skipped."""
        if isinstance(fragments, Mapping):
            fragments = [fragments]
        if not isinstance(fragments, list):
            return
        for fragment in fragments:
            if isinstance(fragment, Mapping):
                self._add(fragment)

    def whole(self, *, cut_off: bool = False, offer: Offer | None = None, vendor: str = "") -> list[ToolCall]:
        """The calls in the order they began. `cut_off`: the answer hit its length limit or broke off. `offer`: the
        tools on offer, which tell a name in pieces from one that was repeated. `vendor`: whose seal they bear."""
        calls: list[ToolCall] = []
        used: set[str] = set()
        for growing in self._calls:
            name = _name(growing.names, offer or Offer(()))
            if not name:
                continue
            identity = growing.id if growing.id and growing.id not in used else new_call_id()
            used.add(identity)
            try:
                arguments = _arguments(growing.arguments, name, cut_off=cut_off)
                calls.append(ToolCall(identity, name, arguments, seal=_seal(vendor, growing.seal)))
            except BadToolCall as error:
                calls.append(ToolCall(identity, name, {}, fault=str(error)))
        return calls

    def _add(self, fragment: Mapping[str, Any]) -> None:
        function = fragment.get("function")
        if not isinstance(function, Mapping):
            function = fragment  # without the level in between
        given = fragment.get("id")
        identity = str(given) if isinstance(given, (str, int)) and given != "" else ""
        name = function.get("name")
        name = name if isinstance(name, str) else ""
        arguments = function.get("arguments")
        if arguments is None and function.get("parameters") is not None:
            arguments = function["parameters"]
        text = "" if arguments is None else arguments if isinstance(arguments, str) else _dumped(arguments)
        call = self._call(_index(fragment.get("index")), identity, name, text)
        if call is None:
            return
        self._last = call
        call.id = call.id or identity
        call.seal = call.seal or fragment.get("extra_content")
        if name:
            call.names.append(name)
        if text:
            call.arguments.append(text)
            call.chars += len(text)
            if call.chars > MAX_ARGUMENT_CHARS:
                raise BadToolCall("arguments without end")

    def _call(self, index: int | None, identity: str, name: str, text: str) -> _Growing | None:
        """The call that a fragment belongs to; None: it only repeats what is known."""
        by_id = next((call for call in self._calls if identity and call.id == identity), None)
        last = self._last
        if index is not None:
            known = self._at.get(index)
            if known is None:
                numbered_fragments = last is not None and not last.whole and not name and identity in ("", last.id)
                return last if numbered_fragments else self._new(index, identity)
        else:
            known = by_id or last
            if known is None:
                return self._new(index, identity)
        other_id = bool(identity and known.id and identity != known.id)
        if other_id and by_id is not None:
            return by_id
        same_id = bool(identity) and identity == known.id
        if known.whole:
            return self._behind_a_whole_one(known, index, identity, name, text)
        if not name or not known.names or name in known.names:
            return known
        # Another name: another call, unless the name comes in pieces.
        in_pieces = not known.arguments and not other_id and (same_id or index is not None)
        return known if in_pieces else self._new(index, identity)

    def _behind_a_whole_one(
        self, known: _Growing, index: int | None, identity: str, name: str, text: str
    ) -> _Growing | None:
        so_far = "".join(known.arguments)
        if identity and known.id and identity != known.id:
            return self._new(index, identity)
        if name in ("", *known.names) and text in ("", so_far):
            return None
        if not name or (identity and name in known.names) or (name in known.names and so_far.strip() == "{}"):
            return known
        return self._new(index, identity)

    def _new(self, index: int | None, identity: str) -> _Growing:
        if len(self._calls) >= MAX_TOOL_CALLS:
            raise BadToolCall(f"more than {MAX_TOOL_CALLS} tool calls")
        call = _Growing(identity)
        self._calls.append(call)
        self._at[-len(self._calls) if index is None else index] = call
        return call


def _seal(vendor: str, content: Any) -> Seal | None:
    written = orjson.dumps(content) if content is not None else b""
    return Seal(vendor, written) if 0 < len(written) <= MAX_SEAL_BYTES else None


def _index(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _dumped(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def _name(names: list[str], offer: Offer) -> str:
    """The name that was meant: given once, repeated, in pieces, or longer each time."""
    if not names:
        return ""
    first, last = names[0], names[-1]
    candidates = dict.fromkeys((first, "".join(names), last))
    for candidate in candidates:
        if (found := offer.resolve(candidate)) is not None:
            return found
    if all(name == first for name in names):
        return first.strip()
    return last if last.startswith(first) else "".join(names)


def _arguments(pieces: list[str], name: str, *, cut_off: bool) -> dict[str, Any]:
    text = "".join(pieces)
    if len(pieces) > 1 and is_whole(pieces[-1]) and all(pieces[-1].startswith(piece) for piece in pieces):
        text = pieces[-1]  # longer each time
    return parse_arguments(text, cut_off=cut_off, tool=name)
