"""A device's own settings, laid over the configuration of the server.

An overlay is a part of a configuration file: some keys of `PER_DEVICE`, nested as in the file. It is merged and
validated as a file is, and every fault in it is named. Sections that it does not touch are shared with the
configuration below, so an overlay costs the memory of what it changes.

Not a store: where overlays come from (a test, the device store, the management API) is not known here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from xiaozhi.errors import Fault, SettingsError
from xiaozhi.settings import checks, not_yet
from xiaozhi.settings.layers import Layer, Merged, merge
from xiaozhi.settings.loading import Loaded, apply_pause_of_the_detector
from xiaozhi.settings.schema import SECTIONS, Settings

PER_DEVICE = frozenset(
    {
        *SECTIONS.values(),
        "asr_timeout",
        "close_connection_no_voice_time",
        "context_providers",
        "conversation",
        "correct_words",
        "device_max_output_size",
        "enable_greeting",
        "enable_stop_tts_notify",
        "enable_wakeup_words_response_cache",
        "end_prompt",
        "exit_commands",
        "fallback",
        "groups",
        "history",
        "intercom",
        "language",
        "llm_timeout",
        "mcp_endpoint",
        "plugins",
        "prompt",
        "quiet_hours",
        "quota_response",
        "selected_module",
        "show_tool_calls",
        "stop_tts_notify_voice",
        "summaryMemory",
        "system_error_response",
        "tool_call_timeout",
        "turn",
        "tts_timeout",
        "voiceprint",
        "wakeup_words",
    }
)
"""Keys that a device may have of its own. The others belong to the process, or are needed before it is known which
device's settings apply (`xiaozhi`: it stands in the answer to the hello)."""
_KNOWN = frozenset(field.alias or name for name, field in Settings.model_fields.items())
PROCESS_WIDE = (
    ("conversation", "reply_cache_bytes"),
    ("conversation", "resume_seconds"),
    ("history", "days"),
    ("history", "max_bytes"),
    ("history", "sound_days"),
)
"""Keys within those sections that belong to the process all the same."""
_PAUSE = ("conversation", "selected_module", "VAD")
"""What `apply_pause_of_the_detector` looks at."""


def lay_over(loaded: Loaded, overlay: Mapping[str, Any], source: str, *, trusted: bool = True) -> Loaded:
    """`loaded` with a device's own settings over it. `source`: what to call them in faults and warnings, such as
    "device 02:11:22:33:44:55". `warnings` of the result are those of the overlay only. `trusted` False: they come from
    outside the machine, and may not name code that is to be loaded.

    Raises SettingsError with every fault."""
    if not isinstance(overlay, Mapping):
        raise SettingsError([Fault(source, checks.shown(overlay), "must be a mapping, as in a configuration file")])
    own = {str(key): value for key, value in overlay.items()}
    faults = _not_of_a_device(own, source)
    if not trusted:
        faults += code_faults(own, source)
    own = {key: value for key, value in own.items() if key in PER_DEVICE or key not in _KNOWN}
    merged = _merged(loaded.merged, own, source)
    # Of what an overlay leaves alone, the values below it stay the very same objects.
    looked_at = _PAUSE if not own.keys().isdisjoint(_PAUSE) else ()
    if looked_at:
        apply_pause_of_the_detector(merged)
    faults += checks.cross_faults(merged)
    warnings = [
        *not_yet.warnings_of(merged, own),
        *checks.drop_scalar_blocks(merged),
        *checks.unknown_keys(own),
    ]
    changed = {
        key: merged.tree[key] for key in (*own, *looked_at) if key in merged.tree and key in Settings.model_fields
    }
    settings = None
    try:
        settings = Settings.model_validate(changed)
    except ValidationError as error:
        faults = [*checks.field_faults(error, merged), *faults]
    if faults or settings is None:
        raise SettingsError(list(dict.fromkeys(faults)))
    return replace(
        loaded,
        settings=loaded.settings.model_copy(update={key: getattr(settings, key) for key in changed}),
        warnings=[f"{source}: {warning}" for warning in warnings],
        sources=[*loaded.sources, source],
    )


def _not_of_a_device(own: Mapping[str, Any], source: str) -> list[Fault]:
    wrong = [(key, own[key]) for key in own if key in _KNOWN and key not in PER_DEVICE]
    for section, key in PROCESS_WIDE:
        inside = own.get(section)
        if isinstance(inside, Mapping) and key in inside:
            wrong.append((f"{section}.{key}", inside[key]))
    return [
        Fault(key, checks.shown(value, key), f"must not be set for one device, only for the server (set by {source})")
        for key, value in wrong
    ]


def code_faults(tree: Mapping[str, Any], source: str) -> Iterator[Fault]:
    """A fault for everything in settings that would load code: whoever may write them could run what they like."""
    for section in SECTIONS.values():
        blocks = tree.get(section)
        for name, block in blocks.items() if isinstance(blocks, Mapping) else ():
            written = block.get("type") if isinstance(block, Mapping) else None
            if ":" in str(written or name):
                key = f"{section}.{name}.type"
                yield Fault(key, checks.shown(written or name), f"must be a type that ships here (set by {source})")
    speakers = tree.get("voiceprint")
    if isinstance(speakers, Mapping) and ":" in str(speakers.get("type") or ""):
        yield Fault(
            "voiceprint.type", checks.shown(speakers["type"]), f"must be a type that ships here (set by {source})"
        )
    plugins = tree.get("plugins")
    if isinstance(plugins, Mapping) and plugins.get("dirs"):
        yield Fault("plugins.dirs", "set", f"must be set in a file of this machine (set by {source})")


def _merged(below: Merged, own: Mapping[str, Any], source: str) -> Merged:
    """The whole tree; only what `own` touches is copied. Raises SettingsError on absurd nesting."""
    touched = {key: below.tree[key] for key in own if key in below.tree}
    merged = merge([Layer("the configuration", touched), Layer(source, own)])
    return Merged({**below.tree, **merged.tree}, merged.origins, merged.unfilled)
