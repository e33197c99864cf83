"""A `language` in the block of the voice is what the assistant answers in, as existing files and consoles have it."""

from __future__ import annotations

from typing import Any

import pytest

from xiaozhi.app import wiring
from xiaozhi.settings import load


def told(named: Any, **more: Any) -> tuple[str, list[str]]:
    """(the language in the prompt, warnings about the key)"""
    block = {"type": "openai", "api_url": "http://voice/v1", "api_key": "k", "language": named}
    chosen = {"selected_module": {"TTS": "Mine"}, "TTS": {"Mine": block}}
    loaded = load(environ={}, overrides={**chosen, **more})
    warnings = [warning for warning in wiring.warnings(loaded) if "TTS.Mine.language" in warning]
    return wiring.language_to_answer_in(loaded.settings), warnings


@pytest.mark.parametrize("language", ["普通话", "English", "粤语"])
def test_its_name_reaches_the_prompt(language: str) -> None:
    assert told(language) == (language, [])


def test_the_setting_of_the_server_comes_first() -> None:
    assert told("English", language="German")[0] == "German"


@pytest.mark.parametrize("language", ["1", 1, "auto"])
def test_what_is_no_language_is_warned_about(language: Any) -> None:
    named, [warning] = told(language)

    assert named == ""
    assert "means nothing here" in warning
