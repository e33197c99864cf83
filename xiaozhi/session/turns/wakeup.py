"""Wake words, exit commands and greetings: what a short text means before any language model sees it.

Pure decisions on text. The greeting itself is spoken by a turn; its sound comes from the speech cache.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable

_GREETINGS_ZH = ("我在呢。", "来啦，请说。", "嗯，我听着呢。", "你好呀，有什么事吗？")
_GREETINGS_EN = ("I'm here.", "Yes? I'm listening.", "Hi, what can I do for you?")


def bare(text: str) -> str:
    """`text` without punctuation, spaces and case, so that "退出。" equals "退出" and "Exit!" equals "exit"."""
    return "".join(char for char in text.casefold() if unicodedata.category(char)[0] in "LN")


def is_wake_word(text: str, words: Iterable[str]) -> bool:
    """True when `text` is one of the wake words, punctuation and case aside."""
    spoken = bare(text)
    return bool(spoken) and any(bare(word) == spoken for word in words)


def is_exit(text: str, commands: Iterable[str]) -> bool:
    """True when `text` is one of the exit commands and nothing more."""
    spoken = bare(text)
    return bool(spoken) and any(bare(command) == spoken for command in commands)


def is_chinese(text: str) -> bool:
    """True when there is any Han character in `text`."""
    return any("\u4e00" <= char <= "\u9fff" for char in text)


def pick_greeting(wake_word: str, choose: random.Random | None = None) -> str:
    """A short answer to a wake word, in its language. Few and fixed, so that their sound is cached per voice."""
    return (choose or random.Random()).choice(_GREETINGS_ZH if is_chinese(wake_word) else _GREETINGS_EN)


def greetings_for(wake_words: Iterable[str]) -> list[str]:
    """Every greeting that may be given to one of these words, to have them spoken in advance."""
    languages = {is_chinese(word) for word in wake_words}
    return [*(_GREETINGS_ZH if True in languages else ()), *(_GREETINGS_EN if False in languages else ())]
