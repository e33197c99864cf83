"""What the server says by itself is in the language of the conversation, and in one only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadtest.simulator.speech import Speech
from loadtest.vendors.openai_vendor import ASR
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, Script, Stage, ask, open_stage, speak_to, tool_call
from xiaozhi.settings.fixed_texts import APOLOGY, QUOTA_REACHED

QUESTION = "what is up with you"
REFUSED = Script(status=401)
QUESTIONS = {
    "zh": "今天天气怎么样",
    "en": "how is the weather",
    "de": "wie ist das Wetter",
    "ru": "какая погода",
    "ja": "天気はどう",
}


@pytest.mark.parametrize("language", QUESTIONS)
def test_an_apology_is_in_the_language_of_the_question(stage: Stage, language: str) -> None:
    stage.vendor.script(CHAT, REFUSED)

    assert_said(ask(stage.device(), QUESTIONS[language]).sentences, APOLOGY[language])


def assert_said(sentences: list[str], text: str) -> None:
    """Subtitles are without the marks at their ends."""
    assert letters("".join(sentences)) == letters(text)


def letters(text: str) -> str:
    return "".join(char for char in text if char.isalnum())


def test_what_nobody_understood_is_apologised_for_in_the_language_of_before(
    stage: Stage, words: Callable[[str], Speech]
) -> None:
    device = stage.device()
    ask(device, QUESTIONS["de"])
    stage.vendor.script(ASR, REFUSED)

    assert_said(speak_to(device, words(QUESTION)).sentences, APOLOGY["de"])


@pytest.mark.parametrize(
    ("settings", "language"),
    [({"language": "中文"}, "zh"), ({}, "en"), ({"wakeup_words": ["你好小智"]}, "zh")],
)
def test_where_nothing_was_said_yet_the_configuration_tells(
    tmp_path: Path, sounds: Sounds, words: Callable[[str], Speech], settings: dict[str, Any], language: str
) -> None:
    with open_stage(tmp_path, sounds, settings) as stage:
        stage.vendor.script(ASR, REFUSED)

        assert_said(speak_to(stage.device(), words(QUESTION)).sentences, APOLOGY[language])


def test_the_allowance_is_used_up_in_the_language_of_the_question(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, {"device_max_output_size": 1}) as stage:
        device = stage.device()
        ask(device, "hello")

        assert_said(ask(device, QUESTIONS["zh"]).sentences, QUOTA_REACHED["zh"])
        assert_said(ask(device, QUESTIONS["en"]).sentences, QUOTA_REACHED["en"])


def test_a_tool_says_goodbye_in_the_language_of_the_question(stage: Stage) -> None:
    for language, goodbye in (("en", "Goodbye"), ("zh", "再见")):
        stage.vendor.script(CHAT, Script(answer=[tool_call("handle_exit_intent")]))

        assert goodbye in "".join(ask(stage.device(), QUESTIONS[language]).sentences)
