"""Calls that outlast patience: when they become late, how many may, and how they end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from tests.tools.fakes import call, context, tool
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import ToolError
from xiaozhi.tools.base import Action, FixedTools, ToolOutcome
from xiaozhi.tools.late_calls import (
    MAX_OF_A_DEVICE,
    STOPPED,
    LateAnswering,
    LateCalls,
    LateResult,
    LateSource,
)
from xiaozhi.tools.toolbox import Toolbox, ToolLimits

SOON = 0.02
DEVICE = context().device_id


class Teller:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended: list[LateResult | None] = []

    def begins(self) -> None:
        self.begun += 1

    def ends(self, result: LateResult | None) -> None:
        self.ended.append(result)

    def wait(self, count: int = 1) -> list[LateResult | None]:
        wait_for(lambda: len(self.ended) >= count, "the end of late calls")
        return self.ended


class Slow:
    """A tool that waits for `gate`; `runs`: how often it was begun."""

    def __init__(self) -> None:
        self.gate = Event()
        self.runs = 0
        self.outcome: ToolOutcome | Exception = ToolOutcome(Action.ASK_LLM, "42")

    def __call__(self, arguments: Any) -> ToolOutcome:
        self.runs += 1
        self.gate.wait(PATIENCE_S)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def slow() -> Iterator[Slow]:
    made = Slow()
    yield made
    made.gate.set()
    gevent.sleep(0)


@pytest.fixture
def calls() -> Iterator[LateCalls]:
    made = LateCalls()
    yield made
    made.stop(PATIENCE_S)


@pytest.fixture
def teller() -> Teller:
    return Teller()


NUMBERED = {"type": "object", "properties": {"n": {"type": "integer"}}}


def toolbox(
    calls: LateCalls, teller: Teller, function: Any, *, patience: float = 30.0, limit: float = 30.0, **options: Any
) -> Toolbox:
    late = LateAnswering(calls, teller, SOON, limit)
    source = FixedTools("a", [tool("find", function, parameters=NUMBERED, **options)])
    return Toolbox(source, LateSource(calls, DEVICE), limits=ToolLimits(call_timeout=patience), late=late)


def test_a_quick_tool_is_waited_for(calls: LateCalls, teller: Teller) -> None:
    box = toolbox(calls, teller, lambda arguments: ToolOutcome(Action.SPEAK, "at once"), late_after=PATIENCE_S)

    assert box.call(call("find"), context()).text == "at once"
    assert (teller.begun, len(calls)) == (0, 0)


def test_a_slow_tool_goes_on_and_its_result_is_told_later(calls: LateCalls, teller: Teller, slow: Slow) -> None:
    box = toolbox(calls, teller, slow)

    outcome = box.call(call("find", n=1), context("zh"))

    assert outcome.action is Action.ASK_LLM
    assert "goes on in the background" in outcome.text
    assert (teller.begun, teller.ended, calls.of_device(DEVICE)) == (1, [], 1)
    slow.gate.set()
    [result] = teller.wait()
    assert result is not None
    assert (result.outcome.text, result.call.arguments, result.language) == ("42", {"n": 1}, "zh")
    wait_for(lambda: len(calls) == 0, "it to be forgotten")


def test_a_late_failure_is_a_result_too(calls: LateCalls, teller: Teller, slow: Slow) -> None:
    slow.outcome = ToolError("the library is closed")
    toolbox(calls, teller, slow).call(call("find"), context())

    slow.gate.set()

    [result] = teller.wait()
    assert result is not None
    assert (result.outcome.action, result.outcome.text) == (Action.ERROR, "the library is closed")


def test_a_late_call_has_a_longest_life(calls: LateCalls, teller: Teller, slow: Slow) -> None:
    toolbox(calls, teller, slow, patience=1.5 * SOON, limit=2 * SOON).call(call("find"), context())

    [result] = teller.wait()

    assert result is not None
    assert "gave no result within 0.04 seconds" in result.outcome.text


def test_a_timeout_of_its_own_stays_the_longest_life_of_a_tool(calls: LateCalls, teller: Teller, slow: Slow) -> None:
    toolbox(calls, teller, slow, timeout=2 * SOON).call(call("find"), context())

    [result] = teller.wait()

    assert result is not None
    assert "within 0.04 seconds" in result.outcome.text


@pytest.mark.parametrize("options", [{"late_after": 0}, {"timeout": SOON}, {"uninterruptible": True, "timeout": SOON}])
def test_tools_that_are_never_late(calls: LateCalls, teller: Teller, slow: Slow, options: dict[str, Any]) -> None:
    """Those that say so, those that give up before, and those that nobody waits for anyway."""
    box = toolbox(calls, teller, slow, patience=2 * SOON, **options)

    assert box.call(call("find"), context()).action is Action.ERROR
    assert teller.begun == 0


def test_what_goes_on_is_not_begun_again(calls: LateCalls, teller: Teller, slow: Slow) -> None:
    box = toolbox(calls, teller, slow)
    box.call(call("find", n=1), context())

    again = box.call(call("find", n=1), context(session_id="the next session"))
    other = box.call(call("find", n=2), context())

    assert "do not call it again" in again.text
    assert other.action is Action.ASK_LLM
    assert slow.runs == 2
    assert calls.of_device(DEVICE) == 2


def test_only_so_many_go_on_and_the_others_are_waited_for(calls: LateCalls, teller: Teller, slow: Slow) -> None:
    box = toolbox(calls, teller, slow, patience=2 * SOON)

    outcomes = [box.call(call("find", n=number), context()) for number in range(MAX_OF_A_DEVICE + 1)]

    assert [outcome.action for outcome in outcomes] == [Action.ASK_LLM] * MAX_OF_A_DEVICE + [Action.ERROR]
    assert calls.of_device(DEVICE) == MAX_OF_A_DEVICE


def test_an_interrupted_turn_takes_along_what_is_not_late_yet(calls: LateCalls, teller: Teller) -> None:
    begun, ended = Event(), Event()

    def wait(arguments: Any) -> ToolOutcome:
        begun.set()
        try:
            Event().wait(10 * PATIENCE_S)
        finally:
            ended.set()
        return ToolOutcome(Action.NOTHING)

    box = toolbox(calls, teller, wait, late_after=PATIENCE_S / 2, patience=PATIENCE_S)
    turn = gevent.spawn(box.call, call("find"), context())
    assert begun.wait(PATIENCE_S)
    turn.kill()

    assert ended.wait(PATIENCE_S)
    assert teller.begun == 0


def test_an_interrupted_turn_leaves_a_late_call_alone(calls: LateCalls, teller: Teller, slow: Slow) -> None:
    turn = gevent.spawn(toolbox(calls, teller, slow).call, call("find"), context())
    wait_for(lambda: teller.begun == 1, "the call to be late")
    turn.kill()

    slow.gate.set()

    assert teller.wait()[0] is not None


def test_the_user_may_give_up_what_goes_on(calls: LateCalls, teller: Teller, slow: Slow) -> None:
    box = toolbox(calls, teller, slow)
    assert [spec.name for spec in box.specs()] == ["find"]
    box.call(call("find"), context())
    assert [spec.name for spec in box.specs()] == ["find", "cancel_late_answers"]

    outcome = box.call(call("cancel_late_answers"), context())

    assert outcome.text.startswith("1 given up")
    assert teller.wait() == [None]
    wait_for(lambda: [spec.name for spec in box.specs()] == ["find"], "the offer to end")


def test_a_server_that_stops_tells_what_it_gives_up(calls: LateCalls, teller: Teller, slow: Slow) -> None:
    box = toolbox(calls, teller, slow, patience=2 * SOON)
    box.call(call("find"), context())

    assert calls.stop(PATIENCE_S)

    [result] = teller.ended
    assert result is not None
    assert result.outcome == ToolOutcome(Action.ERROR, STOPPED.format(tool="find"))
    assert box.call(call("find"), context()).action is Action.ERROR, "from now on nothing becomes late"
