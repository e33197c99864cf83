"""The settings that a device may have of its own, as the fields of a form: made from the typed schema, with what holds
for the device now.

Only plain values become fields. Blocks of providers and plugins are their owners' to describe; what a device has of
those is told as keys only (`other_keys`)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from xiaozhi.settings.loading import Loaded
from xiaozhi.settings.masking import mask_tree
from xiaozhi.settings.overlay import PER_DEVICE, PROCESS_WIDE
from xiaozhi.settings.schema import AUTO, SECTIONS, Settings

FieldKind = Literal["text", "long", "number", "integer", "flag", "choice", "words", "texts"]
"""long: a text of several lines; words: a list of texts; texts: a text by language ("": any)."""

SELECTED: Final = "selected_module"
_LONG: Final = ("prompt", "summaryMemory", "end_prompt.prompt")
_LEFT_OUT: Final = ("context_providers", "fallback", "plugins", "voiceprint", *SECTIONS.values())


@dataclass(frozen=True, slots=True)
class DeviceField:
    """One setting. `usual`: what holds for devices without their own; `own`: the device's own, None when it has none.
    `hidden`: there is something secret in `own`, which is masked: it must not be sent back."""

    key: str
    """Dotted, as `device_settings.with_settings` takes it."""
    kind: FieldKind
    description: str
    usual: Any
    own: Any = None
    hidden: bool = False
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


def form_of(loaded: Loaded, own: Mapping[str, Any]) -> list[DeviceField]:
    """The fields, in the order of the schema. `own`: the device's own settings. The first call takes some tenths of a
    second: not for the hub."""
    usual = loaded.settings.model_dump(by_alias=True, mode="json")
    return [_filled(loaded, field, _at(usual, field.key), _at(own, field.key)) for field in _fields()]


def other_keys(own: Mapping[str, Any]) -> list[str]:
    """What a device has of its own that no field of the form shows, as dotted keys."""
    shown = {field.key for field in _fields()}
    return [key for key in _dotted(own) if key not in shown]


def changed_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Where two settings of a device differ, as dotted keys."""
    keys = dict.fromkeys([*_dotted(before), *_dotted(after)])
    return [key for key in keys if _at(before, key) != _at(after, key)]


def _filled(loaded: Loaded, field: DeviceField, usual: Any, own: Any) -> DeviceField:
    name = field.key.rpartition(".")[2]
    shown = mask_tree(own, name)
    section = field.key.removeprefix(f"{SELECTED}.")
    choices = field.choices
    if section in SECTIONS.values():
        kind = next(kind for kind, name in SECTIONS.items() if name == section)
        words = {"vllm": ("",), "end_of_turn": (AUTO, "")}.get(kind, ())
        choices = (*words, *loaded.settings.modules(kind))
    return DeviceField(
        field.key,
        field.kind,
        field.description,
        mask_tree(usual, name),
        shown,
        shown != own,
        choices,
        field.minimum,
        field.maximum,
    )


@functools.cache
def _fields() -> tuple[DeviceField, ...]:
    schema = Settings.model_json_schema(by_alias=True)
    return tuple(_below(schema, schema, ""))


def _below(schema: Mapping[str, Any], model: Mapping[str, Any], prefix: str) -> Iterator[DeviceField]:
    for name, described in model["properties"].items():
        key = f"{prefix}{name}"
        if (not prefix and (name not in PER_DEVICE or name in _LEFT_OUT)) or tuple(key.split(".")) in PROCESS_WIDE:
            continue
        inside = _resolved(schema, described)
        if "properties" in inside:
            yield from _below(schema, inside, f"{key}.")
            continue
        found = _kind(key, inside)
        if found is not None:
            kind, choices = found
            number = next((part for part in inside.get("anyOf", ()) if "minimum" in part), inside)
            yield DeviceField(
                key,
                kind,
                str(described.get("description", "")),
                None,
                choices=choices,
                minimum=number.get("minimum", number.get("exclusiveMinimum")),
                maximum=number.get("maximum"),
            )


def _resolved(schema: Mapping[str, Any], described: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in described:
        return described
    found: Mapping[str, Any] = schema["$defs"][described["$ref"].rpartition("/")[2]]
    return found


def _kind(key: str, described: Mapping[str, Any]) -> tuple[FieldKind, tuple[str, ...]] | None:
    """(kind, choices); None for what no field can show."""
    if key.startswith(f"{SELECTED}."):
        return "choice", ()
    if "enum" in described:
        return "choice", tuple(map(str, described["enum"]))
    match described.get("type"):
        case "string":
            return ("long" if key in _LONG else "text"), ()
        case "boolean":
            return "flag", ()
        case "integer":
            return "integer", ()
        case "number":
            return "number", ()
        case "array" if described.get("items", {}).get("type") == "string":
            return "words", ()
        case "object" if described.get("additionalProperties", {}).get("type") == "string":
            return "texts", ()
    if "anyOf" in described:  # a word or a number, such as auto
        return "text", ()
    return None


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in tree.items():
        # A text by language is one value.
        deeper = isinstance(value, Mapping) and value and not _is_texts(f"{prefix}{key}")
        found += _dotted(value, f"{prefix}{key}.") if deeper else [f"{prefix}{key}"]
    return found


def _is_texts(key: str) -> bool:
    return any(field.key == key and field.kind == "texts" for field in _fields())
