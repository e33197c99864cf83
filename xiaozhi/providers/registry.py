"""Finds, validates and builds providers by the `type` of their configuration block.

`@provider("tts", "acme", Options)` registers a class when its module is imported; modules are found by name
(`providers/<kind>/<type>.py`), so no list is edited to add one and nothing is imported that is not selected.
`type: "package.module:Class"` loads a provider that lives outside this tree.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from xiaozhi import providers
from xiaozhi.errors import Fault, SettingsError
from xiaozhi.providers.contracts.provider import Provider, ProviderOptions, Services
from xiaozhi.providers.known_vendors import advice_for, foreign_address
from xiaozhi.settings import SECTIONS, checks

KINDS = ("vad", "asr", "llm", "vllm", "tts", "memory", "intent", "end_of_turn", "voiceprint")

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
    if (gone := advice_for(kind, type_name)) is not None:
        raise SettingsError([Fault(f"{kind}.type", repr(type_name), gone)])
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
    where = block_key(kind, name)
    try:
        registered = registration(kind, name, block)
    except SettingsError as error:
        value = None if block.get("type") else "missing"
        faults = [Fault(f"{where}.type", value or fault.value, fault.expected) for fault in error.faults]
        raise SettingsError(faults) from error
    try:
        return registered.options.model_validate(dict(block))
    except ValidationError as error:
        usual = {
            key: name
            for name, field in registered.options.model_fields.items()
            for key in checks.spellings(name, field)
        }
        faults = checks.field_faults(error, prefix=f"{where}.", secrets=secrets_of(registered), usual=usual)
        raise SettingsError(faults) from error


def block_key(kind: str, name: str) -> str:
    """A block as people find it, and as it is called in faults, logs and metrics: "LLM.OpenaiLLM"."""
    return f"{SECTIONS.get(kind, kind.capitalize())}.{name}"


def registration(kind: str, name: str, block: Mapping[str, Any]) -> Registration:
    """What serves a block: its `type`, else the type that is called like the block. Raises SettingsError."""
    return find(kind, type_of(name, block))


def type_of(name: str, block: Mapping[str, Any]) -> str:
    """The type of a block: what it says, else what it is called."""
    return str(block.get("type") or name)


def secrets_of(registered: Registration) -> tuple[str, ...]:
    """The names, in all spellings, of the options that are secret."""
    return tuple(
        key
        for name, field in registered.options.model_fields.items()
        if "SecretStr" in str(field.annotation)
        for key in checks.spellings(name, field)
    )


def ignored(kind: str, name: str, block: Mapping[str, Any], read_elsewhere: Iterable[str] = ()) -> list[str]:
    """A warning for every key of a block that means nothing to its provider; none for a block with faults.
    `read_elsewhere`: keys that others look at."""
    try:
        registered = registration(kind, name, block)
    except SettingsError:
        return []
    fields = registered.options.model_fields.items()
    known = {key for field_name, field in fields for key in checks.spellings(field_name, field)}
    spared = {"type", *read_elsewhere} - known
    own = {str(key): value for key, value in block.items() if key not in spared}
    return checks.unknown_keys(own, registered.options, f"{block_key(kind, name)}.")


def oddities(kind: str, name: str, block: Mapping[str, Any]) -> list[str]:
    """A warning for what a block says that is possible, and hardly meant."""
    odd = foreign_address(name, block)
    return [f"{block_key(kind, name)}.{odd}"] if odd is not None else []


def build(kind: str, name: str, block: Mapping[str, Any], services: Services) -> Any:
    """A provider of `kind`, ready for `warm_up`. Raises SettingsError."""
    options = validate(kind, name, block)
    registered = registration(kind, name, block)
    cls: Any = registered.cls
    built: Provider = cls(options, services) if cls.needs_services else cls(options)
    built.name = name
    return built
