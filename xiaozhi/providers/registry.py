"""Finds, validates and builds providers by the `type` of their configuration block.

`@provider("tts", "acme", Options)` registers a class when its module is imported; modules are found by name
(`providers/<kind>/<type>.py`), so no list is edited to add one and nothing is imported that is not selected.
`type: "package.module:Class"` loads a provider that lives outside this tree.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from xiaozhi import providers
from xiaozhi.errors import Fault, SettingsError
from xiaozhi.providers.contracts.provider import Provider, ProviderOptions, Services
from xiaozhi.settings import checks
from xiaozhi.settings.masking import MASK

KINDS = ("vad", "asr", "llm", "vllm", "tts", "memory", "intent", "voiceprint")

P = TypeVar("P", bound=type[Provider])


@dataclass(frozen=True, slots=True)
class Registration:
    """A provider class and the model of its options."""

    kind: str
    type_name: str
    cls: type[Provider]
    options: type[ProviderOptions]


_registered: dict[tuple[str, str], Registration] = {}


def provider(kind: str, type_name: str, options: type[ProviderOptions]) -> Callable[[P], P]:
    """Class decorator: this class serves `type: <type_name>` blocks of `kind`."""

    def register(cls: P) -> P:
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}; one of {', '.join(KINDS)}")
        cls.type_name = type_name
        _registered[kind, type_name] = Registration(kind, type_name, cls, options)
        return cls

    return register


def known_types(kind: str) -> list[str]:
    """Types of `kind` that ship with this tree, imported or not."""
    package = importlib.import_module(f"{providers.__name__}.{kind}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def find(kind: str, type_name: str) -> Registration:
    """The registration of a type; imports its module on first use. Raises SettingsError naming the known types."""
    if ":" in type_name:
        return _find_outside(kind, type_name)
    registered = _registered.get((kind, type_name))
    if registered is None and type_name in known_types(kind):
        importlib.import_module(f"{providers.__name__}.{kind}.{type_name}")
        registered = _registered.get((kind, type_name))
    if registered is None:
        raise SettingsError(
            [
                Fault(
                    f"{kind}.type", repr(type_name), f"one of {', '.join(known_types(kind))}, or 'package.module:Class'"
                )
            ]
        )
    return registered


def _find_outside(kind: str, path: str) -> Registration:
    module_name, _, class_name = path.partition(":")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            [Fault(f"{kind}.type", repr(path), f"an importable 'package.module:Class' ({error})")]
        ) from error
    for registered in _registered.values():
        if registered.cls is cls and registered.kind == kind:
            return registered
    raise SettingsError([Fault(f"{kind}.type", repr(path), f"a class decorated with @provider({kind!r}, ...)")])


def validate(kind: str, name: str, block: Mapping[str, Any]) -> ProviderOptions:
    """The typed options of a block. Raises SettingsError with every fault, keys written as in the file
    ("TTS.Acme.voice")."""
    section = kind.upper() if kind in ("vad", "asr", "llm", "vllm", "tts") else kind.capitalize()
    where = f"{section}.{name}"
    type_name = block.get("type")
    if not isinstance(type_name, str) or not type_name:
        raise SettingsError(
            [
                Fault(
                    f"{where}.type",
                    repr(type_name),
                    f"one of {', '.join(known_types(kind))}, or 'package.module:Class'",
                )
            ]
        )
    try:
        registered = find(kind, type_name)
    except SettingsError as error:
        raise SettingsError([Fault(f"{where}.type", fault.value, fault.expected) for fault in error.faults]) from error
    try:
        return registered.options.model_validate(dict(block))
    except ValidationError as error:
        faults = []
        for problem in error.errors(include_url=False):
            key = ".".join([where, *map(str, problem["loc"])])
            shown = (
                "missing"
                if problem["type"] == "missing"
                else _shown(registered.options, problem["loc"], problem["input"])
            )
            faults.append(Fault(key, shown, problem["msg"]))
        raise SettingsError(faults) from error


def _shown(options: type[ProviderOptions], loc: tuple[int | str, ...], value: Any) -> str:
    field = options.model_fields.get(str(loc[0])) if loc else None
    if field is not None and "SecretStr" in str(field.annotation):
        return MASK
    return checks.shown(value, checks.telling_key(tuple(map(str, loc))))


def build(kind: str, name: str, block: Mapping[str, Any], services: Services) -> Any:
    """A provider of `kind`, ready for `warm_up`. Raises SettingsError."""
    options = validate(kind, name, block)
    registered = find(kind, str(block["type"]))
    cls: Any = registered.cls
    built: Provider = cls(options, services) if cls.needs_services else cls(options)
    built.name = name
    return built
