"""The server as it comes out of the box: no vendor, no network, and yet a conversation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from loadtest.speech import Speech
from tests.e2e.stage import Stage, ask, speak_to

Words = Callable[[str], Speech]
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def stage_settings() -> dict[str, Any]:
    return {
        "selected_module": {"VAD": "SileroVAD", "ASR": "PocketSphinx", "LLM": "Offline", "TTS": "Espeak"},
        "TTS": {"Espeak": {"type": "espeak"}},
        "system_error_response": "Sorry.",
    }


@pytest.mark.parametrize("mode", ["auto", "manual"])
def test_a_question_is_heard_and_answered(stage: Stage, words: Words, mode: str) -> None:
    answer = speak_to(stage.device(), words("what time is it"), mode, timeout=PATIENCE_S)

    assert answer.stt == "what time is it"
    assert answer.sentences
    assert not answer.sentences[0].startswith("Sorry")
    assert len(answer.frames) > 5
    assert stage.vendor.counts == {}


def test_a_typed_question_and_the_wake_word_too(stage: Stage) -> None:
    device = stage.device()

    assert ask(device, "hello robot", PATIENCE_S).frames
    assert ask(device, "what time is it", PATIENCE_S).frames
    assert stage.outcomes()["answered"] >= 2
