"""The form of a device's own settings: made of the schema, complete, and without secrets."""

from __future__ import annotations

import pytest

from xiaozhi.settings import SECTIONS, Loaded, lay_over, load
from xiaozhi.settings.device_form import DeviceField, changed_keys, form_of, other_keys
from xiaozhi.settings.device_settings import with_settings
from xiaozhi.settings.overlay import PER_DEVICE

BLOCKS = {*SECTIONS.values(), "plugins", "voiceprint", "context_providers", "fallback"}
"""What no plain field can show."""
EXAMPLES = {"number": 5, "integer": 2_000, "flag": True, "words": ["a", "b"], "texts": {"en": "x"}, "long": "x"}


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load(environ={})


def fields(loaded: Loaded, **own: object) -> dict[str, DeviceField]:
    return {field.key: field for field in form_of(loaded, own)}


def test_every_key_of_a_device_has_a_field_or_is_a_block(loaded: Loaded) -> None:
    shown = {key.partition(".")[0] for key in fields(loaded)}

    assert shown == PER_DEVICE - BLOCKS


def test_what_belongs_to_the_server_has_none(loaded: Loaded) -> None:
    assert not {"history.days", "history.max_bytes", "conversation.resume_seconds", "server"} & fields(loaded).keys()


def test_every_field_takes_what_its_kind_says(loaded: Loaded) -> None:
    for field in form_of(loaded, {}):
        value = EXAMPLES.get(field.kind, field.choices[-1] if field.choices else "")
        if field.kind == "integer" and field.maximum is not None:
            value = int(min(field.maximum, max(field.minimum or 0, 20)))
        value = {"correct_words": ["a|b"], "conversation.pause_ms": "auto"}.get(field.key, value)
        lay_over(loaded, with_settings({}, {field.key: value}, loaded), "device x", trusted=False)


def test_a_field_knows_what_is_usual_and_what_is_the_device_s_own(loaded: Loaded) -> None:
    found = fields(loaded, history={"mode": "off"}, quota_response={"en": "Enough."})

    assert (found["history.mode"].usual, found["history.mode"].own) == ("text", "off")
    assert (found["quota_response"].own, found["prompt"].own) == ({"en": "Enough."}, None)
    assert found["device_max_output_size"].minimum == 0
    assert "Espeak" in found["selected_module.TTS"].choices
    assert found["selected_module.VLLM"].choices[0] == "", "pictures need not be looked at"
    assert found["selected_module.EndOfTurn"].choices == ("auto", "", "SmartTurn")


def test_secrets_are_masked(loaded: Loaded) -> None:
    field = fields(loaded, mcp_endpoint="ws://127.0.0.1:9/mcp?token=abcdefgh12345")["mcp_endpoint"]

    assert field.hidden
    assert "abcdefgh12345" not in str(field)
    assert not fields(loaded, prompt="You are Anna.")["prompt"].hidden


def test_what_no_field_shows_is_named(loaded: Loaded) -> None:
    own = {"prompt": "x", "TTS": {"A": {"voice": "b", "speed": 1}}, "quota_response": {"en": "y"}, "plugins": {}}

    assert other_keys(own) == ["TTS.A.voice", "TTS.A.speed", "plugins"]


def test_changes_are_named_key_by_key() -> None:
    before = {"prompt": "x", "history": {"mode": "off"}, "TTS": {"A": {"voice": "b"}}}
    after = {"prompt": "y", "TTS": {"A": {"voice": "b", "speed": 1}}, "quota_response": {"en": "z"}}

    assert set(changed_keys(before, after)) == {"prompt", "history.mode", "TTS.A.speed", "quota_response"}
    assert changed_keys(before, before) == []
