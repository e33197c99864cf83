"""Markup out of a stream of text: markdown, links, code, tables, HTML and reasoning, so that only words are left.

Not a markdown renderer: it keeps the words and drops the marks, and it never waits for a structure longer than it must,
because the first sentence is being waited for. Reasoning (`<think>...</think>`) and fenced code are dropped whole (code
is mentioned once), a link becomes its text, a bare URL its host, a table row its cells with commas between. It is safe
on a stream: every decision looks at a bounded distance ahead and waits until that much has arrived, so the outcome does
not depend on how the text was cut."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from xiaozhi.speech import syntax
from xiaozhi.speech.emotion import Emotion
from xiaozhi.speech.syntax import NONE, WAIT, Tag, is_ascii_word, run_length
from xiaozhi.speech.tidy import Tidy

CODE_NOTICE_EN: Final = "I'll leave the code out."
CODE_NOTICE_ZH: Final = "代码就不念了。"


class _Mode(Enum):
    TEXT = auto()
    INLINE_CODE = auto()
    FENCE = auto()
    THINK = auto()


class SpeechCleaner:
    """`feed` pieces, get speakable text back as soon as it is certain; `flush` at the end of an answer, after which the
    next may begin."""

    def __init__(self) -> None:
        self._tidy = Tidy()
        self._raw = ""
        self._mode = _Mode.TEXT
        self._line_start = True
        self._row = False
        self._before = ""
        self._fence = "```"
        self._ticks = "`"
        self._code_mentioned = False

    @property
    def emotion(self) -> Emotion | None:
        """The feeling of the first emoji that has one, so far."""
        return self._tidy.emotion

    def feed(self, piece: str) -> str:
        """More of the answer; returns what can be said of it by now."""
        self._raw += piece
        self._advance(final=False)
        return self._tidy.take()

    def flush(self) -> str:
        """The answer is complete; returns the rest of it."""
        self._advance(final=True)
        self._tidy.finish()
        self._raw = ""
        self._mode = _Mode.TEXT
        self._line_start = True
        self._row = False
        self._before = ""
        return self._tidy.take()

    def _advance(self, *, final: bool) -> None:
        at = 0
        while at < len(self._raw):
            raw = self._raw
            if self._mode is _Mode.TEXT:
                end = self._block(raw, at, final) if self._line_start else self._inline(raw, at, final)
            elif self._mode is _Mode.INLINE_CODE:
                end = self._inline_code(raw, at, final)
            elif self._mode is _Mode.FENCE:
                end = self._inside_fence(raw, at, final)
            else:
                end = self._inside_think(raw, at, final)
            if end == WAIT:
                break
            if self._raw is raw and end > at:
                self._before = raw[end - 1]
            at = end  # 0 after a link, which gave its text back to be looked at
        self._raw = self._raw[at:]

    # --- what only counts at the start of a line ----------------------------------------------------------------------

    def _block(self, raw: str, at: int, final: bool) -> int:
        char = raw[at]
        if char in " \t>\r":
            return at + 1
        if char == "#":
            return self._heading(raw, at, final)
        if char in "-*_=+|:•◦▪●":
            return self._rule_or_item(raw, at, final)
        if char == "~":
            run = run_length(raw, at)
            if at + run == len(raw) and not final:
                return WAIT
            if run >= 3:
                return self._open_fence("~~~", at + run)
        self._line_start = False
        return at

    def _heading(self, raw: str, at: int, final: bool) -> int:
        end = at + run_length(raw, at)
        if end == len(raw) and not final:
            return WAIT
        self._line_start = False
        if end - at == 1 and end < len(raw) and not raw[end].isspace():
            self._tidy.add("#")  # a hashtag, or "#1"
        return end

    def _rule_or_item(self, raw: str, at: int, final: bool) -> int:
        match = syntax.RULE.match(raw, at)
        assert match is not None
        end = match.end()
        if end - at == syntax.RULE_MAX:
            return end
        if end == len(raw) and not final:
            return WAIT
        if end == len(raw) or raw[end] in "\r\n":
            return end  # a rule, a table's delimiter row, an empty item: nothing to say
        char = raw[at]
        if char == "|":
            self._row = True
            self._line_start = False
            return at + 1
        if char in "•◦▪●" or (char in "-*+" and raw[at + 1] in " \t"):
            return self._item(raw, at + 1, end, final)
        self._line_start = False
        run = run_length(raw, at)
        if char in "-=" and run >= 3:
            return at + run
        if char in "-+=:":
            self._tidy.add(char)
            return at + 1
        return at  # emphasis

    @staticmethod
    def _item(raw: str, at: int, end: int, final: bool) -> int:
        # Still the start of a line: an item may hold a heading or another item.
        if raw[end] != "[":
            return at
        if len(raw) - end < 4 and not final:
            return WAIT
        return end + 3 if syntax.TASK.match(raw, end) else at

    # --- anywhere in a line -------------------------------------------------------------------------------------------

    def _inline(self, raw: str, at: int, final: bool) -> int:
        found = syntax.SPECIAL.search(raw, at)
        if found is None or found.start() > at:
            return self._plain(raw, at, found.start() if found is not None else len(raw), final)
        char = raw[at]
        if char == "\n":
            self._tidy.line()
            self._line_start = True
            self._row = False
            return at + 1
        if len(found.group()) > 1:
            return self._url(raw, at, final)
        if char == "!":
            return self._exclamation(raw, at, final)
        if char in "*_~`$":
            return self._marks(raw, at, final)
        if char == "|":
            if self._row or self._before in " \t":
                self._tidy.cell()
                return at + 1
            return self._literal(raw, at)
        if char == "<":
            return self._angle(raw, at, final)
        if at + 1 == len(raw) and not final:
            return WAIT
        if char == "[":
            return self._bracket(raw, at, final)
        if char == "&":
            meaning, end = syntax.read_entity(raw, at, final)
            if end == NONE:
                return self._literal(raw, at)
            self._tidy.add(meaning)
            return end
        return self._escape(raw, at)

    def _plain(self, raw: str, at: int, end: int, final: bool) -> int:
        if end == len(raw) and not final:
            held = syntax.MAYBE_URL.search(raw, at)
            if held is not None:
                end = held.start()
                if end == at:
                    return WAIT
        self._tidy.add(raw[at:end])
        return end

    def _literal(self, raw: str, at: int) -> int:
        self._tidy.add(raw[at])
        return at + 1

    def _exclamation(self, raw: str, at: int, final: bool) -> int:
        # An image begins after a space or a bracket; after a word the mark ends a sentence, which must not be kept
        # waiting.
        if not self._before or self._before.isspace() or self._before == "[":
            if at + 1 == len(raw) and not final:
                return WAIT
            if raw[at + 1 : at + 2] == "[":
                return at + 1
        return self._literal(raw, at)

    def _marks(self, raw: str, at: int, final: bool) -> int:
        char = raw[at]
        run = run_length(raw, at)
        end = at + run
        if end == len(raw) and not final:
            return WAIT
        before, after = self._before, raw[end : end + 1]
        if char == "`":
            if run >= 3:
                return self._open_fence("```", end)
            self._mode = _Mode.INLINE_CODE
            self._ticks = char * run
        elif char == "*":
            alone = run == 1 and (not before or before.isspace()) and (not after or after.isspace())
            if alone or (run <= 2 and before.isdigit() and after.isdigit()):
                self._tidy.add(char * run)
        elif char == "_":
            if is_ascii_word(before) and is_ascii_word(after):
                self._tidy.add(char * run)
        elif run != 2:  # "~~" strikes out and "$$" fences a formula
            self._tidy.add(char)
        return end

    def _escape(self, raw: str, at: int) -> int:
        after = raw[at + 1 : at + 2]
        if after and after in "()[]":
            return at + 2  # LaTeX's brackets
        if after.isascii() and after.isprintable() and after and not after.isalnum() and after != " ":
            return self._literal(raw, at + 1)
        return at + 1

    def _angle(self, raw: str, at: int, final: bool) -> int:
        tag, end = syntax.read_tag(raw, at, final)
        if end == NONE:
            return self._literal(raw, at)
        if end == WAIT:
            return WAIT
        if tag is Tag.REASONING:
            self._mode = _Mode.THINK
        elif tag is Tag.LINE:
            self._tidy.line()
            self._line_start = True
        elif tag is Tag.CELL:
            self._tidy.cell()
        return end

    def _bracket(self, raw: str, at: int, final: bool) -> int:
        close = syntax.matching(raw, at, "[]", syntax.LINK_TEXT_MAX)
        if close == WAIT and not final:
            return WAIT
        if close < 0:
            return self._literal(raw, at)
        text = raw[at + 1 : close]
        if text[:1] == "^":
            return close + 1  # a footnote
        if close + 1 == len(raw) and not final:
            return WAIT
        if raw[close + 1 : close + 2] == "(":
            end = syntax.matching(raw, close + 1, "()", syntax.LINK_TARGET_MAX)
            if end == WAIT and not final:
                return WAIT
            if end >= 0:
                self._raw = (syntax.host_of(text) if syntax.is_url(text) else text) + raw[end + 1 :]
                return 0
        elif text.isdigit() and len(text) <= 3 and not is_ascii_word(self._before):
            return close + 1  # a citation
        return self._literal(raw, at)

    def _url(self, raw: str, at: int, final: bool) -> int:
        bare, end = syntax.read_url(raw, at, final)
        if end == WAIT:
            return WAIT
        self._tidy.add(syntax.host_of(bare))
        return end + 1 if self._before == "<" and raw[end : end + 1] == ">" else end

    # --- inside something ---------------------------------------------------------------------------------------------

    def _inline_code(self, raw: str, at: int, final: bool) -> int:
        close = raw.find(self._ticks, at)
        line = raw.find("\n", at)
        if close >= 0 and (line < 0 or close < line):
            self._tidy.add(raw[at:close].replace("`", ""))
            self._mode = _Mode.TEXT
            return close + len(self._ticks)
        if line >= 0:
            self._tidy.add(raw[at:line].replace("`", ""))
            self._mode = _Mode.TEXT  # never closed: code does not reach beyond its line
            return line
        end = len(raw) - (len(self._ticks) - 1 if raw.endswith("`") and not final else 0)
        if end <= at:
            return WAIT
        self._tidy.add(raw[at:end].replace("`", ""))
        return end

    def _open_fence(self, fence: str, end: int) -> int:
        self._fence = fence
        self._mode = _Mode.FENCE
        self._line_start = False
        if not self._code_mentioned:
            self._code_mentioned = True
            self._tidy.line()
            self._tidy.add(CODE_NOTICE_ZH if self._tidy.wide_seen else CODE_NOTICE_EN)
            self._tidy.line()
        return end

    def _inside_fence(self, raw: str, at: int, final: bool) -> int:
        found = raw.find(self._fence, at)
        if found < 0:
            return len(raw) if final else _held(at, len(raw) - len(self._fence) + 1)
        end = found + run_length(raw, found)
        if end == len(raw) and not final:
            return _held(at, found)
        self._mode = _Mode.TEXT
        return end

    def _inside_think(self, raw: str, at: int, final: bool) -> int:
        found = syntax.THINK_END.search(raw, at)
        if found is None:
            return len(raw) if final else _held(at, len(raw) - syntax.THINK_END_MAX + 1)
        self._mode = _Mode.TEXT
        self._line_start = True
        return found.end()


def _held(at: int, until: int) -> int:
    """Go on to `until`, where what is kept for the next piece begins."""
    return until if until > at else WAIT
