"""Calls from device to device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.tools.fakes import call, context, recorded
from xiaozhi.tools.base import Action, ToolContext, ToolOutcome, ToolServices
from xiaozhi.tools.calls import AddressBook, Rung, nobody_is_there
from xiaozhi.tools.household import AskingDevice, NoOtherDevices, OtherDevices, Told
from xiaozhi.tools.registry import select
from xiaozhi.tools.toolbox import Toolbox

HERE, THERE = "11:22:33:44:55:66", "aa:bb:cc:dd:ee:ff"
KITCHEN = "aa:bb:cc:dd:ee:01"
BOOK = {"小陈": "AA-BB-CC-DD-EE-FF", "Granny": HERE}


class FakeRing:
    """Every call has the same fate."""

    def __init__(self, fate: Rung = Rung.RINGS) -> None:
        self.fate = fate
        self.calls: list[tuple[str, Mapping[str, str]]] = []

    def __call__(self, device_id: str, words: Mapping[str, str]) -> Rung:
        self.calls.append((device_id, words))
        return self.fate


def ask(
    ring: FakeRing,
    language: str = "en",
    *,
    book: AddressBook | None = None,
    devices: Mapping[str, str] = BOOK,
    called: bool = False,
    made: ToolContext | None = None,
    others: OtherDevices | None = None,
    **arguments: Any,
) -> ToolOutcome:
    made = made or context(language)
    recorded(made).called = called
    chosen = select(["call_device"], {"call_device": {"devices": dict(devices)}})
    services = ToolServices(ring=ring, address_book=book, others=others or NoOtherDevices())
    return Toolbox(chosen.build(services).source).call(call("call_device", **arguments), made)


def test_the_device_that_is_called_says_who_calls_and_what_for() -> None:
    ring = FakeRing()

    outcome = ask(ring, nickname=" 小陈 ", message="dinner is ready")
    ask(ring, nickname="小陈")

    assert outcome.action is Action.SPEAK
    assert ring.calls == [
        (THERE, {"zh": "Granny来电：dinner is ready", "en": "Granny calls: dinner is ready"}),
        (THERE, {"zh": "Granny正在呼叫您。", "en": "Granny is calling you."}),
    ]


def test_a_caller_without_a_name() -> None:
    ring = FakeRing()

    ask(ring, devices={"小陈": THERE}, nickname="小陈")

    assert ring.calls[0][1]["en"] == "Another device is calling you."


@pytest.mark.parametrize(
    ("fate", "en", "zh"),
    [(Rung.RINGS, "have called", "已呼叫"), (Rung.BUSY, "is busy", "正忙"), (Rung.AWAY, "not online", "不在线")],
)
def test_the_caller_is_told_in_words_what_became_of_it(fate: Rung, en: str, zh: str) -> None:
    assert en in ask(FakeRing(fate), nickname="小陈").text
    assert zh in ask(FakeRing(fate), "zh-CN", nickname="小陈").text
    assert nobody_is_there(THERE, {}) is Rung.AWAY


@pytest.mark.parametrize(("nickname", "word"), [("Grandpa", "nobody called 'Grandpa'"), ("granny", "this very device")])
def test_nobody_is_called_who_is_not_there_to_be_called(nickname: str, word: str) -> None:
    ring = FakeRing()

    outcome = ask(ring, nickname=nickname)

    assert outcome.action is Action.ERROR
    assert word in outcome.text
    assert ring.calls == []


@dataclass(frozen=True)
class Placed:
    ringing: bool
    said: str = ""


class FakeConsole:
    """Places calls, or does not."""

    def __init__(self, outcome: Placed) -> None:
        self.outcome = outcome
        self.asked: list[tuple[str, ...]] = []

    def look_up(self, device_id: str, nickname: str) -> Placed:
        self.asked.append(("call", device_id, nickname))
        return self.outcome

    def answer(self, device_id: str) -> Placed:
        self.asked.append(("answer", device_id))
        return self.outcome


def test_under_a_console_the_console_places_the_call() -> None:
    ring, console = FakeRing(), FakeConsole(Placed(True))

    assert ask(ring, book=console, nickname="Bob").action is Action.NOTHING
    assert ask(ring, book=console, nickname="Bob", called=True).action is Action.NOTHING
    assert console.asked == [("call", HERE, "Bob"), ("answer", HERE)]
    assert ring.calls == []


@pytest.mark.parametrize(
    ("rings", "called", "stays_open"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_the_line_stays_open_for_whoever_has_called(rings: bool, called: bool, stays_open: bool) -> None:
    made = context()

    ask(FakeRing(), book=FakeConsole(Placed(rings)), called=called, made=made, nickname="Bob")

    assert recorded(made).line_open is stays_open


def test_what_the_console_says_of_a_call_that_failed_is_spoken() -> None:
    refused = ask(FakeRing(), book=FakeConsole(Placed(False, "未找到备注为'Bob'的设备")), nickname="Bob")
    silent = ask(FakeRing(), book=FakeConsole(Placed(False)), nickname="Bob")

    assert (refused.action, refused.text) == (Action.SPEAK, "未找到备注为'Bob'的设备")
    assert (silent.action, silent.text) == (Action.SPEAK, "The call did not go through.")


class FakeHousehold:
    """A device called Kitchen."""

    def tell(self, asker: AskingDevice, to: str, text: str) -> list[Told]:
        raise AssertionError("nobody asked for that")

    def called(self, asker: AskingDevice, name: str) -> str:
        return KITCHEN if name == "kitchen" else ""

    def name_of(self, device_id: str) -> str:
        return "Hall"


def test_names_of_the_console_count_besides_those_of_the_list() -> None:
    ring = FakeRing()

    assert ask(ring, devices={}, others=FakeHousehold(), nickname="kitchen").text == "I have called kitchen."
    assert ask(ring, devices={}, others=FakeHousehold(), nickname="attic").action is Action.ERROR
    assert ring.calls == [(KITCHEN, {"zh": "Hall正在呼叫您。", "en": "Hall is calling you."})]


def test_a_list_that_cannot_be_used_is_told() -> None:
    assert select(["call_device"], {}).warnings == (), "devices may have names in the console"
    [fault] = select(["call_device"], {"call_device": {"devices": {"x": "a/b"}}}).faults
    assert fault.key == "plugins.call_device.devices"


def test_the_model_knows_the_names() -> None:
    chosen = select(["call_device"], {"call_device": {"devices": BOOK}})
    [spec] = [spec for spec in Toolbox(chosen.build(ToolServices()).source).specs() if spec.name == "call_device"]
    assert "小陈, Granny" in spec.parameters["properties"]["nickname"]["description"]
