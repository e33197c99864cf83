"""The choices of the first-run guide: what they name exists, in the configuration that ships and among the types."""

from __future__ import annotations

import pytest

from xiaozhi.app.console_forms import new_installation
from xiaozhi.app.console_presets import PRESETS, Preset, presets_for
from xiaozhi.models.catalogue import MODELS
from xiaozhi.providers import registry
from xiaozhi.settings import SECTIONS, load
from xiaozhi.settings.checks import spellings

KINDS = {section: kind for kind, section in SECTIONS.items()}
LOADED = load(environ={})


@pytest.mark.blocks_hub("imports providers")
@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_every_choice_names_what_is_there(preset: Preset) -> None:
    for section, name in preset.selected.items():
        assert name in LOADED.settings.modules(KINDS[section])
    for ask in preset.asks:
        for section, name, key in ask.paths:
            assert preset.selected[section] == name
            block = LOADED.settings.block(KINDS[section], name)
            fields = registry.registration(KINDS[section], name, block).options.model_fields
            known = {each for field_name, field in fields.items() for each in spellings(field_name, field)}
            assert key in known, (section, name, key)
    assert set(preset.models) <= {model.name for model in MODELS}


@pytest.mark.blocks_hub("imports providers")
def test_a_key_is_asked_for_wherever_a_block_wants_one() -> None:
    for preset in PRESETS:
        asked = {path for ask in preset.asks for path in ask.paths}
        for section, name in preset.selected.items():
            wanted = {path for path in LOADED.merged.unfilled if path[:2] == (section, name)}
            assert wanted <= asked, preset.name


def test_choices_are_told_with_what_they_need() -> None:
    shown = {preset["name"]: preset for preset in presets_for(LOADED)}

    assert list(shown) == ["offline", "openai", "aliyun", "doubao", "local"]
    assert shown["offline"]["asks"] == []
    [step] = shown["offline"]["steps"]
    assert step["command"].endswith("models fetch default") and 0 <= step["here_mb"] <= step["size_mb"]
    assert step["done"] is (step["here_mb"] == step["size_mb"])
    assert [ask["name"] for ask in shown["aliyun"]["asks"]] == ["key"]
    commands = [step["command"] for step in shown["local"]["steps"]]
    assert commands[0] == "make setup WITH=sherpa" and all("models fetch" in command for command in commands[1:])


def test_an_installation_is_new_until_somebody_chooses() -> None:
    assert new_installation(LOADED)
    chosen = load(environ={}, overrides={"selected_module": {"LLM": "Offline"}})
    assert not new_installation(chosen)
