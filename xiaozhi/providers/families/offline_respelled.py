"""English numbers that were written as the words they sound like ("the volume two 30", "for to minutes"), and sentences
of clauses that say the same. Pure text; asked only for what is no phrase as it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_NUMBER: Final = (
    r"(?:\d|one\b|two\b|three\b|four\b|five\b|six\b|seven\b|eight\b|nine\b|ten\b|eleven\b|twelve\b|\w+teen\b|\w+ty\b)"
)
_UNIT: Final = r"(?:minutes?|hours?|seconds?|percent|days?|oclock|o\'clock|am|pm|plus|minus|times)"
_RESPELLED: Final = (
    (re.compile(rf"\b(?:two|too|2) (?={_NUMBER})"), "to "),
    (re.compile(rf"\b(?:four|4) (?={_NUMBER})"), "for "),
    (re.compile(rf"\b(?:to|too) (?={_UNIT}\b)"), "two "),
    (re.compile(rf"\b(?:for|fore) (?={_UNIT}\b)"), "four "),
    (re.compile(r"\b(?<=at )(?:to|too)\b"), "two"),
    (re.compile(r"\b(?<=at )for\b(?! a)"), "four"),
    (re.compile(r"((?:volume|sound|brightness|screen|display)\b.*\b(?:to|at|on|by)) half(?: way)?\b"), r"\1 fifty"),
)
_CALL_ME: Final = re.compile(r"(?<=\w)[叫喊]我(?=\w\w)")
"""八点叫我吃药 is a reminder where it is no alarm (八点叫我起床), not even by its sound."""
_CLAUSE: Final = re.compile(r"[,;，；.。!！?？]+ *")
_MOST_CLAUSES: Final = 2


def respelled(text: str, language: str) -> Iterator[str]:
    """`text` with such words as numbers and words of a number as such: one of them changed, then all of them.
    In Chinese "call me" as "remind me"."""
    if language == "zh":
        other = _CALL_ME.sub("提醒我", text)
        if other != text and "的是" not in text:
            yield other
        return
    lowered = whole = text.lower()
    seen = {lowered}
    for pattern, written in _RESPELLED:
        for other in (pattern.sub(written, lowered), whole := pattern.sub(written, whole)):
            if other not in seen:
                seen.add(other)
                yield other


def clauses(text: str) -> list[str]:
    """The two clauses of a sentence; none of one that has fewer or more."""
    parts = [part for part in _CLAUSE.split(text) if part]
    return parts if len(parts) == _MOST_CLAUSES else []
