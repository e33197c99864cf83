"""The little pattern language of the offline phrases, and numbers in words: pure text in, pure text out.

    word [optional] (one|another) <slot>

Not regular expressions, on purpose: a pattern has to be *generated* from (the recogniser listens for every sentence it
stands for) as well as matched, and a user who has never seen one should be able to write it. Not the phrase file
either: that is `offline_phrases.py`.

Text is compared in a canonical form: lower case, no punctuation, numbers in words or digits of either language as
digits. A slot is the sign `SLOT`; so matching is a dictionary look-up, whatever the number was."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

from xiaozhi.speech.numerals import HAN_NUMBER, english_number, han_number, number_words

MAX_EXPANSIONS = 1000
"""Sentences one pattern may stand for; more is a mistake (too many options in a row), not a phrase."""

SLOT = "#"
"""Stands for a number in a canonical sentence."""

_TOKEN = re.compile(r"\s*(?:(?P<slot><[^<>]*>)|(?P<sign>[\[\]()|])|(?P<text>[^\s\[\]()|<>]+)|(?P<bad>[<>]))")
_HAN = re.compile(r"[㐀-鿿豈-﫿]")


_OLD_SPELLING = re.compile(r"\b(to)-(day|morrow|night)\b", re.IGNORECASE)


_CONTRACTED: Final = {
    **{f"{word}'s": f"{word} is" for word in ("what", "who", "how", "where", "when", "it", "that", "there", "here")},
    **{f"{word}n't": f"{word} not" for word in ("do", "does", "did", "is", "are", "was", "could", "should", "would")},
    **{"can't": "cannot", "won't": "will not", "i'm": "i am", "you're": "you are", "i'd": "i would", "i'll": "i will"},
    **{"i've": "i have", "you've": "you have", "let's": "let us", "we're": "we are"},
}
_CONTRACTION: Final = re.compile(rf"\b(?:{'|'.join(_CONTRACTED)})\b")

_VERBS: Final = ("turn", "open", "play", "tell", "say", "speak", "repeat", "remind", "start", "show", "read", "cancel")
_BASES: Final = {
    **{f"{verb}ing": verb for verb in _VERBS},
    **{"setting": "set", "putting": "put", "stopping": "stop", "switching": "switch", "closing": "close"},
    **{"making": "make", "waking": "wake", "giving": "give", "flipping": "flip", "muting": "mute"},
}
_MIND: Final = re.compile(r"\b(?:would|do) you mind (\w+ing)\b")


_COLLOQUIAL: Final = {
    **{
        "今儿个": "今天",
        "今儿": "今天",
        "今日": "今天",
        "明儿个": "明天",
        "明儿": "明天",
        "昨儿": "昨天",
        "后儿": "后天",
    },
    **{"早晨": "早上", "啥": "什么", "咋样": "怎么样", "点儿": "点", "会儿": "会", "这儿": "这里", "那儿": "那里"},
    **{
        "声儿": "声",
        "块儿": "块",
        "名儿": "名",
        "歌儿": "歌",
        "啦": "了",
        "咯": "了",
        "喽": "了",
        "呗": "吧",
        "您": "你",
    },
    **{"甭": "不用", "俩": "两个", "仨": "三个"},
}
_COLLOQUIAL_WORD: Final = re.compile("|".join(_COLLOQUIAL))


class PatternError(ValueError):
    """The pattern cannot be read; the message says what is wrong with it."""


@dataclass(frozen=True)
class PatternSentence:
    """One sentence a pattern stands for. `words` are literal words, or `<slot>` names with their brackets."""

    words: tuple[str, ...]

    @functools.cached_property
    def slots(self) -> tuple[str, ...]:
        """The names of its slots, in order."""
        return tuple(word[1:-1] for word in self.words if word.startswith("<"))


def language_of(text: str) -> str:
    """`zh` when there is a Han character in it, `en` when there is another letter, else `` (digits, signs, nothing)."""
    if _HAN.search(text):
        return "zh"
    return "en" if any(char.isalpha() for char in text) else ""


# --- patterns ------------------------------------------------------------------------------------------------------


def expand(pattern: str) -> list[PatternSentence]:
    """Every sentence the pattern stands for, without doubles, in order. Raises PatternError."""
    tokens = _tokens(pattern)
    try:
        sentences, rest = _alternatives(tokens, 0, pattern)
    except RecursionError:
        raise PatternError("it is nested too deeply") from None
    if rest != len(tokens):
        raise PatternError(f"unexpected {tokens[rest]!r}")
    unique = list(dict.fromkeys(sentences))
    if () in unique:
        raise PatternError("everything in it may be left out")
    return [PatternSentence(words) for words in unique]


def _tokens(pattern: str) -> list[str]:
    tokens = []
    for match in _TOKEN.finditer(pattern.strip()):
        if match["bad"] or (match["slot"] and not match["slot"][1:-1].isidentifier()):
            raise PatternError(f"a slot is written <name>, not {match[0].strip()!r}")
        tokens.append(match[0].strip())
    if not tokens:
        raise PatternError("it is empty")
    return tokens


def _alternatives(tokens: list[str], at: int, pattern: str) -> tuple[list[tuple[str, ...]], int]:
    # alternatives := sequence ('|' sequence)*
    found: list[tuple[str, ...]] = []
    while True:
        sequence, at = _sequence(tokens, at, pattern)
        found.extend(sequence)
        if len(found) > MAX_EXPANSIONS:
            raise PatternError(f"it stands for more than {MAX_EXPANSIONS} sentences")
        if at >= len(tokens) or tokens[at] != "|":
            return found, at
        at += 1


def _sequence(tokens: list[str], at: int, pattern: str) -> tuple[list[tuple[str, ...]], int]:
    found: list[tuple[str, ...]] = [()]
    while at < len(tokens) and tokens[at] not in ("|", "]", ")"):
        token = tokens[at]
        if token in ("[", "("):
            options, at = _alternatives(tokens, at + 1, pattern)
            closing = "]" if token == "[" else ")"
            if at >= len(tokens) or tokens[at] != closing:
                raise PatternError(f"{token!r} has no {closing!r}")
            if token == "[":
                options = [*options, ()]
            elif () in options:
                raise PatternError("there is nothing between ( and ), or around |")
        else:
            options = [(token,)]
        if len(found) * len(options) > MAX_EXPANSIONS:
            raise PatternError(f"it stands for more than {MAX_EXPANSIONS} sentences")
        found = [head + tail for head in found for tail in options]
        at += 1
    return found, at


# --- canonical text ------------------------------------------------------------------------------------------------


def _english_numbers(words: list[str]) -> Iterator[str | int]:
    at = 0
    while at < len(words):
        value, used = english_number(words, at)
        if used:
            yield value
            at += used
        else:
            yield words[at]
            at += 1


def canonical_words(text: str, language: str) -> list[str | int]:
    """Words (English) or runs (Chinese) of `text` without case and punctuation; whole numbers as ints."""
    if language == "zh":
        # "百分之五十" and "50%" are fifty; spaces mean nothing.
        text = re.sub(r"百分之|[^\w]|_", "", in_standard(text)).lower()
        parts: list[str | int] = []
        end = 0
        for match in HAN_NUMBER.finditer(text):
            value = han_number(match[0])
            if value is None:
                continue
            if match.start() > end:
                parts.append(text[end : match.start()])
            parts.append(value)
            end = match.end()
        if end < len(text):
            parts.append(text[end:])
        return parts
    text = in_full(text).replace("%", " percent ")
    text = re.sub(r"['’`]", "", text)
    words = re.sub(r"[^\w]|_", " ", text).split()
    return list(_english_numbers(words))


def in_standard(text: str) -> str:
    """Chinese with the standard word for those of the spoken language and of the north: 今天 for 今儿, 什么 for 啥."""
    return _COLLOQUIAL_WORD.sub(lambda match: _COLLOQUIAL[match[0]], text)


def in_full(text: str) -> str:
    """English in lower case with "what is" for "what's" and the like, which are said and written down either way; and
    "would you mind turning" as "turn"."""
    text = _MIND.sub(lambda match: _BASES.get(match[1], match[1]), text.lower())
    return _CONTRACTION.sub(lambda match: _CONTRACTED[match[0]], text.replace("’", "'"))


def said_once(text: str) -> str:
    """`text` without its repetitions: recognisers may write a short utterance down several times; "to-day" in one
    word."""
    text = _OLD_SPELLING.sub(r"\1\2", text)
    sentences = [sentence.strip() for sentence in re.split(r"[.!?。！？]+", text) if sentence.strip()]
    if len(sentences) > 1 and len(set(sentences)) == 1:
        return sentences[0]
    words = text.split()
    for size in range(2, len(words) // 2 + 1):
        if len(words) % size == 0 and words == words[:size] * (len(words) // size):
            return " ".join(words[:size])
    return text


def canonical_forms(text: str, language: str) -> Iterator[tuple[str, int | None]]:
    """The canonical sentence of `text`, then once per number in it with that number as `SLOT` (and its value)."""
    parts = canonical_words(text, language)
    glue = "" if language == "zh" else " "
    yield glue.join(map(str, parts)), None
    for place, part in enumerate(parts):
        if isinstance(part, int):
            yield glue.join(SLOT if index == place else str(other) for index, other in enumerate(parts)), part


def canonical_sentence(sentence: PatternSentence, language: str) -> str:
    """The look-up key of a sentence of a pattern (at most one slot)."""
    glue = "" if language == "zh" else " "
    keys = []
    for slot, literal in runs(sentence.words):
        keys.append(SLOT if slot else glue.join(map(str, canonical_words(glue.join(literal), language))))
    return glue.join(key for key in keys if key)


def runs(words: tuple[str, ...]) -> Iterator[tuple[bool, list[str]]]:
    """(whether it is a slot, its words) of each slot and of the words around them."""
    run: list[str] = []
    for word in words:
        if word.startswith("<"):
            if run:
                yield False, run
            yield True, [word]
            run = []
        else:
            run.append(word)
    if run:
        yield False, run


def spoken_sentences(sentence: PatternSentence, numbers: dict[str, list[int]]) -> list[list[str]]:
    """The English word sequences of a sentence, its slots filled with the numbers (by slot name) that are listened
    for."""
    choices = [
        [number_words(value) for value in numbers[word[1:-1]]] if word.startswith("<") else [[word]]
        for word in sentence.words
    ]
    return [[word for part in combination for word in part] for combination in product(*choices)]
