"""Where a tool call without marks could begin in a text: a tool's name at the start of a line, JSON, a code block.

Pure. Every reader looks at the beginning of what has arrived and answers with a `Guess`; a bounded number of characters
is waited for. What was only guessed is looked at again as a whole (`written_calls.py`), and is text if it was none."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

from xiaozhi.providers.families.tool_names import Offer
from xiaozhi.providers.families.written_calls import ARGUMENT_KEYS, NAME_KEYS, WRAPPER_KEYS

WORD: Final = re.compile(r"[\w.\-:]+")
WORD_CHARS: Final = 80
"""Longer words name no tool."""
FENCE: Final = re.compile(r"```[ \t]*[\w+\-]*[ \t]*\n?\s*")
"""The beginning of a code block."""

_LEADS: Final = ("functools[", "Action:", "Action：", "call:", "Call:", ">>>", "print(", "tool_code")
_LEADS_BEGIN: Final = frozenset(lead[0] for lead in _LEADS)
_CALL_KEYS: Final = frozenset({*NAME_KEYS, *ARGUMENT_KEYS, *WRAPPER_KEYS, "type", "id"})
_KEY: Final = re.compile(r"\{\s*(?:([\"'])([\w.\-]*)(\1)?)?")
_BLANKS_WAITED_FOR: Final = 8
_BEHIND_A_NAME: Final = ("", "\n", "<", "(", "{", "[", "✿")


class Guess(Enum):
    """What a text that begins like this could be."""

    TEXT = auto()
    WAIT = auto()
    JSON = auto()
    """A call that ends with the bracket that closes it."""
    BLOCK = auto()
    """A call that ends with the code block."""
    REST = auto()
    """A call whose end nobody knows: to the end of the answer."""


def at_line(text: str, offer: Offer, *, final: bool) -> Guess:
    """`text` begins a line, without blanks. `final`: nothing will follow."""
    for lead in _LEADS if text[:1] in _LEADS_BEGIN else ():
        if text.startswith(lead):
            rest = text[len(lead) :].lstrip(" \t[{(\"'")
            if _names_a_tool(rest, offer, final=final) or (rest and lead == "functools[") or rest.startswith("```"):
                return Guess.REST
            possible = len(rest) < WORD_CHARS and ("```".startswith(rest) or could_name(rest, offer))
            return _waiting(possible, final=final)
        if lead.startswith(text) and not final:
            return Guess.WAIT
    word = WORD.match(text)
    if word is None or len(word.group()) > WORD_CHARS:
        return Guess.TEXT
    if word.end() == len(text):
        return _waiting(could_name(word.group(), offer), final=final)
    rest = text[word.end() :]
    behind = rest.lstrip(" \t\n:")
    begun = "```".startswith(behind)
    # Looked up last: nearly every word is followed by another one.
    if not (begun or behind[0] == "{" or rest[0] == "(" or behind.startswith("```")):
        return Guess.TEXT
    if offer.resolve(word.group()) is None:
        return Guess.TEXT
    return _waiting(len(rest) < _BLANKS_WAITED_FOR, final=final) if begun and behind != "```" else Guess.REST


def at_tag(text: str, offer: Offer, *, final: bool) -> Guess:
    """`text` begins with "<": a tag that is named like a tool."""
    word = WORD.match(text, 1)
    if word is None or len(word.group()) > WORD_CHARS:
        return _waiting(text == "<", final=final)
    if word.end() == len(text):
        return _waiting(could_name(word.group(), offer), final=final)
    return Guess.REST if text[word.end()] == ">" and offer.resolve(word.group()) is not None else Guess.TEXT


def at_brace(text: str, offer: Offer, *, final: bool) -> Guess:
    """`text` begins with "{": JSON whose first key is one of a call's, or a tool's name."""
    key = _KEY.match(text)
    assert key is not None
    if key[3]:
        return Guess.JSON if key[2] in _CALL_KEYS or offer.resolve(key[2]) is not None else Guess.TEXT
    begun = key[2] or ""
    possible = any(known.startswith(begun) for known in _CALL_KEYS) or could_name(begun, offer)
    return _waiting(key.end() == len(text) < WORD_CHARS and possible, final=final)


def at_bracket(text: str, offer: Offer, *, final: bool) -> Guess:
    """`text` begins with "[": a list of calls in JSON or Python."""
    inside = text[1:].lstrip()
    if not inside:
        return _waiting(len(text) < WORD_CHARS, final=final)
    if inside[0] == "{":
        return at_brace(inside, offer, final=final)
    word = WORD.match(inside)
    if word is None:
        return Guess.TEXT
    if word.end() == len(inside):
        return _waiting(could_name(word.group(), offer), final=final)
    return Guess.REST if inside[word.end()] == "(" and offer.resolve(word.group()) is not None else Guess.TEXT


def at_fence(text: str, offer: Offer, *, final: bool) -> Guess:
    """`text` begins with three backticks."""
    opening = FENCE.match(text)
    assert opening is not None
    rest = text[opening.end() :]
    if not rest:
        return _waiting(len(text) < WORD_CHARS, final=final)
    code = rest.removeprefix("print(")
    if rest[0] in "{[<" or _names_a_tool(code, offer, final=final):
        return Guess.BLOCK
    return _waiting(len(rest) < WORD_CHARS and (could_name(code, offer) or "print(".startswith(rest)), final=final)


def behind_a_mark(text: str, offer: Offer, *, final: bool) -> Guess:
    """`text` follows the mark of a call: a call, or prose about the mark."""
    bare = text.lstrip()
    if not bare:
        return Guess.REST if final or len(text) > WORD_CHARS else Guess.WAIT
    if bare[0] in "{[<\"'(`✿":
        return Guess.REST
    word = WORD.match(bare)
    if word is None:
        return Guess.TEXT
    behind = bare[word.end() :].lstrip(" \t")
    if not behind and not final:
        return Guess.WAIT if len(bare) < WORD_CHARS else Guess.TEXT
    if word.group().lower() in ("name:", "tool:", "function:"):
        return Guess.REST
    return Guess.REST if behind[:1] in _BEHIND_A_NAME or offer.resolve(word.group()) is not None else Guess.TEXT


def could_name(word: str, offer: Offer) -> bool:
    """Whether a tool's name is, or begins like, this."""
    return offer.resolve(word) is not None or offer.starts(word)


def _names_a_tool(text: str, offer: Offer, *, final: bool) -> bool:
    word = WORD.match(text)
    return word is not None and (final or word.end() < len(text)) and offer.resolve(word.group()) is not None


def _waiting(possible: bool, *, final: bool) -> Guess:
    return Guess.WAIT if possible and not final else Guess.TEXT


class Balance:
    """Where the bracket that a text begins with is closed, with the text in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def end(self, text: str) -> int:
        """The index behind the closing bracket, -1 when it is not in `text`."""
        for index, char in enumerate(text):
            if self._in_string:
                self._in_string = self._escaped or char != '"'
                self._escaped = char == "\\" and not self._escaped
            elif char == '"':
                self._in_string = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return index + 1
        return -1
