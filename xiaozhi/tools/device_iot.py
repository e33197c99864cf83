"""The things of older firmware (IoT): what a device describes in its `iot` messages becomes tools; what it reports is
what they answer.

Not MCP (newer firmware uses that, see `device_mcp.py`); a device may use both. Descriptors come one or several at a
time, `{name, description, properties{name: {type, description}}, methods{name: {description, parameters}}}`; states as
`{name, state: {property: value}}`; commands go out as `{name, method, parameters}` and are never answered: the next
state report tells what became of them.

Each property becomes `get_<thing>_<property>`. A method that sets a property (`SetVolume` of `volume`) becomes
`set_<thing>_<property>`, every other one `<thing>_<method>`. Names are written as models like them (`Speaker.SetVolume`
-> `set_speaker_volume`); the toolbox sees to the rest.

The device is not trusted: what it describes is bounded per thing and in all, and is made into tools about once a
second (the last description of a thing counts). Models that know the existing xiaozhi server may call a method by the
name that it has there (`speaker_setvolume`), and say themselves what is to be said (`response_success`, with
placeholders such as `{value}`, and `response_failure`). No tool knows its thing or this object: a session that ends
leaves no cycle behind."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from xiaozhi.chat import ToolSpec
from xiaozhi.errors import ConnectionClosed, ToolError
from xiaozhi.runtime.limits import TokenBucket
from xiaozhi.runtime.logs import get_logger
from xiaozhi.tools.base import Action, SourceKind, Tool, ToolContext, ToolOutcome

log = get_logger(__name__)

MAX_THINGS: Final = 32
MAX_MEMBERS: Final = 32
"""Properties, methods, and parameters of a method, each."""
MAX_NAME_CHARS: Final = 64
MAX_DESCRIPTION_CHARS: Final = 1000
MAX_VALUE_CHARS: Final = 1000
MAX_THING_BYTES: Final = 8_000
"""Of a whole description as JSON. Real ones have a few hundred."""
MAX_DESCRIBED_BYTES: Final = 64_000
"""Of all descriptions of a device as JSON: they are kept, and shown to the model with every question."""
MAX_TOOLS: Final = 128
"""Of all things of a device, as of MCP; a thing whose tools have no room is not taken."""
MAX_REPORTED_CHARS: Final = 32_000
"""Of all values that a device reports, names included."""
APPLIED_PER_SECOND: Final = 1.0
APPLIED_AT_ONCE: Final = 8
"""Messages whose things become tools at once: firmware describes its things right after its hello, some of it each in a
message of its own."""
_TOOL_BYTES: Final = 1_000
"""Roughly what a tool takes beside its texts."""
_TYPES = frozenset({"number", "integer", "boolean", "string"})
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_RESPONSES: Final[Mapping[str, Mapping[str, str]]] = {
    "response_success": {"type": "string", "description": "What to say when it works; {value} stands for the value."},
    "response_failure": {"type": "string", "description": "What to say when it does not."},
}

Command = dict[str, Any]
Values = dict[str, Any]
"""What a thing reported last, by property."""


@dataclass(frozen=True, slots=True)
class _Thing:
    described: bytes
    """The description as it came."""
    properties: frozenset[str]
    tools: tuple[Tool, ...]


class DeviceIot:
    """The things of one device; also the toolbox's source of their tools.

    `send_commands(commands)` must not block for long and may raise ConnectionClosed."""

    def __init__(
        self, send_commands: Callable[[list[Command]], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._send_commands = send_commands
        self._clock = clock
        self._things: dict[str, _Thing] = {}
        self._described: dict[str, bytes] = {}
        """Descriptions that were not made into tools yet, by name."""
        self._described_bytes = 0
        """Of both."""
        self._values: dict[str, Values] = {}
        self._reported_chars = 0
        self._rounds = TokenBucket(APPLIED_PER_SECOND, APPLIED_AT_ONCE, clock())
        self._tools: tuple[Tool, ...] = ()
        self.ignored = 0
        """Descriptors and states that could not be understood, or had no room."""

    @property
    def name(self) -> str:
        return "iot"

    @property
    def kind(self) -> SourceKind:
        return SourceKind.DEVICE_IOT

    @property
    def held_bytes(self) -> int:
        """Roughly what all of it takes in memory."""
        texts = self._described_bytes + self._reported_chars
        return 4 * texts + _TOOL_BYTES * len(self._tools)

    def tools(self) -> Sequence[Tool]:
        """One tool for each property and each method."""
        self._apply()
        return self._tools

    def on_descriptors(self, descriptors: Any) -> None:
        """Take the `descriptors` of an `iot` message, whatever they are; a thing described again is replaced. Never
        raises."""
        for described in _items(descriptors):
            if not self._take(described):
                self._ignore("descriptor")
        self._apply()

    def on_states(self, states: Any) -> None:
        """Take the `states` of an `iot` message, whatever they are. Never raises."""
        for reported in _items(states):
            name = reported.get("name") if isinstance(reported, Mapping) else None
            state = reported.get("state") if isinstance(reported, Mapping) else None
            known = isinstance(name, str) and (name in self._things or name in self._described)
            if not known or not isinstance(state, Mapping):
                self._ignore("state")
                continue
            assert isinstance(name, str)
            for prop, value in state.items():
                if not self._report(name, prop, value):
                    self._ignore("state")

    def close(self) -> None:
        """The device is gone: part with everything. Idempotent."""
        self._things.clear()
        self._described.clear()
        self._values.clear()
        self._tools = ()
        self._described_bytes = self._reported_chars = 0

    def _ignore(self, what: str) -> None:
        self.ignored += 1
        if self.ignored == 1:
            # Only the first one: a faulty device fills its counter, not the log.
            log.warning("device iot garbage", what=what)

    # --- what the device says -----------------------------------------------------------------------------------------

    def _take(self, described: Any) -> bool:
        """Keep a description until it is made into tools; False when it is none, or has no room."""
        name = described.get("name") if isinstance(described, Mapping) else None
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARS:
            return False
        try:
            written = orjson.dumps(described)
        except TypeError:
            return False  # nested too deeply
        if len(written) > MAX_THING_BYTES:
            return False
        thing = self._things.get(name)
        waiting = self._described.get(name)
        if waiting is None and thing is not None and thing.described == written:
            return True
        room = MAX_DESCRIBED_BYTES - self._described_bytes + len(waiting or b"")
        new = thing is None and waiting is None
        if len(written) > room or (new and len(self._things.keys() | self._described.keys()) >= MAX_THINGS):
            return False
        self._described_bytes += len(written) - len(waiting or b"")
        self._described[name] = written
        return True

    def _report(self, name: str, prop: Any, value: Any) -> bool:
        """Keep what a property is now; False when there is no such property, or no room."""
        thing = self._things.get(name)
        unknown = thing is not None and name not in self._described and prop not in thing.properties
        if unknown or not isinstance(prop, str) or len(prop) > MAX_NAME_CHARS or not _is_value(value):
            return False
        values = self._values.setdefault(name, {})
        if prop not in values and len(values) >= MAX_MEMBERS:
            return False
        chars = len(str(value)) - len(str(values[prop])) if prop in values else len(prop) + len(str(value))
        if self._reported_chars + chars > MAX_REPORTED_CHARS:
            return False
        self._reported_chars += chars
        values[prop] = value
        return True

    # --- from descriptions to tools -----------------------------------------------------------------------------------

    def _apply(self) -> None:
        """Make what was described into tools, if it is time for that."""
        if not self._described or not self._rounds.take(self._clock()):
            return
        described, self._described = self._described, {}
        for name, written in described.items():
            self._replace(name, written)
        self._tools = tuple(tool for thing in self._things.values() for tool in thing.tools)
        log.info("device things", things=len(self._things), tools=len(self._tools))

    def _replace(self, name: str, written: bytes) -> None:
        old = self._things.get(name)
        room = MAX_TOOLS - sum(len(thing.tools) for other, thing in self._things.items() if other != name)
        thing = self._thing(name, written)
        if thing is None or len(thing.tools) > room:
            self._described_bytes -= len(written)
            self._forget_values(name, old.properties if old is not None else frozenset())
            self._ignore("descriptor")
            return
        self._described_bytes -= len(old.described) if old is not None else 0
        self._things[name] = thing
        self._forget_values(name, thing.properties)

    def _forget_values(self, name: str, properties: frozenset[str]) -> None:
        values = self._values.get(name, {})
        for prop in [prop for prop in values if prop not in properties]:
            self._reported_chars -= len(prop) + len(str(values.pop(prop)))
        if not properties:
            self._values.pop(name, None)

    def _thing(self, name: str, written: bytes) -> _Thing | None:
        described = orjson.loads(written)
        properties = _members(described.get("properties"))
        methods = _members(described.get("methods"))
        if not properties and not methods:
            return None
        shown = _description(described) or name
        # The getters read what was reported from here on; they know the dictionary, not the thing.
        values = self._values.setdefault(name, {})
        tools: list[Tool] = [_Getter(name, shown, prop, details, values) for prop, details in properties.items()]
        settable = {_snake(prop) for prop in properties}
        tools += [
            _Method(name, shown, method, details, settable, self._send_commands) for method, details in methods.items()
        ]
        return _Thing(written, frozenset(properties), tuple(tools))


class _Getter(Tool):
    """Tells the last value of one property."""

    late_after = 0.0

    def __init__(self, thing: str, shown: str, prop: str, details: Mapping[str, Any], values: Values) -> None:
        text = f"Tells the state of {shown}: {_description(details) or prop}."
        schema = {"type": "object", "properties": dict(_RESPONSES), "additionalProperties": False}
        self.spec = ToolSpec(f"get_{_snake(thing)}_{_snake(prop)}", text, schema)
        self.also_called = f"get_{thing.lower()}_{prop.lower()}"
        self._thing = thing
        self._prop = prop
        self._values = values

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        value = self._values.get(self._prop)
        words = _words(arguments, value is not None)
        if words:
            return ToolOutcome(Action.SPEAK, _filled(words, {self._prop: value, "value": value}), value)
        if value is None:
            return ToolOutcome(Action.ERROR, f"{self._thing} has not reported its {self._prop} yet.")
        return ToolOutcome(Action.ASK_LLM, f"{self._thing} {self._prop}: {_worded(value)}", value)


class _Method(Tool):
    """Sends one command."""

    late_after = 0.0

    def __init__(
        self,
        thing: str,
        shown: str,
        method: str,
        details: Mapping[str, Any],
        settable: set[str],
        send: Callable[[list[Command]], None],
    ) -> None:
        declared = _members(details.get("parameters"))
        parameters = {name: _parameter(parameter) for name, parameter in declared.items()}
        required = [name for name, parameter in declared.items() if parameter.get("required") is not False]
        properties = {**_RESPONSES, **parameters}
        schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        text = f"{shown}: {_description(details) or method}."
        self.spec = ToolSpec(_method_name(thing, method, settable), text, schema)
        self.also_called = f"{thing.lower()}_{method.lower()}"
        self._thing = thing
        self._method = method
        self._parameters = frozenset(parameters)
        self._send = send

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        order: Command = {"name": self._thing, "method": self._method}
        given = {name: value for name, value in arguments.items() if name in self._parameters}
        if given:
            order["parameters"] = given
        try:
            self._send([order])
        except ConnectionClosed:
            raise ToolError("the device has disconnected") from None
        words = _words(arguments, True) if "response_success" not in self._parameters else ""
        if words:
            value = next(iter(given.values()), "")
            return ToolOutcome(Action.SPEAK, _filled(words, {**given, "value": value}))
        shown = ", ".join(f"{name}={_worded(value)}" for name, value in given.items())
        return ToolOutcome(Action.ASK_LLM, f"Sent to the device: {self._thing}.{self._method}({shown})")


def _words(arguments: Mapping[str, Any], success: bool) -> str:
    """What the model wants to be said; "" when it did not say."""
    words = arguments.get("response_success" if success else "response_failure")
    return words.strip() if isinstance(words, str) else ""


def _filled(words: str, values: Mapping[str, Any]) -> str:
    for name, value in values.items():
        words = words.replace(f"{{{name}}}", _worded(value))
    return words


def _method_name(thing: str, method: str, settable: set[str]) -> str:
    words = _snake(method)
    target = words.removeprefix("set_")
    if target != words and target in settable:
        return f"set_{_snake(thing)}_{target}"
    return f"{_snake(thing)}_{words}"


def _snake(name: str) -> str:
    return _HUMP.sub("_", name).lower()


def _parameter(details: Mapping[str, Any]) -> dict[str, Any]:
    kind = details.get("type")
    made: dict[str, Any] = {"type": kind if isinstance(kind, str) and kind in _TYPES else "string"}
    description = _description(details)
    if description:
        made["description"] = description
    return made


def _members(described: Any) -> dict[str, Mapping[str, Any]]:
    if not isinstance(described, Mapping):
        return {}
    members = {
        name: details
        for name, details in described.items()
        if isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARS and isinstance(details, Mapping)
    }
    return dict(list(members.items())[:MAX_MEMBERS])


def _description(details: Mapping[str, Any]) -> str:
    text = details.get("description")
    return text.strip()[:MAX_DESCRIPTION_CHARS].rstrip(".。") if isinstance(text, str) else ""


def _items(given: Any) -> Sequence[Any]:
    if isinstance(given, Mapping):
        return [given]
    return given[: MAX_THINGS * 2] if isinstance(given, (list, tuple)) else ()


def _is_value(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= MAX_VALUE_CHARS)


def _worded(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
