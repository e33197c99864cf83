"""Changing a device's own settings key by key, as operators write them: `tts.voice=anna`, `prompt=You are a pirate.`

A key is one of `overlay.PER_DEVICE`, dotted as in a configuration file (`TTS.Acme.voice`), or short: `tts.voice` is the
voice in the block that the device uses for TTS, `tts=Acme` selects the block. Whether the outcome can be used is
checked by `lay_over` and by who knows the providers; not here."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from xiaozhi.errors import Fault, SettingsError
from xiaozhi.settings.environment import read_as_meant
from xiaozhi.settings.loading import Loaded
from xiaozhi.settings.schema import SECTIONS

_SELECTED = "selected_module"
_BLOCKS = frozenset(SECTIONS.values())


def parse_assignments(words: Sequence[str], loaded: Loaded, own: Mapping[str, Any]) -> dict[str, Any]:
    """`key=value` texts as values by key. Values are read as environment variables are: YAML scalars, lists in [ ],
    texts letter by letter. Raises SettingsError."""
    found: dict[str, Any] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or not key.strip():
            raise SettingsError([Fault(word, "no value", "key=value, such as tts.voice=anna or prompt='You are ...'")])
        path = _path(key.strip(), loaded, own)
        found[key.strip()] = read_as_meant(text, path[-1], _at(loaded.merged.tree, path))
    return found


def with_settings(own: Mapping[str, Any], values: Mapping[str, Any], loaded: Loaded) -> dict[str, Any]:
    """A device's own settings with these values, by dotted key. Raises SettingsError for a key that is none."""
    changed = copy.deepcopy(dict(own))
    for key, value in values.items():
        *sections, last = _path(key, loaded, changed)
        here: dict[str, Any] = changed
        for section in sections:
            inside = here.get(section)
            here[section] = here = inside if isinstance(inside, dict) else {}
        here[last] = value
    return changed


def without_settings(own: Mapping[str, Any], keys: Sequence[str], loaded: Loaded) -> dict[str, Any]:
    """A device's own settings without these keys. Raises SettingsError for a key that is not set."""
    changed = copy.deepcopy(dict(own))
    for key in keys:
        path = _path(key, loaded, changed)
        sections = [changed]
        for section in path[:-1]:
            inside = sections[-1].get(section)
            sections.append(inside if isinstance(inside, dict) else {})
        if path[-1] not in sections[-1]:
            known = ", ".join(_dotted(own)) or "nothing"
            raise SettingsError([Fault(key, "not set for this device", f"one of what is set: {known}")])
        del sections[-1][path[-1]]
        for section, inside, outside in reversed(list(zip(path, sections[1:], sections, strict=False))):
            if not inside:
                del outside[section]
    return changed


def _path(key: str, loaded: Loaded, own: Mapping[str, Any]) -> list[str]:
    parts = [part.strip() for part in key.split(".")]
    if not all(parts):
        raise SettingsError([Fault(key or "''", "no key", "a key such as prompt, language, tts.voice")])
    section = SECTIONS.get(parts[0])
    if section is None or parts[0] in _BLOCKS:
        return parts
    if len(parts) == 1:
        return [_SELECTED, section]
    selected = own.get(_SELECTED)
    block = selected.get(section) if isinstance(selected, Mapping) else None
    return [section, str(block or loaded.settings.selected(parts[0])), *parts[1:]]


def _at(tree: Mapping[str, Any], path: Sequence[str]) -> Any:
    found: Any = tree
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in tree.items():
        found += _dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else [f"{prefix}{key}"]
    return found
