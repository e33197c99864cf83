"""What repeats: across summer time both ways, at the ends of months, after a long absence; and times in words."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from xiaozhi.reminders.recurrence import latest_until, next_after
from xiaozhi.reminders.understanding import When, understand
from xiaozhi.reminders.wording import clock_words, moment_words, rule_words, span_words

BERLIN, SHANGHAI = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Shanghai")
NOW = datetime(2026, 3, 4, 20, 0, tzinfo=SHANGHAI)


def times(rule: str, start: str, after: str, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    """The next so many, on the local clock."""
    found: list[str] = []
    moment = datetime.fromisoformat(after).replace(tzinfo=zone)
    for _ in range(count):
        following = next_after(rule, datetime.fromisoformat(start), moment, zone)
        assert following is not None
        moment = following
        found.append(moment.isoformat(timespec="minutes"))
    return found


def test_an_alarm_at_seven_stays_at_seven() -> None:
    assert times("FREQ=DAILY", "2026-03-01T07:00", "2026-03-28T06:00", 2) == [
        "2026-03-28T07:00+01:00",
        "2026-03-29T07:00+02:00",
    ]
    assert times("FREQ=DAILY", "2026-03-01T07:00", "2026-10-24T06:00", 2) == [
        "2026-10-24T07:00+02:00",
        "2026-10-25T07:00+01:00",
    ]


def test_a_time_that_is_left_out_is_shifted_for_one_day_only() -> None:
    assert times("FREQ=DAILY", "2026-03-01T02:30", "2026-03-28T06:00", 2) == [
        "2026-03-29T03:30+02:00",
        "2026-03-30T02:30+02:00",
    ]


def test_a_time_that_comes_twice_is_due_once() -> None:
    assert times("FREQ=DAILY", "2026-03-01T02:30", "2026-10-24T06:00", 2) == [
        "2026-10-25T02:30+02:00",
        "2026-10-26T02:30+01:00",
    ]


def test_hours_are_elapsed_time() -> None:
    start = "2026-03-28T23:00+01:00"
    assert times("FREQ=HOURLY;INTERVAL=2", start, "2026-03-28T23:30", 2) == [
        "2026-03-29T01:00+01:00",
        "2026-03-29T04:00+02:00",
    ]


def test_the_31st_is_the_last_day_of_a_shorter_month() -> None:
    found = understand("every 31st at 9 am", NOW)
    assert isinstance(found, When)
    assert times(found.rule, "2026-01-31T09:00", "2026-01-31T10:00", 3) == [
        "2026-02-28T09:00+01:00",
        "2026-03-31T09:00+02:00",
        "2026-04-30T09:00+02:00",
    ]


def test_a_birthday_on_the_29th_of_february() -> None:
    found = understand("every february 29 at 9 am", NOW)
    assert isinstance(found, When)
    assert times(found.rule, "2024-02-29T09:00", "2026-01-01T00:00", 3) == [
        "2026-02-28T09:00+01:00",
        "2027-02-28T09:00+01:00",
        "2028-02-29T09:00+01:00",
    ]


def test_of_what_has_passed_the_last_one_is_known() -> None:
    def latest(rule: str, start: str, until: str) -> str:
        at = datetime.fromisoformat(until).replace(tzinfo=BERLIN)
        found = latest_until(rule, datetime.fromisoformat(start), at, BERLIN)
        return found.isoformat(timespec="minutes") if found is not None else "none"

    assert latest("FREQ=DAILY", "2026-03-01T07:00", "2026-03-29T06:59") == "2026-03-28T07:00+01:00"
    assert latest("FREQ=DAILY", "2026-03-01T07:00", "2026-03-29T07:00") == "2026-03-29T07:00+02:00"
    assert latest("FREQ=DAILY", "2026-03-01T02:30", "2026-03-29T03:10") == "2026-03-28T02:30+01:00"
    assert latest("FREQ=HOURLY", "2026-03-28T23:00+01:00", "2026-03-29T03:30") == "2026-03-29T03:00+02:00"
    assert latest("FREQ=DAILY", "2026-03-01T07:00", "2026-02-01T07:00") == "none"


@pytest.mark.parametrize(
    ("at", "en", "zh"),
    [
        ("2026-03-04T21:30", "today at 9:30 PM", "今天晚上9点半"),
        ("2026-03-05T07:05", "tomorrow at 7:05 AM", "明天早上7点05分"),
        ("2026-03-06T12:00", "on Friday, March 6 at noon", "后天中午12点"),
        ("2026-03-13T00:00", "on Friday, March 13 at midnight", "3月13日星期五凌晨0点"),
        ("2027-03-03T10:00", "on Wednesday, March 3 2027 at 10:00 AM", "2027年3月3日星期三上午10点"),
    ],
)
def test_a_moment_in_words(at: str, en: str, zh: str) -> None:
    moment = datetime.fromisoformat(at).replace(tzinfo=SHANGHAI)
    assert moment_words(moment, NOW, chinese=False) == en
    assert moment_words(moment, NOW, chinese=True) == zh


@pytest.mark.parametrize(
    ("said", "en", "zh"),
    [
        ("every day at 8", "every day at 8:00 AM", "每天早上8点"),
        ("every other day at 8", "every 2 days at 8:00 AM", "每2天早上8点"),
        ("every weekday at 7:30", "every weekday at 7:30 AM", "每个工作日早上7点半"),
        (
            "every monday, wednesday and friday at 8 pm",
            "every Monday, Wednesday and Friday at 8:00 PM",
            "每周一、周三、周五晚上8点",
        ),
        ("every other friday at 5 pm", "every 2 weeks on Friday at 5:00 PM", "每2周的周五下午5点"),
        ("monthly on the 3rd at 9", "every month on the 3rd at 9:00 AM", "每个月3号上午9点"),
        ("every 31st at 9 am", "every month on the last day at 9:00 AM", "每个月最后一天上午9点"),
        ("every year on may 1st at noon", "every year on May 1 at noon", "每年5月1号中午12点"),
        ("every 3 hours", "every 3 hours", "每3小时"),
        ("every 20 minutes", "every 20 minutes", "每20分钟"),
    ],
)
def test_a_rule_in_words(said: str, en: str, zh: str) -> None:
    found = understand(said, NOW)
    assert isinstance(found, When)
    assert rule_words(found.rule, found.at, chinese=False) == en
    assert rule_words(found.rule, found.at, chinese=True) == zh
    again = understand(zh, NOW)
    assert isinstance(again, When) and (again.at, again.rule) == (found.at, found.rule), "what it says it understands"


def test_spans_and_clocks_in_words() -> None:
    assert span_words(timedelta(seconds=5430), chinese=False) == "1 hour 30 minutes 30 seconds"
    assert span_words(timedelta(hours=26), chinese=True) == "1天2小时"
    assert clock_words(datetime(2026, 1, 1, 0, 30), chinese=True) == "凌晨0点半"
    assert clock_words(datetime(2026, 1, 1, 12, 30), chinese=False) == "12:30 PM"
