"""How a message reaches its device now, or why it waits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from xiaozhi.devices.delivery import (
    AT_ONCE,
    ELSEWHERE,
    NOT_CONNECTED,
    ONE_AT_A_TIME,
    QUIET_HOURS,
    Circumstances,
    Reach,
    Wait,
    Way,
    decide,
    heading,
    text_now,
)
from xiaozhi.devices.messages import DeviceMessage, MessageKind
from xiaozhi.devices.quiet_hours import quiet_until

NOW = 1_000.0
TALKS, IDLES, BOTH, AWAY = Reach(conversation=True), Reach(standing=True), Reach(True, True), Reach()


def message(kind: str = "say", **changes: Any) -> DeviceMessage:
    fields: dict[str, Any] = {"text": "Hello.", "due_at": NOW, "expires_at": NOW + 60, **changes}
    return DeviceMessage(device="a", kind=MessageKind(kind), **fields)


@pytest.mark.parametrize(
    ("kind", "reach", "way"),
    [
        ("say", TALKS, Way.SPEAK),
        ("notify", TALKS, Way.SPEAK),
        ("alert", TALKS, Way.SHOW),
        ("say", IDLES, Way.NOTIFY),
        ("notify", IDLES, Way.NOTIFY),
        ("alert", IDLES, Way.ALERT),
        ("say", BOTH, Way.SPEAK),
        ("reboot", BOTH, Way.REBOOT),
        ("reboot", IDLES, Way.REBOOT),
    ],
)
def test_the_way_by_what_the_device_does_now(kind: str, reach: Reach, way: Way) -> None:
    text = "" if kind == "reboot" else "Hello."
    assert decide(message(kind, text=text), Circumstances(now=NOW, reach=reach)) is way


@pytest.mark.parametrize(
    ("changes", "seen", "wait"),
    [
        ({}, {"reach": AWAY}, Wait(NOT_CONNECTED, None)),
        ({"due_at": NOW + 5}, {}, Wait("it is not due yet", NOW + 5)),
        ({}, {"quiet_until": NOW + 900}, Wait(QUIET_HOURS, NOW + 900)),
        ({}, {"in_hand": AT_ONCE}, Wait(ONE_AT_A_TIME, NOW + 3)),
        ({}, {"reach": IDLES, "in_hand": 1}, Wait(ONE_AT_A_TIME, NOW + 3)),
        ({}, {"reach": IDLES, "free_at": NOW + 4}, Wait(ONE_AT_A_TIME, NOW + 4)),
        ({"kind": "alert"}, {"reach": IDLES, "elsewhere": True}, Wait(ELSEWHERE, NOW + 3)),
    ],
)
def test_why_it_waits_and_until_when(changes: dict[str, Any], seen: dict[str, Any], wait: Wait) -> None:
    assert decide(message(**changes), Circumstances(**{"now": NOW, "reach": TALKS, **seen})) == wait


@pytest.mark.parametrize(
    ("changes", "seen", "way"),
    [
        ({"in_quiet_hours": True}, {"quiet_until": NOW + 900}, Way.SPEAK),
        ({"kind": "reboot", "text": ""}, {"quiet_until": NOW + 900}, Way.REBOOT),
        ({"interrupts": True}, {"in_hand": AT_ONCE}, Way.SPEAK),
        ({}, {"free_at": NOW + 4}, Way.SPEAK),
        ({}, {"elsewhere": True}, Way.SPEAK),
    ],
)
def test_what_does_not_wait(changes: dict[str, Any], seen: dict[str, Any], way: Way) -> None:
    assert decide(message(**changes), Circumstances(**{"now": NOW, "reach": TALKS, **seen})) is way


def test_late_after_a_minute() -> None:
    both = message(late_text="Sorry, late.")
    assert (text_now(both, NOW + 60), text_now(both, NOW + 61)) == ("Hello.", "Sorry, late.")
    assert text_now(message(), NOW + 999) == "Hello."


@pytest.mark.parametrize(
    ("changes", "name", "shown"),
    [
        ({}, "", "Message"),
        ({"text": "饭好了"}, "", "消息"),
        ({"sender": "reminder"}, "", "Reminder"),
        ({"sender": "reminder", "text": "吃药"}, "", "提醒"),
        ({"sender": "02:00:00:00:00:0a"}, "Kitchen", "Kitchen"),
        ({"title": "News"}, "Kitchen", "News"),
    ],
)
def test_what_stands_above_a_text(changes: dict[str, Any], name: str, shown: str) -> None:
    assert heading(message(**changes), name) == shown


BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("span", "now", "until"),
    [
        ("", "2026-11-28 23:00", None),
        ("22:00-07:00", "2026-11-28 21:59", None),
        ("22:00-07:00", "2026-11-28 22:00", "2026-11-29 07:00"),
        ("22:00-07:00", "2026-11-29 06:59", "2026-11-29 07:00"),
        ("22:00-07:00", "2026-11-29 07:00", None),
        ("7:00 - 9:30", "2026-11-29 08:00", "2026-11-29 09:30"),
        ("13:00-15:00", "2026-11-29 12:59", None),
        ("22:00-22:00", "2026-11-29 22:00", None),
        # Summer time begins on 29 March 2026 at 2:00, and ends on 25 October at 3:00.
        ("22:00-07:00", "2026-03-28 22:30", "2026-03-29 07:00"),
        ("22:00-02:30", "2026-03-28 23:00", "2026-03-29 03:30"),
        ("22:00-07:00", "2026-10-24 22:30", "2026-10-25 07:00"),
    ],
)
def test_quiet_hours(span: str, now: str, until: str | None) -> None:
    assert quiet_until(span, at(now), BERLIN) == (None if until is None else at(until))


def test_quiet_hours_last_as_long_as_the_clock_says_when_it_is_put_back() -> None:
    night = at("2026-10-24 22:00")
    end = quiet_until("22:00-07:00", night, BERLIN)
    assert end is not None and end - night == 10 * 3600
    assert quiet_until("22:00-02:30", at("2026-10-25 02:15", fold=1), BERLIN) == at("2026-10-25 02:30", fold=1)
    assert quiet_until("22:00-07:00", 0.0, UTC) == 7 * 3600.0
