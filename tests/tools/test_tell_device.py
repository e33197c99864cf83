"""Telling other devices something by voice."""

from __future__ import annotations

import pytest

from tests.tools.fakes import call, context
from xiaozhi.errors import ToolError
from xiaozhi.tools.base import Action, ToolOutcome, ToolServices
from xiaozhi.tools.household import AskingDevice, NoOtherDevices, Told, ToldWhen
from xiaozhi.tools.plugins.tell_device import said
from xiaozhi.tools.registry import select
from xiaozhi.tools.toolbox import Toolbox


class FakeHousehold(NoOtherDevices):
    """Only the kitchen is known."""

    def __init__(self) -> None:
        self.told: list[tuple[AskingDevice, str, str]] = []

    def tell(self, asker: AskingDevice, to: str, text: str) -> list[Told]:
        if to != "kitchen":
            raise ToolError("No device goes by that name. Names: Kitchen.")
        self.told.append((asker, to, text))
        return [Told("Kitchen", ToldWhen.NOW)]


def tell(others: NoOtherDevices, language: str = "en", **arguments: str) -> ToolOutcome:
    services = ToolServices(others=others)
    chosen = select(["tell_device"], {})
    return Toolbox(chosen.build(services).source).call(call("tell_device", **arguments), context(language))


def test_the_other_device_is_told_and_the_user_hears_of_it() -> None:
    household = FakeHousehold()
    outcome = tell(household, to="kitchen", message=" dinner is ready ")
    assert (outcome.action, outcome.text) == (Action.SPEAK, "I have told Kitchen.")
    [(asker, to, text)] = household.told
    assert (asker.device_id, to, text) == (context().device_id, "kitchen", "dinner is ready")


def test_what_cannot_be_told() -> None:
    unknown = tell(FakeHousehold(), to="attic", message="hello")
    assert unknown.action is Action.ERROR and "Names: Kitchen" in unknown.text
    assert tell(FakeHousehold(), to="kitchen", message="  ").action is Action.ERROR
    assert tell(NoOtherDevices(), to="kitchen", message="hello").action is Action.ERROR


@pytest.mark.parametrize(
    ("when", "en", "zh"),
    [
        (ToldWhen.NOW, "I have told A.", "已经告诉A了。"),
        (ToldWhen.WHEN_BACK, "A is away; I will pass it on later.", "A现在不在线，等回来了我会转告。"),
        (
            ToldWhen.AFTER_QUIET_HOURS,
            "A has quiet hours now; I will pass it on afterwards.",
            "A现在是免打扰时间，结束后我会转告。",
        ),
        (ToldWhen.NEVER, "I could not tell A.", "没能告诉A。"),
    ],
)
def test_how_it_is_said(when: ToldWhen, en: str, zh: str) -> None:
    assert (said([Told("A", when)], chinese=False), said([Told("A", when)], chinese=True)) == (en, zh)


def test_many_are_counted_and_fates_are_told_apart() -> None:
    told = [Told(name, ToldWhen.NOW) for name in "ABCDE"] + [Told("F", ToldWhen.WHEN_BACK)]
    assert said(told, chinese=False) == "I have told A, B, C, D and 1 more. F is away; I will pass it on later."
    assert said(told, chinese=True).startswith("已经告诉A、B、C、D等5台设备了。")
