"""The things of older firmware (IoT): what a device describes in its `iot` messages becomes tools; what it reports is
what they answer.

Not MCP (newer firmware uses that, see `device_mcp.py`); a device may use both. Descriptors come one or several at a
time, `{name, description, properties{name: {type, description}}, methods{name: {description, parameters}}}`; states as
`{name, state: {property: value}}`; commands go out as `{name, method, parameters}` and are never answered: the next
state report tells what became of them.

Each property becomes `get_<thing>_<property>`. A method that sets a property (`SetVolume` of `volume`) becomes
`set_<thing>_<property>`, every other one `<thing>_<method>`. Names are written as models like them (`Speaker.SetVolume`
-> `set_speaker_volume`); the toolbox sees to the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xiaozhi.chat import ToolSpec
from xiaozhi.errors import ConnectionClosed, ToolError
from xiaozhi.runtime.logs import get_logger
from xiaozhi.tools.base import Action, FunctionTool, SourceKind, Tool, ToolContext, ToolOutcome
from xiaozhi.tools.schemas import json_chars

log = get_logger(__name__)

MAX_THINGS = 32
MAX_MEMBERS = 32
"""Properties, methods, and parameters of a method, each."""
MAX_NAME_CHARS = 64
MAX_DESCRIPTION_CHARS = 1000
MAX_VALUE_CHARS = 1000
MAX_THING_CHARS = 8_000
"""Of a whole description as JSON: it is kept, and shown to the model with every question. Real ones have a few
hundred."""
_TYPES = frozenset({"number", "integer", "boolean", "string"})
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

Command = dict[str, Any]


@dataclass(slots=True)
class _Thing:
    name: str
    description: str
    properties: dict[str, Mapping[str, Any]]
    tools: list[Tool]
    values: dict[str, Any] = field(default_factory=dict)


class DeviceIot:
    """The things of one device; also the toolbox's source of their tools.

    `send_commands(commands)` must not block for long and may raise ConnectionClosed."""

    def __init__(self, send_commands: Callable[[list[Command]], None]) -> None:
        self._send_commands = send_commands
        self._things: dict[str, _Thing] = {}
        self._tools: tuple[Tool, ...] = ()
        self.ignored = 0
        """Descriptors and states that could not be understood, or had no room."""

    @property
    def name(self) -> str:
        return "iot"

    @property
    def kind(self) -> SourceKind:
        return SourceKind.DEVICE_IOT

    def tools(self) -> Sequence[Tool]:
        """One tool for each property and each method."""
        return self._tools

    def on_descriptors(self, descriptors: Any) -> None:
        """Take the `descriptors` of an `iot` message, whatever they are; a thing described again is replaced. Never
        raises."""
        before = self._tools
        for described in _items(descriptors):
            thing = self._thing(described)
            old = self._things.get(thing.name) if thing is not None else None
            if thing is None or (old is None and len(self._things) >= MAX_THINGS):
                self._ignore("descriptor")
                continue
            if old is not None:
                thing.values = {name: value for name, value in old.values.items() if name in thing.properties}
            self._things[thing.name] = thing
            self._tools = tuple(tool for known in self._things.values() for tool in known.tools)
        if self._tools is not before:
            log.info("device things", things=len(self._things), tools=len(self._tools))

    def on_states(self, states: Any) -> None:
        """Take the `states` of an `iot` message, whatever they are. Never raises."""
        for reported in _items(states):
            name = reported.get("name") if isinstance(reported, Mapping) else None
            state = reported.get("state") if isinstance(reported, Mapping) else None
            thing = self._things.get(name) if isinstance(name, str) else None
            if thing is None or not isinstance(state, Mapping):
                self._ignore("state")
                continue
            for prop, value in state.items():
                if prop in thing.properties and _is_value(value):
                    thing.values[prop] = value
                else:
                    self._ignore("state")

    def _ignore(self, what: str) -> None:
        self.ignored += 1
        if self.ignored == 1:
            # Only the first one: a faulty device fills its counter, not the log.
            log.warning("device iot garbage", what=what)

    def _value(self, thing: str, prop: str) -> Any:
        """The last reported value of a property; None when it was never reported."""
        known = self._things.get(thing)
        return known.values.get(prop) if known else None

    # --- from a description to tools ---

    def _thing(self, described: Any) -> _Thing | None:
        if not isinstance(described, Mapping):
            return None
        name = described.get("name")
        if (
            not isinstance(name, str)
            or not name
            or len(name) > MAX_NAME_CHARS
            or json_chars(described) > MAX_THING_CHARS
        ):
            return None
        properties = _members(described.get("properties"))
        methods = _members(described.get("methods"))
        if not properties and not methods:
            return None
        thing = _Thing(name, _description(described) or name, properties, [])
        thing.tools += [self._getter(thing, prop) for prop in properties]
        thing.tools += [self._method(thing, method, details) for method, details in methods.items()]
        return thing

    def _getter(self, thing: _Thing, prop: str) -> Tool:
        details = thing.properties[prop]
        text = f"Tells the state of {thing.description}: {_description(details) or prop}."
        spec = ToolSpec(f"get_{_snake(thing.name)}_{_snake(prop)}", text)

        def get(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
            # Looked up anew: the thing may have been described again since.
            value = self._value(thing.name, prop)
            if value is None:
                return ToolOutcome(Action.ERROR, f"{thing.name} has not reported its {prop} yet.")
            return ToolOutcome(Action.ASK_LLM, f"{thing.name} {prop}: {_worded(value)}", value)

        return FunctionTool(spec, get)

    def _method(self, thing: _Thing, method: str, details: Mapping[str, Any]) -> Tool:
        declared = _members(details.get("parameters"))
        parameters = {name: _parameter(parameter) for name, parameter in declared.items()}
        required = [name for name, parameter in declared.items() if parameter.get("required") is not False]
        schema = {"type": "object", "properties": parameters, "required": required, "additionalProperties": False}
        spec = ToolSpec(_method_name(thing, method), f"{thing.description}: {_description(details) or method}.", schema)

        def command(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
            order: Command = {"name": thing.name, "method": method}
            if arguments:
                order["parameters"] = dict(arguments)
            try:
                self._send_commands([order])
            except ConnectionClosed:
                raise ToolError("the device has disconnected") from None
            shown = ", ".join(f"{name}={_worded(value)}" for name, value in arguments.items())
            return ToolOutcome(Action.ASK_LLM, f"Sent to the device: {thing.name}.{method}({shown})")

        return FunctionTool(spec, command)


def _method_name(thing: _Thing, method: str) -> str:
    words = _snake(method)
    target = words.removeprefix("set_")
    if target != words and target in {_snake(prop) for prop in thing.properties}:
        return f"set_{_snake(thing.name)}_{target}"
    return f"{_snake(thing.name)}_{words}"


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
