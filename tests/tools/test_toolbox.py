"""The toolbox: live sources, safe names, deadlines, and calls that never raise."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import gevent
import pytest
from gevent.event import Event
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.fakes import call, context, tool
from tests.waiting import PATIENCE_S
from xiaozhi.chat import ToolCall
from xiaozhi.errors import ConnectionClosed, Overloaded, ToolError, VendorUnavailable
from xiaozhi.runtime import tasks
from xiaozhi.tools.base import Action, FixedTools, SourceKind, Tool, ToolOutcome
from xiaozhi.tools.toolbox import Toolbox, ToolLimits, safe_name

SAFE = re.compile(r"^[A-Za-z0-9_-]{1,64}$")


class LiveSource:
    """A source whose offer can be changed."""

    def __init__(self, name: str, *tools: Tool, kind: SourceKind = SourceKind.DEVICE_MCP) -> None:
        self.name = name
        self.kind = kind
        self.offer = list(tools)

    def tools(self) -> Sequence[Tool]:
        return self.offer


@pytest.fixture
def gate() -> Iterator[Event]:
    """What slow tools wait for; opened at the end so that none is left."""
    opened = Event()
    yield opened
    opened.set()
    gevent.sleep(0)


def waiting_for(gate: Event, text: str = "done") -> Any:
    def wait(arguments: Any) -> ToolOutcome:
        gate.wait(PATIENCE_S)
        return ToolOutcome(Action.ASK_LLM, text)

    return wait


def test_a_call_that_was_not_understood_is_not_run_and_the_model_is_told() -> None:
    ran: list[Any] = []
    box = Toolbox(FixedTools("a", [tool("f", ran.append)]))

    outcome = box.call(ToolCall("1", "f", {}, fault="its arguments were cut off"), context())

    assert (outcome.action, outcome.text) == (Action.ERROR, "f was not called: its arguments were cut off.")
    assert ran == []
    assert answering().direct_text(ToolCall("1", "direct_answer", {}, fault="cut off")) is None


# --- names ---


@pytest.mark.parametrize(
    "raw,name",
    [
        ("self.audio_speaker.set_volume", "self_audio_speaker_set_volume"),
        ("get_time", "get_time"),
        ("a b/c", "a_b_c"),
        ("get_灯", "get__"),
    ],
)
def test_names_are_made_safe(raw: str, name: str) -> None:
    assert safe_name(raw) == name


@given(st.text(max_size=200))
def test_every_name_becomes_one_that_vendors_take(raw: str) -> None:
    assert SAFE.match(safe_name(raw))


def test_unreadable_names_stay_apart() -> None:
    assert safe_name("开灯") != safe_name("关灯")
    assert safe_name("x" * 100 + "a") != safe_name("x" * 100 + "b")


def test_colliding_names_are_told_apart_and_mapped_back() -> None:
    box = Toolbox(FixedTools("one", [tool("a.b"), tool("a/b")]), FixedTools("two", [tool("a_b")]))

    names = [spec.name for spec in box.specs()]
    assert names == ["a_b", "a_b_2", "a_b_3"]
    assert [box.call(call(name), context()).text for name in names] == ["a.b", "a/b", "a_b"]


@given(st.lists(st.text(max_size=80), max_size=12), st.lists(st.text(max_size=80), max_size=12))
def test_all_offered_names_are_safe_and_distinct(raws: list[str], others: list[str]) -> None:
    box = Toolbox(FixedTools("a", [tool(raw) for raw in raws]), FixedTools("b", [tool(raw) for raw in others]))

    names = [spec.name for spec in box.specs()]
    assert len(names) == len(set(names)) == len({*raws, *others})
    assert all(SAFE.match(name) for name in names)
    assert {box.call(call(name), context()).text for name in names} == {*raws, *others}


def test_a_tool_can_be_called_by_its_own_name() -> None:
    box = Toolbox(FixedTools("device", [tool("self.audio_speaker.set_volume")]))

    assert [spec.name for spec in box.specs()] == ["self_audio_speaker_set_volume"]
    assert box.call(call("self.audio_speaker.set_volume"), context()).text == "self.audio_speaker.set_volume"
    assert box.call(call("self_audio-speaker.set_volume"), context()).action is Action.NOT_FOUND


def test_descriptions_speak_of_other_tools_by_their_offered_names() -> None:
    box = Toolbox(
        FixedTools(
            "device",
            [tool("self.light", description="First self.light.status, then self.light."), tool("self.light.status")],
        )
    )

    assert box.specs()[0].description == "First self_light_status, then self_light."


# --- live sources ---


def test_tools_appear_and_disappear_with_their_sources() -> None:
    source = LiveSource("device")
    box = Toolbox(FixedTools("plugins", [tool("get_time")]), source)
    assert [spec.name for spec in box.specs()] == ["get_time"]

    source.offer = [tool("self.reboot")]
    assert [spec.name for spec in box.specs()] == ["get_time", "self_reboot"]
    assert box.call(call("self_reboot"), context()).action is Action.ASK_LLM

    box.remove("device")
    box.remove("unknown")
    assert [spec.name for spec in box.specs()] == ["get_time"]
    assert box.call(call("self_reboot"), context()).action is Action.NOT_FOUND


def says(text: str) -> Any:
    return lambda arguments: ToolOutcome(Action.ASK_LLM, text)


@pytest.mark.parametrize("backwards", [False, True])
def test_of_two_tools_of_one_name_the_one_of_the_higher_kind_is_offered(backwards: bool) -> None:
    """Whatever came first: the device may connect before or after another source."""
    sources = [
        LiveSource(kind.name, tool("light", says(kind.name)), tool(f"only.{kind}"), kind=kind) for kind in SourceKind
    ]
    box = Toolbox(*(reversed(sources) if backwards else sources))

    for kind in reversed(SourceKind):
        assert [spec.name for spec in box.specs()].count("light") == 1
        assert box.call(call("light"), context()).text == kind.name
        box.remove(kind.name)
    assert box.specs() == []


def test_within_a_kind_the_first_source_keeps_the_name() -> None:
    servers = [LiveSource(name, tool("t", says(name)), kind=SourceKind.SERVER_MCP) for name in ("one", "two")]

    assert Toolbox(*servers).call(call("t"), context()).text == "one"


def test_the_plugins_stand_first_and_are_never_pushed_out() -> None:
    """A stable beginning of the offer is what vendors' prompt caches live on."""
    device = LiveSource("device", *(tool(f"d{number}") for number in range(10)))
    box = Toolbox(device, FixedTools("plugins", [tool("a"), tool("b")]), limits=ToolLimits(tools=5))

    assert [spec.name for spec in box.specs()] == ["a", "b", "d0", "d1", "d2"]


# --- tools that only carry an answer ---


def answering() -> Toolbox:
    carrier = tool("direct_answer", answers_directly="response", parameters={"properties": {"response": {}}})
    return Toolbox(FixedTools("x", [tool("get_time"), carrier]))


def test_a_tool_that_only_carries_an_answer_is_offered_in_the_first_round_only() -> None:
    box = answering()

    assert [spec.name for spec in box.specs()] == ["get_time", "direct_answer"]
    assert [spec.name for spec in box.specs(after_tools=True)] == ["get_time"]


@pytest.mark.parametrize("arguments,text", [({"response": " Hi. "}, "Hi."), ({"response": None}, ""), ({}, "")])
def test_the_answer_that_such_a_call_carries(arguments: dict[str, Any], text: str) -> None:
    assert answering().direct_text(ToolCall("1", "direct_answer", arguments)) == text


@pytest.mark.parametrize("name", ["get_time", "no_such_tool"])
def test_other_calls_carry_no_answer(name: str) -> None:
    assert answering().direct_text(call(name, response="Hi.")) is None


def test_adding_a_source_of_the_same_name_replaces_it() -> None:
    box = Toolbox(FixedTools("x", [tool("old")]))

    box.add(FixedTools("x", [tool("new")]))

    assert [spec.name for spec in box.specs()] == ["new"]


def test_a_name_once_given_stays_with_its_tool() -> None:
    late = LiveSource("late", tool("a.b"))
    box = Toolbox(late)
    assert [spec.name for spec in box.specs()] == ["a_b"]

    late.offer = [tool("a_b"), *late.offer]

    assert [spec.name for spec in box.specs()] == ["a_b_2", "a_b"]
    assert box.call(call("a_b"), context()).text == "a.b"


def test_the_number_of_tools_is_bounded() -> None:
    source = LiveSource("device", *(tool(f"t{number}") for number in range(5)))

    assert len(Toolbox(source, limits=ToolLimits(tools=3)).specs()) == 3


# --- calling ---


def test_arguments_are_fitted_before_the_tool_sees_them() -> None:
    seen: list[Any] = []
    schema = {"type": "object", "properties": {"volume": {"type": "integer"}}, "required": ["volume"]}

    def note(arguments: Any) -> ToolOutcome:
        seen.append(dict(arguments))
        return ToolOutcome(Action.NOTHING)

    box = Toolbox(FixedTools("x", [tool("set", note, parameters=schema)]))

    assert box.call(call("set", volume="50"), context()).action is Action.NOTHING
    assert seen == [{"volume": 50}]
    missing = box.call(call("set"), context())
    assert missing.action is Action.ERROR
    assert "volume" in missing.text
    assert len(seen) == 1


def test_an_unknown_tool_is_not_found_and_its_neighbours_are_named() -> None:
    box = Toolbox(FixedTools("x", [tool("get_weather")]))

    outcome = box.call(call("get_wether"), context())

    assert outcome.action is Action.NOT_FOUND
    assert "get_weather" in outcome.text


@pytest.mark.parametrize(
    "error,word",
    [
        (ToolError("the lamp is broken"), "the lamp is broken"),
        (VendorUnavailable("acme", "no route to 10.0.0.1"), "not available"),
        (Overloaded("pool"), "not available"),
        (ConnectionClosed(1006), "disconnected"),
        (ZeroDivisionError("secret detail"), "failed"),
    ],
)
def test_errors_become_outcomes(error: Exception, word: str) -> None:
    def fail(arguments: Any) -> ToolOutcome:
        raise error

    for uninterruptible in (False, True):
        box = Toolbox(FixedTools("x", [tool("t", fail, uninterruptible=uninterruptible)]))
        outcome = box.call(call("t"), context())
        assert outcome.action is Action.ERROR
        assert word in outcome.text
        assert "secret" not in outcome.text and "10.0.0.1" not in outcome.text


def test_a_tool_that_returns_no_outcome_is_an_error() -> None:
    box = Toolbox(FixedTools("x", [tool("t", lambda arguments: "text")]))  # type: ignore[arg-type,return-value]

    assert box.call(call("t"), context()).action is Action.ERROR


def test_a_slow_tool_is_given_up_at_the_deadline(gate: Event) -> None:
    box = Toolbox(
        FixedTools("x", [tool("slow", waiting_for(gate)), tool("own", waiting_for(gate), timeout=0.02)]),
        limits=ToolLimits(call_timeout=0.01),
    )

    assert "0.01 seconds" in box.call(call("slow"), context()).text
    assert "0.02 seconds" in box.call(call("own"), context()).text


def test_a_deadline_of_the_caller_reaches_the_caller(gate: Event) -> None:
    box = Toolbox(FixedTools("x", [tool("slow", waiting_for(gate))]))

    with pytest.raises(gevent.Timeout) as raised, gevent.Timeout(0.01) as outer:
        box.call(call("slow"), context())

    assert raised.value is outer


def test_killing_the_caller_kills_an_ordinary_tool(gate: Event) -> None:
    ended: list[str] = []

    def work(arguments: Any) -> ToolOutcome:
        try:
            gate.wait(PATIENCE_S)
        finally:
            ended.append("unwound")
        return ToolOutcome(Action.NOTHING)

    box = Toolbox(FixedTools("x", [tool("t", work)]))
    turn = tasks.spawn("turn", box.call, call("t"), context())
    gevent.sleep(0)

    turn.kill()

    assert ended == ["unwound"]


def test_an_uninterruptible_tool_outlives_the_caller(gate: Event) -> None:
    began, done = Event(), Event()

    def order(arguments: Any) -> ToolOutcome:
        began.set()
        gate.wait(PATIENCE_S)
        done.set()
        return ToolOutcome(Action.ASK_LLM, "ordered")

    box = Toolbox(FixedTools("x", [tool("order", order, uninterruptible=True)]))
    turn = tasks.spawn("turn", box.call, call("order"), context())
    assert began.wait(PATIENCE_S)

    turn.kill()
    assert not done.is_set()
    gate.set()

    assert done.wait(PATIENCE_S)


def test_an_uninterruptible_tool_answers_like_any_other() -> None:
    box = Toolbox(FixedTools("x", [tool("order", uninterruptible=True)]))

    assert box.call(call("order"), context()) == ToolOutcome(Action.ASK_LLM, "order")


def test_uninterruptible_calls_are_bounded_in_number_and_life(gate: Event) -> None:
    ended = Event()

    def never(arguments: Any) -> ToolOutcome:
        try:
            gate.wait(PATIENCE_S)
        finally:
            ended.set()
        return ToolOutcome(Action.NOTHING)

    limits = ToolLimits(call_timeout=0.01, detached=1, detached_seconds=0.05)
    box = Toolbox(FixedTools("x", [tool("order", never, uninterruptible=True)]), limits=limits)

    assert "0.01 seconds" in box.call(call("order"), context()).text
    assert not ended.is_set()
    refused = box.call(call("order"), context())
    assert refused.action is Action.ERROR
    assert "still under way" in refused.text

    assert ended.wait(PATIENCE_S)


def test_long_results_are_cut_visibly() -> None:
    box = Toolbox(
        FixedTools("x", [tool("t", lambda arguments: ToolOutcome(Action.ASK_LLM, "a" * 100, data="raw"))]),
        limits=ToolLimits(result_chars=10),
    )

    outcome = box.call(call("t"), context())

    assert outcome.text == "a" * 10 + "... (90 more characters)"
    assert outcome.data == "raw"


def test_calls_run_side_by_side_and_answer_in_order() -> None:
    started = [Event(), Event(), Event()]

    def meet(number: int) -> Any:
        def run(arguments: Any) -> ToolOutcome:
            started[number].set()
            # Each waits for the next one: only possible when all are under way at once.
            assert started[(number + 1) % 3].wait(PATIENCE_S)
            return ToolOutcome(Action.ASK_LLM, str(number))

        return run

    box = Toolbox(FixedTools("x", [tool(f"t{number}", meet(number)) for number in range(3)]))

    outcomes = box.call_many([call(f"t{number}") for number in (2, 0, 1)], context())

    assert [outcome.text for outcome in outcomes] == ["2", "0", "1"]


def test_more_calls_than_may_run_at_once_are_all_made() -> None:
    under_way = most = 0

    def work(arguments: Any) -> ToolOutcome:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        gevent.sleep(0)
        under_way -= 1
        return ToolOutcome(Action.ASK_LLM, str(arguments["n"]))

    box = Toolbox(FixedTools("x", [tool("t", work)]), limits=ToolLimits(parallel=3))

    outcomes = box.call_many([ToolCall(str(n), "t", {"n": n}) for n in range(10)], context())

    assert [outcome.text for outcome in outcomes] == [str(n) for n in range(10)]
    assert most == 3


def test_one_failing_call_does_not_harm_its_neighbours() -> None:
    def fail(arguments: Any) -> ToolOutcome:
        raise ValueError

    box = Toolbox(FixedTools("x", [tool("bad", fail), tool("good")]))

    outcomes = box.call_many([call("bad"), call("none"), call("good")], context())

    assert [outcome.action for outcome in outcomes] == [Action.ERROR, Action.NOT_FOUND, Action.ASK_LLM]
    assert box.call_many([], context()) == []


def test_killing_the_caller_of_many_ends_them_all(gate: Event) -> None:
    ended: list[int] = []

    def work(arguments: Any) -> ToolOutcome:
        try:
            gate.wait(PATIENCE_S)
        finally:
            ended.append(1)
        return ToolOutcome(Action.NOTHING)

    box = Toolbox(FixedTools("x", [tool("t", work)]))
    turn = tasks.spawn("turn", box.call_many, [call("t")] * 3, context())
    gevent.sleep(0)
    gevent.sleep(0)

    turn.kill()
    gevent.sleep(0)

    assert len(ended) == 3


def test_calls_are_observed_by_source_and_outcome() -> None:
    seen: list[tuple[str, Action]] = []
    box = Toolbox(
        FixedTools("plugins", [tool("t")]), observe=lambda source, seconds, action: seen.append((source, action))
    )

    box.call(call("t"), context())
    box.call(call("unknown"), context())

    assert seen == [("plugins", Action.ASK_LLM), ("none", Action.NOT_FOUND)]
