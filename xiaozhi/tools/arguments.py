"""Makes what a language model wrote fit what a tool expects: "50" becomes 50, "Volume" becomes "volume", a missing
argument is named.

Not a JSON Schema validator, on purpose. Models get types wrong in harmless ways which a validator only refuses, while
the firmware of the devices ignores an argument whose JSON type differs from the declared one; and the schemas come from
devices and foreign servers, so that a full validator would run their regular expressions and follow their references.
Understood here: type (one or several), enum, const, minimum / maximum (and exclusive), minLength / maxLength, minItems
/ maxItems, items, properties, required, default, additionalProperties false, anyOf / oneOf. Everything else is let
through. Nesting is followed to a fixed depth. References were replaced before (`schemas.py`); the arguments of the
server's own tools are afterwards validated by pydantic (`declared.py`)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from xiaozhi.errors import ToolError

MAX_DEPTH = 8
MAX_OPTIONS = 8
_TRUE = frozenset({"true", "yes", "on", "1", "是", "开", "打开"})
_FALSE = frozenset({"false", "no", "off", "0", "否", "关", "关闭"})
# Integers beyond this lose digits on their way through a device's JSON parser, which keeps numbers as doubles.
_EXACT = 2**53


class _Misfit(Exception):
    """A value cannot be made to fit; the message says what is expected."""


def fit_arguments(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `arguments` that fits the object schema `schema`. Raises ToolError naming every argument that is
    missing or wrong."""
    faults: list[str] = []
    fitted = _fit_object(schema, arguments, "", faults, 0)
    if faults:
        raise ToolError("; ".join(faults))
    return fitted


def _fit_object(
    schema: Mapping[str, Any], given: Mapping[str, Any], where: str, faults: list[str], depth: int
) -> dict[str, Any]:
    properties = _mapping(schema.get("properties"))
    required = [name for name in _sequence(schema.get("required")) if isinstance(name, str)]
    fitted: dict[str, Any] = {}
    leftovers = dict(given)
    for name, described in properties.items():
        path = f"{where}{name}"
        subschema = _mapping(described)
        key = _key_for(name, leftovers, properties)
        value = leftovers.pop(key) if key is not None else None
        if value is None and not _allows(subschema, "null"):
            key = None
        if key is None:
            if "default" in subschema:
                fitted[name] = subschema["default"]
            elif name in required:
                faults.append(f"the argument '{path}' is missing ({_expectation(subschema)})")
            continue
        try:
            fitted[name] = _fit(subschema, value, path, faults, depth + 1)
        except _Misfit as misfit:
            faults.append(f"the argument '{path}' is {_shown(value)}, expected {misfit}")
    faults.extend(
        f"the argument '{where}{name}' is missing"
        for name in required
        if name not in properties and leftovers.get(name) is None
    )
    if schema.get("additionalProperties") is not False:
        fitted.update(leftovers)
    return fitted


def _key_for(name: str, given: Mapping[str, Any], properties: Mapping[str, Any]) -> str | None:
    if name in given:
        return name
    folded = name.lower().replace("-", "_")
    for key in given:
        if key not in properties and isinstance(key, str) and key.lower().replace("-", "_") == folded:
            return key
    return None


def _fit(schema: Mapping[str, Any], value: Any, where: str, faults: list[str], depth: int) -> Any:
    if depth > MAX_DEPTH:
        return value
    for choice in ("anyOf", "oneOf"):
        options = [_mapping(option) for option in _sequence(schema.get(choice))[:MAX_OPTIONS]]
        if options:
            return _fit_one_of(options, value, where, depth)
    types = _types(schema)
    if not types:
        return _checked(schema, value)
    # The type it already has comes first, so that "5" stays a text where texts are allowed too.
    kinds = sorted(types, key=lambda kind: not _is(kind, value))
    problem: _Misfit | None = None
    for kind in kinds:
        try:
            return _checked(schema, _to(kind, schema, value, where, faults, depth))
        except _Misfit as misfit:
            problem = problem or misfit
    raise problem or _Misfit(_expectation(schema))


def _fit_one_of(options: Sequence[Mapping[str, Any]], value: Any, where: str, depth: int) -> Any:
    for exact in (True, False):
        for option in options:
            if exact and not any(_is(kind, value) for kind in _types(option)):
                continue
            faults: list[str] = []
            try:
                # Alternatives within alternatives multiply: a schema of a stranger may not nest many of them.
                fitted = _fit(option, value, where, faults, depth + 3)
            except _Misfit:
                continue
            if not faults:
                return fitted
    raise _Misfit(" or ".join(_expectation(option) for option in options[:4]))


def _to(kind: str, schema: Mapping[str, Any], value: Any, where: str, faults: list[str], depth: int) -> Any:
    match kind:
        case "string":
            return _to_text(schema, value)
        case "integer" | "number":
            return _to_number(kind, schema, value)
        case "boolean":
            return _to_boolean(value)
        case "array":
            return _to_array(schema, value, where, faults, depth)
        case "object":
            return _fit_object(schema, _to_mapping(value), f"{where}.", faults, depth)
        case "null":
            if value is None or value in ("", "null", "None"):
                return None
            raise _Misfit("nothing")
    return value


def _to_text(schema: Mapping[str, Any], value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str):
        raise _Misfit(_expectation(schema))
    return value


def _to_number(kind: str, schema: Mapping[str, Any], given: Any) -> int | float:
    if isinstance(given, bool) or not isinstance(given, (int, float, str)):
        raise _Misfit(_expectation(schema))
    value: int | float = _parsed_number(given, schema) if isinstance(given, str) else given
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _Misfit(_expectation(schema))
        if value.is_integer() and abs(value) < _EXACT:
            value = int(value)
        elif kind == "integer":
            # A model that says 49.6 for a volume means "about"; the device would cut it to 49.
            value = round(value)
    if isinstance(value, int) and abs(value) > _EXACT:
        raise _Misfit(_expectation(schema))
    return value


def _parsed_number(text: str, schema: Mapping[str, Any]) -> int | float:
    plain = text.strip().rstrip("%％").strip()
    if len(plain) > 32:
        raise _Misfit(_expectation(schema))
    try:
        return int(plain)
    except ValueError:
        pass
    try:
        return float(plain)
    except ValueError:
        raise _Misfit(_expectation(schema)) from None


def _to_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
    raise _Misfit("true or false")


def _to_array(schema: Mapping[str, Any], value: Any, where: str, faults: list[str], depth: int) -> list[Any]:
    if isinstance(value, str):
        value = _parsed_json(value, list, [value])
    if not isinstance(value, (list, tuple)):
        value = [value]
    _check_bounds(schema, len(value), "minItems", "maxItems", "items")
    items = _mapping(schema.get("items"))
    return [_fit(items, item, f"{where}[{index}]", faults, depth + 1) for index, item in enumerate(value)]


def _to_mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        value = _parsed_json(value, dict, None)
    if not isinstance(value, Mapping):
        raise _Misfit("an object")
    return value


def _parsed_json(text: str, kind: type, otherwise: Any) -> Any:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return otherwise
    return parsed if isinstance(parsed, kind) else otherwise


def _checked(schema: Mapping[str, Any], value: Any) -> Any:
    """`value`, or the member of the enumeration it means. Raises _Misfit when it is out of bounds."""
    if "const" in schema and value != schema["const"]:
        raise _Misfit(_shown(schema["const"]))
    choices = _sequence(schema.get("enum"))
    if choices and value not in choices:
        folded = str(value).strip().lower()
        for choice in choices:
            if str(choice).lower() == folded:
                return choice
        raise _Misfit(_expectation(schema))
    if isinstance(value, str):
        _check_bounds(schema, len(value), "minLength", "maxLength", "characters")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        _check_range(schema, value)
    return value


def _check_range(schema: Mapping[str, Any], value: int | float) -> None:
    low, high = _number(schema.get("minimum")), _number(schema.get("maximum"))
    above, below = _number(schema.get("exclusiveMinimum")), _number(schema.get("exclusiveMaximum"))
    if (
        (low is not None and value < low)
        or (high is not None and value > high)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    ):
        raise _Misfit(_expectation(schema))


def _check_bounds(schema: Mapping[str, Any], size: int, least: str, most: str, unit: str) -> None:
    low, high = _number(schema.get(least)), _number(schema.get(most))
    if low is not None and size < low:
        raise _Misfit(f"at least {low:g} {unit}")
    if high is not None and size > high:
        raise _Misfit(f"at most {high:g} {unit}")


def _is(kind: str, value: Any) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "array":
            return isinstance(value, (list, tuple))
        case "object":
            return isinstance(value, Mapping)
        case "null":
            return value is None
    return False


def _types(schema: Mapping[str, Any]) -> list[str]:
    declared = schema.get("type")
    if isinstance(declared, str):
        return [declared]
    return [kind for kind in _sequence(declared) if isinstance(kind, str)]


def _allows(schema: Mapping[str, Any], kind: str) -> bool:
    if kind in _types(schema):
        return True
    return any(
        kind in _types(_mapping(option)) for choice in ("anyOf", "oneOf") for option in _sequence(schema.get(choice))
    )


def _expectation(schema: Mapping[str, Any]) -> str:
    """What a schema asks for, in words that a language model can act on."""
    choices = _sequence(schema.get("enum"))
    if choices:
        return "one of " + ", ".join(_shown(choice) for choice in choices[:20])
    text = " or ".join(_types(schema)) or "a value"
    low, high = _number(schema.get("minimum")), _number(schema.get("maximum"))
    if low is not None and high is not None:
        return f"{text} from {low:g} to {high:g}"
    if low is not None:
        return f"{text} of at least {low:g}"
    if high is not None:
        return f"{text} of at most {high:g}"
    return text


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _number(value: Any) -> int | float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()
