"""Timers, alarms and reminders by voice: what the tools make of a call, and what they say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.databases import opened
from tests.fakes.clock import FakeClock
from tests.tools.fakes import RecordingActions, call
from xiaozhi.devices.messages import DeviceMessage, MessageResult, MessageState
from xiaozhi.reminders.book import MAX_PER_DEVICE, ReminderBook
from xiaozhi.reminders.scheduler import ReminderScheduler
from xiaozhi.tools.base import Action, ToolContext, ToolOutcome, ToolServices
from xiaozhi.tools.registry import select
from xiaozhi.tools.toolbox import Toolbox

SHANGHAI = ZoneInfo("Asia/Shanghai")
DEVICE = "11:22:33:44:55:66"


class Spoken:
    """A MessageSender whose messages are heard at once."""

    def send(self, message: DeviceMessage, *, wait_s: float = 0.0) -> MessageResult:
        return MessageResult(message.key, message.device, MessageState.SPOKEN)


class Talk:
    """One device with a user."""

    def __init__(self, book: ReminderBook, scheduler: ReminderScheduler, clock: FakeClock) -> None:
        self.book = book
        self.scheduler = scheduler
        self.clock = clock
        self.box = Toolbox(select(["reminders"], {}).build(ToolServices(reminders=book)).source)

    def call(self, name: str, language: str = "en", user: str = "", **arguments: object) -> ToolOutcome:
        context = ToolContext(DEVICE, "s1", RecordingActions(), language=language, user=user)
        return self.box.call(call(name, **arguments), context)

    def say(self, name: str, language: str = "en", **arguments: object) -> str:
        """What the device says."""
        outcome = self.call(name, language, **arguments)
        assert outcome.action is Action.SPEAK, outcome
        return outcome.text

    def ring(self, seconds: float) -> None:
        """Let time pass, and what is due ring."""
        self.clock.advance(seconds)
        while self.scheduler.look() == 0.0:
            pass


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    clock = FakeClock(datetime(2026, 3, 4, 20, 0, tzinfo=SHANGHAI).timestamp())
    with opened(tmp_path) as database:
        book = ReminderBook(database, zone=lambda: SHANGHAI, clock=clock)
        scheduler = ReminderScheduler(database, Spoken(), zone=lambda: SHANGHAI, clock=clock)
        yield Talk(book, scheduler, clock)


@pytest.mark.parametrize(
    ("arguments", "en", "zh"),
    [
        (
            {"when": "in 10 minutes"},
            "Your timer ends in 10 minutes, today at 8:10 PM.",
            "好的，10分钟后，今天晚上8点10分计时结束。",
        ),
        (
            {"when": "十分钟后", "text": "关火", "kind": "timer"},
            "Your timer for 关火 ends in 10 minutes, today at 8:10 PM.",
            "好的，10分钟后，今天晚上8点10分提醒您关火。",
        ),
        ({"when": "at 7"}, "Your alarm rings tomorrow at 7:00 AM.", "好的，明天早上7点闹钟响。"),
        (
            {"when": "明天早上六点", "kind": "alarm"},
            "Your alarm rings tomorrow at 6:00 AM.",
            "好的，明天早上6点闹钟响。",
        ),
        (
            {"when": "tomorrow at 6", "kind": "alarm"},
            "Your alarm rings tomorrow at 6:00 AM.",
            "好的，明天早上6点闹钟响。",
        ),
        (
            {"when": "tomorrow at half past seven", "text": "Take the pills."},
            "I will remind you tomorrow at 7:30 AM: Take the pills.",
            "好的，明天早上7点半提醒您Take the pills。",
        ),
        (
            {"when": "2026-03-06T15:00:00", "text": "dentist", "kind": "reminder"},
            "I will remind you on Friday, March 6 at 3:00 PM: dentist.",
            "好的，后天下午3点提醒您dentist。",
        ),
        (
            {"when": "every weekday at 7:30", "kind": "alarm"},
            "Your alarm rings every weekday at 7:30 AM, beginning tomorrow at 7:30 AM.",
            "好的，每个工作日早上7点半，第一次是明天早上7点半闹钟响。",
        ),
        ({"when": "tomorrow"}, "At what time?", "请问几点？"),
        ({"when": "下周"}, "On which day?", "请问是哪一天？"),
        (
            {"when": "today at 7 am"},
            "That was today at 7:00 AM, which has passed. When do you mean?",
            "今天早上7点已经过去了，请问是什么时候？",
        ),
    ],
)
def test_what_is_set_is_confirmed_in_words(talk: Talk, arguments: dict[str, str], en: str, zh: str) -> None:
    assert talk.say("set_reminder", **arguments) == en
    assert talk.say("set_reminder", "zh-CN", **arguments) == zh


def test_what_is_no_time_goes_back_to_the_model(talk: Talk) -> None:
    outcome = talk.call("set_reminder", when="tomorrow at 8 to buy milk")

    assert outcome.action is Action.ERROR
    assert "'buy milk'" in outcome.text
    assert "it is 2026-03-04T20:00+08:00 now" in outcome.text
    assert talk.book.coming(DEVICE) == []


def test_the_kind_follows_from_what_was_said(talk: Talk) -> None:
    talk.say("set_reminder", when="in 5 minutes")
    talk.say("set_reminder", when="in 6 minutes", kind="reminder")
    talk.say("set_reminder", when="in 7 minutes", text="tea")
    talk.say("set_reminder", when="tomorrow at 7 am")
    talk.say("set_reminder", when="tomorrow at 8 am", kind="reminder")

    assert [row.kind for row in talk.book.coming(DEVICE)] == ["timer", "timer", "reminder", "alarm", "alarm"]


def test_the_list_has_numbers(talk: Talk) -> None:
    assert talk.call("list_reminders").text == "There are no timers, alarms or reminders."
    assert talk.call("list_reminders", "zh-CN").text == "没有设置任何计时器、闹钟或提醒。"
    talk.say("set_reminder", when="tomorrow at 8 am", text="call mum")
    talk.say("set_reminder", when="every day at 7 am", kind="alarm")

    listed = talk.call("list_reminders")
    assert listed.action is Action.ASK_LLM
    assert listed.text == "1. alarm every day at 7:00 AM\n2. reminder tomorrow at 8:00 AM: call mum"
    assert talk.call("list_reminders", "zh-CN").text == "1. 每天早上7点的闹钟\n2. 明天早上8点的提醒：call mum"
    for _ in range(10):
        talk.say("set_reminder", when="in 2 hours")
    assert talk.call("list_reminders").text.endswith("\nAnd 2 more.")


def test_one_of_several_is_named_by_its_number_its_words_its_kind_or_its_time(talk: Talk) -> None:
    for when, text in (("tomorrow at 7 am", ""), ("tomorrow at 8 am", ""), ("tomorrow at 9 am", "call mum")):
        talk.say("set_reminder", when=when, text=text)
    talk.say("set_reminder", when="in 10 minutes")

    question = talk.say("cancel_reminder")
    assert question.startswith("Which one do you mean? 1. timer today at 8:10 PM; 2. alarm tomorrow at 7:00 AM; ")
    assert talk.say("cancel_reminder", which="alarm").startswith("Which one do you mean? 2. alarm")
    assert talk.say("cancel_reminder", which="the 7 o'clock alarm") == "Cancelled: alarm tomorrow at 7:00 AM."
    assert talk.say("cancel_reminder", which="the timer") == "Cancelled: timer today at 8:10 PM."
    assert talk.say("cancel_reminder", which="call mum") == "Cancelled: reminder tomorrow at 9:00 AM: call mum."
    assert talk.say("cancel_reminder", "zh-CN", which="1") == "已取消：明天早上8点的闹钟。"
    assert talk.say("cancel_reminder") == "There are no timers, alarms or reminders."


def test_all_of_them_can_be_cancelled(talk: Talk) -> None:
    for when in ("in 10 minutes", "in 20 minutes"):
        talk.say("set_reminder", when=when)

    assert talk.say("cancel_reminder", which="all") == "All 2 are cancelled."
    assert talk.book.coming(DEVICE) == []


def test_time_and_text_can_be_changed(talk: Talk) -> None:
    talk.say("set_reminder", when="tomorrow at 8 am", text="call mum")

    assert talk.say("change_reminder", when="tomorrow at 9 am") == "Changed: reminder tomorrow at 9:00 AM: call mum."
    assert (
        talk.say("change_reminder", which="mum", text="call dad") == "Changed: reminder tomorrow at 9:00 AM: call dad."
    )
    assert talk.say("change_reminder", "zh-CN", when="明天") == "请问几点？"
    assert talk.call("change_reminder").action is Action.ERROR
    [row] = talk.book.coming(DEVICE)
    assert row.text == "call dad"


def test_what_rings_is_stopped_or_put_off(talk: Talk) -> None:
    assert talk.say("snooze_reminder") == "Nothing has rung a moment ago."
    talk.say("set_reminder", when="in 10 minutes")
    talk.say("set_reminder", when="tomorrow at 8 am")
    talk.ring(600)

    assert talk.say("snooze_reminder", minutes=5) == "I will come back to it today at 8:15 PM."
    talk.ring(300)
    assert talk.say("cancel_reminder") == "All right, it is off."
    assert [row.kind for row in talk.book.coming(DEVICE)] == ["alarm"]
    talk.ring(60)
    assert talk.say("snooze_reminder", "zh-CN") == "好的，10分钟后再提醒您，今天晚上8点26分。"


def test_another_user_of_the_device_neither_hears_of_them_nor_cancels_them(talk: Talk) -> None:
    talk.say("set_reminder", when="tomorrow at 8 am", text="the surprise")

    assert "no timers" in talk.call("list_reminders", user=f"{DEVICE}@stranger").text
    talk.call("cancel_reminder", user=f"{DEVICE}@stranger", which="all")
    assert len(talk.book.coming(DEVICE)) == 1


def test_there_is_a_bound(talk: Talk) -> None:
    for _ in range(MAX_PER_DEVICE):
        talk.say("set_reminder", when="in 2 hours")

    assert talk.say("set_reminder", when="in 2 hours").startswith(f"There are {MAX_PER_DEVICE} already")
    assert "提醒已满" in talk.say("set_reminder", "zh-CN", when="in 2 hours")


def test_where_none_are_kept_the_model_is_told(talk: Talk) -> None:
    box = Toolbox(select(["reminders"], {}).build(ToolServices()).source)
    context = ToolContext(DEVICE, "s1", RecordingActions())

    assert box.call(call("set_reminder", when="in 10 minutes"), context).action is Action.ERROR
