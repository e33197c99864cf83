"""What the settings page shows: which block serves for what, and a form for each block and each group of general keys.

Made of the configuration in force and the schema; nothing that is secret is in it (`settings/forms.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from werkzeug.exceptions import NotFound

from xiaozhi.app import listeners
from xiaozhi.app.providers_table import how_it_works
from xiaozhi.errors import SettingsError
from xiaozhi.providers import registry
from xiaozhi.settings import SECTIONS, Loaded, Settings
from xiaozhi.settings.forms import FormField, form_of
from xiaozhi.settings.layers import ships

GROUPS: Final[Mapping[str, Sequence[str]]] = {
    "assistant": (
        *("prompt", "language", "wakeup_words", "enable_greeting", "enable_wakeup_words_response_cache"),
        *("exit_commands", "close_connection_no_voice_time", "end_prompt", "correct_words", "system_error_response"),
        *("prompt_template", "context_providers", "summaryMemory"),
    ),
    "conversation": ("conversation", "turn", "show_tool_calls"),
    "tools": ("plugins", "mcp_endpoint", "voiceprint"),
    "history": ("history", "delete_audio"),
    "devices": (
        *("device_max_output_size", "quota_response", "boards", "enable_websocket_ping", "firmware"),
        *(
            "enable_stop_tts_notify",
            "stop_tts_notify_voice",
            "prebuffer_frames",
            "max_prebuffer_frames",
            "tts_audio_send_delay",
            "xiaozhi",
        ),
    ),
    "patience": ("asr_timeout", "llm_timeout", "tts_timeout", "tool_call_timeout", "fallback", "ai_providers"),
    "server": ("server", "mqtt"),
    "messages": ("groups", "quiet_hours", "intercom"),
    "operation": ("log", "storage", "monitoring", "console", "manager-api", "read_config_from_api"),
}
"""The general keys, as the page shows them together."""
ELSEWHERE: Final = frozenset({"selected_module", "mcp", *SECTIONS.values()})
"""Keys that have forms of their own, and `mcp`, which starts programs and so is written by hand."""
_OFFLINE: Final = ("asr", "llm", "tts")


def new_installation(loaded: Loaded) -> bool:
    """Whether recogniser, language model and voice are still those that ship."""
    return all(ships(loaded.merged.origin(("selected_module", SECTIONS[kind]))) for kind in _OFFLINE)


def kinds_shown(loaded: Loaded) -> list[dict[str, Any]]:
    """For each kind: the block in use, all blocks there are, and the types that a new one may have."""
    used = set(loaded.settings.in_use())
    return [
        {
            "kind": kind,
            "section": section,
            "selected": getattr(loaded.settings.selected_module, section),
            **_origin(loaded, ("selected_module", section)),
            "fallbacks": list(loaded.settings.fallbacks(kind)),
            "blocks": [
                {
                    "name": name,
                    "type": registry.type_of(name, block),
                    "used": (kind, name) in used,
                    "ready": _is_filled_in(loaded, kind, name, block),
                    "own": not ships(loaded.merged.origin((section, name, "type")) or "vendors.yaml"),
                }
                for name, block in sorted(loaded.settings.modules(kind).items(), key=lambda pair: pair[0].casefold())
            ],
            "types": registry.known_types(kind),
        }
        for kind, section in SECTIONS.items()
    ]


def block_form(loaded: Loaded, kind: str, name: str, type_name: str = "") -> dict[str, Any]:
    """The form of one block; `type_name`: of a new one. Raises NotFound, SettingsError."""
    section = SECTIONS.get(kind)
    if section is None:
        raise NotFound("There is no such kind of provider.")
    block = loaded.settings.modules(kind).get(name)
    if block is None and not type_name:
        raise NotFound(f"There is no block {section}.{name}.")
    registered = registry.find(kind, registry.type_of(name, block) if block is not None else type_name)
    fields = form_of(registered.options, loaded.merged, (section, name), skip=frozenset({"type"}))
    secrets = set(registry.secrets_of(registered))
    return {
        "kind": kind,
        "section": section,
        "name": name,
        "type": registered.type_name,
        "works": how_it_works(registered.cls),
        "new": block is None,
        "fields": [shown(loaded, field, secret=field.path[-1] in secrets) for field in fields],
    }


def group_form(loaded: Loaded, group: str) -> dict[str, Any]:
    """The form of a group of general keys. Raises NotFound."""
    keys = GROUPS.get(group)
    if keys is None:
        raise NotFound("There is no such group of settings.")
    skipped = frozenset(_general_keys()) - set(keys) | ELSEWHERE
    fields = form_of(Settings, loaded.merged, (), skip=skipped)
    known = {field.path[0]: field for field in fields}
    return {"group": group, "fields": [shown(loaded, known[key]) for key in keys if key in known]}


def shown(loaded: Loaded, field: FormField, *, secret: bool = False) -> dict[str, Any]:
    """A field as the page gets it. `secret`: whatever its own look."""
    secret = secret or field.secret
    return {
        "path": list(field.path),
        "kind": field.kind,
        "description": field.description,
        "unit": field.unit,
        "secret": secret,
        "optional": field.optional,
        "set": field.is_set,
        "value": None if secret else field.value,
        "default": None if secret else field.default,
        "choices": list(field.choices),
        "minimum": field.minimum,
        "maximum": field.maximum,
        "whole": field.whole,
        "restart": listeners.takes_restart(field.path),
        "fields": [shown(loaded, inner) for inner in field.fields],
        **_origin(loaded, field.path, field.origin),
    }


def _origin(loaded: Loaded, path: tuple[str, ...], known: str | None = None) -> dict[str, Any]:
    """Who says so, and whether that is above the owner's file."""
    origin = loaded.merged.origin(path) if known is None else known
    from_block = origin.split(".")[0] in SECTIONS.values()  # VAD.<name>.pause_ms decides over conversation.pause_ms
    return {"origin": "" if ships(origin) else origin, "fixed": origin in loaded.above_local or from_block}


def _is_filled_in(loaded: Loaded, kind: str, name: str, block: Mapping[str, Any]) -> bool:
    """Whether nothing is missing that its template asks for."""
    section = SECTIONS[kind]
    if any(path[:2] == (section, name) and not block.get(path[-1]) for path in loaded.merged.unfilled):
        return False
    try:
        registry.validate(kind, name, block)
    except SettingsError:
        return False
    return True


def _general_keys() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        yield field.alias or name
