"""The text of an answer as a model streams it -> what may be spoken and remembered, and the tool calls written in it.

Reasoning of every family, marks of the chat template, tool calls written as text and results that a model made up never
leave this filter; the same marks quoted in prose (in quotation marks, in code) do. Pure: no network, no time; what
comes out does not depend on how the stream was cut.

A mark is held back until it is whole, a call until it ends, and at the beginning of a line a word that could be the
name of a tool on offer; everything else passes at once. `</think>` without an opening mark means that all text before
it was thought: `retractions` counts those, so that whoever has not passed the text on yet drops it."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from xiaozhi.providers.families import bare_calls, text_marks
from xiaozhi.providers.families.bare_calls import Balance, Guess
from xiaozhi.providers.families.marked_calls import MAX_HELD_CHARS, MarkedCall, end_of_result
from xiaozhi.providers.families.text_marks import Kind, Mark
from xiaozhi.providers.families.thoughts import (
    CHANNEL,
    TURN,
    Beginning,
    Thought,
    calls_in_thought,
    read_header,
    read_role,
    stripped_beginning,
)
from xiaozhi.providers.families.tool_names import NOTHING_OFFERED, Offer
from xiaozhi.providers.families.written_calls import WrittenCall, read_calls, stripped_channel_calls

_MAX_TICKS = 12
# Longer pieces are looked at in parts: each step costs what is left of its part.
_PART_CHARS = 512

_SPECIAL: Final = re.compile(r"[<\[◁`]")
_SPECIAL_WITH_TOOLS: Final = re.compile(r"[<\[◁`{\n✿]")
_FENCE_MARKS: Final = re.compile(r"\A\s*```[ \t]*[\w+\-]*|```\s*\Z")


class _Mode(Enum):
    TEXT = auto()
    THOUGHT = auto()
    HEADER = auto()
    """Between <|channel|> and <|message|>."""
    CALL = auto()
    RESULT = auto()
    JSON = auto()
    FENCE = auto()
    TENTATIVE = auto()
    """Perhaps a call, to the end of the answer."""
    CHANNELS = auto()
    """Harmony whose marks the server has stripped: "analysisThe user...assistantfinalHello"."""
    OVER = auto()
    """What follows is not the assistant's."""


# Stand where there is none yet, which is nearly always; they are never fed.
_NO_MARK: Final = Mark(Kind.TEMPLATE, "", "")
_NO_THOUGHT: Final = Thought("", keep=False)
_NO_CALL: Final = MarkedCall(_NO_MARK, "", "")
_NO_BALANCE: Final = Balance()
_HOLDING: Final = {Guess.JSON: _Mode.JSON, Guess.REST: _Mode.TENTATIVE}


class AnswerText:
    """`feed` the pieces, `finish` at the end; then `calls` are the calls that were written. `offer`: the tools on
    offer; without any, JSON is text, and calls in marks are dropped."""

    def __init__(self, offer: Offer = NOTHING_OFFERED) -> None:
        self.calls: list[WrittenCall] = []
        self.retractions = 0
        self._offer = offer
        self._search = _SPECIAL_WITH_TOOLS.search if offer else _SPECIAL.search
        self._mode = _Mode.TEXT
        self._buffer = ""
        self._out: list[str] = []
        self._plain = False
        self._before = ""
        self._trim = False
        self._line_starts = True
        self._spoke = False
        self._ticks = False
        self._fenced = False
        self._thought_opened = False
        self._thought = _NO_THOUGHT
        self._held: list[str] = []
        self._held_chars = 0
        self._opener = _NO_MARK
        self._call = _NO_CALL
        self._recipient = ""
        self._balance = _NO_BALANCE

    def feed(self, text: str) -> str:
        """More of the answer; the part of it (and of what was held back) that may be spoken. Raises BadToolCall for a
        call without end."""
        if self._plain and self._search(text) is None:
            if text:
                self._before = text[-1]
            return text
        said: list[str] = []
        for at in range(0, len(text), _PART_CHARS):
            before = self.retractions
            self._buffer += text[at : at + _PART_CHARS]
            part = self._run(final=False)
            if self.retractions != before:
                said.clear()
            said.append(part)
        return "".join(said)

    def finish(self, *, cut_off: bool = False) -> str:
        """The answer has ended (`cut_off`: at its length limit, or it broke off): the rest of it."""
        if self._plain:
            return ""
        said = self._run(final=True)
        self._close(cut_off=cut_off)
        said += "".join(self._out)
        self._out.clear()
        return said

    def _run(self, *, final: bool) -> str:
        while self._buffer and _STEPS[self._mode](self, final):
            pass
        said = "".join(self._out)
        self._out.clear()
        self._plain = (
            self._mode is _Mode.TEXT
            and not self._buffer
            and self._spoke
            and not (self._trim or self._line_starts or self._ticks or self._fenced)
        )
        return said

    # --- text ---------------------------------------------------------------------------------------------------------

    def _emit(self, text: str) -> None:
        if self._trim:  # models put empty lines between thinking and speaking
            text = text.lstrip()
            self._trim = not text
        if not text:
            return
        self._out.append(text)
        self._before = text[-1]
        self._spoke = self._spoke or not text.isspace()
        if "\n" in text:
            self._ticks = False

    def _take(self, count: int) -> str:
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _text_step(self, final: bool) -> bool:
        if self._line_starts and not (self._fenced or self._ticks):
            decided = self._line_start(final)
            if decided is not None:
                return decided
        found = self._search(self._buffer)
        if found is None:
            self._emit(self._take(len(self._buffer)))
            return True
        if found.start():
            self._emit(self._take(found.start()))
            return True
        first = self._buffer[0]
        if first == "`":
            return self._backticks(final)
        if first == "\n":
            self._emit(self._take(1))
            self._line_starts = True
            self._ticks = False
            return True
        if self._ticks or self._fenced:
            self._emit(self._take(1))
            return True
        if first == "{" and (guess := bare_calls.at_brace(self._buffer, self._offer, final=final)) is not Guess.TEXT:
            return self._guessed(guess)
        if first == "✿":
            return self._guessed(Guess.REST)
        return self._mark(final)

    def _line_start(self, final: bool) -> bool | None:
        """Decide what only counts at the start of a line; None: nothing there."""
        bare = self._buffer.lstrip()
        if len(bare) < len(self._buffer):
            self._emit(self._take(len(self._buffer) - len(bare)))
            return True
        if not self._spoke:
            beginning, count = stripped_beginning(bare, final=final)
            if beginning is Beginning.CHANNELS:
                self._begin_thought(CHANNEL)
                self._mode = _Mode.CHANNELS
            self._take(count)
            self._trim = self._trim or count > 0
            if beginning is not Beginning.TEXT:
                return beginning is not Beginning.WAIT
        guess = bare_calls.at_line(bare, self._offer, final=final) if self._offer else Guess.TEXT
        if guess is not Guess.TEXT:
            return self._guessed(guess)
        self._line_starts = False
        return None

    def _guessed(self, guess: Guess) -> bool:
        """Hold what could be a call."""
        if guess is Guess.WAIT:
            return False
        self._begin_holding(_HOLDING[guess], "")
        self._balance = Balance()
        return True

    # --- code, JSON ---------------------------------------------------------------------------------------------------

    def _backticks(self, final: bool) -> bool:
        run = len(self._buffer) - len(self._buffer.lstrip("`"))
        if run == len(self._buffer) < _MAX_TICKS and not final:
            return False
        self._line_starts = False
        if run < 3:
            self._emit(self._take(run))
            if not self._fenced:
                self._ticks = not self._ticks
            return True
        if self._offer and not self._fenced:
            guess = bare_calls.at_fence(self._buffer, self._offer, final=final)
            if guess is Guess.BLOCK:
                opening = bare_calls.FENCE.match(self._buffer)
                self._begin_holding(_Mode.FENCE, self._take(opening.end() if opening is not None else run))
                return True
            if guess is Guess.WAIT:
                return False
        self._emit(self._take(run))
        self._fenced = not self._fenced
        return True

    def _json_step(self, final: bool) -> bool:
        end = self._balance.end(self._buffer)
        if end < 0:
            self._hold(len(self._buffer))
            return True
        self._hold(end)
        if self._mode is _Mode.JSON:
            self._end_of_maybe(cut_off=False)
        return True

    def _fence_step(self, final: bool) -> bool:
        at = self._buffer.find("```")
        if at < 0:
            keep = len(self._buffer) - len(self._buffer.rstrip("`"))
            if not final and keep == len(self._buffer):
                return False
            self._hold(len(self._buffer) - (0 if final else keep))
            return True
        self._hold(at + 3)
        if self._mode is _Mode.FENCE:
            self._end_of_maybe(cut_off=False)
        return True

    def _end_of_maybe(self, *, cut_off: bool) -> None:
        """What was held is a call of a tool on offer, or text after all."""
        text = "".join(self._held)
        found = read_calls(_FENCE_MARKS.sub("", text), self._offer, cut_off=cut_off)
        self._back_to_text()
        if any(call.known for call in found):
            self.calls += found
            self._trim = True
        else:
            self._trim = False
            self._emit(text)

    def _begin_holding(self, mode: _Mode, text: str) -> None:
        self._mode = mode
        self._held = [text]
        self._held_chars = len(text)
        self._line_starts = False

    def _hold(self, count: int) -> None:
        self._held.append(self._take(count))
        self._held_chars += count
        if self._held_chars <= MAX_HELD_CHARS:
            return
        text = "".join(self._held)
        self._back_to_text()
        self._emit(text)

    def _hold_step(self, final: bool) -> bool:
        self._hold(len(self._buffer))
        return True

    def _drop_step(self, final: bool) -> bool:
        self._buffer = ""
        return True

    def _back_to_text(self) -> None:
        self._mode = _Mode.TEXT
        self._held = []
        self._held_chars = 0
        self._line_starts = bool(self._offer)

    def _begin_line(self) -> None:
        """Behind a mark the text begins anew."""
        self._line_starts = self._trim = True

    # --- marks --------------------------------------------------------------------------------------------------------

    def _mark(self, final: bool) -> bool:
        mark = text_marks.read(self._buffer)
        if mark is None:
            if not final and text_marks.begun(self._buffer):
                return False
            if self._offer and self._buffer[0] in "[<":
                look = bare_calls.at_bracket if self._buffer[0] == "[" else bare_calls.at_tag
                guess = look(self._buffer, self._offer, final=final)
                if guess is not Guess.TEXT:
                    return self._guessed(guess)
            self._line_starts = False
            if self._buffer.startswith(("<|", "<｜")) and text_marks.begun(self._buffer):
                self._take(len(self._buffer))  # the answer was cut off inside a mark
            else:
                self._emit(self._take(max(1, text_marks.tag_length(self._buffer, 0))))
            return True
        after = self._buffer[len(mark.text) :]
        closing = text_marks.QUOTES.get(self._before, "")
        if closing and not after and not final:
            return False
        if closing and after[:1] == closing:
            self._emit(self._take(len(mark.text)))
            return True
        return self._act(mark, after, final)

    def _act(self, mark: Mark, after: str, final: bool) -> bool:
        kind = mark.kind
        if kind is Kind.CALL_BEGINS:
            return self._call_begins(mark, after, final)
        if kind is Kind.ROLE:
            return self._role(mark, after, final)
        self._take(len(mark.text))
        self._line_starts = True
        if kind is Kind.THOUGHT_BEGINS:
            if not mark.text.endswith("/>"):
                self._begin_thought(mark.word)
        elif kind is Kind.THOUGHT_ENDS:
            self._lone_end()
        elif kind is Kind.RESULT_BEGINS:
            # Made up: behind a call, the answer that follows is made up from it.
            self._opener = mark
            self._mode = _Mode.OVER if self.calls else _Mode.RESULT
        elif kind is Kind.CHANNEL:
            self._opener = mark
            self._mode = _Mode.HEADER
        elif kind in (Kind.OTHER_ROLE, Kind.TEXT_ENDS):
            if self._spoke or self.calls:
                self._mode = _Mode.OVER
        elif kind is Kind.MESSAGE:
            self._trim = True
        return True

    def _begin_thought(self, word: str) -> None:
        self._mode = _Mode.THOUGHT
        self._thought_opened = True
        # The calls that a model writes into a thought which it never closes are meant.
        self._thought = Thought(word, keep=bool(self._offer))

    def _end_thought(self) -> None:
        self._mode = _Mode.TEXT
        self._begin_line()

    def _lone_end(self) -> None:
        if not self._thought_opened:
            self.retractions += 1
            self._out.clear()
            self.calls.clear()
            self._spoke = False
        self._thought_opened = True
        self._trim = True

    def _role(self, mark: Mark, after: str, final: bool) -> bool:
        role = read_role(after, mark, final=final)
        if role is None:
            return False
        if text_marks.is_thought(role.word):  # <|im_start|>think
            self._take(len(mark.text) + role.chars)
            self._begin_thought(TURN)
        elif not role.ours and (self._spoke or self.calls):
            self._mode = _Mode.OVER
        else:
            self._take(len(mark.text) + role.chars)
            self._recipient = role.recipient
            self._begin_line()
        return True

    # --- reasoning ----------------------------------------------------------------------------------------------------

    def _thought_step(self, final: bool) -> bool:
        count = self._thought.step(self._buffer, final=final)
        if count is None:
            return False
        self._take(count)
        if self._thought.ended:
            self._end_thought()
        return True

    def _header_step(self, final: bool) -> bool:
        header = read_header(self._buffer, self._opener, final=final)
        if header is None:
            return False
        self._take(header.chars)
        to, self._recipient = header.recipient or self._recipient, ""
        self._begin_line()
        if to:
            self._begin_call(Mark(Kind.CALL_BEGINS, CHANNEL, ""), "", f"{to} ")
        elif header.thinks:
            self._begin_thought(CHANNEL)
        else:
            self._mode = _Mode.TEXT
        return True

    def _channels_step(self, final: bool) -> bool:
        count = self._thought.step_to_final_channel(self._buffer, final=final)
        if count is None:
            return False
        self._take(count)
        if self._thought.ended:
            self.calls += stripped_channel_calls(self._thought.text, self._offer)
            self._end_thought()
        return True

    # --- calls in marks -----------------------------------------------------------------------------------------------

    def _call_begins(self, mark: Mark, after: str, final: bool) -> bool:
        guess = Guess.REST if mark.names_call else bare_calls.behind_a_mark(after, self._offer, final=final)
        if guess is Guess.WAIT:
            return False
        self._line_starts = False
        if guess is Guess.TEXT:
            self._emit(self._take(len(mark.text)))
            return True
        self._begin_call(mark, text_marks.QUOTES.get(self._before, ""), mark.text if mark.names_call else "")
        self._take(len(mark.text))
        return True

    def _begin_call(self, mark: Mark, quote: str, begin: str) -> None:
        self._mode = _Mode.CALL
        self._call = MarkedCall(mark, quote, begin)
        self._opener = mark

    def _call_step(self, final: bool) -> bool:
        count = self._call.step(self._buffer, final=final)
        if count is None:
            return False
        self._take(count)
        if self._call.quoted:
            self._back_to_text()
            self._line_starts = False
            self._emit(self._call.text if self._opener.names_call else self._opener.text + self._call.text)
        elif self._call.ended:
            self._end_call(cut_off=False)
        return True

    def _end_call(self, *, cut_off: bool) -> None:
        self._back_to_text()
        self._begin_line()
        if self._offer:
            self.calls += read_calls(self._call.text, self._offer, cut_off=cut_off)

    def _result_step(self, final: bool) -> bool:
        count, ended = end_of_result(self._buffer, final=final)
        self._take(count)
        if ended:
            self._mode = _Mode.TEXT
            self._trim = True
        return count > 0

    # --- the end ------------------------------------------------------------------------------------------------------

    def _close(self, *, cut_off: bool) -> None:
        if self._mode is _Mode.CALL:
            self._end_call(cut_off=cut_off)
        elif self._mode in (_Mode.JSON, _Mode.FENCE, _Mode.TENTATIVE):
            self._end_of_maybe(cut_off=cut_off)
        elif self._mode is _Mode.CHANNELS:
            self.calls += stripped_channel_calls(self._thought.text, self._offer)
        elif self._mode is _Mode.THOUGHT and self._offer and not cut_off:
            self.calls += calls_in_thought(self._thought.text, self._offer)
        self._mode = _Mode.OVER


_STEPS: Final[dict[_Mode, Callable[[AnswerText, bool], bool]]] = {
    _Mode.TEXT: AnswerText._text_step,
    _Mode.THOUGHT: AnswerText._thought_step,
    _Mode.HEADER: AnswerText._header_step,
    _Mode.CALL: AnswerText._call_step,
    _Mode.RESULT: AnswerText._result_step,
    _Mode.JSON: AnswerText._json_step,
    _Mode.FENCE: AnswerText._fence_step,
    _Mode.TENTATIVE: AnswerText._hold_step,
    _Mode.CHANNELS: AnswerText._channels_step,
    _Mode.OVER: AnswerText._drop_step,
}
