"""From the console's JSON to settings: the layer that server-base is, and what agent-models says of one device.

Pure: plain data in, plain data out. Values are not validated here, that is done where all settings are
(`settings/loading.py`, `settings/overlay.py`); here they get the names and the shapes that settings have. The traps of
the console: an unset address is the text "null"; the options of tools are JSON within JSON; models go by ids; numbers
come as texts; keys of newer consoles are unknown, and left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from xiaozhi.settings.schema import SECTIONS, Settings

NOT_FROM_THE_CONSOLE: Final = frozenset(
    {"server", "manager-api", "read_config_from_api", "storage", "prompt_template", "boards", "ai_providers", "mqtt"}
)
"""Sections that belong to the machine, or that a console could do harm with; of `server` one key is taken."""
_OF_THE_LOG: Final = ("log_level", "log_dir", "log_file")
"""Where data is kept (`data_dir`) has been decided before the console is asked."""
_KNOWN: Final = frozenset(field.alias or name for name, field in Settings.model_fields.items())
_SECTIONS: Final = tuple(SECTIONS.values())
_ONE_NAME: Final[Mapping[str, tuple[str, ...]]] = {"hass_state": ("hass_get_state", "hass_set_state")}
"""Tools that the console counts as one."""
_RAG: Final = "search_from_"
_OUR_RAG: Final = "search_from_ragflow"
_WRITTEN_BY_THE_CONSOLE: Final = ("mem_local_short",)
"""Types of memory that the console writes itself, from the history that it is told."""
_ONLY_REPORTED: Final = "mem_report_only"
KEEP_NOTHING, KEEP_TEXT, KEEP_SOUND = 0, 1, 2
"""`chat_history_conf`."""
_KEPT: Final[Mapping[int, str]] = {KEEP_NOTHING: "off", KEEP_TEXT: "text", KEEP_SOUND: "sound"}


@dataclass(frozen=True, slots=True)
class PrivateConfig:
    """What the console says of one device."""

    overlay: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Its own settings, as `settings/overlay.py` takes them. Holds secrets."""
    history: int = KEEP_SOUND
    """What of its conversations the console keeps: KEEP_NOTHING, KEEP_TEXT, KEEP_SOUND."""
    summarises: bool = False
    """The console makes the memory of its agent out of the history."""
    notes: tuple[str, ...] = ()
    """What of it cannot be used, for the log."""
    mac: str = ""
    """How the device writes its id, which is how the console knows it; "": not known."""


def server_base_part(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a server-base answer that this server uses and may keep: without the console's own secrets."""
    tree = {key: value for key, value in _set(answer).items() if key in _KNOWN - NOT_FROM_THE_CONSOLE}
    auth = _mapping(_mapping(answer.get("server")).get("auth"))
    if isinstance(auth.get("enabled"), bool):
        tree["server"] = {"auth": {"enabled": auth["enabled"]}}
    if "log" in tree:
        tree["log"] = {key: value for key, value in _mapping(tree["log"]).items() if key in _OF_THE_LOG}
    tree["selected_module"] = _selected(tree.get("selected_module"))
    return {key: value for key, value in tree.items() if value != {}}


def is_server_base(answer: Mapping[str, Any]) -> bool:
    """Whether an answer to agent-models is the settings of the server: the console gives them to a device id of its
    own making."""
    return "server" in answer


def private_config(answer: Mapping[str, Any], correct_words: list[str], mac: str = "") -> PrivateConfig:
    """The settings of one device, from agent-models and correct-words. `mac`: its id as it writes it."""
    if is_server_base(answer):
        return PrivateConfig()
    said = _set(answer)
    notes: list[str] = []
    overlay: dict[str, Any] = {
        section: blocks
        for section in _SECTIONS
        if (blocks := {str(name): block for name, block in _mapping(said.get(section)).items()})
    }
    selected = _selected(said.get("selected_module"))
    if selected:
        overlay["selected_module"] = selected
    for key in ("prompt", "mcp_endpoint"):
        if _text(said.get(key)):
            overlay[key] = said[key]
    _put_if(overlay, "device_max_output_size", _whole(said.get("device_max_output_size")))
    _put_if(overlay, "context_providers", _context_providers(said.get("context_providers")))
    _put_if(overlay, "voiceprint", _mapping(said.get("voiceprint")))
    _put_if(overlay, "correct_words", [pair for pair in correct_words if pair.strip().find("|") > 0])
    _put_if(overlay, "language", _language(overlay, selected))
    _tools(overlay, selected, said.get("plugins"), notes)
    summarises = _console_memory(overlay, selected, said)
    kept = _whole(said.get("chat_history_conf"))
    if kept is None or kept not in _KEPT:
        kept = KEEP_SOUND
    overlay["history"] = {"mode": _KEPT[kept]}
    known = {key: value for key, value in overlay.items() if key in _KNOWN}
    return PrivateConfig(known, kept, summarises, tuple(notes), mac)


def _tools(overlay: dict[str, Any], selected: Mapping[str, str], plugins: Any, notes: list[str]) -> None:
    """Options of tools, and which tools there are: the keys of `plugins` are the list."""
    if not isinstance(plugins, Mapping):
        return
    options: dict[str, Any] = {}
    names: list[str] = []
    for name, written in plugins.items():
        block = _parsed(written)
        if block is None:
            notes.append(f"plugins.{name} is no JSON object: its options are left out")
        own = str(name)
        if own.startswith(_RAG) and own != _OUR_RAG:
            # One entry per knowledge base service, by its name in the console; here is one tool for all of a kind.
            if _OUR_RAG in plugins or _OUR_RAG in options:
                notes.append(f"plugins.{name} is left out: one knowledge base service can be searched, not two")
                continue
            own = _OUR_RAG
        if block:
            options[own] = block
        names += _ONE_NAME.get(own, (own,))
    if options:
        overlay["plugins"] = options
    intent = selected.get("Intent")
    if intent:
        blocks = overlay.setdefault("Intent", {})
        blocks[intent] = {**_mapping(blocks.get(intent)), "functions": names}


def _console_memory(overlay: dict[str, Any], selected: Mapping[str, str], said: Mapping[str, Any]) -> bool:
    """Put the memory that the console writes in the place of one that this server would write. Whether there is one."""
    name = selected.get("Memory", "")
    block = _mapping(_mapping(overlay.get("Memory")).get(name))
    if block.get("type") not in _WRITTEN_BY_THE_CONSOLE:
        return False
    overlay["Memory"] = {**overlay["Memory"], name: {"type": _ONLY_REPORTED}}
    if _text(said.get("summaryMemory")):
        overlay["summaryMemory"] = said["summaryMemory"]
    return True


def _language(overlay: Mapping[str, Any], selected: Mapping[str, str]) -> str:
    """What the voice speaks is what the assistant is to answer in."""
    voice = _mapping(_mapping(overlay.get("TTS")).get(selected.get("TTS", "")))
    return str(voice.get("language") or "") if isinstance(voice.get("language"), str) else ""


def _context_providers(written: Any) -> list[dict[str, Any]]:
    """Headers may be numbers and switches in the console."""
    found = []
    for provider in written if isinstance(written, list) else ():
        if isinstance(provider, Mapping):
            headers = {str(name): _header(value) for name, value in _mapping(provider.get("headers")).items()}
            found.append({**provider, "headers": headers})
    return found


def _header(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _selected(written: Any) -> dict[str, str]:
    return {section: name for section, name in _mapping(written).items() if section in _SECTIONS and _text(name)}


def _parsed(written: Any) -> dict[str, Any] | None:
    """The options of a tool, which are a JSON text; None for what is neither that nor an object."""
    if isinstance(written, str):
        if not written.strip():
            return {}
        try:
            written = orjson.loads(written)
        except orjson.JSONDecodeError:
            return None
    cleaned = _set(written) if isinstance(written, Mapping) else None
    return cleaned if cleaned is not None else ({} if written is None else None)


def _set(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A copy without what is not set: null, and the text "null"."""
    return {
        str(key): _set(value) if isinstance(value, Mapping) else value
        for key, value in tree.items()
        if value is not None and not (isinstance(value, str) and value.strip() == "null")
    }


def _put_if(overlay: dict[str, Any], key: str, value: Any) -> None:
    if value is not None and value not in ("", [], {}):
        overlay[key] = value


def _whole(value: Any) -> int | None:
    """A whole number that may be written as a text; None when it is none."""
    try:
        return None if value is None or isinstance(value, bool) else int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
