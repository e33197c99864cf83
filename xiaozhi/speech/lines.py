"""What stands at the start of a line: headings, bullets, rules, quotes, frames, the wall of a table, a fence.

Pure reading, like syntax.py, whose answers it uses; markup.py acts on what is found."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from xiaozhi.speech.syntax import WAIT, may_grow, run_length

_RULE_MAX: Final = 200
# What rules, delimiter rows of tables and bullets are made of.
_RULE: Final = re.compile(rf"[-*_=+|:•◦▪● \t]{{1,{_RULE_MAX}}}")
# What frames, trees and bars are drawn with.
_DRAWING: Final = re.compile(r"[\u2500-\u259f \t]{1,200}")
_TASK: Final = re.compile(r"\[[ xX]\][ \t]")
_FENCE_RUN: Final = 3


class LineStart(NamedTuple):
    """The next thing at the start of a line."""

    end: int
    """Where it ends; WAIT."""
    over: bool = False
    """What follows is no start of a line any more."""
    literal: str = ""
    """What of it is text."""
    row: bool = False
    """It begins a row of a table."""
    fence: bool = False
    """It is a fence of tildes."""


_UNDECIDED: Final = LineStart(WAIT)


def read_line_start(raw: str, at: int, final: bool) -> LineStart:
    """What is at `at`, at the start of a line or behind other things of its start."""
    char = raw[at]
    if char in " \t>\r":
        return LineStart(at + 1)
    if char == "#":
        return _heading(raw, at, final)
    if char in "-*_=+|:•◦▪●":
        return _rule_or_item(raw, at, final)
    if char == "~":
        run = run_length(raw, at)
        if may_grow(raw, at, run) and not final:
            return _UNDECIDED
        if run >= _FENCE_RUN:
            return LineStart(at + run, over=True, fence=True)
    drawing = _DRAWING.match(raw, at)
    return LineStart(at, over=True) if drawing is None else LineStart(drawing.end())


def _heading(raw: str, at: int, final: bool) -> LineStart:
    run = run_length(raw, at)
    end = at + run
    if may_grow(raw, at, run) and not final:
        return _UNDECIDED
    hashtag = run == 1 and end < len(raw) and not raw[end].isspace()  # or "#1"
    return LineStart(end, over=True, literal="#" if hashtag else "")


def _rule_or_item(raw: str, at: int, final: bool) -> LineStart:
    match = _RULE.match(raw, at)
    assert match is not None
    end = match.end()
    if end - at == _RULE_MAX:
        return LineStart(end)
    if end == len(raw) and not final:
        return _UNDECIDED
    if end == len(raw) or raw[end] in "\r\n":
        return LineStart(end)  # a rule, a table's delimiter row, an empty item: nothing to say
    char = raw[at]
    if char == "|":
        return LineStart(at + 1, over=True, row=True)
    if char in "•◦▪●" or (char in "-*+" and raw[at + 1] in " \t"):
        return _item(raw, at + 1, end, final)
    run = run_length(raw, at)
    if char in "-=" and run >= _FENCE_RUN:
        return LineStart(at + run, over=True)
    if char in "-+=:":
        return LineStart(at + 1, over=True, literal=char)
    return LineStart(at, over=True)  # emphasis


def _item(raw: str, at: int, end: int, final: bool) -> LineStart:
    # Still the start of a line: an item may hold a heading or another item.
    if raw[end] != "[":
        return LineStart(at)
    if len(raw) - end < len("[x] ") and not final:
        return _UNDECIDED
    return LineStart(end + 3 if _TASK.match(raw, end) else at)
