"""Which instant is meant by words. All of it is said on Wednesday, 2026-03-04, at 20:00, unless a test says
otherwise."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.reminders.understanding import Doubt, Unclear, When, understand

SHANGHAI, BERLIN, NEW_YORK = ZoneInfo("Asia/Shanghai"), ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
NOW = datetime(2026, 3, 4, 20, 0, tzinfo=SHANGHAI)

ONCE = [
    ("in ten minutes", "03-04 20:10"),
    ("ten minutes", "03-04 20:10"),
    ("for 10 minutes", "03-04 20:10"),
    ("5 min", "03-04 20:05"),
    ("10min", "03-04 20:10"),
    ("in an hour and a half", "03-04 21:30"),
    ("in two and a half hours", "03-04 22:30"),
    ("in half an hour", "03-04 20:30"),
    ("in 2 hours 15 minutes", "03-04 22:15"),
    ("2 hours and 30 minutes from now", "03-04 22:30"),
    ("in ninety seconds", "03-04 20:01:30"),
    ("in half a minute", "03-04 20:00:30"),
    ("in a quarter of an hour", "03-04 20:15"),
    ("in three quarters of an hour", "03-04 20:45"),
    ("in a couple of hours", "03-04 22:00"),
    ("in three days", "03-07 20:00"),
    ("in two weeks", "03-18 20:00"),
    ("in two months", "05-04 20:00"),
    ("in 2 days at nine", "03-06 09:00"),
    ("in a month at 9", "04-04 09:00"),
    ("7", "03-05 07:00"),
    ("at 7", "03-05 07:00"),
    ("at 9", "03-04 21:00"),
    ("at 19", "03-05 19:00"),
    ("at 7:30 am", "03-05 07:30"),
    ("at 7.30 a.m.", "03-05 07:30"),
    ("at half past seven", "03-05 07:30"),
    ("ten to nine", "03-04 20:50"),
    ("seven forty five", "03-05 07:45"),
    ("at seven thirty pm", "03-05 19:30"),
    ("six oh five am tomorrow", "03-05 06:05"),
    ("at 8 o'clock in the evening", "03-05 20:00"),
    ("at twenty past eight tonight", "03-04 20:20"),
    ("tonight at 10", "03-04 22:00"),
    ("at 3 at night", "03-05 03:00"),
    ("tomorrow night at 1", "03-06 01:00"),
    ("at noon", "03-05 12:00"),
    ("noon tomorrow", "03-05 12:00"),
    ("at 12 noon", "03-05 12:00"),
    ("at midnight", "03-05 00:00"),
    ("tomorrow at midnight", "03-06 00:00"),
    ("tomorrow at half past seven", "03-05 07:30"),
    ("tomorrow at 3", "03-05 15:00"),
    ("tomorrow at 12", "03-05 12:00"),
    ("tomorrow at 19:45", "03-05 19:45"),
    ("tomorrow at 07:15", "03-05 07:15"),
    ("tomorrow morning at 8", "03-05 08:00"),
    ("tomorrow morning", "03-05 08:00"),
    ("tomorrow afternoon at 5", "03-05 17:00"),
    ("the day after tomorrow at 6 in the evening", "03-06 18:00"),
    ("on Friday at 3 pm", "03-06 15:00"),
    ("this Friday at noon", "03-06 12:00"),
    ("next Friday at noon", "03-13 12:00"),
    ("Friday next week at 3 pm", "03-13 15:00"),
    ("next week on Thursday at 3 pm", "03-12 15:00"),
    ("next Tuesday at 4pm", "03-10 16:00"),
    ("Monday at 9", "03-09 09:00"),
    ("on Wednesday at 9 am", "03-11 09:00"),
    ("on Wednesday at 11 pm", "03-04 23:00"),
    ("a week from today at 10 am", "03-11 10:00"),
    ("a week from Friday at 10 am", "03-13 10:00"),
    ("on the 3rd at 9", "04-03 09:00"),
    ("on the third at 9", "04-03 09:00"),
    ("on the second at 9", "04-02 09:00"),
    ("the 31st at 9", "03-31 09:00"),
    ("the last day of the month at 6 pm", "03-31 18:00"),
    ("on the 3rd of next month at 9", "04-03 09:00"),
    ("March 10th at 5 pm", "03-10 17:00"),
    ("march 10 10 am", "03-10 10:00"),
    ("the twenty first of May at 7 p.m.", "05-21 19:00"),
    ("on December 24 at six pm", "12-24 18:00"),
    ("2026-03-05T07:30:00", "03-05 07:30"),
    ("2026-03-05 07:30", "03-05 07:30"),
    ("2026-03-05T07:30:00Z", "03-05 15:30"),
    ("2026-03-05T07:30+01:00", "03-05 14:30"),
    ("十分钟", "03-04 20:10"),
    ("十分钟后", "03-04 20:10"),
    ("过十分钟", "03-04 20:10"),
    ("倒计时五分钟", "03-04 20:05"),
    ("半个小时以后", "03-04 20:30"),
    ("半分钟后", "03-04 20:00:30"),
    ("30秒后", "03-04 20:00:30"),
    ("一分半钟", "03-04 20:01:30"),
    ("一个半小时后", "03-04 21:30"),
    ("两个半小时后", "03-04 22:30"),
    ("2.5小时后", "03-04 22:30"),
    ("一小时半后", "03-04 21:30"),
    ("一小时二十分钟后", "03-04 21:20"),
    ("一刻钟后", "03-04 20:15"),
    ("三刻钟后", "03-04 20:45"),
    ("两天后", "03-06 20:00"),
    ("两天后早上八点", "03-06 08:00"),
    ("一个星期后", "03-11 20:00"),
    ("一个月后", "04-04 20:00"),
    ("七点", "03-05 07:00"),
    ("九点", "03-04 21:00"),
    ("早上七点", "03-05 07:00"),
    ("七点零五分", "03-05 07:05"),
    ("七點一刻", "03-05 07:15"),
    ("差一刻八点", "03-05 07:45"),
    ("明天十点差五分", "03-05 09:55"),
    ("晚上九点一刻", "03-04 21:15"),
    ("晚上8:15", "03-04 20:15"),
    ("20:30", "03-04 20:30"),
    ("中午", "03-05 12:00"),
    ("零点", "03-05 00:00"),
    ("今晚零点", "03-05 00:00"),
    ("今晚十点", "03-04 22:00"),
    ("晚上十二点", "03-05 00:00"),
    ("半夜两点", "03-05 02:00"),
    ("凌晨两点", "03-05 02:00"),
    ("明天凌晨三点", "03-05 03:00"),
    ("明早八点", "03-05 08:00"),
    ("明早", "03-05 08:00"),
    ("明天早上七点半", "03-05 07:30"),
    ("明天早上七点半叫我起床", "03-05 07:30"),
    ("明天9点30", "03-05 09:30"),
    ("明天中午", "03-05 12:00"),
    ("後天下午兩點半", "03-06 14:30"),
    ("大后天上午十点", "03-07 10:00"),
    ("这周五中午十二点", "03-06 12:00"),
    ("周六下午两点", "03-07 14:00"),
    ("星期天晚上8点", "03-08 20:00"),
    ("下周二早上九点", "03-10 09:00"),
    ("下周三下午3点一刻", "03-11 15:15"),
    ("下下周二早上九点", "03-17 09:00"),
    ("三号上午九点", "04-03 09:00"),
    ("三十号九点", "03-30 09:00"),
    ("下个月三号上午九点", "04-03 09:00"),
    ("下下个月三号九点", "05-03 09:00"),
    ("12月24日晚上六点", "12-24 18:00"),
    ("三月十五日九点", "03-15 09:00"),
]

REPEATED = [
    ("every day at 8", "03-05 08:00", "FREQ=DAILY"),
    ("daily at noon", "03-05 12:00", "FREQ=DAILY"),
    ("every morning at 6:15", "03-05 06:15", "FREQ=DAILY"),
    ("every night at 10", "03-04 22:00", "FREQ=DAILY"),
    ("every other day at 8", "03-06 08:00", "FREQ=DAILY;INTERVAL=2"),
    ("every second day at 8 am", "03-06 08:00", "FREQ=DAILY;INTERVAL=2"),
    ("every weekday at 7:30", "03-05 07:30", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"),
    ("Monday to Friday at 6:45 am", "03-05 06:45", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"),
    ("monday through thursday at 7", "03-05 07:00", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH"),
    ("on weekends at 9", "03-07 09:00", "FREQ=WEEKLY;BYDAY=SA,SU"),
    ("every Monday and Thursday at 6 pm", "03-05 18:00", "FREQ=WEEKLY;BYDAY=MO,TH"),
    ("on Tuesdays and Fridays at 19:00", "03-06 19:00", "FREQ=WEEKLY;BYDAY=TU,FR"),
    ("weekly on Sunday at 11", "03-08 11:00", "FREQ=WEEKLY;BYDAY=SU"),
    ("every Friday at midnight", "03-07 00:00", "FREQ=WEEKLY;BYDAY=SA"),
    ("every other Friday at 5 pm", "03-06 17:00", "FREQ=WEEKLY;INTERVAL=2;BYDAY=FR"),
    ("every 2 weeks on Friday at 5 pm", "03-06 17:00", "FREQ=WEEKLY;INTERVAL=2;BYDAY=FR"),
    ("monthly on the 3rd at 9", "04-03 09:00", "FREQ=MONTHLY;BYMONTHDAY=3"),
    ("on the 15th of every month at 10 am", "03-15 10:00", "FREQ=MONTHLY;BYMONTHDAY=15"),
    ("every 31st at 9 am", "03-31 09:00", "FREQ=MONTHLY;BYMONTHDAY=-1"),
    ("every 30th at 9 am", "03-30 09:00", "FREQ=MONTHLY;BYMONTHDAY=28,29,30;BYSETPOS=-1"),
    ("on the last day of every month at 6 pm", "03-31 18:00", "FREQ=MONTHLY;BYMONTHDAY=-1"),
    ("every year on May 3rd at 9", "05-03 09:00", "FREQ=YEARLY;BYMONTH=5;BYMONTHDAY=3"),
    ("every December 24 at 6 pm", "12-24 18:00", "FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=24"),
    ("every hour", "03-04 21:00", "FREQ=HOURLY"),
    ("every 3 hours", "03-04 23:00", "FREQ=HOURLY;INTERVAL=3"),
    ("every hour and a half", "03-04 21:30", "FREQ=MINUTELY;INTERVAL=90"),
    ("every 20 minutes", "03-04 20:20", "FREQ=MINUTELY;INTERVAL=20"),
    ("每天7点", "03-05 07:00", "FREQ=DAILY"),
    ("每天早上七点半", "03-05 07:30", "FREQ=DAILY"),
    ("天天早上八点", "03-05 08:00", "FREQ=DAILY"),
    ("每晚十点", "03-04 22:00", "FREQ=DAILY"),
    ("隔天早上八点", "03-06 08:00", "FREQ=DAILY;INTERVAL=2"),
    ("每隔一天早上八点", "03-06 08:00", "FREQ=DAILY;INTERVAL=2"),
    ("工作日早上七点", "03-05 07:00", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"),
    ("周一到周五早上六点四十五", "03-05 06:45", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"),
    ("每周末上午十点", "03-07 10:00", "FREQ=WEEKLY;BYDAY=SA,SU"),
    ("每周一三五晚上八点", "03-06 20:00", "FREQ=WEEKLY;BYDAY=MO,WE,FR"),
    ("每周一、周三和周五晚上八点", "03-06 20:00", "FREQ=WEEKLY;BYDAY=MO,WE,FR"),
    ("每周五八点", "03-06 08:00", "FREQ=WEEKLY;BYDAY=FR"),
    ("每周一三点", "03-09 15:00", "FREQ=WEEKLY;BYDAY=MO"),
    ("每周三10点", "03-11 10:00", "FREQ=WEEKLY;BYDAY=WE"),
    ("每个星期天晚上8点", "03-08 20:00", "FREQ=WEEKLY;BYDAY=SU"),
    ("每两周周五下午五点", "03-06 17:00", "FREQ=WEEKLY;INTERVAL=2;BYDAY=FR"),
    ("每个月三号上午九点", "04-03 09:00", "FREQ=MONTHLY;BYMONTHDAY=3"),
    ("每月最后一天下午六点", "03-31 18:00", "FREQ=MONTHLY;BYMONTHDAY=-1"),
    ("每年五月三号上午九点", "05-03 09:00", "FREQ=YEARLY;BYMONTH=5;BYMONTHDAY=3"),
    ("每小时", "03-04 21:00", "FREQ=HOURLY"),
    ("每两小时", "03-04 22:00", "FREQ=HOURLY;INTERVAL=2"),
    ("每半小时", "03-04 20:30", "FREQ=MINUTELY;INTERVAL=30"),
]

DOUBTFUL = [
    ("tomorrow", Doubt.NO_TIME),
    ("on Friday", Doubt.NO_TIME),
    ("every day", Doubt.NO_TIME),
    ("tonight", Doubt.NO_TIME),  # its usual hour has passed
    ("next week", Doubt.NO_DAY),
    ("next month", Doubt.NO_DAY),
    ("today at 7 am", Doubt.PAST),
    ("this Wednesday at noon", Doubt.PAST),
    ("2023-03-05T07:30", Doubt.PAST),
    ("on February 30 at 9", Doubt.NO_SUCH_DAY),
    ("2026-02-30T09:00", Doubt.NO_SUCH_DAY),
    ("in 100 years", Doubt.TOO_FAR),
    ("2126-03-05T07:30", Doubt.TOO_FAR),
    ("every minute", Doubt.TOO_OFTEN),
    ("每分钟", Doubt.TOO_OFTEN),
    ("明天", Doubt.NO_TIME),
    ("周五", Doubt.NO_TIME),
    ("每天", Doubt.NO_TIME),
    ("今晚", Doubt.NO_TIME),
    ("下周", Doubt.NO_DAY),
    ("下个月", Doubt.NO_DAY),
    ("今天早上七点", Doubt.PAST),
    ("这周三中午", Doubt.PAST),
    ("二月三十号九点", Doubt.NO_SUCH_DAY),
    # Rather not at all than wrongly.
    ("", Doubt.NOT_UNDERSTOOD),
    ("now", Doubt.NOT_UNDERSTOOD),
    ("in ten", Doubt.NOT_UNDERSTOOD),
    ("half 7", Doubt.NOT_UNDERSTOOD),
    ("at 25:00", Doubt.NOT_UNDERSTOOD),
    ("yesterday at 5", Doubt.NOT_UNDERSTOOD),
    ("3/4 at 9", Doubt.NOT_UNDERSTOOD),
    ("christmas at noon", Doubt.NOT_UNDERSTOOD),
    ("every hour from 9 to 5", Doubt.NOT_UNDERSTOOD),
    ("every friday the 13th", Doubt.NOT_UNDERSTOOD),
    ("on Monday and Thursday at 8", Doubt.NOT_UNDERSTOOD),
    ("remind me to buy milk tomorrow at 8", Doubt.NOT_UNDERSTOOD),
    ("昨天五点", Doubt.NOT_UNDERSTOOD),
    ("除夕八点", Doubt.NOT_UNDERSTOOD),
    ("大大后天九点", Doubt.NOT_UNDERSTOOD),
    ("八点三十分钟后", Doubt.NOT_UNDERSTOOD),
]


def at(text: str, now: datetime = NOW, *, alarm: bool = False) -> str:
    """Local time of what was understood."""
    found = understand(text, now, alarm=alarm)
    assert isinstance(found, When), found
    assert found.at.tzinfo is now.tzinfo
    return found.at.replace(tzinfo=None).isoformat(" ")


@pytest.mark.parametrize(("text", "expected"), ONCE)
def test_once(text: str, expected: str) -> None:
    seconds = expected if expected.count(":") == 2 else f"{expected}:00"
    assert at(text) == f"2026-{seconds}"
    found = understand(text, NOW)
    assert isinstance(found, When) and found.rule == ""


@pytest.mark.parametrize(("text", "expected", "rule"), REPEATED)
def test_repeated(text: str, expected: str, rule: str) -> None:
    found = understand(text, NOW)
    assert isinstance(found, When) and found.rule == rule
    assert at(text) == f"2026-{expected}:00"


@pytest.mark.parametrize(("text", "doubt"), DOUBTFUL)
def test_what_is_not_clear_is_asked_about(text: str, doubt: Doubt) -> None:
    found = understand(text, NOW)
    assert isinstance(found, Unclear) and found.doubt is doubt


def test_a_date_that_has_passed_is_that_of_the_next_year() -> None:
    assert at("March 3rd at 9 am") == "2027-03-03 09:00:00"
    assert at("三月三号上午九点") == "2027-03-03 09:00:00"
    assert at("明年五月一号八点") == "2027-05-01 08:00:00"
    assert at("next year on May 1st at 8 am") == "2027-05-01 08:00:00"
    assert at("May 1st 2028 at 8 am") == "2028-05-01 08:00:00"


@pytest.mark.parametrize(
    ("said_at", "text", "expected"),
    [
        ("2026-03-04T06:00", "at 7", "2026-03-04 07:00:00"),
        ("2026-03-04T14:00", "at 7", "2026-03-04 19:00:00"),
        ("2026-03-04T20:00", "at 7", "2026-03-05 07:00:00"),
        ("2026-03-04T14:00", "today at 3", "2026-03-04 15:00:00"),
        ("2026-03-04T10:00", "today at 11", "2026-03-04 11:00:00"),
        ("2026-03-08T10:00", "next Monday at 9 am", "2026-03-09 09:00:00"),
        ("2026-04-30T10:00", "on the 31st at 9 am", "2026-05-31 09:00:00"),
        ("2026-12-31T23:50", "in ten minutes", "2027-01-01 00:00:00"),
        ("2026-12-31T10:00", "the day after tomorrow at 9 am", "2027-01-02 09:00:00"),
        ("2026-01-31T10:00", "in a month", "2026-02-28 10:00:00"),
    ],
)
def test_it_depends_on_when_it_is_said(said_at: str, text: str, expected: str) -> None:
    assert at(text, datetime.fromisoformat(said_at).replace(tzinfo=SHANGHAI)) == expected


def test_an_alarm_is_early() -> None:
    assert at("tomorrow at 6", alarm=True) == "2026-03-05 06:00:00"
    assert at("tomorrow at 6") == "2026-03-05 18:00:00"
    assert at("每天5点半", alarm=True) == "2026-03-05 05:30:00"


# --- summer time ------------------------------------------------------------------------------------------------------


def test_a_span_is_elapsed_time_across_the_change() -> None:
    spring = datetime(2026, 3, 29, 1, 30, tzinfo=BERLIN)  # 02:00 becomes 03:00
    autumn = datetime(2026, 10, 25, 1, 30, tzinfo=BERLIN)  # 03:00 becomes 02:00

    assert at("in an hour", spring) == "2026-03-29 03:30:00"
    assert at("in two hours", autumn) == "2026-10-25 02:30:00"
    found = understand("in two hours", autumn)
    assert isinstance(found, When) and found.at.timestamp() - autumn.timestamp() == 7200


def test_in_the_hour_that_comes_twice() -> None:
    first = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)
    second = first.replace(fold=1)

    for now in (first, second):
        found = understand("in 40 minutes", now)
        assert isinstance(found, When) and found.at.timestamp() - now.timestamp() == 2400
    found = understand("at 2:45 am", second)
    assert isinstance(found, When) and found.at.isoformat() == "2026-10-26T02:45:00+01:00", (
        "the first of the two is over"
    )
    found = understand("every day at 2:15 am", first)
    assert isinstance(found, When) and found.at.isoformat() == "2026-10-26T02:15:00+01:00"


def test_days_are_counted_on_the_calendar_across_the_change() -> None:
    assert at("in one day", datetime(2026, 3, 28, 12, 0, tzinfo=BERLIN)) == "2026-03-29 12:00:00"
    assert at("tomorrow at 7 am", datetime(2026, 10, 24, 12, 0, tzinfo=BERLIN)) == "2026-10-25 07:00:00"


def test_a_time_that_does_not_exist_is_as_much_later() -> None:
    assert at("tomorrow at 2:30 am", datetime(2026, 3, 28, 12, 0, tzinfo=BERLIN)) == "2026-03-29 03:30:00"
    assert at("2026-03-08T02:30", datetime(2026, 3, 4, 20, 0, tzinfo=NEW_YORK)) == "2026-03-08 03:30:00"


def test_of_a_time_that_comes_twice_the_first_is_meant() -> None:
    found = understand("tomorrow at 2:30 am", datetime(2026, 10, 24, 12, 0, tzinfo=BERLIN))

    assert isinstance(found, When)
    assert found.at.utcoffset() == timedelta(hours=2)


# --- nothing breaks it ------------------------------------------------------------------------------------------------

PIECES = st.sampled_from([text for text, *_ in (*ONCE, *REPEATED, *DOUBTFUL)])


@given(st.lists(PIECES, min_size=1, max_size=3).map(" ".join) | st.text(max_size=60), st.booleans())
def test_any_text_is_an_instant_to_come_or_a_question(text: str, alarm: bool) -> None:
    found = understand(text, NOW, alarm=alarm)
    assert isinstance(found, Unclear) or found.at > NOW
