"""Who rings what is due: one database, one or two workers, a clock that the tests move."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.databases import opened
from tests.fakes.alarm import FakeAlarm
from tests.fakes.clock import FakeClock
from tests.waiting import wait_for
from xiaozhi.devices.messages import DeviceMessage, MessageResult, MessageState
from xiaozhi.errors import Overloaded
from xiaozhi.reminders.book import MAX_PER_DEVICE, ReminderBook
from xiaozhi.reminders.ringing import ReminderKind
from xiaozhi.reminders.scheduler import CHECK_S, LEASE_S, ReminderScheduler
from xiaozhi.reminders.understanding import When, understand
from xiaozhi.storage.database import Database
from xiaozhi.storage.reminders import ReminderRow

ANNA, BEN = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
BERLIN = ZoneInfo("Europe/Berlin")


class Die(BaseException):
    """The process ends here."""


class FakeSender:
    """A MessageSender shared by all workers: of two messages with one key the first counts."""

    def __init__(self) -> None:
        self.sent: list[DeviceMessage] = []
        self.state = MessageState.SPOKEN
        self.error: BaseException | None = None

    def send(self, message: DeviceMessage, *, wait_s: float = 0.0) -> MessageResult:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if message.key not in [known.key for known in self.sent]:
            self.sent.append(message)
        return MessageResult(message.key, message.device, self.state)

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.sent]


class House:
    """A database, its book, and workers that look when told."""

    def __init__(self, database: Database) -> None:
        self.clock = FakeClock(datetime(2026, 3, 4, 20, 0, tzinfo=BERLIN).timestamp())
        self.zone = BERLIN
        self.database = database
        self.sender = FakeSender()
        self.due: list[str] = []
        self.book = ReminderBook(database, zone=lambda: self.zone, clock=self.clock)

    def worker(self, alarm: FakeAlarm | None = None) -> ReminderScheduler:
        return ReminderScheduler(
            self.database,
            self.sender,
            zone=lambda: self.zone,
            on_due=self.due.append,
            clock=self.clock,
            alarm=alarm,
        )

    def set(self, words: str, text: str = "", *, kind: str = "", chinese: bool = False) -> ReminderRow:
        found = understand(words, self.book.now())
        assert isinstance(found, When), found
        chosen = ReminderKind(kind or ("reminder" if text else "timer" if found.span else "alarm"))
        row = self.book.set(ANNA, ANNA, chosen, found, text=text, chinese=chinese)
        assert row is not None
        return row

    def go_to(self, local: str) -> None:
        self.clock.now = datetime.fromisoformat(local).replace(tzinfo=self.zone).timestamp()

    def coming(self) -> list[str]:
        return [
            datetime.fromtimestamp(row.due_at, self.zone).isoformat(timespec="minutes")
            for row in self.book.coming(ANNA)
        ]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with opened(tmp_path) as database:
        yield House(database)


def look(worker: ReminderScheduler) -> float:
    """Until nothing is due any more."""
    while (pause := worker.look()) == 0.0:
        pass
    return pause


# --- one worker -------------------------------------------------------------------------------------------------------


def test_a_timer_rings_when_its_time_has_come(house: House) -> None:
    worker = house.worker()
    house.set("in 10 minutes")

    assert look(worker) == CHECK_S and house.sender.sent == []
    assert worker.waiting == 1
    house.clock.advance(595)
    assert look(worker) == 5.0
    house.clock.advance(5)
    look(worker)

    [message] = house.sender.sent
    assert message.text == "Time is up, your timer has ended."
    assert (message.device, message.sender, message.in_quiet_hours, message.interrupts) == (
        ANNA,
        "reminder",
        True,
        True,
    )
    assert message.late_text == "Sorry, this is late. You had a timer on Wednesday, March 4 at 8:10 PM."
    assert message.expires_at - message.due_at == 3600
    assert house.due == ["on_time"]


def test_a_reminder_waits_for_a_pause_and_is_good_for_days(house: House) -> None:
    worker = house.worker()
    house.set("明天早上八点", "吃药。", chinese=True)
    house.go_to("2026-03-05T08:00")
    look(worker)

    [message] = house.sender.sent
    assert (message.text, message.interrupts) == ("提醒您：吃药。", False)
    assert message.late_text == "抱歉，晚了：您有一个3月5日星期四早上8点的提醒：吃药。"
    assert message.expires_at - message.due_at == 7 * 86400
    assert house.coming() == []


@pytest.mark.parametrize("state", [MessageState.SPOKEN, MessageState.SENT])
def test_an_alarm_is_repeated_once_when_nobody_answers(house: House, state: MessageState) -> None:
    worker = house.worker()
    house.sender.state = state
    house.set("tomorrow at 7 am")
    house.go_to("2026-03-05T07:00")
    look(worker)
    for _ in range(5):
        house.clock.advance(60)
        look(worker)

    assert house.sender.texts == ["It is 7:00 AM, this is your alarm."] * 2
    assert house.due == ["on_time"]


@pytest.mark.parametrize("state", [MessageState.WAITING, MessageState.SPEAKING, MessageState.INTERRUPTED])
def test_an_alarm_that_nobody_heard_or_somebody_silenced_is_not_repeated(house: House, state: MessageState) -> None:
    worker = house.worker()
    house.sender.state = state
    house.set("tomorrow at 7 am")
    house.go_to("2026-03-05T07:00")
    look(worker)
    house.clock.advance(60)
    look(worker)

    assert len(house.sender.sent) == 1


def test_who_speaks_has_heard_it_even_to_another_worker(house: House) -> None:
    ringing, other = house.worker(), house.worker()
    house.set("tomorrow at 7 am")
    house.go_to("2026-03-05T07:00")
    look(ringing)
    house.clock.advance(10)
    other.spoke(ANNA.upper())
    look(other)
    house.clock.advance(50)
    look(ringing)
    look(other)

    assert len(house.sender.sent) == 1
    assert house.book.coming(ANNA) == []


def test_what_repeats_comes_again(house: House) -> None:
    worker = house.worker()
    house.set("every weekday at 7 am", kind="reminder", text="school")
    for day in ("05", "06", "07", "08", "09"):
        house.go_to(f"2026-03-{day}T07:00")
        look(worker)

    assert house.due == ["on_time"] * 3  # Thursday, Friday, Monday
    assert house.coming() == ["2026-03-10T07:00+01:00"]


def test_an_alarm_at_seven_stays_at_seven_across_summer_time(house: House) -> None:
    worker = house.worker()
    house.go_to("2026-03-27T20:00")
    house.set("every day at 7 am")
    rang = []
    for day in ("28", "29", "30"):
        house.go_to(f"2026-03-{day}T06:59")
        look(worker)
        before = len(house.sender.sent)
        house.go_to(f"2026-03-{day}T07:00")
        look(worker)
        rang.append(len(house.sender.sent) - before)
        house.clock.advance(120)
        look(worker)

    assert rang == [1, 1, 1]
    assert house.coming() == ["2026-03-31T07:00+02:00"]


def test_a_time_that_summer_time_leaves_out_is_back_on_the_next_day(house: House) -> None:
    worker = house.worker()
    house.go_to("2026-03-28T20:00")
    house.set("every day at 2:30 am", "look at the stars")
    assert house.coming() == ["2026-03-29T03:30+02:00"]
    house.go_to("2026-03-29T03:30")
    look(worker)

    assert house.coming() == ["2026-03-30T02:30+02:00"]


def test_after_a_long_absence_the_last_time_of_a_rule_is_told_late(house: House) -> None:
    house.set("every day at 8 am", "take the pills")
    house.set("tomorrow at 9 am", "call the doctor")
    house.set("in 10 minutes")
    house.go_to("2026-03-08T10:00")  # the server was off for days
    look(house.worker())

    told = {message.text: (message.due_at, message.expires_at) for message in house.sender.sent}
    assert set(told) == {"A reminder: take the pills.", "A reminder: call the doctor."}
    due, expires = told["A reminder: take the pills."]
    assert datetime.fromtimestamp(due, BERLIN).isoformat() == "2026-03-08T08:00:00+01:00"
    assert expires - due == 86400
    assert sorted(house.due) == ["late", "late", "missed"], "the timer is of no use any more"
    assert house.coming() == ["2026-03-09T08:00+01:00"]


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_does_not_ring_twice(house: House) -> None:
    worker = house.worker()
    house.set("every day at 7 am", "school")
    house.go_to("2026-03-05T07:00")
    look(worker)
    house.clock.advance(-7200)
    look(worker)
    house.go_to("2026-03-05T07:00")
    look(worker)
    assert len(house.sender.sent) == 1
    house.go_to("2026-03-06T07:00")
    look(worker)
    assert len(house.sender.sent) == 2


def test_a_clock_that_is_set_forward_is_seen(house: House) -> None:
    alarm = FakeAlarm(house.clock)
    worker = house.worker(alarm)
    house.set("tomorrow at 7 am")

    def jump(seconds: float) -> None:
        if len(alarm.waits) == 3:
            house.go_to("2026-03-05T07:00")

    alarm.while_waiting = jump
    worker.start()
    wait_for(lambda: house.sender.sent, "the alarm")
    worker.close()

    assert alarm.waits[:3] == [CHECK_S] * 3
    assert house.sender.texts[0] == "It is 7:00 AM, this is your alarm."


def test_a_lease_from_before_the_clock_was_set_back_ends(house: House) -> None:
    house.set("in 10 minutes")
    house.clock.advance(600)
    house.sender.error = Die()
    with pytest.raises(Die):
        house.worker().look()
    other = house.worker()
    look(other)
    assert house.sender.sent == []
    house.clock.advance(-3600)
    look(other)

    assert len(house.sender.sent) == 1


def test_what_is_counted_on_the_clock_follows_the_owner_to_another_zone(house: House) -> None:
    worker = house.worker()
    house.set("every day at 7 am", "school")
    house.set("tomorrow at 9 am", "the plane leaves")
    look(worker)
    house.zone = ZoneInfo("America/New_York")
    look(worker)

    assert house.coming() == ["2026-03-05T03:00-05:00", "2026-03-05T07:00-05:00"]


# --- several workers --------------------------------------------------------------------------------------------------


def test_of_two_workers_one_rings(house: House) -> None:
    one, other = house.worker(), house.worker()
    house.set("in 10 minutes")
    house.clock.advance(600)
    look(one)
    look(other)

    assert len(house.sender.sent) == 1
    assert house.due == ["on_time"]


def test_a_worker_that_dies_before_it_has_told_hands_on(house: House) -> None:
    house.set("in 10 minutes")
    house.clock.advance(600)
    house.sender.error = Die()
    with pytest.raises(Die):
        house.worker().look()
    other = house.worker()

    look(other)
    assert house.sender.sent == [], "the lease holds"
    house.clock.advance(LEASE_S)
    look(other)
    assert len(house.sender.sent) == 1


def test_a_worker_that_dies_after_it_has_told_is_not_heard_twice(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.set("in 10 minutes")
    house.clock.advance(600)
    dying, send = house.worker(), house.sender.send

    def send_and_die(message: DeviceMessage, *, wait_s: float = 0.0) -> MessageResult:
        send(message)
        raise Die

    with monkeypatch.context() as patch:
        patch.setattr(house.sender, "send", send_and_die)
        with pytest.raises(Die):
            dying.look()
    house.clock.advance(LEASE_S)
    look(house.worker())

    assert len(house.sender.sent) == 1
    assert house.due == ["on_time"]


def test_a_device_with_a_full_queue_does_not_hold_up_the_others(house: House) -> None:
    worker = house.worker()
    first = house.set("in 10 minutes", "one")
    house.set("in 11 minutes", "two")
    house.clock.advance(660)
    house.sender.error = Overloaded("the queue of messages")
    look(worker)
    assert house.sender.texts == ["A reminder: two."]
    house.clock.advance(LEASE_S)
    look(worker)
    assert house.sender.texts == ["A reminder: two.", f"A reminder: {first.text}."]


def test_it_wakes_when_something_is_set(house: House) -> None:
    alarm = FakeAlarm(house.clock)
    worker = house.worker(alarm)
    book = ReminderBook(house.database, zone=lambda: BERLIN, changed=worker.wake, clock=house.clock)

    def set_one(seconds: float) -> None:
        if len(alarm.waits) == 1:
            at = book.now() + timedelta(seconds=7)
            book.set(ANNA, ANNA, ReminderKind.TIMER, When(at, span=timedelta(seconds=7)))

    alarm.while_waiting = set_one
    worker.start()
    wait_for(lambda: house.sender.sent, "the timer")
    worker.close()

    assert alarm.waits[:2] == [CHECK_S, 7.0]


# --- the book ---------------------------------------------------------------------------------------------------------


def test_what_rang_can_be_put_off(house: House) -> None:
    worker = house.worker()
    house.set("every day at 7 am")
    house.set("tomorrow at 8 am", "bread")
    for local, coming in (
        ("2026-03-05T07:00", ["2026-03-05T07:10+01:00", "2026-03-05T08:00+01:00", "2026-03-06T07:00+01:00"]),
        ("2026-03-05T07:10", ["2026-03-05T07:20+01:00", "2026-03-05T08:00+01:00", "2026-03-06T07:00+01:00"]),
        ("2026-03-05T08:00", ["2026-03-05T08:10+01:00", "2026-03-06T07:00+01:00"]),
    ):
        house.go_to(local)
        look(worker)
        row = house.book.rang_last(ANNA, ANNA)
        assert row is not None
        assert house.book.snooze(row, 10) is not None
        assert house.coming() == coming

    assert house.sender.texts == [
        "It is 7:00 AM, this is your alarm.",
        "It is 7:10 AM, this is your alarm.",
        "It is 7:20 AM, this is your alarm.",
        "A reminder: bread.",
    ]


def test_what_rings_can_be_stopped(house: House) -> None:
    worker = house.worker()
    house.set("every day at 7 am")
    house.go_to("2026-03-05T07:00")
    look(worker)
    row = house.book.rang_last(ANNA, ANNA)
    assert row is not None and row.again == 1
    house.book.stop(row)
    house.clock.advance(60)
    look(worker)

    assert len(house.sender.sent) == 1
    assert house.coming() == ["2026-03-06T07:00+01:00"]


def test_each_user_has_his_own_and_a_device_has_a_bound(house: House) -> None:
    when = understand("tomorrow at 8 am", house.book.now())
    assert isinstance(when, When)
    house.book.set(ANNA, "somebody else", ReminderKind.ALARM, when)
    for _ in range(MAX_PER_DEVICE - 1):
        house.set("tomorrow at 8 am")

    assert len(house.book.coming(ANNA, ANNA)) == MAX_PER_DEVICE - 1
    assert house.book.set(ANNA, ANNA, ReminderKind.ALARM, when) is None
    assert house.book.set(BEN, BEN, ReminderKind.ALARM, when) is not None
    assert house.book.cancel(ANNA) == MAX_PER_DEVICE
    assert house.book.coming(BEN) != []


def test_what_was_changed_or_cancelled_while_it_was_due_is_not_brought_back(house: House) -> None:
    row = house.set("in 10 minutes", "tea")
    house.clock.advance(600)
    worker, send = house.worker(), house.sender.send

    def change_meanwhile(message: DeviceMessage, *, wait_s: float = 0.0) -> MessageResult:
        later = understand("in 1 hour", house.book.now())
        assert isinstance(later, When)
        house.book.change(row, when=later)
        return send(message)

    house.sender.send = change_meanwhile  # type: ignore[method-assign]
    look(worker)

    assert house.coming() == ["2026-03-04T21:10+01:00"]


def test_what_is_over_is_forgotten(house: House) -> None:
    worker = house.worker()
    house.set("in 10 minutes", "tea")
    house.clock.advance(600)
    look(worker)
    house.set("in 2 hours", "coffee")
    house.clock.advance(7200)
    look(worker)

    assert house.book.cancel(ANNA) == 1, "of the two only the one of a moment ago is kept"
