"""What no single field can see, and how faults and unknown keys are told to people.

Works on the merged tree rather than on a `Settings`, so that a wrong port does not hide a missing provider: everything
that is wrong is told at once. Types of providers and their options are not checked here; only they know
(`providers/registry.py`)."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from pydantic import AliasChoices, BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from xiaozhi.errors import Fault
from xiaozhi.settings import not_yet
from xiaozhi.settings.fields import words
from xiaozhi.settings.layers import Merged
from xiaozhi.settings.masking import MASK, hides, looks_secret, mask_text
from xiaozhi.settings.mqtt import mqtt_faults
from xiaozhi.settings.schema import AUTO, AUTOMATIC, CHIME_OF_OTHERS, FALLING_BACK, REFERRING, SECTIONS, Settings
from xiaozhi.settings.strength import weak_secrets

_LONGEST_SHOWN = 80

_EXPECTED: Mapping[str, str] = {
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), "must be a list, such as [a, b]"),
    **dict.fromkeys(
        ("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type"),
        "must be a section: keys below it, indented",
    ),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "must be a number"),
    "string_type": "must be text",
    "missing": "must be set",
}
"""pydantic's kinds of errors whose own words are about Python."""

# Keys of existing files that mean nothing here, and what to look at instead.
_NO_MEANING: Mapping[str, str] = {
    "log.log_format": "log.json",
    "log.log_format_file": "log.json",
}


def shown(value: Any, key: str = "") -> str:
    """A value fit for a fault: short, without secrets, and never failing."""
    if isinstance(value, SecretStr) or (hides(key, value) and value not in ("", None)):
        return MASK
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple | set | frozenset):
        return f"a list of {len(value)}"
    try:
        text = repr(mask_text(value) if isinstance(value, str) else value)
    except ValueError:  # an integer too long to be written out
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


_ALTERNATIVE = re.compile(
    r"(?:literal|list|dict|tuple|set)\[.*\]|(?:constrained|function|is|lax|json|nullable)-.*|str|int|float|bool"
)
"""How pydantic calls the alternatives of a field in the place of an error."""


def field_faults(
    error: ValidationError,
    merged: Merged | None = None,
    prefix: str = "",
    secrets: Collection[str] = (),
    usual: Mapping[str, str] = MappingProxyType({}),
) -> list[Fault]:
    """pydantic's findings as faults: the key as in the file (behind `prefix`), what was found, what is expected and,
    where the layers are known, which of them said so. `secrets`: names of fields that are, whatever they look like.
    `usual`: spelling -> the one that people look for where a field is missing."""
    faults: dict[tuple[str, str], list[str]] = {}
    for problem in error.errors(include_url=False):
        path = tuple(map(str, problem["loc"]))
        while len(path) > 1 and _ALTERNATIVE.fullmatch(path[-1]):
            path = path[:-1]  # one of the kinds of value that the field takes, which is no key
        if problem["type"] == "missing" and len(path) == 1:
            path = (usual.get(path[0], path[0]),)
        key = prefix + ".".join(path) or "the configuration"
        hidden = MASK if path and path[0] in secrets else shown(problem["input"], telling_key(path))
        value = "missing" if problem["type"] == "missing" else hidden
        said = _said_by(merged, path) if merged is not None else ""
        expected = _expected(problem)
        others = faults.setdefault((key, value), [said])
        if expected not in others:
            others.append(expected)
    return [Fault(key, value, " or ".join(expected) + said) for (key, value), (said, *expected) in faults.items()]


def _expected(problem: ErrorDetails) -> str:
    """What is expected, in words for people who do not write Python."""
    words = _EXPECTED.get(problem["type"])
    if words is not None:
        return words
    if problem["type"] == "string_too_short" and problem.get("ctx", {}).get("min_length") == 1:
        return "must not be empty"
    said = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    for begins in ("Input should ", "String should ", "Value should "):
        if said.startswith(begins):
            return f"must {said.removeprefix(begins).replace('be a valid ', 'be a ')}"
    return said


def telling_key(path: tuple[str, ...]) -> str:
    """The name that decides whether a value is shown: one on the way that hides everything below it, else the last key
    that is no list index."""
    names = [part for part in path if not part.isdigit()]
    return next((name for name in names if hides(name)), names[-1] if names else "")


def _said_by(merged: Merged, path: tuple[str, ...]) -> str:
    source = merged.origin(path)
    return f" (set by {source})" if source else ""


def cross_faults(merged: Merged) -> Iterator[Fault]:
    """Faults between keys. Wrong types are left to the schema."""
    yield from _ports(merged)
    yield from mqtt_faults(merged)
    yield from weak_secrets(merged)
    yield from _chime(merged)
    yield from _management(merged)
    yield from _modules(merged)


def _section(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = tree.get(key)
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool) else int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _ports(merged: Merged) -> Iterator[Fault]:
    server = _section(merged.tree, "server")
    port, http_port = _number(server.get("port")), _number(server.get("http_port"))
    metrics = _number(_section(server, "worker_metrics").get("port"))
    if port and port == http_port:
        said = _said_by(merged, ("server", "http_port"))
        yield Fault("server.http_port", str(http_port), f"must differ from server.port{said}")
    if metrics and metrics in (port, http_port):
        said = _said_by(merged, ("server", "worker_metrics", "port"))
        yield Fault(
            "server.worker_metrics.port", str(metrics), f"must differ from server.port and server.http_port{said}"
        )


def _chime(merged: Merged) -> Iterator[Fault]:
    path = merged.tree.get("stop_tts_notify_voice")
    if (
        merged.tree.get("enable_stop_tts_notify") is True
        and isinstance(path, str)
        and path not in ("", CHIME_OF_OTHERS)
    ):
        try:
            exists = Path(path).is_file()
        except ValueError:
            exists = False
        if not exists:
            yield Fault(
                "stop_tts_notify_voice",
                shown(path),
                "must be the path of an existing sound file, or empty for the built-in chime",
            )


def _management(merged: Merged) -> Iterator[Fault]:
    api, server = _section(merged.tree, "manager-api"), _section(merged.tree, "server")
    url, asked = api.get("url"), merged.tree.get("read_config_from_api")
    if asked is True and not url:
        said = _said_by(merged, ("read_config_from_api",))
        yield Fault(
            "manager-api.url", "empty", f"must be the console's address where read_config_from_api is true{said}"
        )
    secret = api.get("secret") or server.get("secret")
    if url and not secret:
        unfilled = ("manager-api", "secret") in merged.unfilled
        yield Fault(
            "manager-api.secret",
            "a placeholder" if unfilled else "empty",
            "must be the console's server.secret where manager-api.url is set",
        )
    key = server.get("auth_key")
    if url and secret and key and str(key) != str(secret) and asked is not False:
        yield Fault(
            "server.auth_key",
            MASK,
            "must be empty, or equal to manager-api.secret: under a console it signs the tokens of devices"
            + _said_by(merged, ("server", "auth_key")),
        )


def _modules(merged: Merged) -> Iterator[Fault]:
    checked: set[tuple[str, str]] = set()
    for where, kind, name in _references(merged.tree):
        section = SECTIONS[kind]
        blocks = merged.tree.get(section)
        if not isinstance(blocks, Mapping):
            continue  # the schema says so
        block = blocks.get(name)
        if isinstance(block, Mapping):
            if (kind, name) not in checked:
                checked.add((kind, name))
                yield from _unfilled_credentials(section, name, block, merged)
        elif block is None:
            yield Fault(
                where, repr(name), _no_such_block(section, name, blocks) + _said_by(merged, tuple(where.split(".")))
            )
        else:
            yield Fault(
                f"{section}.{name}", shown(block, name), "must be a mapping with a 'type' and the options of that type"
            )


def _references(tree: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(key that refers, kind, name) of every block that can come into play."""
    selected = _section(tree, "selected_module")
    fallback = _section(tree, "fallback")
    for kind, section in SECTIONS.items():
        blocks = _section(tree, section)
        name = selected.get(section)
        if kind == "end_of_turn" and name == AUTO:
            name = AUTOMATIC if AUTOMATIC in blocks else ""
        if isinstance(name, str) and name:
            yield f"selected_module.{section}", kind, name
            yield from _of_block(section, kind, name, blocks, set())
            if kind in REFERRING:
                referred = _section(blocks, name).get("llm")
                if isinstance(referred, str) and referred:
                    yield f"{section}.{name}.llm", "llm", referred
                    yield from _of_block("LLM", "llm", referred, _section(tree, "LLM"), set())
        for index, other in enumerate(_names(fallback.get(section))):
            yield f"fallback.{section}.{index}", kind, other
            yield from _of_block(section, kind, other, blocks, set())


def _of_block(
    section: str, kind: str, name: str, blocks: Mapping[str, Any], seen: set[str]
) -> Iterator[tuple[str, str, str]]:
    """The references of `fallback` in a block, and in those that it names."""
    if kind not in FALLING_BACK or name in seen:
        return
    seen.add(name)
    for index, other in enumerate(_names(_section(blocks, name).get("fallback"))):
        yield f"{section}.{name}.fallback.{index}", kind, other
        yield from _of_block(section, kind, other, blocks, seen)


def _names(value: Any) -> list[str]:
    if isinstance(value, str):
        return words(value)
    return [name for name in value if isinstance(name, str)] if isinstance(value, list | tuple) else []


def _no_such_block(section: str, name: str, blocks: Mapping[str, Any]) -> str:
    near = nearest(name, [str(block) for block in blocks])
    known = f"nearest: {near}" if near else f"there are {', '.join(map(str, blocks)) or 'none'}"
    return f"must be the name of a block under {section} ({known}), or add {section}.{name} with a 'type'"


def _unfilled_credentials(section: str, name: str, block: Mapping[str, Any], merged: Merged) -> Iterator[Fault]:
    # Templates offer alternatives (a day's token, or a lasting key pair): one that was filled in is enough.
    if any(looks_secret(key, value) and value not in ("", None) for key, value in block.items()):
        return
    for path, source in merged.unfilled.items():
        key = path[-1]
        if path[:2] == (section, name) and len(path) == 3 and looks_secret(key) and not block.get(key):
            expected = f"must be your own value, or select another block under {section} (set by {source})"
            yield Fault(".".join(path), "a placeholder", expected)


def drop_scalar_blocks(merged: Merged) -> list[str]:
    """Take out of the tree what stands where a block should and is not in use; the warnings about it."""
    used = {(kind, name) for _, kind, name in _references(merged.tree)}
    warnings = []
    for kind, section in SECTIONS.items():
        blocks = merged.tree.get(section)
        if not isinstance(blocks, dict):
            continue
        for name in [name for name, block in blocks.items() if not isinstance(block, Mapping)]:
            if (kind, name) not in used:
                warnings.append(
                    f"{section}.{name} is not a block and is ignored: a provider is a mapping with a 'type'"
                )
            # One in use has been told as a fault; the schema need not say it again.
            del blocks[name]
    return warnings


def unknown_keys(tree: Mapping[str, Any], model: type[BaseModel] = Settings, prefix: str = "") -> list[str]:
    """One warning for every key of `tree` that `model` does not know, with the nearest one that it does. `prefix`:
    where `tree` stands in the configuration ("plugins.play_music.")."""
    warnings = []
    for place, key, siblings in _unknown(tree, model, ""):
        if not prefix and not_yet.told_here(place + key):
            continue
        near = _NO_MEANING.get(place + key) or _nearest_key(place, key, siblings, valid_keys(model))
        hint = f"; the nearest key is {prefix}{near}" if near else ""
        warnings.append(f"{prefix}{place}{key} means nothing here and is ignored{hint}")
    return warnings


def valid_keys(model: type[BaseModel] = Settings, prefix: str = "") -> list[str]:
    """Every key of the schema, dotted, sections included."""
    keys = []
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        keys.append(key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += valid_keys(field.annotation, f"{key}.")
    return keys


def _unknown(tree: Mapping[str, Any], model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, list[str]]]:
    """(prefix, key, keys known at this place) of every key that the schema does not know."""
    fields = _fields(model)
    for key, value in tree.items():
        field = fields.get(key)
        if field is None:
            yield prefix, key, list(fields)
        else:
            yield from _unknown_inside(value, field.annotation, prefix + key)


@functools.cache
def _fields(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    return {key: field for name, field in model.model_fields.items() for key in spellings(name, field)}


def spellings(name: str, field: FieldInfo) -> list[str]:
    """Every name under which a field is written."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return list(dict.fromkeys([*(choice for choice in alias.choices if isinstance(choice, str)), name]))
    return [field.alias] if field.alias else [name]


def usual_spelling(name: str, field: FieldInfo) -> str:
    """The name that people write: of several spellings the first that the class itself uses, or consoles."""
    known = spellings(name, field)
    return name if name in known and not name.endswith("_percent") else known[0]


def _unknown_inside(value: Any, annotation: Any, prefix: str) -> Iterator[tuple[str, str, list[str]]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if isinstance(value, Mapping) and annotation.model_config.get("extra") != "allow":  # else they are passed on
            yield from _unknown(value, annotation, f"{prefix}.")
        return
    # dict[str, Board], tuple[ContextProvider, ...]
    model = next(
        (part for part in get_args(annotation) if isinstance(part, type) and issubclass(part, BaseModel)), None
    )
    if model is None:
        return
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        if isinstance(item, Mapping):
            yield from _unknown(item, model, f"{prefix}.{name}.")


def _nearest_key(prefix: str, key: str, siblings: list[str], everywhere: list[str]) -> str | None:
    """A key of the same section if one is close; else one whose path, or at least whose last part, is."""
    near = nearest(key, siblings)
    if near:
        return prefix + near
    paths = {known.replace(".", "_"): known for known in everywhere}
    near = nearest((prefix + key).replace(".", "_"), list(paths), cutoff=0.75)
    if near:
        return paths[near]
    leaves: dict[str, str] = {}
    for known in everywhere:
        leaves.setdefault(known.rpartition(".")[2], known)
    near = nearest(key, list(leaves))
    return leaves[near] if near else None


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name closest to `name`, case aside, or None when nothing is close."""
    folded = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=cutoff)
    return folded[near[0]] if near else None
