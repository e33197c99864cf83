"""A session that listens: speech, wake words, typed texts, abort."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from tests.fakes.sessions import (
    DEVICE,
    Visitor,
    visitor,
)
from tests.fakes.thinking import FakeLlm
from tests.session.visiting import LONG, visiting
from tests.subtitles import shown
from xiaozhi.session.session import JUST_WOKEN_SECONDS
from xiaozhi.session.turns.wakeup import greetings_for

WAKE_WORD = "Hello robot"


WOKEN = {"wakeup_words": ["hello robot"]}


@pytest.fixture
def device() -> Iterator[Visitor]:
    """A device that has said hello."""
    with visitor() as arrived:
        arrived.hello()
        yield arrived


# --- listening --------------------------------------------------------------------------------------------------------


def test_from_voice_to_voice(device: Visitor) -> None:
    device.tell("listen", state="start", mode="auto")
    device.say(1_500)
    device.wait_stops()

    assert device.messages("stt")[0]["text"] == "hello"
    assert device.spoken() == ["Hello", "How are you?"]
    assert device.sender.binaries
    assert device.services.telemetry.outcomes == ["answered"]
    assert device.services.telemetry.frames
    assert device.services.quota.spent == [(DEVICE, len("Hello.How are you?"))]


def test_the_button_ends_an_utterance(device: Visitor) -> None:
    device.tell("listen", state="start", mode="manual")
    device.say(1_200, silence_ms=0)
    device.tell("listen", state="stop")

    device.wait_stops()
    assert device.services.telemetry.outcomes == ["answered"]


def test_a_question_that_was_prepared_in_vain_is_told() -> None:
    with visiting({"conversation": {"pause_ms": 100}}) as device:
        device.hello()
        device.tell("listen", state="start", mode="auto")
        device.say(1_000, silence_ms=300)
        device.say(1_000)
        device.wait_stops()

        assert device.services.telemetry.in_vain == 1
        assert device.services.telemetry.outcomes == ["answered"]


def test_nothing_is_prepared_when_that_is_switched_off() -> None:
    with visiting({"conversation": {"pause_ms": 100, "speculative": "off"}}) as device:
        device.hello()
        device.tell("listen", state="start", mode="auto")
        device.say(1_000, silence_ms=300)
        device.say(1_000)
        device.wait_stops()

        assert device.services.telemetry.in_vain == 0


def test_in_realtime_mode_who_speaks_interrupts() -> None:
    with visiting(llm=FakeLlm(LONG, "Yes.")) as device:
        device.hello()
        device.tell("listen", state="start", mode="realtime")
        device.say(1_500)
        device.wait(lambda: device.sender.binaries)

        device.say(1_500)
        device.wait_turns(2)

        assert device.services.telemetry.outcomes == ["interrupted", "answered"]


def test_in_auto_mode_nobody_is_heard_while_the_server_speaks() -> None:
    with visiting(llm=FakeLlm(LONG, "Yes.")) as device:
        device.hello()
        device.tell("listen", state="start", mode="auto")
        device.say(1_500)
        device.wait(lambda: device.sender.binaries)

        device.say(1_500)
        device.tell("abort")
        device.wait_turns()

        assert len(device.services.telemetry.turns) == 1


@pytest.mark.parametrize("mode", ["auto", "realtime", None, "loud"])
def test_listen_start_does_not_cut_the_answer(mode: Any) -> None:
    """Clients exist that send it with every sentence; firmware that wants the answer to end sends abort first."""
    with visiting(llm=FakeLlm("One. Two. Three.")) as device:
        device.hello()
        device.tell("listen", state="start", mode="auto")
        device.say(1_000)
        device.wait(lambda: device.sender.binaries)
        device.clock.advance(JUST_WOKEN_SECONDS + 1)

        for _ in range(3):
            device.tell("listen", state="start", mode=mode)

        device.wait_turns()
        assert device.services.telemetry.outcomes == ["answered"]
        assert device.spoken() == ["One", "Two", "Three"]


def test_listen_start_while_an_answer_is_being_thought_of_does_not_cut_it_either() -> None:
    with visiting(llm=FakeLlm([0.2, "Yes."])) as device:
        device.hello()
        device.detect("are you there")
        device.wait(lambda: device.agent.providers.llm.calls)
        device.clock.advance(JUST_WOKEN_SECONDS + 1)
        device.tell("listen", state="start", mode="auto")
        device.wait_turns()
        assert device.services.telemetry.outcomes == ["answered"]


def test_the_button_cuts_the_answer() -> None:
    with visiting(llm=FakeLlm(LONG)) as device:
        device.hello()
        device.detect("tell me a story")
        device.wait(lambda: device.sender.binaries)

        device.tell("listen", state="start", mode="manual")

        device.wait_turns()
        assert device.services.telemetry.outcomes == ["interrupted"]


def test_listen_start_during_an_answer_forgets_what_the_ears_had() -> None:
    with visiting(llm=FakeLlm(LONG, "Yes.")) as device:
        device.hello()
        device.tell("listen", state="start", mode="auto")
        device.say(1_500)
        device.wait(lambda: device.sender.binaries)

        device.tell("listen", state="start", mode="auto")
        device.say(1_500)
        device.tell("abort")
        device.wait_turns()

        assert device.services.telemetry.outcomes == ["interrupted"]
        device.tell("listen", state="start", mode="auto")
        device.say(1_500)
        device.wait_turns(2)


# --- wake words, typed texts, calls -----------------------------------------------------------------------------------


def test_a_wake_word_is_answered_by_a_greeting() -> None:
    with visiting(WOKEN) as device:
        device.hello()
        device.detect(WAKE_WORD)
        device.wait_stops()

        assert " ".join(device.spoken()) in map(shown, greetings_for(["hello robot"]))
        assert device.messages("stt")[0]["text"] == WAKE_WORD
        assert device.agent.providers.llm.calls == []


def test_the_listen_start_behind_a_wake_word_does_not_interrupt_the_greeting() -> None:
    with visiting(WOKEN) as device:
        device.hello()
        device.detect(WAKE_WORD)
        device.tell("listen", state="start", mode="auto")
        device.say(1_000, silence_ms=0)
        device.wait_turns()

        assert device.services.telemetry.outcomes == ["answered"]


def test_the_listen_start_after_the_greeting_ends_the_deafness() -> None:
    with visiting(WOKEN, llm=FakeLlm("Yes.")) as device:
        device.hello()
        device.detect(WAKE_WORD)
        device.tell("listen", state="start", mode="auto")
        device.wait_turns()

        device.tell("listen", state="start", mode="auto")
        device.say(1_000)
        device.wait_turns(2)

        assert device.spoken()[-1] == "Yes"


def test_the_listen_start_right_behind_the_wake_word_does_not_end_the_deafness() -> None:
    with visiting({**WOKEN, "enable_greeting": False}, llm=FakeLlm("Yes.")) as device:
        device.hello()
        device.detect(WAKE_WORD)
        device.tell("listen", state="start", mode="auto")
        device.say(1_000)
        device.clock.advance(JUST_WOKEN_SECONDS)
        device.say(1_000)
        device.wait_turns()

        assert len(device.messages("stt")) == 2, "the wake word and one question"


def test_the_button_does_interrupt_a_greeting() -> None:
    with visiting(WOKEN) as device:
        device.hello()
        device.detect(WAKE_WORD)
        device.tell("listen", state="start", mode="manual")
        device.wait_turns()

        assert device.services.telemetry.outcomes == ["interrupted"]


def test_a_wake_word_may_be_shown_only() -> None:
    with visiting({**WOKEN, "enable_greeting": False}) as device:
        device.hello()
        device.detect(WAKE_WORD)
        device.wait_stops()

        assert [message["type"] for message in device.messages()] == ["hello", "stt", "tts"]
        assert device.services.telemetry.turns == []


def test_a_wake_word_may_be_answered_by_the_language_model() -> None:
    with visiting({**WOKEN, "enable_wakeup_words_response_cache": False}) as device:
        device.hello()
        device.detect(WAKE_WORD)
        device.wait_stops()

        assert [call.asked for call in device.agent.providers.llm.calls] == [WAKE_WORD]


def test_a_call_is_spoken_as_it_is(device: Visitor) -> None:
    device.detect("[device_call] Grandma is calling.")
    device.wait_stops()
    device.detect("[device_call]")
    device.detect("   ")
    device.tell("ping")
    device.wait(lambda: device.messages("pong"))

    assert device.spoken() == ["Grandma is calling"]
    assert len(device.services.telemetry.turns) == 1
    assert device.agent.providers.llm.calls == []


def test_an_exit_command_ends_it() -> None:
    with visiting({"exit_commands": ["go away"]}) as device:
        device.hello()
        device.detect("Go away!")
        device.wait(lambda: device.sender.closed)

        assert device.sender.closed == (1000, "exit command")
        assert device.messages("stt")[0]["text"] == "Go away!"
        assert device.messages("tts") == []
        device.detect("are you still there")
        gevent.sleep(0)
        assert device.agent.providers.llm.calls == [], "who leaves takes no new turns"


# --- abort ------------------------------------------------------------------------------------------------------------


def test_abort_stops_what_is_said() -> None:
    with visiting(llm=FakeLlm(LONG)) as device:
        device.hello()
        device.detect("tell me a story")
        device.wait(lambda: device.sender.binaries)

        device.tell("abort", reason="wake_word_detected")

        device.wait_turns()
        _, record = device.services.telemetry.turns[0]
        assert (record.outcome.value, record.reason) == ("interrupted", "abort wake_word_detected")
        device.wait_stops()
        assert device.stops() == 1


def test_abort_is_answered_also_when_nothing_is_said(device: Visitor) -> None:
    device.tell("abort")

    device.wait_stops()
