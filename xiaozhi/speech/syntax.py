"""What markup looks like: where a link, a tag, a URL or an entity begins and ends in text that is still coming in.

Pure reading, no state and no output; markup.py decides what becomes of it. Every reader looks a bounded distance ahead
and answers WAIT while the text that would decide has not arrived, NONE when the thing is not there. Syntax: CommonMark
0.31 (https://spec.commonmark.org/0.31.2/) as far as language models use it."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from xiaozhi.speech.formulas import BARE

WAIT: Final = -1
"""Returned instead of an index: not decidable yet."""
NONE: Final = -2
"""Returned instead of an index: not there."""

SPECIAL: Final = re.compile(r"[<*_~`\\\[!&|$\n(（【│┃║\ue200]|https?://|www\.[a-z0-9]", re.IGNORECASE)
"""Anything in the middle of a line that is not simply a word."""
CELL_WALLS: Final = "│┃║"
"""What tables drawn with lines have between their cells."""
MAYBE_URL: Final = re.compile(r"(?:h(?:t(?:t(?:p(?:s(?::/?)?|:/?)?)?)?)?|w(?:w(?:w\.?)?)?)\Z", re.IGNORECASE)
"""The end of a piece that may be the beginning of a URL."""

RUN_MAX: Final = 64
"""A longer run of one character is read in parts: no text has to be waited for, or read again, for ever."""
THINK_END: Final = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
THINK_END_MAX: Final = len("</thinking>")
COMMENT_END: Final = re.compile("-->")
COMMENT_END_MAX: Final = len("-->")

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

_NAME: Final = re.compile(r"</?([A-Za-z][A-Za-z0-9]*(?:[-:][A-Za-z]+)*)")
_NAME_BEGUN: Final = re.compile(r"</?[A-Za-z][A-Za-z0-9:-]*\Z")
_MAIL: Final = re.compile(r"<(?:mailto:)?[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,80}>")
_MAIL_BEGUN: Final = re.compile(r"<(?:mailto:)?[A-Za-z0-9._%+-]{1,64}(?:@[A-Za-z0-9.-]{0,80})?\Z")
_ATTRIBUTES: Final = r"(?:\s+[\w:-]+\s*=\s*(?:\"[^\"<>\n]*\"|'[^'<>\n]*'|[^\s\"'<>]+))*"
_TAG: Final = re.compile(rf"</?[A-Za-z][A-Za-z0-9:-]*{_ATTRIBUTES}\s*/?>")
# What a tag that is still coming in looks like; "a<b and c" stops looking like one at once.
_TAG_BEGUN: Final = re.compile(
    rf"</?[A-Za-z][A-Za-z0-9:-]*{_ATTRIBUTES}(?:\s*/?|\s+[\w:-]+\s*(?:=\s*(?:\"[^\"<>\n]*|'[^'<>\n]*)?)?)\Z"
)
_TAG_MAX: Final = 200

_ENTITY_MAX: Final = 33
_ENTITY: Final = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_ENTITY_BEGUN: Final = re.compile(r"&(?:#(?:[0-9]{0,7}|[xX][0-9a-fA-F]{0,6})|[A-Za-z][A-Za-z0-9]{0,30})?\Z")

_BRACKETS: Final = {pair: re.compile(f"[{re.escape(pair)}\\n]") for pair in ("[]", "()", "{}")}

_REFERENCE: Final = re.compile(
    r"\^.{1,98}|\^?\d{1,3}(?:\s?[-–,，、;]\s?\^?\d{1,3})*\^?|(?:citation|source|ref|doc|webpage|turn)[:\s_]?\s?\d{1,3}\w{0,12}",
    re.IGNORECASE,
)
_LENTICULAR_MAX: Final = 60
# 【1†source】, 【4:0†report.pdf】, 【12】
_LENTICULAR: Final = re.compile(r"【\s?\d{1,3}(?::\d{1,3})?(?:†[^【】\n]{0,40})?】")
_LENTICULAR_BEGUN: Final = re.compile(r"【\s?(?:\d{1,3}(?::\d{0,3})?(?:†[^【】\n]{0,40})?)?\Z")
_PRIVATE_MARK_MAX: Final = 200

_FACE_MAX: Final = 16
# (^_^), (>_<), （≧▽≦）, (•̀ᴗ•́): between the brackets are no digits, no letters but some that are drawn with, and more
# than punctuation or a sum.
_DRAWN: Final = r"(?:[^\w\s()（）]|[_\u0250-\u02af\u1d00-\u1dbfωДεзツಠಥ])"
_PLAIN_MARKS: Final = r"[-+*/=.,!?…:;%&$€£¥°'\"。，！？、；：·—–~～ ]+"
_FACE: Final = re.compile(rf"[(（](?!{_PLAIN_MARKS}[)）])(?=[^()（）]*(?:[^\w\s()（）]|_)){_DRAWN}{{2,14}}[)）]")
_FACE_BEGUN: Final = re.compile(rf"[(（]{_DRAWN}{{0,14}}\Z")

_FORMULA_LINE_MAX: Final = 120
# "$x^2$": closed in the same line, nothing blank inside the dollars; money begins with a digit, and text has sentences.
_FORMULA: Final = re.compile(
    rf"\$([A-Za-z\\({{|](?:[^$\n\u2e80-\uffef]{{0,{_FORMULA_LINE_MAX}}}[^$\s\u2e80-\uffef])?)\$(?!\d)"
)
_FORMULA_BEGUN: Final = re.compile(
    rf"\$(?:[A-Za-z\\({{|](?:(?![.!?;]\s)[^$\n\u2e80-\uffef]){{0,{_FORMULA_LINE_MAX + 1}}}\$?)?\Z"
)
_COMMAND: Final = re.compile(r"\\([A-Za-z]{1,20})")
_GROUP_MAX: Final = 100


class Tag(Enum):
    """What an HTML tag means for speech."""

    REASONING = auto()
    REASONING_END = auto()
    LINE = auto()
    CELL = auto()
    NOTHING = auto()
    COMMENT = auto()
    AUTOLINK = auto()
    """Not a tag but `<https://...`: the bracket goes, the URL stays."""
    MAIL = auto()
    """Not a tag but `<me@example.com>`."""


_REASONING: Final = frozenset(("think", "thinking"))
_MEANING: Final = (
    dict.fromkeys(
        (
            *("br", "p", "div", "li", "ul", "ol", "tr", "table", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "dl", "dt"),
            *("dd", "section", "article", "header", "footer", "main", "nav", "aside", "details", "summary", "figure"),
            *("blockquote", "center", "html", "body", "form", "fieldset", "caption", "figcaption"),
        ),
        Tag.LINE,
    )
    | dict.fromkeys(("td", "th"), Tag.CELL)
    | dict.fromkeys(
        ("b", "i", "em", "strong", "u", "s", "sub", "sup", "span", "code", "pre", "a", "small", "mark"), Tag.NOTHING
    )
    | dict.fromkeys(
        (
            *("font", "del", "ins", "thead", "tbody", "tfoot", "img", "label", "button", "kbd", "samp", "var", "cite"),
            *("q", "abbr", "time", "dfn", "bdi", "bdo", "ruby", "rt", "rp", "wbr", "big", "tt", "strike", "input"),
            # SSML, https://www.w3.org/TR/speech-synthesis11/
            *("speak", "prosody", "emphasis", "voice", "phoneme", "say-as", "break", "audio", "mark", "lang", "desc"),
            *("lexicon", "lookup", "token", "w", "mstts:express-as", "amazon:effect", "amazon:domain"),
            # what models put around an answer they were asked for
            *("answer", "response", "reply", "output"),
        ),
        Tag.NOTHING,
    )
    | dict.fromkeys(_REASONING, Tag.REASONING)
    | dict.fromkeys(("http", "https"), Tag.AUTOLINK)
)


def run_length(raw: str, at: int) -> int:
    """How often the character at `at` is repeated, at most `RUN_MAX` times."""
    end = at + 1
    limit = min(len(raw), at + RUN_MAX)
    while end < limit and raw[end] == raw[at]:
        end += 1
    return end - at


def may_grow(raw: str, at: int, run: int) -> bool:
    """Whether more of the text could make a run of `run` characters at `at` longer."""
    return at + run == len(raw) and run < RUN_MAX


def is_ascii_word(char: str) -> bool:
    """True for a letter or digit of ASCII; False for ""."""
    return char.isascii() and char.isalnum()


def matching(raw: str, at: int, pair: str, limit: int) -> int:
    """Index of the bracket that closes the one at `at`, in the same line, at most `limit` characters on, with at most
    `NESTING_MAX` others open at a time; WAIT; NONE."""
    depth = 0
    for found in _BRACKETS[pair].finditer(raw, at, at + limit):
        char = found.group()
        if char == pair[0]:
            depth += 1
            if depth > NESTING_MAX:
                return NONE
        elif char == pair[1]:
            depth -= 1
            if depth == 0:
                return found.start()
        else:
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


def is_reference(text: str) -> bool:
    """Whether what stands in square brackets is a footnote or the number of a source: ^1, 2, 1-3, citation:3, doc1."""
    return _REFERENCE.fullmatch(text) is not None and text != "0"


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
    window = raw[at : at + _ENTITY_MAX]
    match = _ENTITY.match(window)
    if match is None:
        begun = len(window) < _ENTITY_MAX and _ENTITY_BEGUN.match(window) is not None
        return "", WAIT if begun and not final else NONE
    meaning = html.unescape(match.group())
    return meaning, NONE if meaning == match.group() else at + match.end()


def read_mark(raw: str, at: int, final: bool) -> int:
    """The end of the mark of a source at `at` in brackets of its own (【1†source】) or between private characters;
    WAIT; NONE."""
    if raw[at] == "【":
        window = raw[at : at + _LENTICULAR_MAX]
        return _read(_LENTICULAR, _LENTICULAR_BEGUN, window, at, final)
    end = raw.find("\ue201", at, at + _PRIVATE_MARK_MAX)
    if end >= 0:
        return end + 1
    return WAIT if len(raw) < at + _PRIVATE_MARK_MAX and not final else NONE


def read_face(raw: str, at: int, final: bool) -> int:
    """The end of the face drawn with characters that begins with the bracket at `at`; WAIT; NONE."""
    return _read(_FACE, _FACE_BEGUN, raw[at : at + _FACE_MAX], at, final)


def read_formula(raw: str, at: int, final: bool) -> tuple[str, int]:
    """The formula between single dollars that begins at `at`, and where it ends (WAIT, NONE)."""
    window = raw[at : at + _FORMULA_LINE_MAX + 5]
    match = _FORMULA.match(window)
    if match is not None and (match.end() < len(window) or final):  # else a digit might follow
        return match.group(1), at + match.end()
    begun = len(window) < _FORMULA_LINE_MAX + 5 and _FORMULA_BEGUN.match(window) is not None
    return "", WAIT if begun and not final else NONE


def read_until(raw: str, at: int, end: str, limit: int, final: bool) -> int:
    """Where the first `end` behind `at` begins, at most `limit` characters on; WAIT; NONE."""
    found = raw.find(end, at, at + limit)
    if found >= 0:
        return found
    return WAIT if len(raw) < at + limit and not final else NONE


def read_command(raw: str, at: int, final: bool) -> tuple[str, int]:
    """The LaTeX command at `at` with the groups behind it, and where it ends (WAIT, NONE); "" for another backslash."""
    match = _COMMAND.match(raw, at)
    if match is None or match.group(1) not in BARE:
        grows = match is not None and match.end() == len(raw) and any(map(_begins(match.group(1)), BARE))
        return "", WAIT if grows and not final else NONE
    end = match.end()
    if end == len(raw) and not final:
        return "", WAIT
    while raw[end : end + 1] == "{":
        close = matching(raw, end, "{}", _GROUP_MAX)
        if close == WAIT and not final:
            return "", WAIT
        if close < 0:
            break
        end = close + 1
        if end == len(raw) and not final:
            return "", WAIT
    return raw[at:end], end


def _begins(start: str) -> Callable[[str], bool]:
    return lambda name: name.startswith(start)


def _read(whole: re.Pattern[str], begun: re.Pattern[str], window: str, at: int, final: bool) -> int:
    match = whole.match(window)
    if match is not None:
        return at + match.end()
    return WAIT if begun.match(window) is not None and not final else NONE


def read_tag(raw: str, at: int, final: bool) -> tuple[Tag, int]:
    """The known HTML tag that begins at `at`, and where it ends (WAIT, NONE). Unknown tags are text."""
    comment = raw[at : at + 4]
    if comment == "<!--":
        return Tag.COMMENT, at + 4
    if not final and len(comment) < 4 and "<!--".startswith(comment):
        return Tag.NOTHING, WAIT
    window = raw[at : at + _TAG_MAX]
    mail = _MAIL.match(window)
    if mail is not None:
        return Tag.MAIL, at + mail.end()
    undecided = len(window) < _TAG_MAX and not final
    match = _NAME.match(window)
    if match is None:
        return Tag.NOTHING, WAIT if undecided and (window == "</" or _MAIL_BEGUN.match(window)) else NONE
    if undecided and (_NAME_BEGUN.match(window) or _MAIL_BEGUN.match(window)):
        begun = window.lstrip("</").lower()
        if _MAIL_BEGUN.match(window) or any(known.startswith(begun) for known in _MEANING):
            return Tag.NOTHING, WAIT
    tag = _MEANING.get(match.group(1).lower())
    if tag is None:
        return Tag.NOTHING, NONE
    if tag is Tag.AUTOLINK:
        rest = window[match.end() : match.end() + 3]
        if len(rest) < 3 and "://".startswith(rest) and not final:
            return tag, WAIT
        return tag, at + 1 if rest == "://" else NONE
    whole = _TAG.match(window)
    if whole is None:
        return tag, WAIT if undecided and _TAG_BEGUN.match(window) is not None else NONE
    if tag is Tag.REASONING and raw[at + 1] == "/":
        tag = Tag.REASONING_END
    return tag, at + whole.end()
