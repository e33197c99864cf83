"""Things of the house by name, and what the offline rules answer about sums and days: from the sentence to the call or
the words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.inference import InlineInference
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.offline_days import day_of
from xiaozhi.providers.families.offline_sums import result_of, result_words
from xiaozhi.providers.llm.offline import OfflineLlm, OfflineLlmOptions

CONFIG = Path(__file__).resolve().parents[2] / "config"
NOW = datetime(2026, 11, 20, 15, 5, tzinfo=timezone(timedelta(hours=8)))
TODAY = date(2026, 11, 20)


def tool(name: str, description: str = "", **properties: Any) -> ToolSpec:
    return ToolSpec(name, description, {"type": "object", "properties": properties})


LAMP = tool("lamp_turn_on", "desk lamp 台灯"), tool("lamp_turn_off", "desk lamp 台灯")
FAN = tool("self_fan_set_power", "风扇开关", on={"type": "boolean"})
POSITION = tool("self_light_set_position", "where the light is")
HOUSE = tool("hass_set_state", "", entity_id={"type": "string"}, state={"type": "object"})
SYSTEM = "You are kind. Things:\n客厅,灯,light.living_room\n卧室，窗帘，cover.bedroom\nkitchen,light,light.kitchen"
TIMERS = tool("set_reminder", when={"type": "string"}, text={"type": "string"}, kind={"type": "string"})
MUSIC = tool("play_music", song_name={"type": "string"})


@pytest.fixture(scope="module")
def llm() -> OfflineLlm:
    services = Services(inference=InlineInference(), config_dir=CONFIG, now=lambda: NOW)  # type: ignore[arg-type]
    return OfflineLlm(OfflineLlmOptions(), services, chance=random.Random(1))


def answer(llm: OfflineLlm, text: str, tools: Sequence[ToolSpec] = (), done: str = "", said: str = "") -> Any:
    """(tool, arguments), or the words; `done`: the result of the call that was made."""
    messages = [Message("system", SYSTEM)]
    messages += [Message("assistant", said)] if said else []
    messages.append(Message("user", text))
    if done:
        call = ToolCall("1", tools[0].name, {})
        messages += [Message("assistant", "", tool_calls=(call,)), Message("tool", done, tool_call_id="1")]
    made = list(llm.chat(messages, tools, CallContext()))
    if isinstance(made[0], ToolCall):
        return made[0].name, dict(made[0].arguments)
    return "".join(map(str, made))


@pytest.mark.parametrize(
    "text, tools, call",
    [
        ("turn on the lamp", LAMP, ("lamp_turn_on", {})),
        ("please switch the desk light off", LAMP, ("lamp_turn_off", {})),
        ("打开台灯", (*LAMP, HOUSE), ("lamp_turn_on", {})),
        ("把灯关掉", LAMP, ("lamp_turn_off", {})),
        ("大开体等", LAMP, ("lamp_turn_on", {})),
        ("turn the fan on", (FAN, POSITION), ("self_fan_set_power", {"on": True})),
        ("关掉风扇", [FAN], ("self_fan_set_power", {"on": False})),
        ("打开客厅的灯", [HOUSE], ("hass_set_state", {"entity_id": "light.living_room", "state": {"type": "turn_on"}})),
        (
            "turn off the living room light",
            (HOUSE, *LAMP),
            ("hass_set_state", {"entity_id": "light.living_room", "state": {"type": "turn_off"}}),
        ),
        ("把充零拉上", [HOUSE], ("hass_set_state", {"entity_id": "cover.bedroom", "state": {"type": "turn_off"}})),
        (
            "半个小时后提醒我喝水",
            [TIMERS],
            ("set_reminder", {"when": "半个小时后", "text": "喝水", "kind": "reminder"}),
        ),
        ("wake me up at half past six", [TIMERS], ("set_reminder", {"when": "at half past six", "kind": "alarm"})),
        ("播放晴天", [MUSIC], ("play_music", {"song_name": "晴天"})),
        ("play some music", [MUSIC], ("play_music", {"song_name": "random"})),
    ],
)
def test_what_is_done(llm: OfflineLlm, text: str, tools: Sequence[ToolSpec], call: Any) -> None:
    assert answer(llm, text, tools) == call


@pytest.mark.parametrize(
    "text, tools, said",
    [
        ("turn on the light", [HOUSE], "Which one do you mean: 客厅灯, kitchen light?"),
        ("打开灯", [HOUSE], "请问是哪一个：客厅灯、kitchen light？"),
        ("open the window", LAMP, "There is no window here that I can control."),
        ("打开空调", (), "这里没有我能控制的空调。"),
        ("turn on the light", [POSITION], "There is no light here that I can control."),
        ("play some music", (), "There is no music on this server."),
        ("what is 15 percent of 80", (), "That is 12."),
        ("十除以三", (), "等于约3.3333。"),
        ("what day is it in three days", (), "That is Monday, November 23rd."),
        ("后天是几号", (), "后天是11月22日，星期日。"),
        ("明天是农历几号", (), "明天是农历十月十三。"),
        ("离圣诞节还有几天", (), "离圣诞节还有35天。"),
        ("say that again", (), "I have not said anything yet."),
        ("再说一遍", (), "我还没有说过话。"),
    ],
)
def test_what_is_answered(llm: OfflineLlm, text: str, tools: Sequence[ToolSpec], said: str) -> None:
    assert answer(llm, text, tools) == said


def test_what_was_said_is_said_again(llm: OfflineLlm) -> None:
    assert answer(llm, "could you repeat that", said="It is 3 PM.") == "It is 3 PM."


@pytest.mark.parametrize("result, said", [("true", "The lamp is on."), ("error: it does not", "did not manage")])
def test_a_thing_is_confirmed_or_not(llm: OfflineLlm, result: str, said: str) -> None:
    assert said in answer(llm, "turn on the lamp", LAMP, done=result)


@pytest.mark.parametrize(
    "text, hint", [("turn on the coffee machine", "LLM"), ("打开小火车", "大模型"), ("讲讲历史", "大模型")]
)
def test_what_it_cannot_do_it_says_in_one_sentence(llm: OfflineLlm, text: str, hint: str) -> None:
    said = answer(llm, text, LAMP)
    assert hint in said and sum(said.count(mark) for mark in ".。!！?？") == 1


@pytest.mark.parametrize(
    "text, result",
    [
        ("3 plus 5", "8"), ("three plus five times two", "13"), ("15% of 80", "12"), ("80的百分之15", "12"),
        ("square root of 81", "9"), ("根号二", "1.4142"), ("2 to the power of 8", "256"), ("二的十次方", "1024"),
        ("一千加两千五", "3500"), ("三万五乘二", "70000"), ("三点五加二", "5.5"), ("half of ten", "5"),
        ("two thousand five hundred plus one", "2501"), ("7 - 10", "minus 3"), ("1,000 + 1", "1001"),
        ("one third", None), ("5", None), ("minus 5", None), ("5 / 0", None), ("9 ^ 9999", None), ("四加加五", None),
        ("两加", None), ("square root of minus 4", None), ("+" * 200, None), ("1+" * 20 + "1", None),
    ],
)  # fmt: skip
def test_sums(text: str, result: str | None) -> None:
    value = result_of(text)
    assert (result_words(value, chinese=False).removeprefix("about ") if value is not None else None) == result


@pytest.mark.parametrize(
    "text, day",
    [
        ("tomorrow", date(2026, 11, 21)), ("the day after tomorrow", date(2026, 11, 22)),
        ("in a week", date(2026, 11, 27)),
        ("3 days ago", date(2026, 11, 17)), ("a month from now", date(2026, 12, 20)),
        ("next friday", date(2026, 11, 27)),
        ("friday", TODAY), ("last monday", date(2026, 11, 9)), ("大后天", date(2026, 11, 23)),
        ("三天后", date(2026, 11, 23)),
        ("两个星期以后", date(2026, 12, 4)), ("下周五", date(2026, 11, 27)), ("周日", date(2026, 11, 22)),
        ("一年前", date(2025, 11, 20)), ("new year", date(2027, 1, 1)), ("in 9999 years", None), ("3天", None),
        ("in days", None), ("", None), ("x" * 100, None),
    ],
)  # fmt: skip
def test_days(text: str, day: date | None) -> None:
    assert day_of(text, TODAY) == day
