"""What becomes of a reminder when it is due, and what is said then: decisions and words, pure.

A timer or an alarm is repeated once after a minute, unless its user has spoken meanwhile; a reminder is said once."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Final

from xiaozhi.devices.messages import DeviceMessage, MessageKind
from xiaozhi.reminders.recurrence import is_elapsed, latest_until, next_after
from xiaozhi.reminders.wording import clock_words, moment_words
from xiaozhi.storage.reminders import ReminderRow

AGAIN_S: Final = 60.0
"""Until a timer or an alarm is repeated."""
LATE_S: Final = 60.0
"""Handed over so much later than it was due, it counts as late."""
_DAY_S: Final = 86_400.0


class ReminderKind(StrEnum):
    """What it was set as."""

    TIMER = "timer"
    ALARM = "alarm"
    REMINDER = "reminder"


_GOOD_FOR_S: Final = {
    ReminderKind.TIMER: 3_600.0,
    ReminderKind.ALARM: 2 * 3_600.0,
    ReminderKind.REMINDER: 7 * _DAY_S,
}
"""How long after its time it is still worth saying."""


def start_of(row: ReminderRow) -> datetime:
    """What its rule is counted from."""
    return datetime.fromisoformat(row.start)


def caught_up(row: ReminderRow, now: float, zone: tzinfo) -> ReminderRow:
    """Of the times of a rule that passed while nobody was there, the last one is meant."""
    if not row.rule:
        return row
    latest = latest_until(row.rule, start_of(row), datetime.fromtimestamp(now, zone), zone)
    return row if latest is None or latest.timestamp() <= row.due_at else replace(row, due_at=latest.timestamp())


def over(row: ReminderRow, now: float, zone: tzinfo) -> ReminderRow:
    """After it has rung for the last time: what repeats waits for its next time, the rest is over."""
    done = replace(row, again=0, look_at=None, worker="")
    if not row.rule:
        return done
    after = datetime.fromtimestamp(max(now, row.due_at), zone)
    following = next_after(row.rule, start_of(row), after, zone)
    if following is None:
        return done
    start = following if is_elapsed(row.rule) else following.replace(tzinfo=None)
    if not is_elapsed(row.rule):
        # The time of day that was asked for, not one that summer time has shifted.
        start = datetime.combine(start.date(), start_of(row).time())
    at = following.timestamp()
    return replace(done, start=start.isoformat(), due_at=at, look_at=at)


def rung(row: ReminderRow, now: float, zone: tzinfo) -> ReminderRow:
    """After it has rung for the first time."""
    heard = replace(row, rang_at=now)
    if row.kind == ReminderKind.REMINDER:
        return over(heard, now, zone)
    return replace(heard, again=1, look_at=now + AGAIN_S, worker="")


def expires_at(row: ReminderRow, zone: tzinfo) -> float:
    """Until when it is worth saying: at the latest until its next time."""
    end = row.due_at + _GOOD_FOR_S[ReminderKind(row.kind)]
    if row.rule:
        following = next_after(row.rule, start_of(row), datetime.fromtimestamp(row.due_at, zone), zone)
        if following is not None:
            end = min(end, following.timestamp())
    return end


def message(row: ReminderRow, zone: tzinfo, *, repeated: bool = False, now: float = 0.0) -> DeviceMessage:
    """What its device is told. `repeated`: for the second time, at `now`."""
    chinese = row.language == "zh"
    key = f"{row.id}@{row.due_at:.0f}"
    title = _TITLES[ReminderKind(row.kind)][chinese]
    if repeated:
        return DeviceMessage(
            device=row.device,
            kind=MessageKind.SAY,
            text=_text(row, zone),
            title=title,
            sender="reminder",
            due_at=now,
            expires_at=now + AGAIN_S,
            interrupts=True,
            in_quiet_hours=True,
            key=f"{key}+1",
        )
    return DeviceMessage(
        device=row.device,
        kind=MessageKind.SAY,
        text=_text(row, zone),
        title=title,
        sender="reminder",
        due_at=row.due_at,
        expires_at=expires_at(row, zone),
        late_text=_late_text(row, zone),
        interrupts=row.kind != ReminderKind.REMINDER,
        in_quiet_hours=True,
        key=key,
    )


_TITLES: Final = {
    ReminderKind.TIMER: ("Timer", "计时器"),
    ReminderKind.ALARM: ("Alarm", "闹钟"),
    ReminderKind.REMINDER: ("Reminder", "提醒"),
}


def _text(row: ReminderRow, zone: tzinfo) -> str:
    at = datetime.fromtimestamp(row.due_at, zone)
    about = row.text
    if row.language == "zh":
        if row.kind == ReminderKind.TIMER:
            return f"计时结束：{about}。" if about else "时间到，计时结束了。"
        if row.kind == ReminderKind.ALARM:
            return f"现在是{clock_words(at, chinese=True)}，闹钟响了{f'：{about}' if about else ''}。"
        return f"提醒您：{about}。"
    if row.kind == ReminderKind.TIMER:
        return f"Time is up: {about}." if about else "Time is up, your timer has ended."
    if row.kind == ReminderKind.ALARM:
        return f"It is {clock_words(at, chinese=False)}, this is your alarm{f': {about}' if about else ''}."
    return f"A reminder: {about}."


def _late_text(row: ReminderRow, zone: tzinfo) -> str:
    at = datetime.fromtimestamp(row.due_at, zone)
    when, about = moment_words(at, None, chinese=row.language == "zh"), row.text
    if row.language == "zh":
        what = {"timer": "计时器", "alarm": "闹钟", "reminder": "提醒"}[row.kind]
        return f"抱歉，晚了：您有一个{when}的{what}{f'：{about}' if about else ''}。"
    what = {"timer": "a timer", "alarm": "an alarm", "reminder": "a reminder"}[row.kind]
    return f"Sorry, this is late. You had {what} {when}{f': {about}' if about else ''}."
