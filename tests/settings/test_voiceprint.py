"""The section `voiceprint`: which provider it means, and what a device's settings may not say."""

from __future__ import annotations

from typing import Any

import pytest

from xiaozhi.app.wiring import selected_tools, warnings
from xiaozhi.errors import SettingsError
from xiaozhi.settings import load
from xiaozhi.settings.overlay import lay_over

URL = "http://127.0.0.1:8005/voiceprint/health?key=k"
TOOLS = {"remember_voice", "forget_voice"}


def loaded(**section: Any) -> Any:
    return load(environ={}, overrides={"voiceprint": section})


@pytest.mark.parametrize(
    ("section", "name", "block"),
    [
        ({}, "", None),
        ({"url": URL}, "", None),
        ({"url": URL, "speakers": ["1,Li"]}, "http", {"type": "http", "url": URL, "speakers": ("1,Li",)}),
        ({"type": "local"}, "local", {"type": "local", "model_dir": "models/resemblyzer"}),
        (
            {"type": "local", "model_dir": "m", "similarity_threshold": 0.7},
            "local",
            {"type": "local", "model_dir": "m", "similarity_threshold": 0.7},
        ),
        ({"type": "a.b:C"}, "voiceprint", {"type": "a.b:C", "model_dir": "models/resemblyzer"}),
    ],
)
def test_what_is_selected(section: dict[str, Any], name: str, block: dict[str, Any] | None) -> None:
    settings = loaded(**section).settings

    assert settings.selected("voiceprint") == name
    if name:
        assert settings.block("voiceprint", name) == block
        assert ("voiceprint", name) in settings.in_use()


@pytest.mark.parametrize(
    ("section", "offered"),
    [({}, set()), ({"url": URL, "speakers": ["1,Li"]}, set()), ({"type": "local"}, TOOLS), ({"type": "a.b:C"}, set())],
)
def test_its_tools_are_on_offer_where_voices_are_learnt(section: dict[str, Any], offered: set[str]) -> None:
    names = {chosen.found.name for chosen in selected_tools(loaded(**section).settings).chosen}

    assert names & TOOLS == offered


def test_an_address_that_has_no_effect_is_warned_about() -> None:
    assert any("voiceprint.url has no effect" in each for each in warnings(loaded(type="local", url=URL)))


def test_settings_from_outside_may_not_name_code() -> None:
    overlay = {"voiceprint": {"type": "os:system"}}

    with pytest.raises(SettingsError, match="ships here"):
        lay_over(loaded(), overlay, "the console", trusted=False)
    assert lay_over(loaded(), overlay, "an operator").settings.voiceprint.type == "os:system"
