"""What ends a sentence in the languages of the world: the marks, and whether a full stop is one or belongs to an
abbreviation, an initial or an ordinal.

The knowledge is sentencex's (Wikimedia's sentence segmenter, https://github.com/wikimedia/sentencex): Unicode's
sentence terminals, lists of abbreviations, months, words that begin sentences. It segments whole texts, and an answer
is a stream, so it is asked about one mark at a time, with the words around it. What its lists lack and speech meets
often is added here.

A word that no list knows is no abbreviation, and the sentence ends without a wait. For the others (`may_go_on`) the
next letter or word decides (`goes_on`). When in doubt the sentence goes on: two sentences in one breath are better than
one that is cut in the middle."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

import sentencex

from xiaozhi.speech.language import DEFAULT, is_small_word

CONTEXT_CHARS: Final = 32
"""How much in front of a full stop is looked at."""
FOLLOWING_CHARS: Final = 16
"""How much of the next word is looked at."""

# Titles and the like, always followed by the word they belong to, that sentencex does not know.
_TITLES: Final[dict[str, frozenset[str]]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": "mx",
        "fr": "m mm mr mme mmes mlle mlles mgr dr drs pr st ste bd",
        "ro": "dl dna dr str nr",
        "id": "dr drs jl tn ny sdr hj",
        "vi": "tp ts ths pgs gs bs ks q p",
        "sv": "dr prof st",
        "pl": "dr",
        "pt": "av eng",
        "ar": "د أ م ص ج هـ",
        "hi": "डॉ डा प्रो श्री कु सु पं सं क्र रु",
        "bn": "ড ডা ডাঃ মো মোঃ প্রফেসর",
        "th": "ดร นพ พญ ผศ รศ ศ พ.ศ ค.ศ จ อ ต ถ น.ส",
        "he": "גב מר",
    }.items()
}
# Abbreviations that stand before a number or in front of more, which it does not know either.
_BEFORE_MORE: Final[dict[str, frozenset[str]]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": "figs eq eqs vol vols eds approx est tel ext max min avg sec ch pp ca",
        "de": "abs art bzw evtl ggf inkl mind max min nr st tel vgl zzgl",
    }.items()
}
# "No. 5" is a number, "No." is an answer.
_ONLY_BEFORE_NUMBERS: Final = frozenset(("no", "nos"))
# In its lists as names of states, months and the like, and much more often words that end a sentence.
_WORDS: Final = frozenset(("ok", "me", "may", "ill", "con", "art"))
# A word so short may be an abbreviation in a language with letters in two sizes; a small letter behind it says so.
_SHORT: Final = 4
_VOWEL: Final = re.compile("[aeiouyà-åè-ïò-öø-üıœæőűąęěůāēīōū]", re.IGNORECASE)
_INITIALS: Final = re.compile(r"(?:[^\W\d_]\.-?)*[^\W\d_]")
# "Am 3. Oktober", "der 2. Platz": nouns begin with a capital, so the word in front tells an ordinal from a number.
_GERMAN_ORDINAL: Final = re.compile(
    r"(?:^|\s)(?:am|ab|bis|seit|vom|zum|zur|beim|im|de[rmns]|die|das|jede[rnms]?|eine?[rnm]?|ihre?[nm]?|seine?[nm]?)\s\d{1,3}$",
    re.IGNORECASE,
)
# Stands for a word that sentencex knows nothing about.
_UNKNOWN: Final = "Xq"
_LAST_OF_BMP: Final = 0xFFFF


def terminators() -> str:
    """Every mark of the Basic Multilingual Plane, the ASCII full stop aside, that sentencex ends a sentence at."""
    marks = (mark for mark in map(chr, range(_LAST_OF_BMP + 1)) if unicodedata.category(mark) == "Po")
    return "".join(mark for mark in marks if mark != "." and _is_terminator(mark))


def _is_terminator(mark: str) -> bool:
    return len(sentencex.segment(DEFAULT, f"word{mark} {_UNKNOWN}")) > 1


@lru_cache(maxsize=4_096)
def may_go_on(language: str, before: str) -> bool:
    """Whether a full stop behind `before` (the words in front of it, at most `CONTEXT_CHARS`) needs a look at what
    follows: a small letter says that the sentence goes on."""
    word = _last_word(before)
    short = len(word) <= _SHORT and word.isalpha() and word.lower() != word.upper()
    if short and (language != DEFAULT or _VOWEL.search(word) is None):
        return True
    return word.lower() in _ONLY_BEFORE_NUMBERS or is_abbreviation(language, before)


def stands_before_number(language: str, before: str) -> bool:
    """Whether the word at the end of `before` belongs to a number that follows: No. 5, vol. 2."""
    lower = _last_word(before).lower()
    return lower in _ONLY_BEFORE_NUMBERS or lower in _BEFORE_MORE.get(language, ())


@lru_cache(maxsize=4_096)
def is_abbreviation(language: str, before: str) -> bool:
    """Whether the sentence may go on behind the full stop with a capital letter or a digit, so that the next word
    decides."""
    word = _last_word(before)
    lower = word.lower()
    if not word or lower in _ONLY_BEFORE_NUMBERS:
        return False
    if len(word) == 1 or "." in word or (word.isdigit() and language != DEFAULT):
        return True
    if lower in _BEFORE_MORE.get(language, ()) or _is_title(language, word):
        return True
    return lower not in _WORDS and not _ends(language, before, _UNKNOWN)


@lru_cache(maxsize=4_096)
def goes_on(language: str, before: str, following: str) -> bool:
    """Whether the sentence goes on behind the full stop. `following` is the next word, at most `FOLLOWING_CHARS`, not
    empty. Only asked when it `is_abbreviation`."""
    if following[0].islower():
        return True
    word = _last_word(before)
    lower = word.lower()
    if _is_title(language, word) or (language == "de" and _GERMAN_ORDINAL.search(before) is not None):
        return True
    if _INITIALS.fullmatch(word) is not None:
        if word.isupper() and language != DEFAULT:
            return True  # A. S. Pushkin; English has lists that tell a name from "in Washington, D.C. He"
        if lower == word.upper():
            return True  # a script without capitals
    elif is_small_word(language, lower):
        return False
    return not _ends(language, before, following)


def _last_word(before: str) -> str:
    words = before.rsplit(None, 1)
    return words[-1].lstrip("(（[«»„“”\"'‘’¿¡") if words else ""


def _is_title(language: str, word: str) -> bool:
    return word.lower() in _TITLES.get(language, ())


def _ends(language: str, before: str, following: str) -> bool:
    """What sentencex says: whether it cuts right behind the full stop."""
    end = 0
    for sentence in sentencex.segment(language, f"{before}. {following} {_UNKNOWN.lower()}"):
        end += len(sentence)
        if end > len(before):
            break
    return end <= len(before) + 2
