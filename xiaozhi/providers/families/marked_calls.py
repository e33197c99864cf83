"""A tool call, or a result that a model made up, between marks: where it ends. Pure; `answer_text.py` moves through the
text, `written_calls.py` reads what the call says."""

from __future__ import annotations

from typing import Final

from xiaozhi.providers.families import text_marks
from xiaozhi.providers.families.call_arguments import BadToolCall
from xiaozhi.providers.families.text_marks import Kind, Mark, next_mark

MAX_HELD_CHARS: Final = 32_000
"""Of one call, or of what could be one."""

_ENDS: Final = (Kind.CALL_ENDS, Kind.TURN_ENDS, Kind.TEXT_ENDS)
_INTERRUPTS: Final = (Kind.RESULT_BEGINS, Kind.ROLE, Kind.OTHER_ROLE)


class MarkedCall:
    """One call. `opener`: the mark it began with. `quote`: the quotation mark that closes one right in front of it, ""
    for none. `begin`: what of the call is known already."""

    def __init__(self, opener: Mark, quote: str, begin: str) -> None:
        self.ended = False
        self.quoted = False
        """It is an example in quotation marks."""
        self._opener = opener
        self._quote = quote
        self._pieces = [begin]
        self._chars = len(begin)

    @property
    def text(self) -> str:
        """What stands between the marks."""
        return "".join(self._pieces)

    def step(self, text: str, *, final: bool) -> int | None:
        """How much of `text` belongs to the call and the mark that ends it; None: too little has arrived. Raises
        BadToolCall for a call without end."""
        at = next_mark(text)
        if at:
            return self._keep(text[:at])
        mark = text_marks.read(text)
        if mark is None:
            return None if not final and text_marks.begun(text) else self._keep(text[:1])
        if not self._ends_with(mark):
            return self._keep(mark.text)
        length = len(mark.text) if mark.kind in _ENDS else 0
        after = text[length : length + 1]
        if self._quote and length:
            if not after and not final:
                return None
            self.quoted = after == self._quote
        self.ended = True
        return self._keep(mark.text) if self.quoted else length

    def _ends_with(self, mark: Mark) -> bool:
        if mark.kind is Kind.CALL_ENDS:
            return mark.word == self._opener.word
        if mark.kind is Kind.CALL_BEGINS:  # a model that closes with the opening mark
            return mark.word == self._opener.word and not mark.names_call and self.text.strip() != ""
        return mark.kind in _ENDS or mark.kind in _INTERRUPTS

    def _keep(self, text: str) -> int:
        self._pieces.append(text)
        self._chars += len(text)
        if self._chars > MAX_HELD_CHARS:
            raise BadToolCall("a tool call without end")
        return len(text)


def end_of_result(text: str, *, final: bool) -> tuple[int, bool]:
    """How much of `text` belongs to a result that was made up, and whether it ends there; 0: too little has arrived."""
    at = next_mark(text)
    mark = text_marks.read(text, at) if at < len(text) else None
    if mark is not None and mark.kind is Kind.RESULT_ENDS:
        return at + len(mark.text), True
    if mark is None and at < len(text) and not final and text_marks.begun(text, at):
        return at, False
    return max(at, 1), False
