"""Tools that the language model calls, and answers that come straight from a tool."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.thinking import FakeIntent, FakeLlm
from tests.session.turns.cascade_rig import QUESTION, SYSTEM, Rig, call, outcome
from tests.tools.fakes import tool
from tests.waiting import wait_for
from xiaozhi.chat import Message, Seal
from xiaozhi.errors import TurnClosed, VendorGarbage
from xiaozhi.providers.contracts.intent import IntentTraits
from xiaozhi.providers.contracts.llm import LlmTraits
from xiaozhi.runtime import tasks
from xiaozhi.session.turn_record import Outcome
from xiaozhi.settings.fixed_texts import TOOL_FILLER
from xiaozhi.tools.base import Action, FixedTools, ToolOutcome

# --- tools ------------------------------------------------------------------------------------------------------------


def test_each_call_is_shown_and_timed() -> None:
    def take_two_seconds(arguments: Mapping[str, Any]) -> ToolOutcome:
        rig.turn.clock.advance(2)
        return ToolOutcome(Action.ASK_LLM, "25")

    rig = Rig([call("weather"), call("no_such_tool", 2)], "Warm.", tools=[tool("weather", take_two_seconds)])

    rig.ask()

    assert rig.turn.shown == ["weather", "no_such_tool"]
    assert [(one.tool, one.outcome) for one in rig.turn.timeline.calls] == [
        ("weather", "ask_llm"),
        ("no_such_tool", "not_found"),
    ]
    weather = rig.turn.timeline.calls[0]
    assert weather.ended is not None
    assert weather.ended - weather.began == 2


def test_a_call_goes_back_to_its_vendor_under_its_seal() -> None:
    seal = Seal("v", b"{}")
    rig = Rig([replace(call("weather"), seal=seal)], "Warm.", tools=[tool("weather", outcome(Action.ASK_LLM, "25"))])

    rig.ask()

    (sealed,) = (message for message in rig.llm.calls[1].messages if message.tool_calls)
    assert sealed.tool_calls[0].seal == seal


def test_the_model_calls_a_tool_and_goes_on() -> None:
    rig = Rig(["Let me see. ", call("weather")], "Warm.", tools=[tool("weather", outcome(Action.ASK_LLM, "25"))])

    rig.ask()

    assert rig.turn.told[-3:] == ["say Let me see.", "open", "say Warm."]
    assert rig.turn.exchange.messages == [
        Message("user", QUESTION),
        Message("assistant", "Let me see. ", (call("weather"),)),
        Message("tool", "25", tool_call_id="c1"),
        Message("assistant", "Warm."),
    ]
    assert rig.llm.calls[1].messages == [SYSTEM, *rig.turn.exchange.messages[:-1]]


@pytest.mark.parametrize(
    "action, text, told, asked",
    [
        (Action.SPEAK, "Done.", "Done.", 1),
        (Action.SPEAK, "", "speak", 1),
        (Action.RECORD, "noted", "noted", 1),
        (Action.NOTHING, "", "nothing", 1),
        (Action.ASK_LLM, "25", "25", 2),
        (Action.ERROR, "no sensor", "error: no sensor", 2),
        (Action.NOT_FOUND, "no such tool", "error: no such tool", 2),
    ],
)
def test_what_follows_a_tool(action: Action, text: str, told: str, asked: int) -> None:
    rig = Rig([call("it")], "So.", tools=[tool("it", outcome(action, text))])

    rig.ask()

    assert len(rig.llm.calls) == asked
    assert rig.turn.exchange.messages[2].content == told
    assert rig.turn.said == (["So."] if asked == 2 else [text] if action is Action.SPEAK and text else [])


def test_several_tools_may_speak() -> None:
    tools = [tool("a", outcome(Action.SPEAK, "One.")), tool("b", outcome(Action.SPEAK, "Two."))]
    rig = Rig([call("a"), call("b", 2)], tools=tools)

    rig.ask()

    assert rig.turn.said == ["One.", "Two."]
    assert rig.turn.exchange.messages[-1] == Message("assistant", "One. Two.")


def until_said(rig: Rig, text: str) -> Callable[[Mapping[str, Any]], ToolOutcome]:
    """A tool that works until the user has heard this."""

    def work(arguments: Mapping[str, Any]) -> ToolOutcome:
        wait_for(lambda: text in " ".join(rig.turn.said), "words meanwhile")
        return ToolOutcome(Action.ASK_LLM, "25")

    return work


def test_while_tools_take_long_something_is_said_once_and_not_remembered() -> None:
    words = TOOL_FILLER["en"]
    options = {"tool_filler_seconds": 0.01, "tool_filler": TOOL_FILLER}
    rig = Rig([call("slow")], [call("slow", 2)], "Warm.", options=options)
    rig.toolbox.add(FixedTools("test", [tool("slow", until_said(rig, words))]))

    rig.ask()

    assert " ".join(rig.turn.said) == f"{words} Warm."
    assert words not in str(rig.turn.exchange.messages)


def test_what_is_said_meanwhile_can_be_chosen() -> None:
    options = {"tool_filler_seconds": 0.01, "tool_filler": {"": "Hold on!"}}
    rig = Rig([call("slow")], "Warm.", options=options)
    rig.toolbox.add(FixedTools("test", [tool("slow", until_said(rig, "Hold on!"))]))

    rig.ask()

    assert rig.turn.said == ["Hold on!", "Warm."]


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_tools_that_are_quick_enough_work_in_silence(seconds: float) -> None:
    before = tasks.census.started
    rig = Rig([call("it")], "Warm.", options={"tool_filler_seconds": seconds})
    rig.toolbox.add(FixedTools("test", [tool("it", outcome(Action.ASK_LLM, "25"))]))

    rig.ask()

    assert rig.turn.said == ["Warm."]
    assert tasks.census.started == before, "no greenlet has begun"


def test_a_turn_that_is_over_runs_no_tool() -> None:
    ran: list[Any] = []
    rig = Rig([call("it")], tools=[tool("it", lambda arguments: ran.append(1) or ToolOutcome(Action.NOTHING))])

    with pytest.raises(TurnClosed):
        rig.ask(closed=True)

    assert ran == [] and rig.turn.exchange.tool_calls == 0


def test_at_the_limit_the_model_must_answer_with_what_it_has() -> None:
    rig = Rig(
        [call("it")],
        [call("it", 2)],
        ["Enough. ", call("it", 3)],
        tools=[tool("it", outcome(Action.ASK_LLM, "more"))],
        options={"tool_depth": 2},
    )

    rig.ask()

    assert [rig.offered(number) for number in range(3)] == [["it"], ["it"], []]
    assert rig.turn.exchange.tool_calls == 2, "what was not offered is not run"
    assert rig.turn.said == ["Enough."]


def test_silence_after_tools_is_an_answer() -> None:
    rig = Rig([call("it")], "", tools=[tool("it", outcome(Action.ASK_LLM, "done"))])

    assert rig.ask() is Outcome.ANSWERED
    assert rig.turn.said == []


@pytest.mark.parametrize("answer", ["", "  ", []])
def test_silence_without_tools_is_a_failure(answer: Any) -> None:
    rig = Rig(answer)
    rig.llm.name = "LLM.Acme"

    with pytest.raises(VendorGarbage, match=r"LLM\.Acme"):
        rig.ask()


@pytest.mark.parametrize("kind", ["intent", "llm"])
def test_tools_are_not_offered_where_they_cannot_be_called(kind: str) -> None:
    intent, llm = FakeIntent(), FakeLlm(["Well. ", call("it")])
    if kind == "intent":
        intent.traits = IntentTraits(offers_tools=False)
    else:
        llm.traits = LlmTraits(calls_tools=False)
    rig = Rig(llm=llm, intent=intent, tools=[tool("it")])

    rig.ask()

    assert rig.offered() == []
    assert rig.turn.exchange.tool_calls == 0 and rig.turn.said == ["Well."]


# --- answers through a tool -------------------------------------------------------------------------------------------


def direct_rig(*answers: Any, tools: Sequence[Any] = (), **options: Any) -> Rig:
    return Rig(*answers, tools=[tool("direct_answer", answers_directly="response"), *tools], **options)


def test_an_answer_inside_a_tool_call_is_an_answer() -> None:
    rig = direct_rig([call("direct_answer", response=" I am fine. And you? ")])

    rig.ask()

    assert rig.turn.said == ["I am fine.", "And you?"]
    assert rig.turn.exchange.messages[-1] == Message("assistant", "I am fine. And you?")
    assert rig.turn.exchange.tool_calls == 0 and len(rig.llm.calls) == 1


def test_beside_a_real_tool_it_is_spoken_first_and_then_not_offered_any_more() -> None:
    rig = direct_rig(
        ["Hm. ", call("direct_answer", response="One moment."), call("it", 2)],
        "Done.",
        tools=[tool("it", outcome(Action.ASK_LLM, "ok"))],
    )

    rig.ask()

    assert rig.turn.said == ["Hm.", "One moment.", "Done."]
    assert "direct_answer" in rig.offered(0) and "direct_answer" not in rig.offered(1)
    assert rig.turn.exchange.messages[1].content == "Hm.  One moment."


def test_an_empty_answer_inside_a_tool_call_is_a_failure() -> None:
    rig = direct_rig([call("direct_answer")])

    with pytest.raises(VendorGarbage):
        rig.ask()
