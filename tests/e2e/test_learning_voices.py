"""A voice is learnt in a conversation: asked, answered aloud, kept, told to the language model, and forgotten.

The encoder is the real one with weights that nobody trained: every voice is like every other to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.simulator.speech import Speech
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.sounds import Sounds
from tests.databases import opened
from tests.e2e.stage import CHAT, Stage, open_stage, speak_to
from tests.fakes.tensor_files import made_model
from xiaozhi.storage import voices

Words = Callable[[str], Speech]
LONG = "and one more thing please"


@pytest.fixture
def stage(tmp_path: Path, sounds: Sounds) -> Iterator[Stage]:
    folder = made_model(tmp_path / "model")
    options = {"voiceprint": {"type": "local", "model_dir": str(folder), "wait_seconds": 5}}
    with open_stage(tmp_path, sounds, options) as running:
        yield running


def calls(tool: str, **arguments: Any) -> Script:
    function = {"name": tool, "arguments": json.dumps(arguments)}
    return Script(answer=[{"tool_calls": [{"index": 0, "id": "call-0", "type": "function", "function": function}]}])


def kept(directory: Path) -> list[str]:
    with opened(directory) as database:
        return [each.known.name for each in database.read(voices.everyone)]


def test_a_voice_is_learnt_after_a_spoken_yes_told_and_forgotten(stage: Stage, words: Words, tmp_path: Path) -> None:
    device, vendor = stage.device(), stage.vendor

    vendor.heard = "remember my voice, I am Anna"
    vendor.script(CHAT, calls("remember_voice", name="Anna"))
    assert "May I" in speak_to(device, words(LONG)).text
    offered = {tool["function"]["name"] for tool in stage.questions()[-1]["tools"]}
    assert {"remember_voice", "forget_voice"} <= offered
    assert stage.messages()[-1]["content"] == vendor.heard, "nobody is known, so nobody is named"
    assert kept(tmp_path) == []

    vendor.heard = "yes please"
    vendor.script(CHAT, calls("remember_voice", name="Anna", confirmed=True))
    assert "I know your voice now" in speak_to(device, words(LONG)).text
    assert kept(tmp_path) == ["Anna"]

    vendor.heard = "what is up"
    vendor.script(CHAT, Script(answer="Hello Anna."))
    speak_to(device, words(LONG))
    assert json.loads(stage.messages()[-1]["content"]) == {"speaker": "Anna", "content": "what is up"}

    vendor.heard = "forget my voice"
    vendor.script(CHAT, calls("forget_voice", name="Anna"))
    assert "forgotten" in speak_to(device, words(LONG)).text
    assert kept(tmp_path) == []


def test_without_a_yes_nothing_is_kept(stage: Stage, words: Words, tmp_path: Path) -> None:
    device, vendor = stage.device(), stage.vendor

    vendor.heard = "remember my voice, I am Anna"
    vendor.script(CHAT, calls("remember_voice", name="Anna"))
    speak_to(device, words(LONG))
    vendor.heard = "no thank you"
    vendor.script(CHAT, calls("remember_voice", name="Anna", confirmed=True))

    assert "keep nothing" in speak_to(device, words(LONG)).text
    assert kept(tmp_path) == []
