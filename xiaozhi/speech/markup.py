"""Markup out of a stream of text: markdown, links, code, tables, HTML and reasoning, so that only words are left.

Not a markdown renderer: it keeps the words and drops the marks, and it never waits for a structure longer than it must,
because the first sentence is being waited for. Reasoning (`<think>...</think>`) and fenced code are dropped whole (code
is mentioned once, and a fence around prose is no code), a link becomes its text, a bare URL its host, a table row its
cells with commas between, a formula a line of signs. It is safe on a stream: every decision looks at a bounded distance
ahead and waits until that much has arrived, so the outcome does not depend on how the text was cut, and the work is
linear in the text."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

from xiaozhi.speech import formulas, syntax
from xiaozhi.speech.emotion import Emotion
from xiaozhi.speech.lines import read_line_start
from xiaozhi.speech.syntax import NONE, WAIT, Tag, is_ascii_word, may_grow, run_length
from xiaozhi.speech.tidy import Tidy

CODE_NOTICE_EN: Final = "I'll leave the code out."
CODE_NOTICE_ZH: Final = "代码就不念了。"


class _Mode(Enum):
    TEXT = auto()
    INLINE_CODE = auto()
    FENCE = auto()
    THINK = auto()
    COMMENT = auto()


# A long piece is worked on in slices, so that what is left of it is not copied whole for each link.
_SLICE: Final = 2_048
# Fences with these words, and all others, hold code.
_PROSE: Final = frozenset(("text", "txt", "plaintext", "plain", "markdown", "md"))
_FENCE_WORD: Final = re.compile(r"[ \t]?[A-Za-z]{0,16}[ \t]?")


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
        self._prose_fence = ""
        """The fence around prose that is still open."""
        self.wordless = ""
        """The emoji and the faces drawn with characters of the answer that was flushed last, if it had no word."""

    @property
    def emotion(self) -> Emotion | None:
        """The feeling of the first emoji that has one, so far."""
        return self._tidy.emotion

    def feed(self, piece: str) -> str:
        """More of the answer; returns what can be said of it by now."""
        for start in range(0, len(piece), _SLICE):
            self._raw += piece[start : start + _SLICE]
            self._advance(final=False)
        return self._tidy.take()

    def flush(self) -> str:
        """The answer is complete; returns the rest of it."""
        self._advance(final=True)
        self.wordless = self._tidy.wordless
        self._tidy.finish()
        self._raw = ""
        self._mode = _Mode.TEXT
        self._line_start = True
        self._row = False
        self._before = self._prose_fence = ""
        return self._tidy.take()

    def _advance(self, *, final: bool) -> None:
        at = 0
        while at < len(self._raw):
            raw = self._raw
            if self._mode is _Mode.TEXT:
                end = self._start_of_line(raw, at, final) if self._line_start else self._inline(raw, at, final)
            elif self._mode is _Mode.INLINE_CODE:
                end = self._inline_code(raw, at, final)
            elif self._mode is _Mode.FENCE:
                end = self._inside_fence(raw, at, final)
            elif self._mode is _Mode.COMMENT:
                end = self._until(syntax.COMMENT_END, syntax.COMMENT_END_MAX, raw, at, final)
            else:
                end = self._until(syntax.THINK_END, syntax.THINK_END_MAX, raw, at, final)
            if end == WAIT:
                break
            if self._raw is raw and end > at:
                self._before = raw[end - 1]
            at = end  # 0 after a link, which gave its text back to be looked at
        self._raw = self._raw[at:]

    def _start_of_line(self, raw: str, at: int, final: bool) -> int:
        found = read_line_start(raw, at, final)
        if found.end == WAIT:
            return WAIT
        if found.fence:
            return self._open_fence("~~~", raw, found.end, final)
        self._line_start = not found.over
        self._row = self._row or found.row
        if found.literal:
            self._tidy.add(found.literal)
        return found.end

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
        if char in "*_~`":
            return self._marks(raw, at, final)
        if char == "$":
            return self._dollar(raw, at, final)
        if char in "(（":
            return self._face(raw, at, final)
        if char in "【\ue200":
            end = syntax.read_mark(raw, at, final)
            if end == NONE:
                return self._literal(raw, at)
            if end != WAIT:
                self._tidy.left_out()
            return end
        if char in syntax.CELL_WALLS:
            self._tidy.cell()
            return at + 1
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
        return self._escape(raw, at, final)

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
        if may_grow(raw, at, run) and not final:
            return WAIT
        before, after = self._before, raw[end : end + 1]
        if char == "`":
            if run >= 3:
                return self._open_fence("```", raw, end, final)
            self._mode = _Mode.INLINE_CODE
            self._ticks = char * run
        elif char == "*":
            alone = run == 1 and (not before or before.isspace()) and (not after or after.isspace())
            if alone or (run <= 2 and before.isdigit() and after.isdigit()):
                self._tidy.add(char * run)
        elif char == "_":
            if is_ascii_word(before) and is_ascii_word(after):
                self._tidy.add(char * run)
        elif run != 2:  # "~~" strikes out
            self._tidy.add(char)
        return end

    def _dollar(self, raw: str, at: int, final: bool) -> int:
        run = run_length(raw, at)
        if may_grow(raw, at, run) and not final:
            return WAIT
        if run == 2:
            return self._enclosed(raw, at, "$$", final)
        formula, end = syntax.read_formula(raw, at, final) if run == 1 else ("", NONE)
        if end == WAIT:
            return WAIT
        if end == NONE:
            self._tidy.add("$")
            return at + run
        self._tidy.add(formulas.plain(formula))
        return end

    def _enclosed(self, raw: str, at: int, mark: str, final: bool) -> int:
        """A formula behind two characters at `at` and in front of `mark`; if there is no `mark`, text."""
        end = syntax.read_until(raw, at + 2, mark, formulas.MAX_CHARS, final)
        if end == WAIT:
            return WAIT
        if end == NONE:
            return at + 2
        self._tidy.add(formulas.plain(raw[at + 2 : end].strip()))
        return end + 2

    def _face(self, raw: str, at: int, final: bool) -> int:
        end = syntax.read_face(raw, at, final)
        if end == WAIT:
            return WAIT
        if end == NONE:
            return self._literal(raw, at)
        self._tidy.face(raw[at:end])
        return end

    def _escape(self, raw: str, at: int, final: bool) -> int:
        after = raw[at + 1 : at + 2]
        if after and after in "([":
            return self._enclosed(raw, at, "\\" + ")]"["([".index(after)], final)
        if after and after in ")]":
            return at + 2
        if after == "n":  # a line break that was escaped once too often
            if at + 2 == len(raw) and not final:
                return WAIT
            if not raw[at + 2 : at + 3].islower():
                self._tidy.line()
                self._line_start = True
                return at + 2
        command, end = syntax.read_command(raw, at, final)
        if end == WAIT:
            return WAIT
        if command:
            self._tidy.add(formulas.plain(command))
            return end
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
        elif tag is Tag.COMMENT:
            self._mode = _Mode.COMMENT
        elif tag is Tag.MAIL:
            self._tidy.add(raw[at + 1 : end - 1].removeprefix("mailto:"))
        return end

    def _bracket(self, raw: str, at: int, final: bool) -> int:
        close = syntax.matching(raw, at, "[]", syntax.LINK_TEXT_MAX)
        if close == WAIT and not final:
            return WAIT
        if close < 0:
            return self._literal(raw, at)
        text = raw[at + 1 : close]
        if close + 1 == len(raw) and not final:
            return WAIT
        after = raw[close + 1 : close + 2]
        reference = syntax.is_reference(text) or (text[:1] == "[" and syntax.is_reference(text.strip("[]")))
        if after == "(":
            end = syntax.matching(raw, close + 1, "()", syntax.LINK_TARGET_MAX)
            if end == WAIT and not final:
                return WAIT
            if end >= 0:
                if reference:
                    self._tidy.left_out()
                shown = "" if reference else syntax.host_of(text) if syntax.is_url(text) else text
                self._raw = shown + raw[end + 1 :]
                return 0
        if reference and not self._is_said(text):
            self._tidy.left_out()
            # With a colon at the start of a line it is the note itself.
            return close + 2 if after == ":" and self._before in ("", "\n") else close + 1
        if after == "[" and text:
            end = syntax.matching(raw, close + 1, "[]", syntax.LINK_TEXT_MAX)
            if end == WAIT and not final:
                return WAIT
            if end >= 0 and syntax.is_reference(raw[close + 2 : end]):  # a link whose target stands elsewhere
                self._raw = text + raw[close + 1 :]
                return 0
        return self._literal(raw, at)

    def _is_said(self, reference: str) -> bool:
        """Whether numbers in brackets are more than the mark of a source: an index, as in x[1], or a list."""
        if reference.isdigit():
            return self._tidy.ends_with_one_letter and is_ascii_word(self._before)
        return reference[0].isdigit() and self._before.isspace()

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

    def _open_fence(self, fence: str, raw: str, end: int, final: bool) -> int:
        if self._prose_fence:
            if self._prose_fence == fence:
                self._prose_fence = ""
            return end
        word = _FENCE_WORD.match(raw, end)
        if word is not None and word.end() == len(raw) and not final:
            return WAIT
        if word is not None and word.group().strip().lower() in _PROSE and raw[word.end() : word.end() + 1] in "\r\n":
            self._prose_fence = fence
            return word.end()
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

    def _until(self, end_mark: re.Pattern[str], longest: int, raw: str, at: int, final: bool) -> int:
        """Drop everything up to the mark."""
        found = end_mark.search(raw, at)
        if found is None:
            return len(raw) if final else _held(at, len(raw) - longest + 1)
        self._mode = _Mode.TEXT
        self._line_start = self._line_start or end_mark is syntax.THINK_END
        return found.end()


def _held(at: int, until: int) -> int:
    """Go on to `until`, where what is kept for the next piece begins."""
    return until if until > at else WAIT
