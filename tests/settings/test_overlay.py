"""A device's own settings over the configuration: validated like a file, sharing what they do not touch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from xiaozhi.errors import SettingsError
from xiaozhi.settings import Loaded, Settings, lay_over, load, masked_yaml
from xiaozhi.settings.overlay import PER_DEVICE

SOURCE = "device D"


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    """A configuration with a voice of a vendor."""
    voice = {"type": "openai", "api_key": "the-key-of-tokens", "voice": "anna", "model": "m"}
    return load(environ={}, overrides={"TTS": {"Vendor": voice}, "selected_module": {"TTS": "Vendor"}})


def faults_of(loaded: Loaded, overlay: Any) -> dict[str, tuple[str, str]]:
    """key -> (value, expectation)"""
    with pytest.raises(SettingsError) as caught:
        lay_over(loaded, overlay, SOURCE)
    return {fault.key: (fault.value, fault.expected) for fault in caught.value.faults}


def test_it_changes_what_it_names_and_shares_the_rest(loaded: Loaded) -> None:
    before = masked_yaml(loaded.settings)
    own = lay_over(loaded, {"prompt": "Ahoy.", "TTS": {"Vendor": {"voice": "ben"}}}, SOURCE)

    assert own.settings.prompt == "Ahoy."
    assert own.settings.block("tts", "Vendor") == {**loaded.settings.block("tts", "Vendor"), "voice": "ben"}
    assert own.settings.selected("tts") == "Vendor"
    assert own.settings.server is loaded.settings.server
    assert own.settings.LLM is loaded.settings.LLM
    assert own.warnings == []
    assert own.sources == [*loaded.sources, SOURCE]
    assert (own.config_dir, own.prompt_template) == (loaded.config_dir, loaded.prompt_template)
    assert masked_yaml(loaded.settings) == before, "the configuration stays as it was"


def test_one_may_lie_over_another_configuration_again(loaded: Loaded) -> None:
    first = lay_over(loaded, {"wakeup_words": ["ahoy"]}, SOURCE)

    assert lay_over(loaded, {"prompt": "Ahoy."}, SOURCE).settings.wakeup_words == loaded.settings.wakeup_words
    assert first.settings.wakeup_words == ("ahoy",)


def test_values_are_read_as_in_a_file(loaded: Loaded) -> None:
    """Console answers have numbers as text, nulls and placeholders."""
    own = lay_over(loaded, {"asr_timeout": "3", "prompt": None, "quota_response": "your-text"}, SOURCE).settings

    assert own.asr_timeout == 3.0
    assert own.prompt == loaded.settings.prompt
    assert own.quota_response == {"": "your-text"}
    assert lay_over(loaded, {}, SOURCE).settings == loaded.settings


def test_every_fault_is_named(loaded: Loaded) -> None:
    overlay = {
        "asr_timeout": -1,
        "conversation": {"tool_depth": "deep", "resume_seconds": 5},
        "selected_module": {"LLM": "Nobody"},
        "server": {"port": 1},
        "wakeup_words": {"a": "ahoy"},
        "TTS": {"Vendor": {"api_key": "a-secret-key"}, "Odd": 7},
        "fallback": {"TTS": ["Odd"]},
    }

    faults = faults_of(loaded, overlay)

    assert set(faults) == {
        "asr_timeout",
        "conversation.tool_depth",
        "conversation.resume_seconds",
        "selected_module.LLM",
        "server",
        "wakeup_words",
        "TTS.Odd",
    }
    assert faults["asr_timeout"][0] == "-1"
    assert all(SOURCE in expected for key, (_, expected) in faults.items() if key != "TTS.Odd")
    assert "a-secret-key" not in str(faults)


@pytest.mark.parametrize("overlay", [[], "prompt", 7])
def test_what_is_no_mapping_is_refused(loaded: Loaded, overlay: Any) -> None:
    assert list(faults_of(loaded, overlay)) == [SOURCE]


def test_absurd_nesting_is_refused(loaded: Loaded) -> None:
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"deeper": deep}

    assert list(faults_of(loaded, {"plugins": deep})) == [SOURCE]


def test_credentials_that_were_never_filled_in_are_named(loaded: Loaded) -> None:
    overlay = {"LLM": {"New": {"type": "openai", "api_key": "your-api-key"}}, "selected_module": {"LLM": "New"}}

    assert list(faults_of(loaded, overlay)) == ["LLM.New.api_key"]


def test_unknown_keys_are_named_in_warnings(loaded: Loaded) -> None:
    own = lay_over(loaded, {"promt": "Ahoy.", "conversation": {"tool_deepth": 3}, "TTS": {"Odd": 7}}, SOURCE)

    assert len(own.warnings) == 3
    assert all(warning.startswith(f"{SOURCE}: ") for warning in own.warnings)
    assert any("the nearest key is prompt" in warning for warning in own.warnings)
    assert own.settings.TTS == loaded.settings.TTS


@pytest.mark.parametrize(
    ("overlay", "pause_ms"),
    [
        ({}, 111),
        ({"selected_module": {"VAD": "Plain"}}, 222),
        ({"selected_module": {"VAD": "Plain"}, "conversation": {"pause_ms": 333}}, 333),
        ({"VAD": {"Plain": {"pause_ms": 444}}, "selected_module": {"VAD": "Plain"}}, 444),
        ({"conversation": {"pause_ms": 333}}, 111),
    ],
)
def test_the_pause_of_the_voice_detector_counts(overlay: Mapping[str, Any], pause_ms: int) -> None:
    detectors = {"Own": {"type": "silero", "pause_ms": 111}, "Plain": {"type": "silero"}}
    settings = {"VAD": detectors, "selected_module": {"VAD": "Own"}, "conversation": {"pause_ms": 222}}
    below = load(environ={}, overrides=settings)
    assert below.settings.conversation.pause_ms == 111

    assert lay_over(below, overlay, SOURCE).settings.conversation.pause_ms == pause_ms


def test_every_key_of_a_device_is_a_key_of_the_configuration() -> None:
    assert set(Settings.model_fields) >= PER_DEVICE


def test_the_tree_below_is_not_shown(tmp_path: Path) -> None:
    """It has secrets."""
    assert "the-key-of-tokens" not in repr(load(environ={}, overrides={"server": {"auth_key": "the-key-of-tokens"}}))


@pytest.mark.parametrize(("written", "mode"), [(0, "off"), ("1", "text"), (2, "sound"), (False, "off"), ("Text", None)])
def test_what_is_kept_of_a_device_is_its_own_or_the_consoles_word(
    loaded: Loaded, written: Any, mode: str | None
) -> None:
    if mode is None:
        assert "history.mode" in faults_of(loaded, {"history": {"mode": written}})
    else:
        assert lay_over(loaded, {"history": {"mode": written}}, SOURCE).settings.history.mode == mode


def test_how_long_it_is_kept_is_the_servers_business(loaded: Loaded) -> None:
    assert set(faults_of(loaded, {"history": {"mode": "off", "days": 3}})) == {"history.days"}


@pytest.mark.parametrize(
    ("own", "key"),
    [
        ({"LLM": {"L": {"type": "os:system"}}}, "LLM.L.type"),
        ({"TTS": {"os:system": {}}}, "TTS.os:system.type"),
        ({"Memory": {"M": {"type": ["a:b"]}}}, "Memory.M.type"),
        ({"plugins": {"dirs": ["/tmp"]}}, "plugins.dirs"),
        ({"plugins": {"dirs": "/tmp"}}, "plugins.dirs"),
    ],
)
def test_settings_from_elsewhere_may_not_load_code(own: dict[str, Any], key: str, config_dir: Path) -> None:
    loaded = load(environ={}, config_dir=config_dir)

    with pytest.raises(SettingsError) as refused:
        lay_over(loaded, own, "the console", trusted=False)

    assert key in [fault.key for fault in refused.value.faults]
    lay_over(loaded, {"LLM": {"L": {"type": "openai"}}, "plugins": {"get_weather": {}}}, "x", trusted=False)
