"""Answers given before: for a question that is repeated word for word and needs no context, the language model is not
asked again.

Off by default (`conversation.llm_cache`), because then the same question always gets the same answer. Not the speech
cache, which keeps sound. An answer is reused only if all of this holds:

- nothing was said before in this dialogue, and no tool was called for it;
- the same system prompt, so the same role, date, place, weather, memory and context data, but for the time of day and
  the device's id, which stand in every prompt and change nothing about most answers;
- a question that does not ask for them either: whatever mentions time ("now", "today", "几点") is asked anew;
- the same model and the same tools on offer.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from cachetools import TTLCache

MAX_ENTRIES: Final = 1_000
MAX_CHARS: Final = 2_000
"""Longer answers are stories; nobody wants the same one twice."""
KEPT_S: Final = 3_600.0

_OF_THE_MOMENT: Final = re.compile(
    r"\b(now|time|clock|o'clock|hours?|minutes?|today|tonight|tomorrow|yesterday|date|day|week(day|end)?|month|year|weather|temperature|"
    r"news|latest|current(ly)?|again|random|another|joke|story|who am i|my|me)\b|"
    r"现在|时间|几点|钟|今天|今晚|明天|昨天|后天|日期|几号|星期|礼拜|周几|月|年|天气|气温|温度|新闻|最新|目前|刚才|再|随机|另|换|笑话|故事|我",
    re.IGNORECASE,
)


class SharedTexts(Protocol):
    """Answers that other servers were given as well (`storage/shared_values.py`)."""

    def get(self, question: str, /) -> str:
        """The answer to a key, "" when there is none. Blocks for a moment."""

    def put(self, question: str, answer: str, /) -> None:
        """Keep one. Does not block."""


def is_timeless(question: str) -> bool:
    """True when nothing in `question` hints at the moment, at who asks, or at a wish for something new."""
    return _OF_THE_MOMENT.search(question) is None


class AnswerCache:
    """Whole answers by `key`, at most `max_entries` of at most `max_chars` each, for `seconds`; in `shared` as well, if
    there is such a place. For greenlets only."""

    def __init__(
        self,
        *,
        max_entries: int = MAX_ENTRIES,
        max_chars: int = MAX_CHARS,
        seconds: float = KEPT_S,
        shared: SharedTexts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_chars = max_chars
        self._shared = shared
        self._kept: TTLCache[str, str] = TTLCache(max_entries, seconds, timer=clock)
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Forget every answer."""
        self._kept.clear()

    @staticmethod
    def key(question: str, *, model: str, prompt: str, tools: Iterable[str]) -> str:
        """What an answer depends on; "" when the question cannot be answered from memory. `prompt`: without the time of
        day."""
        words = " ".join(question.split()).casefold()
        if not words or not is_timeless(words):
            return ""
        parts = (words, model, prompt, *sorted(tools))
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

    def get(self, key: str) -> str:
        """The answer, "" when there is none. Blocks for a moment where others share theirs."""
        if not key:
            return ""
        found: str = self._kept.get(key, "")
        if not found and self._shared is not None and (found := self._shared.get(key)):
            self._kept[key] = found
        self.hits += bool(found)
        self.misses += not found
        return found

    def put(self, key: str, answer: str) -> None:
        """Keep a whole answer; a long or empty one is not kept."""
        if key and answer.strip() and len(answer) <= self._max_chars:
            self._kept[key] = answer
            if self._shared is not None:
                self._shared.put(key, answer)
