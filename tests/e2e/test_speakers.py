"""Speakers are told apart: from the sound of an utterance through the voiceprint service to what the model reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loadtest.simulator.speech import Speech
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, Stage, ask, open_stage, speak_to
from tests.vendors.voiceprint_service import IDENTIFY, VoiceprintService

Words = Callable[[str], Speech]
SPEAKERS = ["id1,小明,the son", "id2,Li,the mother"]


@pytest.fixture
def service() -> Iterator[VoiceprintService]:
    with VoiceprintService(keep_alive=False) as running:
        assert isinstance(running, VoiceprintService)
        yield running


@pytest.fixture
def stage(tmp_path: Path, sounds: Sounds, service: VoiceprintService) -> Iterator[Stage]:
    options = {"voiceprint": {"url": service.health_url, "speakers": SPEAKERS, "wait_seconds": 0.3}}
    with open_stage(tmp_path, sounds, options) as running:
        yield running


def questions(stage: Stage) -> list[str]:
    """What the model reads as the user's messages of the last request."""
    return [message["content"] for message in stage.messages() if message["role"] == "user"]


def test_the_name_reaches_the_prompt_and_once_the_history(
    stage: Stage, service: VoiceprintService, words: Words
) -> None:
    stage.vendor.stand(CHAT, Script(answer="Yes."))
    device = stage.device()

    speak_to(device, words("what is up with you"))
    first = questions(stage)
    speak_to(device, words("what is up with you"))
    service.speaker_id = "id2"
    speak_to(device, words("what is up with you"))

    assert json.loads(first[0]) == {"speaker": "小明", "content": "what is up"}
    one, two, three = questions(stage)
    assert one == first[0]
    assert two == "what is up", "the same person goes on"
    assert json.loads(three)["speaker"] == "Li"
    prompt = stage.messages()[0]["content"]
    assert "小明: the son" in prompt and "Li: the mother" in prompt
    assert service.refusals == [] and all(seconds > 0.4 for seconds in service.sounds)


def test_the_device_is_shown_the_words_alone(stage: Stage, words: Words) -> None:
    stage.vendor.stand(CHAT, Script(answer="Yes."))

    assert speak_to(stage.device(), words("what is up with you")).stt == "what is up"


def test_typed_words_have_no_voice(stage: Stage, service: VoiceprintService) -> None:
    stage.vendor.stand(CHAT, Script(answer="Yes."))
    ask(stage.device(), "what time is it")

    assert questions(stage) == ["what time is it"]
    assert not service.requests


@pytest.mark.parametrize("script", [Script(stall="before"), Script(status=500), Script(garbage="html")])
def test_a_service_that_fails_or_hangs_costs_the_name_alone(
    stage: Stage, service: VoiceprintService, words: Words, script: Script
) -> None:
    stage.vendor.stand(CHAT, Script(answer="Yes."))
    service.stand(IDENTIFY, script)

    answer = speak_to(stage.device(), words("what is up with you"))

    assert answer.text.startswith("Yes")
    assert questions(stage) == ["what is up"]
