"""Timers, alarms and reminders by voice: set, list, change, cancel, put off.

A time comes as the user said it, or as ISO 8601, and is understood here (`reminders/understanding.py`): language models
are bad at dates. What was understood is confirmed in words, as it is, without asking the model again; what is missing
is asked the same way."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from xiaozhi.errors import ToolError
from xiaozhi.reminders.book import MAX_PER_DEVICE, ReminderBook
from xiaozhi.reminders.ringing import ReminderKind
from xiaozhi.reminders.understanding import Doubt, Unclear, When, understand
from xiaozhi.reminders.wording import moment_words, rule_words, span_words, spoken_text
from xiaozhi.storage.reminders import ReminderRow
from xiaozhi.tools.base import Action, ToolContext, ToolOptions, ToolOutcome, ToolServices
from xiaozhi.tools.registry import tool

MAX_LISTED = 10
SNOOZE_MINUTES = 10

Words = Annotated[
    str,
    Field(
        description="When, in the user's own words ('in 10 minutes', 'tomorrow at half past seven', 'every weekday at "
        "7:30') or as ISO 8601 local time. 时间，照用户的原话：十分钟后、明天早上七点半、每周一三五晚上八点。"
    ),
]
Which = Annotated[
    str,
    Field(
        description="Which one: its number in the list, words of it, or its kind (timer, alarm); empty: the only one, "
        "or the one that rang last. 哪一个：列表里的编号、内容或类型；空表示唯一的或刚响过的那个。"
    ),
]
_KINDS = {
    "timer": ReminderKind.TIMER,
    "计时": ReminderKind.TIMER,
    "倒计时": ReminderKind.TIMER,
    "定时": ReminderKind.TIMER,
    "alarm": ReminderKind.ALARM,
    "闹钟": ReminderKind.ALARM,
    "reminder": ReminderKind.REMINDER,
    "提醒": ReminderKind.REMINDER,
}
_ALL = ("all", "everything", "every one", "全部", "所有")


class ReminderTools:
    """The tools share one book."""

    def __init__(self, options: ToolOptions, services: ToolServices) -> None:
        self._book = services.reminders

    @tool("set_reminder", uninterruptible=True)
    def set_reminder(
        self,
        context: ToolContext,
        when: Words,
        text: Annotated[
            str,
            Field(description="What to remind of, in the user's words; empty for a plain timer or alarm. 提醒内容。"),
        ] = "",
        kind: Annotated[
            Literal["", "reminder", "alarm", "timer"],
            Field(description="timer: after a span of time; alarm: wakes the user; reminder: tells a text."),
        ] = "",
    ) -> ToolOutcome:
        """Sets a timer, an alarm or a reminder, once or repeating. Call it when the user wants to be reminded, woken or
        told when time is up. 设置计时器、闹钟或提醒，一次或重复。"""
        book, chinese = self._kept(), context.chinese
        text = spoken_text(text)
        found = self._understood(book, when, alarm=kind == "alarm")
        if isinstance(found, Unclear):
            return _asked(found, book.now(), chinese)
        chosen = ReminderKind(kind or ("reminder" if text else "timer" if found.span is not None else "alarm"))
        if chosen is ReminderKind.REMINDER and not text:
            chosen = ReminderKind.TIMER if found.span is not None else ReminderKind.ALARM
        row = book.set(context.device_id, _user(context), chosen, found, text=text, chinese=chinese)
        if row is None:
            return _full(chinese)
        return _said(_confirmed(row, found, book.now(), chinese))

    @tool("list_reminders")
    def list_reminders(self, context: ToolContext) -> str:
        """Lists the timers, alarms and reminders that are set, with their numbers. 列出已设置的计时器、闹钟和提醒。"""
        book, chinese = self._kept(), context.chinese
        rows, now = book.coming(context.device_id, _user(context)), book.now()
        if not rows:
            return "没有设置任何计时器、闹钟或提醒。" if chinese else "There are no timers, alarms or reminders."
        lines = [f"{number}. {_described(row, now, chinese)}" for number, row in enumerate(rows[:MAX_LISTED], 1)]
        more = len(rows) - len(lines)
        if more > 0:
            lines.append(f"还有{more}个。" if chinese else f"And {more} more.")
        return "\n".join(lines)

    @tool("change_reminder", uninterruptible=True)
    def change_reminder(
        self,
        context: ToolContext,
        which: Which = "",
        when: Annotated[str, Field(description="The new time, in the user's words or ISO 8601. 新的时间。")] = "",
        text: Annotated[str, Field(description="The new text. 新的内容。")] = "",
    ) -> ToolOutcome:
        """Changes the time or the text of a timer, alarm or reminder that is set. 修改已设置的计时器、闹钟或提醒。"""
        book, chinese = self._kept(), context.chinese
        if not when.strip() and not text.strip():
            raise ToolError("change_reminder needs a new time (when) or a new text")
        rows = self._named(book, context, which)
        if isinstance(rows, ToolOutcome):
            return rows
        [row] = rows[:1]
        found: When | None = None
        if when.strip():
            understood = self._understood(book, when, alarm=row.kind == ReminderKind.ALARM)
            if isinstance(understood, Unclear):
                return _asked(understood, book.now(), chinese)
            found = understood
        changed = book.change(row, when=found, text=text if text.strip() else None)
        described = _described(changed, book.now(), chinese)
        return _said(f"已改为：{described}。" if chinese else f"Changed: {described}.")

    @tool("cancel_reminder", uninterruptible=True)
    def cancel_reminder(self, context: ToolContext, which: Which = "") -> ToolOutcome:
        """Cancels a timer, alarm or reminder, or stops the one that rings; which='all' cancels all of them.
        取消计时器、闹钟或提醒，或停止正在响的闹钟。"""
        book, chinese = self._kept(), context.chinese
        ringing = book.rang_last(context.device_id, _user(context))
        if ringing is not None and ringing.again and _fits(ringing, which):
            book.stop(ringing)
            return _said("好的，已停止。" if chinese else "All right, it is off.")
        rows = self._named(book, context, which, several=which.strip().lower() in _ALL)
        if isinstance(rows, ToolOutcome):
            return rows
        book.cancel(context.device_id, [row.id for row in rows])
        if len(rows) > 1:
            return _said(f"已取消全部{len(rows)}个。" if chinese else f"All {len(rows)} are cancelled.")
        described = _described(rows[0], book.now(), chinese)
        return _said(f"已取消：{described}。" if chinese else f"Cancelled: {described}.")

    @tool("snooze_reminder", uninterruptible=True)
    def snooze_reminder(
        self,
        context: ToolContext,
        minutes: Annotated[
            int, Field(ge=1, le=1_440, description="How many minutes later. 多少分钟后再响。")
        ] = SNOOZE_MINUTES,
    ) -> ToolOutcome:
        """Puts off the alarm, timer or reminder that has just rung. 把刚响过的闹钟或提醒推迟几分钟再响。"""
        book, chinese = self._kept(), context.chinese
        row = book.rang_last(context.device_id, _user(context))
        if row is None:
            return _said("刚才没有响过闹钟或提醒。" if chinese else "Nothing has rung a moment ago.")
        put_off = book.snooze(row, minutes)
        if put_off is None:
            return _full(chinese)
        now = book.now()
        moment = moment_words(datetime.fromtimestamp(put_off.due_at, now.tzinfo), now, chinese=chinese)
        return _said(f"好的，{minutes}分钟后再提醒您，{moment}。" if chinese else f"I will come back to it {moment}.")

    # --- inside -------------------------------------------------------------------------------------------------------

    def _kept(self) -> ReminderBook:
        if self._book is None:
            raise ToolError("This server keeps no reminders. 本服务器不支持提醒。")
        return self._book

    @staticmethod
    def _understood(book: ReminderBook, when: str, *, alarm: bool) -> When | Unclear:
        found = understand(when, book.now(), alarm=alarm)
        if isinstance(found, Unclear) and found.doubt is Doubt.NOT_UNDERSTOOD:
            raise ToolError(
                f"not understood in the time {when[:60]!r}: {found.words[:60]!r}. Call it again with the time alone, "
                "such as 'tomorrow at 7:30 am', 'in 10 minutes', 'every Monday at 9', 明天早上七点半, or an ISO date "
                f"and time; it is {book.now().isoformat(timespec='minutes')} now. Or ask the user when"
            )
        return found

    def _named(
        self, book: ReminderBook, context: ToolContext, which: str, *, several: bool = False
    ) -> list[ReminderRow] | ToolOutcome:
        """Those that are meant: one, or `several`; or what is asked back."""
        chinese, now = context.chinese, book.now()
        rows = book.coming(context.device_id, _user(context))
        if not rows:
            return _said("没有设置任何计时器、闹钟或提醒。" if chinese else "There are no timers, alarms or reminders.")
        if several:
            return rows
        number = re.fullmatch(r"\D{0,8}?(\d{1,2})\D{0,4}", which.strip())
        if number is not None and 1 <= int(number[1]) <= len(rows) and not _kind_named(which):
            return [rows[int(number[1]) - 1]]
        fitting = [row for row in rows if _fits(row, which)]
        if len(fitting) != 1 and which.strip():
            fitting = _at_that_time(fitting or rows, which, book) or fitting
        if len(fitting) == 1:
            return fitting
        shown = fitting or rows
        listed = "; ".join(f"{rows.index(row) + 1}. {_described(row, now, chinese)}" for row in shown[:MAX_LISTED])
        if chinese:
            return _said(f"请问是哪一个？{listed}")
        return _said(f"Which one do you mean? {listed}")


def _user(context: ToolContext) -> str:
    return context.user or context.device_id


def _said(text: str) -> ToolOutcome:
    return ToolOutcome(Action.SPEAK, text)


def _full(chinese: bool) -> ToolOutcome:
    return _said(
        f"提醒已满，最多{MAX_PER_DEVICE}个，请先取消一些。"
        if chinese
        else f"There are {MAX_PER_DEVICE} already, which is the most. Cancel some first."
    )


def _kind_named(which: str) -> ReminderKind | None:
    return next((kind for word, kind in _KINDS.items() if word in which.lower()), None)


def _fits(row: ReminderRow, which: str) -> bool:
    """Whether words name a reminder: by its kind, by its text, or not at all."""
    wanted = spoken_text(which).casefold()
    kind = _kind_named(wanted)
    if not wanted or (kind is not None and kind == row.kind):
        return True
    about = row.text.casefold()
    return bool(about) and (wanted in about or about in wanted)


def _at_that_time(rows: list[ReminderRow], which: str, book: ReminderBook) -> list[ReminderRow]:
    """Those whose time was named ("the seven o'clock alarm")."""
    found = understand(which, book.now())
    if not isinstance(found, When):
        return []
    wanted = found.at
    clocks = [(row, datetime.fromtimestamp(row.due_at, wanted.tzinfo)) for row in rows]
    exact = [row for row, at in clocks if at == wanted]
    return exact or [row for row, at in clocks if (at.hour % 12, at.minute) == (wanted.hour % 12, wanted.minute)]


def _described(row: ReminderRow, now: datetime, chinese: bool) -> str:
    at = datetime.fromtimestamp(row.due_at, now.tzinfo)
    moment = moment_words(at, now, chinese=chinese)
    if row.rule:
        moment = rule_words(row.rule, at, chinese=chinese)
    if chinese:
        name = {"timer": "计时器", "alarm": "闹钟", "reminder": "提醒"}[row.kind]
        return f"{moment}的{name}{f'：{row.text}' if row.text else ''}"
    return f"{row.kind} {moment}{f': {row.text}' if row.text else ''}"


def _confirmed(row: ReminderRow, when: When, now: datetime, chinese: bool) -> str:
    """What was set, in words; `when`: as it was understood."""
    moment = moment_words(when.at, now, chinese=chinese)
    repeats = rule_words(when.rule, when.at, chinese=chinese) if when.rule else ""
    span = span_words(when.span, chinese=chinese) if when.span is not None else ""
    if chinese:
        first = f"{repeats}，第一次是{moment}" if repeats else f"{span}后，{moment}" if span else moment
        what = f"提醒您{row.text}" if row.text else {"timer": "计时结束", "alarm": "闹钟响"}.get(row.kind, "提醒您")
        return f"好的，{first}{what}。"
    first = f"{repeats}, beginning {moment}" if repeats else f"in {span}, {moment}" if span else moment
    match row.kind:
        case ReminderKind.TIMER:
            about = f" for {row.text}" if row.text else ""
            return f"Your timer{about} ends {first}."
        case ReminderKind.ALARM:
            about = f": {row.text}" if row.text else ""
            return f"Your alarm rings {first}{about}."
    return f"I will remind you {first}: {row.text}."


def _asked(unclear: Unclear, now: datetime, chinese: bool) -> ToolOutcome:
    """What is asked back, in words that can be spoken."""
    past = moment_words(unclear.past, now, chinese=chinese) if unclear.past is not None else ""
    en, zh = {
        Doubt.NO_TIME: ("At what time?", "请问几点？"),
        Doubt.NO_DAY: ("On which day?", "请问是哪一天？"),
        Doubt.PAST: (f"That was {past}, which has passed. When do you mean?", f"{past}已经过去了，请问是什么时候？"),
        Doubt.NO_SUCH_DAY: ("There is no such day. When do you mean?", "没有这一天，请问是什么时候？"),
        Doubt.TOO_FAR: ("That is too far ahead. When do you mean?", "时间太远了，请问是什么时候？"),
        Doubt.TOO_OFTEN: (
            "That is too often; every five minutes is the most. How often do you want it?",
            "太频繁了，最多每5分钟一次。请问多久一次？",
        ),
        Doubt.NOT_UNDERSTOOD: ("When do you mean?", "请问是什么时候？"),
    }[unclear.doubt]
    return _said(zh if chinese else en)
