"""Devices with settings of their own, over real sockets: what they share with others, what they do not, and until
when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gevent.event import Event
from structlog.testing import capture_logs

from loadtest.simulator.device import SimulatedDevice
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT, TTS, OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import Stage, ask, open_stage
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.providers.contracts.llm import Llm, LlmTraits
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.registry import provider
from xiaozhi.session.agent import Agent
from xiaozhi.session.link import Identity

ANN, BEN, CARL = (f"02:00:00:00:0a:0{number}" for number in range(3))


@pytest.fixture
def mind() -> Iterator[OpenAiVendor]:
    """Where the language model lives: connections to it stay open, so that they can be counted."""
    with OpenAiVendor(reply="Fine.") as vendor:
        assert isinstance(vendor, OpenAiVendor)
        yield vendor


def agent_of(stage: Stage, device: SimulatedDevice) -> Agent:
    """What the device's session works with."""
    agent = stage.server.agents.resolve(Identity(device.device_id), None)
    agent.release()
    return agent


def question_of(mind: OpenAiVendor, text: str) -> Any:
    """The chat request in which this was asked."""
    return next(request for request in mind.requests if request.json()["messages"][-1]["content"] == text)


def test_two_voices_one_language_model_and_a_third_with_a_key_of_its_own(
    tmp_path: Path, sounds: Sounds, mind: OpenAiVendor
) -> None:
    """The two share one client; the third has a client of its own, which is closed when the device leaves. (Its address
    is written in another way, or it would be the same connection all the same.)"""
    overlays = {
        ANN: {"TTS": {"Vendor": {"voice": "ann"}}},
        BEN: {"TTS": {"Vendor": {"voice": "ben"}}},
        CARL: {
            "LLM": {
                "Vendor": {
                    "api_key": "the-key-of-carl",
                    "base_url": mind.base_url.replace("127.0.0.1", "localhost"),
                }
            }
        },
    }
    settings = {"LLM": {"Vendor": {"base_url": mind.base_url}}}
    with open_stage(tmp_path, sounds, settings, overlays) as stage:
        ann, ben, carl = (stage.device(device_id=device) for device in (ANN, BEN, CARL))
        stage.forget_requests()

        for device, text in ((ann, "who are you"), (ben, "and you"), (carl, "and what about you")):
            answer = ask(device, text)
            assert answer.sentences == ["Fine"]
            assert answer.frames

        voices = {request.json()["voice"] for request in stage.vendor.requests if stage.vendor.kind(request) == TTS}
        assert {"ann", "ben"} <= voices, "the phrases of each voice, and its answer"
        asked = [question_of(mind, text) for text in ("who are you", "and you", "and what about you")]
        assert [request.headers["authorization"] for request in asked] == [
            "Bearer test-key",
            "Bearer test-key",
            "Bearer the-key-of-carl",
        ]
        assert asked[0].connection == asked[1].connection != asked[2].connection
        of_ann, of_ben, of_carl = (agent_of(stage, device).providers for device in (ann, ben, carl))
        default = stage.generation.agent.providers
        assert of_ann.llm is of_ben.llm is default.llm
        assert len({of_ann.tts, of_ben.tts, default.tts}) == 3
        assert of_carl.llm is not default.llm
        assert of_carl.tts is default.tts

        live = len(stage.server.provider_pool)
        carl.close()
        wait_for(lambda: mind.open == 1, "the connection of the third to be closed")
        assert len(stage.server.provider_pool) == live - 1
        assert ask(ann, "are you still there").sentences == ["Fine"]
        assert question_of(mind, "are you still there").connection == asked[0].connection


def test_devices_with_equal_settings_share_all_of_it(tmp_path: Path, sounds: Sounds) -> None:
    same = {"prompt": "You are a pirate.", "TTS": {"Vendor": {"voice": "rough"}}}
    with open_stage(tmp_path, sounds, overlays={ANN: same, BEN: dict(reversed(same.items()))}) as stage:
        ann, ben = (stage.device(device_id=device) for device in (ANN, BEN))
        for device in (ann, ben):
            ask(device, "ahoy")
            assert "You are a pirate." in stage.messages()[0]["content"]

        shared = agent_of(stage, ann)
        assert agent_of(stage, ben) is shared
        ann.close()
        wait_for(lambda: shared.holders.count == 1, "the first to be gone")
        assert ask(ben, "ahoy again").sentences == ["Fine"]
        ben.close()
        wait_for(lambda: shared.holders.count == 0, "the second to be gone")


def test_what_a_device_may_have_of_its_own(tmp_path: Path, sounds: Sounds) -> None:
    """Wake words, exit commands, language, what is said when something fails; another device knows nothing of it."""
    own = {
        "wakeup_words": ["ahoy"],
        "exit_commands": ["sink"],
        "language": "Klingon",
        "system_error_response": "Blast.",
    }
    with open_stage(tmp_path, sounds, overlays={ANN: own}) as stage:
        ann, other = stage.device(device_id=ANN.upper()), stage.device()

        assert ask(ann, "Ahoy!").sentences != ["Fine"]
        assert ask(other, "Ahoy!").sentences == ["Fine"]
        assert "Klingon" not in stage.messages()[0]["content"]
        ask(ann, "hello")
        assert "Klingon" in stage.messages()[0]["content"]
        stage.vendor.stand(CHAT, Script(status=400))
        assert ask(ann, "what now").sentences == ["Blast"]
        assert ask(other, "what now").sentences != ["Blast"]
        ann.detect("sink")
        assert ann.wait_closed()[0] == 1000


# --- while the agent is being made ------------------------------------------------------------------------------------

may_start = Event()


@provider("llm", "slow_starter", ProviderOptions)
class SlowStarter(Llm):
    """A language model that is not there before it may be."""

    traits = LlmTraits(offline=True)

    def __init__(self, options: ProviderOptions) -> None:
        del options

    def warm_up(self) -> None:
        may_start.wait(PATIENCE_S)

    def chat(self, messages: Any, tools: Any, context: Any) -> Iterator[str]:
        yield f"You said {messages[-1].content}."


SLOW = {"selected_module": {"LLM": "Slow"}, "LLM": {"Slow": {"type": f"{__name__}:SlowStarter"}}}


def test_hello_and_pings_are_answered_at_once_and_the_rest_waits_in_order(tmp_path: Path, sounds: Sounds) -> None:
    may_start.clear()
    with open_stage(tmp_path, sounds, overlays={ANN: SLOW}) as stage:
        other = stage.device()
        ann = stage.device(device_id=ANN)
        ann.detect("first")
        ann.abort()
        ann.detect("second")
        ann.ping()
        assert ask(other, "hello").sentences == ["Fine"], "nobody else waits"
        assert not ann.replies.messages

        may_start.set()

        answer = ann.collect_answer()
        while answer.sentences != ["You said second"]:
            assert answer.sentences in ([], ["You said first"])
            answer = ann.collect_answer()


def test_sound_waits_too(tmp_path: Path, sounds: Sounds, words: Any) -> None:
    may_start.clear()
    with open_stage(tmp_path, sounds, overlays={ANN: SLOW}) as stage:
        ann = stage.device(device_id=ANN)
        ann.listen_start("manual")
        ann.send_frames(words("what is up with you").packets(ann.frame_ms), realtime=False)
        ann.listen_stop()
        ann.ping()

        may_start.set()

        answer = ann.collect_answer()
        assert (answer.stt, answer.sentences) == ("what is up", ["You said what is up"])


def test_who_leaves_while_waiting_leaves_nothing_behind(tmp_path: Path, sounds: Sounds) -> None:
    may_start.clear()
    with open_stage(tmp_path, sounds, overlays={ANN: SLOW}) as stage:
        ann = stage.device(device_id=ANN)
        live = len(stage.server.provider_pool)
        assert live > 0

        ann.close()

        wait_for(lambda: len(stage.server.connections) == 0, "the device to be gone")
        wait_for(lambda: len(stage.server.provider_pool) == live - 1, "its language model to be gone")
        assert stage.generation.sessions == 0


def test_faulty_settings_of_a_device_are_told_and_the_default_agent_answers(tmp_path: Path, sounds: Sounds) -> None:
    own = {
        "selected_module": {"LLM": "Nobody"},
        "server": {"port": 1},
        "TTS": {"Vendor": {"voice": ["a", "list"]}},
        "asr_timeout": -1,
    }
    with open_stage(tmp_path, sounds, overlays={ANN: own}) as stage:
        with capture_logs() as lines:
            ann = stage.device(device_id=ANN)
            assert ask(ann, "hello").sentences == ["Fine"]

        [reason] = [line["reason"] for line in lines if line["event"] == "the default agent answers"]
        for key in ("selected_module.LLM", "server", "asr_timeout"):
            assert f"{key}:" in reason
        assert f"device {ANN}" in reason
        assert stage.generation.sessions == 1


def test_a_provider_that_does_not_start_leaves_the_default(
    tmp_path: Path, sounds: Sounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: SlowStarter) -> None:
        raise RuntimeError("the model file is damaged")

    monkeypatch.setattr(SlowStarter, "warm_up", broken)
    with open_stage(tmp_path, sounds, overlays={ANN: SLOW}) as stage:
        live = len(stage.server.provider_pool)

        assert ask(stage.device(device_id=ANN), "hello").sentences == ["Fine"]

        assert len(stage.server.provider_pool) == live


# --- and a reload -----------------------------------------------------------------------------------------------------


def test_a_reload_leaves_a_device_with_settings_of_its_own_alone(tmp_path: Path, sounds: Sounds) -> None:
    overlays: dict[str, dict[str, Any]] = {ANN: {"prompt": "You are a pirate."}}
    with open_stage(tmp_path, sounds, overlays=overlays) as stage:
        ann, server = stage.device(device_id=ANN), stage.server
        ask(ann, "ahoy")
        old = stage.generation
        overlays[ANN] = {"prompt": "You are a parrot."}

        assert server.reload() == ()

        assert old.sessions == 0
        assert ask(ann, "who are you").sentences == ["Fine"]
        assert "pirate" in stage.messages()[0]["content"]
        ann.close()
        wait_for(lambda: old.alive == set(), "the end of the old one")
        ask(stage.device(device_id=ANN), "who are you")
        assert "parrot" in stage.messages()[0]["content"]
