"""What markup looks like: where a link, a tag, a URL or an entity begins and ends in text that is still coming in.

Pure reading, no state and no output; markup.py decides what becomes of it. Every reader looks a bounded distance ahead
and answers WAIT while the text that would decide has not arrived, NONE when the thing is not there. Syntax: CommonMark
0.31 (https://spec.commonmark.org/0.31.2/) as far as language models use it."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

WAIT: Final = -1
"""Returned instead of an index: not decidable yet."""
NONE: Final = -2
"""Returned instead of an index: not there."""

SPECIAL: Final = re.compile(r"[<*_~`\\\[!&|$\n]|https?://|www\.[a-z0-9]", re.IGNORECASE)
"""Anything in the middle of a line that is not simply a word."""
MAYBE_URL: Final = re.compile(r"(?:h(?:t(?:t(?:p(?:s(?::/?)?|:/?)?)?)?)?|w(?:w(?:w\.?)?)?)\Z", re.IGNORECASE)
"""The end of a piece that may be the beginning of a URL."""

RULE_MAX: Final = 200
RULE: Final = re.compile(rf"[-*_=+|:•◦▪● \t]{{1,{RULE_MAX}}}")
"""What rules, delimiter rows of tables and bullets are made of."""
TASK: Final = re.compile(r"\[[ xX]\][ \t]")

THINK_END: Final = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
THINK_END_MAX: Final = len("</thinking>")

LINK_TEXT_MAX: Final = 100
LINK_TARGET_MAX: Final = 2_048
NESTING_MAX: Final = 8
"""Brackets within brackets. Without a limit a text of nothing but opening ones would be read to `limit` from each of
them."""
_URL_MAX: Final = 2_048
_URL: Final = re.compile(rf"[^\s<>\"`|\u2018-\u201f\u2026\u3000-\u9fff\uff00-\uffef]{{1,{_URL_MAX}}}")
_HOST: Final = re.compile(r"(?:https?://)?(?:[^/@?#]*@)?(?:www\.)?([^/:?#]*)", re.IGNORECASE)
# Punctuation at the end of a URL belongs to the sentence around it.
_URL_TAIL: Final = ".,!?;:*_~'])}"

_NAME: Final = re.compile(r"</?([A-Za-z][A-Za-z0-9]*)")
_ATTRIBUTES: Final = r"(?:\s+[\w:-]+\s*=\s*(?:\"[^\"<>\n]*\"|'[^'<>\n]*'|[^\s\"'<>]+))*"
_TAG: Final = re.compile(rf"</?[A-Za-z][A-Za-z0-9]*{_ATTRIBUTES}\s*/?>")
# What a tag that is still coming in looks like; "a<b and c" stops looking like one at once.
_TAG_BEGUN: Final = re.compile(
    rf"</?[A-Za-z][A-Za-z0-9]*{_ATTRIBUTES}(?:\s*/?|\s+[\w:-]+\s*(?:=\s*(?:\"[^\"<>\n]*|'[^'<>\n]*)?)?)\Z"
)
_TAG_MAX: Final = 200

_ENTITIES: Final = {
    "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&#39;": "'", "&#x27;": "'", "&nbsp;": " ",
}  # fmt: skip


class Tag(Enum):
    """What an HTML tag means for speech."""

    REASONING = auto()
    REASONING_END = auto()
    LINE = auto()
    CELL = auto()
    NOTHING = auto()
    AUTOLINK = auto()
    """Not a tag but `<https://...`: the bracket goes, the URL stays."""


_REASONING: Final = frozenset(("think", "thinking"))
_MEANING: Final = (
    dict.fromkeys(
        ("br", "p", "div", "li", "ul", "ol", "tr", "table", "h1", "h2", "h3", "h4", "h5", "h6", "hr"), Tag.LINE
    )
    | dict.fromkeys(("td", "th"), Tag.CELL)
    | dict.fromkeys(
        ("b", "i", "em", "strong", "u", "s", "sub", "sup", "span", "code", "pre", "a", "small", "mark"), Tag.NOTHING
    )
    | dict.fromkeys(("font", "del", "ins", "thead", "tbody"), Tag.NOTHING)
    | dict.fromkeys(_REASONING, Tag.REASONING)
    | dict.fromkeys(("http", "https"), Tag.AUTOLINK)
)


def run_length(raw: str, at: int) -> int:
    """How often the character at `at` is repeated."""
    end = at + 1
    while end < len(raw) and raw[end] == raw[at]:
        end += 1
    return end - at


def is_ascii_word(char: str) -> bool:
    """True for a letter or digit of ASCII; False for ""."""
    return char.isascii() and char.isalnum()


def matching(raw: str, at: int, pair: str, limit: int) -> int:
    """Index of the bracket that closes the one at `at`, in the same line, at most `limit` characters on, with at most
    `NESTING_MAX` others open at a time; WAIT; NONE."""
    depth = 0
    for index in range(at, min(len(raw), at + limit)):
        char = raw[index]
        if char == pair[0]:
            depth += 1
            if depth > NESTING_MAX:
                return NONE
        elif char == pair[1]:
            depth -= 1
            if depth == 0:
                return index
        elif char == "\n":
            return NONE
    return WAIT if len(raw) < at + limit else NONE


def host_of(url: str) -> str:
    """The short form of a URL that can be said: its host without "www."."""
    match = _HOST.match(url)
    return match.group(1) if match is not None else ""


def is_url(text: str) -> bool:
    """True when `text` begins like a URL."""
    match = SPECIAL.match(text)
    return match is not None and len(match.group()) > 1


def read_url(raw: str, at: int, final: bool) -> tuple[str, int]:
    """The bare URL that begins at `at`, and where it ends (WAIT: not known yet)."""
    match = _URL.match(raw, at)
    assert match is not None
    if match.end() == len(raw) and match.end() - at < _URL_MAX and not final:
        return "", WAIT
    url = match.group()
    bare = url.rstrip(_URL_TAIL)
    if url.startswith(")", len(bare)) and bare.count("(") > bare.count(")"):
        bare += ")"
    return bare, at + len(bare)


def read_entity(raw: str, at: int, final: bool) -> tuple[str, int]:
    """The meaning of the HTML entity at `at`, and where it ends (WAIT, NONE)."""
    for entity, meaning in _ENTITIES.items():
        if raw.startswith(entity, at):
            return meaning, at + len(entity)
    tail = raw[at : at + 6]
    if not final and at + len(tail) == len(raw) and any(entity.startswith(tail) for entity in _ENTITIES):
        return "", WAIT
    return "", NONE


def read_tag(raw: str, at: int, final: bool) -> tuple[Tag, int]:
    """The known HTML tag that begins at `at`, and where it ends (WAIT, NONE). Unknown tags are text."""
    match = _NAME.match(raw, at)
    if match is None:
        undecided = len(raw) - at < 2 or (raw[at + 1] == "/" and len(raw) - at < 3)
        return Tag.NOTHING, WAIT if undecided and not final else NONE
    name = match.group(1).lower()
    if match.end() == len(raw) and not final and any(known.startswith(name) for known in _MEANING):
        return Tag.NOTHING, WAIT
    tag = _MEANING.get(name)
    if tag is None:
        return Tag.NOTHING, NONE
    if tag is Tag.AUTOLINK:
        rest = raw[match.end() : match.end() + 3]
        if len(rest) < 3 and "://".startswith(rest) and not final:
            return tag, WAIT
        return tag, at + 1 if rest == "://" else NONE
    window = raw[at : at + _TAG_MAX]
    whole = _TAG.match(window)
    if whole is None:
        begun = len(window) < _TAG_MAX and _TAG_BEGUN.match(window) is not None
        return tag, WAIT if begun and not final else NONE
    if tag is Tag.REASONING and raw[at + 1] == "/":
        tag = Tag.REASONING_END
    return tag, at + whole.end()
