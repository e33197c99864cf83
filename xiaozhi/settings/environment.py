"""Environment variables as configuration layers.

`XIAOZHI__SERVER__PORT=9000` sets server.port: two underscores part the keys, case does not matter where a key exists
already, and a hyphen in a key may be written as an underscore (`XIAOZHI__MANAGER_API__URL`). Values are read as YAML
scalars, lists in [ ] and mappings in { }; where the key holds text already, or its name says it is a secret, the value
is taken letter by letter.

The shortcut: `XIAOZHI_LLM_BASE_URL`, `XIAOZHI_LLM_MODEL` and (for vendors that want one) `XIAOZHI_LLM_API_KEY` describe
an OpenAI-compatible vendor as the block LLM.OpenaiEnv and select it; likewise for ASR, TTS (with `_VOICE`) and VLLM.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from xiaozhi.errors import Fault, SettingsError
from xiaozhi.settings.layers import Layer
from xiaozhi.settings.masking import MASK, hides, looks_secret, mask_text
from xiaozhi.settings.schema import SECTIONS
from xiaozhi.settings.yaml_reader import read_value

PREFIX = "XIAOZHI__"
ENV_BLOCK = "OpenaiEnv"

# Per section: suffix of the variable -> key of the block, as the providers of the type "openai" call it.
_SHORTCUTS: Mapping[str, Mapping[str, str]] = {
    "LLM": {"BASE_URL": "base_url", "API_KEY": "api_key", "MODEL": "model_name"},
    "ASR": {"BASE_URL": "base_url", "API_KEY": "api_key", "MODEL": "model_name"},
    "TTS": {"BASE_URL": "api_url", "API_KEY": "api_key", "MODEL": "model", "VOICE": "voice"},
    "VLLM": {"BASE_URL": "base_url", "API_KEY": "api_key", "MODEL": "model_name"},
}
_REQUIRED = ("BASE_URL", "MODEL")
_SECTION_NAMES = frozenset(SECTIONS.values())


def shortcut_layers(environ: Mapping[str, str]) -> tuple[list[Layer], list[Fault], list[str]]:
    """The layers of the three-variable shortcut, what is wrong with them, and warnings about variables that look like
    it but are not."""
    layers: list[Layer] = []
    faults: list[Fault] = []
    for section, suffixes in _SHORTCUTS.items():
        given = {
            suffix: environ[f"XIAOZHI_{section}_{suffix}"].strip()
            for suffix in suffixes
            if environ.get(f"XIAOZHI_{section}_{suffix}", "").strip()
        }
        if not given:
            continue
        names = ", ".join(f"XIAOZHI_{section}_{suffix}" for suffix in given)
        missing = [suffix for suffix in _REQUIRED if suffix not in given]
        faults += [
            Fault(f"XIAOZHI_{section}_{suffix}", "missing", f"must be set together with {names}") for suffix in missing
        ]
        if not missing:
            block = {"type": "openai"} | {suffixes[suffix]: value for suffix, value in given.items()}
            layers.append(Layer(names, {section: {ENV_BLOCK: block}, "selected_module": {section: ENV_BLOCK}}))
    return layers, faults, _strangers(environ)


def path_layers(environ: Mapping[str, str], tree: Mapping[str, Any]) -> tuple[list[Layer], list[Fault]]:
    """One layer for every XIAOZHI__... variable, its keys matched to those of `tree`, and what is wrong with them."""
    layers: list[Layer] = []
    faults: list[Fault] = []
    for name in sorted(environ):
        if not name.upper().startswith(PREFIX):
            continue
        parts = name[len(PREFIX) :].split("__")
        if not all(parts):
            faults.append(Fault(name, "an empty key", f"{PREFIX}SECTION__KEY, such as {PREFIX}SERVER__PORT"))
            continue
        keys, existing = _matched(parts, tree)
        try:
            value = read_as_meant(environ[name], keys[-1], existing)
        except SettingsError as error:
            shown = MASK if any(map(hides, keys)) else repr(mask_text(environ[name])[:80])
            faults += [Fault(name, shown, f"a YAML value ({fault.value}: {fault.expected})") for fault in error.faults]
            continue
        nested: Any = value
        for key in reversed(keys):
            nested = {key: nested}
        layers.append(Layer(name, nested))
    return layers, faults


def _matched(parts: list[str], tree: Mapping[str, Any]) -> tuple[list[str], Any]:
    """The keys meant by `parts`, and what stands there now (None: nothing)."""
    keys: list[str] = []
    here: Any = tree
    for part in parts:
        found = next((key for key in here if _plain(key) == _plain(part)), None) if isinstance(here, Mapping) else None
        if found is None:
            # A new provider keeps the spelling it was given; all other keys are lower case.
            found = part if len(keys) == 1 and keys[0] in _SECTION_NAMES else part.lower()
            here = None
        else:
            here = here[found]
        keys.append(found)
    return keys, here


def _plain(key: str) -> str:
    return key.replace("-", "_").casefold()


def read_as_meant(text: str, key: str, existing: Any) -> Any:
    """The value of a variable for `key`, where `existing` stands now. Raises SettingsError for broken YAML in
    brackets."""
    if isinstance(existing, str) or looks_secret(key):
        return text
    if text.lstrip()[:1] in ("[", "{"):
        return read_value(text)
    try:
        value = read_value(text)
    except SettingsError:
        return text
    # "note: this" is text, not a mapping, unless somebody took the trouble of braces.
    return text if isinstance(value, dict | list) else value


def _strangers(environ: Mapping[str, str]) -> list[str]:
    known = {f"XIAOZHI_{section}_{suffix}" for section, suffixes in _SHORTCUTS.items() for suffix in suffixes}
    warnings = []
    for name in sorted(environ):
        section = name.removeprefix("XIAOZHI_").partition("_")[0]
        if name.startswith("XIAOZHI_") and section in _SHORTCUTS and name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
            warnings.append(f"the environment variable {name} means nothing here; did you mean {near[0]}?")
    return warnings
