"""One device calls another by its nickname."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, LONG, TTS, Script, Stage, ask, open_stage, tool_call, wait_for_sound

ANNA, BOB, CARL = "02:aa:00:00:00:01", "02:aa:00:00:00:02", "02:aa:00:00:00:03"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds) -> Iterator[Stage]:
    settings = {
        "Intent": {"function_call": {"functions": ["call_device"]}},
        "plugins": {"call_device": {"devices": {"Anna": ANNA, "Bob": BOB.upper(), "Carl": CARL}}},
    }
    with open_stage(tmp_path_factory.mktemp("data"), sounds, settings) as opened:
        yield opened


def test_who_is_called_hears_it_and_may_call_back(stage: Stage) -> None:
    anna, bob = stage.device(device_id=ANNA), stage.device(device_id=BOB)
    bob.ping()
    stage.vendor.script(CHAT, Script(answer=[tool_call("call_device", nickname="Bob", message="Dinner is ready")]))

    assert ask(anna, "call Bob, dinner is ready").sentences == ["I have called Bob"]
    assert bob.collect_answer().sentences == ["Anna calls: Dinner is ready"]

    stage.vendor.script(CHAT, Script(answer=[tool_call("call_device", nickname="Anna", message="I am coming")]))
    anna.replies.forget_answers()
    ask(bob, "tell her that I am coming")
    assert ("assistant", "Anna calls: Dinner is ready") in stage.said(), "the model knows who has called"
    assert anna.collect_answer().sentences == ["Bob calls: I am coming"]


def test_who_is_not_there_and_who_is_busy(stage: Stage) -> None:
    anna, bob = stage.device(device_id=ANNA), stage.device(device_id=BOB)
    stage.vendor.script(CHAT, Script(answer=[tool_call("call_device", nickname="Carl")]))
    assert ask(anna, "call Carl").sentences == ["Carl is not online now"]

    stage.vendor.script(TTS, LONG)
    bob.detect("tell me a story")
    wait_for_sound(bob)
    stage.vendor.script(CHAT, Script(answer=[tool_call("call_device", nickname="Bob")]))

    assert ask(anna, "call Bob").sentences == ["Bob is busy", "try again later"]
    bob.abort()
    bob.collect_answer()
