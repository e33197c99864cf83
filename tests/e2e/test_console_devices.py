"""What a console gives one device and no other, end to end: an MCP endpoint, voices to be told apart, knowledge bases;
and a console that takes its time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from loadtest.simulator.speech import Speech
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import Stage, ask, open_stage, speak_to, tool_call
from tests.e2e.test_management import ANN, BEN, bind, console, page_of, under
from tests.tools.test_mcp_endpoint import EndpointService
from tests.vendors.console import MODELS, WORDS, StrictConsole
from tests.vendors.voiceprint_service import IDENTIFY, VoiceprintService
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.app import known_devices

__all__ = ["console"]

Words = Callable[[str], Speech]


def offered(stage: Stage) -> set[str]:
    """The tools that the model was told of with the last question."""
    return {tool["function"]["name"] for tool in stage.questions()[-1].get("tools", ())}


def test_an_endpoint_of_one_devices_agent(tmp_path: Path, sounds: Sounds, console: StrictConsole) -> None:
    """As the console writes it: `/call/` already, with the token of the agent, which nobody is told."""
    with EndpointService() as service, capture_logs() as lines:
        service.results["door"] = {"result": {"content": [{"type": "text", "text": "open"}]}}
        with open_stage(tmp_path, sounds, under(console)) as stage:
            address = f"{service.url}/mcp_endpoint/call/?token=AES%2Bof-the-agent"
            bind(console, stage, ANN, voice="ann", prompt="You are Ann.", mcp_endpoint=address)
            bind(console, stage, BEN, voice="ben", prompt="You are Ben.")
            ann, ben = stage.device(device_id=ANN), stage.device(device_id=BEN)
            ask(ann, "hello")
            [source] = stage.server.services.shared_tools
            assert source.settle(PATIENCE_S)

            stage.vendor.script(CHAT, Script(answer=[tool_call("door")]), Script(answer="It is open."))
            assert ask(ann, "how is the door").sentences == ["It is open"]
            assert "door" in offered(stage)
            ask(ben, "how is the door")
            assert "door" not in offered(stage)

            assert service.paths == ["/mcp_endpoint/call/?token=AES%2Bof-the-agent"]
            shown = page_of(stage)
            stage.close_devices()
            service.wait_gone()
    assert "of-the-agent" not in str(lines) + shown


def test_the_voices_that_one_devices_agent_knows(
    tmp_path: Path, sounds: Sounds, words: Words, console: StrictConsole
) -> None:
    with VoiceprintService(keep_alive=False) as service, capture_logs() as lines:
        assert isinstance(service, VoiceprintService)
        voices = {"url": service.health_url, "speakers": ["id1,小明,喜欢恐龙,五岁"], "similarity_threshold": 0.4}
        with open_stage(tmp_path, sounds, under(console)) as stage:
            bind(console, stage, ANN, voice="ann", prompt="You are Ann.", voiceprint=voices)
            bind(console, stage, BEN, voice="ben", prompt="You are Ben.")

            speak_to(stage.device(device_id=ANN), words("what is up with you"))
            question = stage.said()[-1][1]
            assert json.loads(question) == {"speaker": "小明", "content": "what is up"}
            assert "喜欢恐龙,五岁" in stage.messages()[0]["content"]
            assert service.counts[IDENTIFY] == 1 and service.refusals == []

            speak_to(stage.device(device_id=BEN), words("what is up with you"))
            assert stage.said()[-1] == ("user", "what is up")
            assert service.counts[IDENTIFY] == 1
            stage.close_devices()
            wait_for(lambda: len([told for told in console.reports if told["chatType"] == 1]) == 2, "the reports")
    reported = {told["macAddress"]: told["content"] for told in console.reports if told["chatType"] == 1}
    assert json.loads(reported[ANN]) == {"speaker": "小明", "content": "what is up"}
    assert reported[BEN] == "what is up"
    assert "secret-key" not in str(lines)


@pytest.mark.slow
def test_a_console_that_takes_five_seconds(tmp_path: Path, sounds: Sounds, console: StrictConsole) -> None:
    """Hello is answered before it has said anything; the first turn waits for it and is the agent's own."""
    with open_stage(tmp_path, sounds, under(console)) as stage:
        bind(console, stage, ANN, voice="ann", prompt="You are Ann.").words = ["Fine|Feyn"]
        console.stand(MODELS, Script(delay=5.0))
        console.stand(WORDS, Script(delay=5.0))
        stage.forget_requests()

        ann = stage.device(device_id=ANN)
        assert console.served == [], "hello was answered before the console"

        assert ask(ann, "who are you").sentences == ["Fine"]
        assert console.served == [ANN]
        assert "You are Ann." in stage.messages()[0]["content"]
        assert any("Feyn" in text for text in stage.spoken())


def test_a_database_that_is_slow_at_the_door_costs_no_dialogue(
    tmp_path: Path, sounds: Sounds, console: StrictConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was said last is looked up again while the console is asked."""
    monkeypatch.setattr(known_devices, "FORESEE_S", 0.0)
    for question in ("the first question", "the second question"):
        with open_stage(tmp_path, sounds, under(console)) as stage:
            bind(console, stage, ANN, voice="ann", prompt="You are Ann.")
            ask(stage.device(device_id=ANN, client_id="ann"), question)
            said = [text for role, text in stage.said() if role == "user"]

    assert said == ["the first question", "the second question"]


def test_of_two_knowledge_bases_one_is_offered_and_the_other_is_told_once(
    tmp_path: Path, sounds: Sounds, console: StrictConsole
) -> None:
    """However many devices the agent has."""
    service = '{"base_url":"http://rag","api_key":"rag-secret","dataset_ids":["d1"]}'
    with capture_logs() as lines, open_stage(tmp_path, sounds, under(console)) as stage:
        for mac in (ANN, BEN):
            plugins = {"search_from_books": service, "search_from_films": service}
            bind(console, stage, mac, voice="ann", prompt=f"You are {mac}.", plugins=plugins)
            ask(stage.device(device_id=mac), "hello")
            assert "search_from_ragflow" in offered(stage)
    told = [line["note"] for line in lines if "search_from" in line.get("note", "")]
    assert told == ["plugins.search_from_films is left out: one knowledge base service can be searched, not two"]
    assert "rag-secret" not in str(lines)
