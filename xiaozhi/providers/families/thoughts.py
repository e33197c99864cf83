"""Reasoning within a text: where it ends, which channel or role begins. Pure; `answer_text.py` moves through the
text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from xiaozhi.providers.families import text_marks
from xiaozhi.providers.families.text_marks import Kind, Mark, next_mark
from xiaozhi.providers.families.tool_names import Offer
from xiaozhi.providers.families.written_calls import WrittenCall, read_calls

CHANNEL: Final = "channel"
TURN: Final = "turn"
FINAL_CHANNEL: Final = "assistantfinal"
"""What is left of harmony's marks in front of the answer when a server has stripped them."""

MAX_KEPT_CHARS: Final = 32_000
_HEADER_CHARS: Final = 200
_ROLE_CHARS: Final = 80
_MESSAGE: Final = "<|message|>"
_ROLE_WORD: Final = re.compile(r"\s*([A-Za-z]*)")
_RECIPIENT: Final = re.compile(r"to=(?:functions?\.)?([\w.\-]+)")
_ASSISTANT: Final = frozenset({"assistant", "model", "ai", "bot", "chatbot", "gpt"})
_STRIPPED_CHANNELS: Final = ("analysis", "commentary to=")
_STRIPPED_ROLES: Final = ("assistant:", "assistant :", "### response:", "### assistant:", "###response:")
_STRIPPED_FIRST: Final = frozenset("aAc#")
_STRIPPED_ROLE: Final = re.compile(
    r"(?:assistant ?(?:\n|:(?=\s))|### ?(?:response|assistant) ?[:\n])\s*", re.IGNORECASE
)
_LAST_LATIN: Final = "\u2e80"
_NOBODY: Final = frozenset({"", "user", "all"})


class Thought:
    """One thought. `word`: that of the mark it began with, "channel" or "turn". `keep`: its text may be needed."""

    def __init__(self, word: str, *, keep: bool) -> None:
        self.ended = False
        self._word = word
        self._keep = keep
        self._chars = 0
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """What was thought, if it was kept."""
        return "".join(self._pieces)

    def step(self, text: str, *, final: bool) -> int | None:
        """How much of `text` belongs to the thought and the mark that ends it; None: too little has arrived."""
        at = next_mark(text)
        if at:
            return self._think(text[:at])
        mark = text_marks.read(text)
        if mark is None:
            return None if not final and text_marks.begun(text) else self._think(text[:1])
        quoted = bool(self._pieces) and self._pieces[-1][-1:] == "`"
        after = text[len(mark.text) : len(mark.text) + 1]
        if quoted and not after and not final:
            return None
        if (quoted and after == "`") or not self._ends_with(mark):
            return self._think(mark.text)
        self.ended = True
        return 0 if mark.kind in (Kind.ROLE, Kind.CHANNEL) else len(mark.text)

    def step_to_final_channel(self, text: str, *, final: bool) -> int | None:
        """The same for a thought that ends with `FINAL_CHANNEL`."""
        at = text.find(FINAL_CHANNEL)
        if at >= 0:
            self.ended = True
            return self._think(text[:at]) + len(FINAL_CHANNEL)
        count = len(text) if final else len(text) - len(FINAL_CHANNEL) + 1
        return self._think(text[:count]) if count > 0 else None

    def _ends_with(self, mark: Mark) -> bool:
        if mark.kind is Kind.THOUGHT_ENDS or (self._word == mark.word == text_marks.BOX):
            return True
        if self._word == CHANNEL:
            return mark.kind in (Kind.TURN_ENDS, Kind.ROLE, Kind.CHANNEL)
        return self._word == TURN and mark.kind in (Kind.TURN_ENDS, Kind.ROLE)

    def _think(self, text: str) -> int:
        if self._keep and self._chars < MAX_KEPT_CHARS:
            self._pieces.append(text)
            self._chars += len(text)
        else:
            self._pieces = [text[-1:]]
        return len(text)


class Beginning(Enum):
    """What a server that strips the marks of a template has left in front of an answer."""

    TEXT = auto()
    WAIT = auto()
    ROLE = auto()
    CHANNELS = auto()


def stripped_beginning(text: str, *, final: bool) -> tuple[Beginning, int]:
    """What `text`, the beginning of an answer, begins with, and how long it is."""
    if text[0] not in _STRIPPED_FIRST:
        return Beginning.TEXT, 0
    lower = text[:_ROLE_CHARS].lower()
    role = _STRIPPED_ROLE.match(text)
    if role is not None:
        return Beginning.ROLE, role.end()
    for word in _STRIPPED_CHANNELS:
        after = text[len(word) : len(word) + 1]
        if text.startswith(word) and ("=" in word or (after and (after.isupper() or after > _LAST_LATIN))):
            return Beginning.CHANNELS, 0
    waiting = any(word.startswith(lower) for word in (*_STRIPPED_CHANNELS, *_STRIPPED_ROLES))
    return (Beginning.WAIT if waiting and not final else Beginning.TEXT), 0


def calls_in_thought(thought: str, offer: Offer) -> list[WrittenCall]:
    """The calls at the end of a thought that was never closed: they are meant, those thought about are not."""
    at = next_mark(thought)
    while at < len(thought):
        mark = text_marks.read(thought, at)
        if mark is not None and mark.kind is Kind.CALL_BEGINS and thought[at - 1 : at] not in text_marks.QUOTES:
            region = thought[at if mark.names_call else at + len(mark.text) :].rstrip()
            if not region.endswith((">", "]", "}")):
                return []
            return [call for call in read_calls(region, offer) if call.known]
        at = next_mark(thought, at + 1)
    return []


@dataclass(frozen=True, slots=True)
class Header:
    """What stands between <|channel|> and <|message|>, `chars` long with its end. `recipient`: the function that is
    called. `thinks`: what follows is not for the user."""

    chars: int
    recipient: str
    thinks: bool


def read_header(text: str, mark: Mark, *, final: bool) -> Header | None:
    """The header that `text` begins with; None: too little has arrived."""
    message = text.find(_MESSAGE)
    line = text.find("\n") if mark.text == "<|channel>" else -1  # Gemma's has no other end
    ends = [end for end in (message, line) if end >= 0]
    if not ends:
        return None if not final and len(text) < _HEADER_CHARS else Header(0, "", thinks=False)
    end = min(ends)
    header = text[:end].strip().lower()
    chars = end + (len(_MESSAGE) if end == message else 0)
    return Header(chars, recipient_in(text[:end]), thinks=not header.startswith("final"))


def recipient_in(text: str) -> str:
    """The function that a header of harmony names, "" for none."""
    found = _RECIPIENT.search(text)
    return "" if found is None or found[1] in _NOBODY else found[1]


@dataclass(frozen=True, slots=True)
class Role:
    """The role named behind a mark, `chars` long with what belongs to it."""

    chars: int
    word: str
    recipient: str = ""

    @property
    def ours(self) -> bool:
        """The assistant's, or nobody's in particular."""
        return not self.word or self.word in _ASSISTANT


def read_role(text: str, mark: Mark, *, final: bool) -> Role | None:
    """The role that `text` begins with, behind `mark`; None: too little has arrived."""
    found = _ROLE_WORD.match(text)
    assert found is not None
    if found.end() == len(text) and not final and len(text) < _ROLE_CHARS:
        return None
    word = found[1].lower()
    if mark.word != "start" or word != "assistant":
        return Role(found.end() if word else 0, word)
    # Harmony: the recipient of a call may stand here, in front of the channel.
    end = text.find("<")
    if end < 0:
        return None if not final and len(text) < _HEADER_CHARS else Role(found.end(), word)
    return Role(end, word, recipient_in(text[:end]))
