"""Which language a text is in, as far as the rules for its full stops differ, and to choose a ready text in the
language of the conversation.

Not language identification for its own sake: the script of a word decides, and among the languages in Latin letters
their commonest small words do. A text that shows none of them has no language here. That is enough to choose a list of
abbreviations or an apology, and it costs one look-up per word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

_SMALL_WORDS: Final[dict[str, str]] = {
    "en": "the and is are am was of to in it you i that with for this have has not on at by from be as we he she they "
    "my your i'm it's don't will can what who here there his her its our so or if about how do did a me no come plus "
    "him them us tell give get take make let up out more some any please yes what's that's let's",
    "de": "der die das und ist sind war ein eine einen einem einer nicht ich du wir sie er es mit auf für von zu "
    "zum zur im in am den dem des auch sich wie was noch oder kein keine bei aus nach über so wird hat haben "
    "kann",
    "fr": "le la les un une des du de et est sont était il elle je tu vous nous on que qui pas ne dans pour sur "
    "avec ce cette au aux par plus mais ou c'est d'un d'une qu'il son sa ses en à a",
    "es": "el la los las un una unos y es son está que de del en con por para no se su lo al como más pero muy hay "
    "qué cómo yo tú usted mi este esta o a",
    "it": "il lo la gli le un una uno e è sono di del della dei che non per con si in nel nella al alla come più ma "
    "anche ho hai questo questa cosa molto a",
    "pt": "o a os as um uma e é são está de do da dos das que não em no na com por para se seu sua ao como mais mas "
    "você eu isso este esta muito",
    "nl": "de het een en is zijn was van ik je niet dat die op te in met voor aan er ook als maar om dit hij zij "
    "wij naar bij wat hoe nog",
    "pl": "i w z na się nie to jest są że do jak po o od za przez dla czy ale tak już co być był była można oraz",
    "cs": "a je jsou se v ve na že to s z do o jak po za od pro ale tak už co být byl byla jsem nebo také k",
    "sk": "a je sú sa v na že to s z do o ako po za od pre ale tak už čo byť bol bola som alebo tiež k",
    "ro": "și este sunt un o de la în cu pe nu să că din pentru se ca mai dar sau el ea au fost ce cum a",
    "hu": "a az egy és van nem hogy is ez meg de csak már vagy mint volt ha itt még ki mi azt ezt",
    "sv": "och är det att en ett i på som av för med inte jag du vi den till om har var kan från men så",
    "da": "og er det at en et i på som af for med ikke jeg du vi den til om har var kan fra men så",
    "nb": "og er det at en et i på som av for med ikke jeg du vi den til om har var kan fra men så",
    "fi": "ja on ei se että oli en olen ole minä sinä hän me te he mutta kun niin myös joka tämä kuin vain",
    "tr": "ve bir bu için ile de da çok ne var değil gibi daha o ben sen mi mı en olarak kadar sonra ama",
    "vi": "và là của có không được một cho tôi bạn này trong với những các người đã để rất ở thì",
    "id": "yang dan di ke dari ini itu untuk dengan tidak adalah saya anda pada akan juga ada bisa sudah",
}  # fmt: skip

_LANGUAGES_OF: Final[dict[str, tuple[str, ...]]] = {
    word: tuple(language for language, words in _SMALL_WORDS.items() if word in words.split())
    for words in _SMALL_WORDS.values()
    for word in words.split()
}

# Letters that (nearly) one language has among those above; a word with one of them counts like a small word.
_LETTERS: Final = (
    ("de", "ß"),
    ("de fi sv", "ä"),
    ("es", "ñ¿¡"),
    ("pt", "ãõ"),
    ("fr", "œêû"),
    ("fr pt tr", "ç"),
    ("pl", "łąężźśćń"),
    ("cs", "řěů"),
    ("sk", "ľĺŕ"),
    ("ro", "țşăţș"),
    ("hu", "őű"),
    ("sv da nb", "å"),
    ("da nb", "æø"),
    ("tr", "ğış"),
    ("vi", "đơưạảấầẩẫậắằẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ"),
)
_OF_LETTER: Final[dict[str, tuple[str, ...]]] = {
    letter: tuple(languages.split()) for languages, letters in _LETTERS for letter in letters
}

# A script (or the part of it that tells a language), and the language whose rules are used for it.
_SCRIPTS: Final = (
    ("ru", re.compile("[\u0400-\u052f]")),
    ("el", re.compile("[\u0370-\u03ff\u1f00-\u1fff]")),
    ("hy", re.compile("[\u0530-\u058f]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("ar", re.compile("[\u0600-\u06ff\u0750-\u077f]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("bn", re.compile("[\u0980-\u09ff]")),
    ("pa", re.compile("[\u0a00-\u0a7f]")),
    ("gu", re.compile("[\u0a80-\u0aff]")),
    ("ta", re.compile("[\u0b80-\u0bff]")),
    ("te", re.compile("[\u0c00-\u0c7f]")),
    ("kn", re.compile("[\u0c80-\u0cff]")),
    ("ml", re.compile("[\u0d00-\u0d7f]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
    ("my", re.compile("[\u1000-\u109f]")),
    ("ka", re.compile("[\u10a0-\u10ff]")),
    ("am", re.compile("[\u1200-\u139f]")),
)
# Cyrillic letters that Russian has not.
_NOT_RUSSIAN: Final = (
    ("uk", re.compile("[іїєґ]", re.IGNORECASE)),
    ("kk", re.compile("[әқңұһ]", re.IGNORECASE)),
)
# Scripts that are written without spaces, by character or syllable.
_SYLLABLES: Final = (
    ("zh", re.compile("[\u3400-\u9fff\uf900-\ufaff]")),
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7a3]")),
)
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    language: tuple(names.split())
    for language, names in {
        "zh": "chinese mandarin cantonese yue 中文 汉语 漢語 普通话 普通話 国语 國語 华语 粤语 粵語 简体中文 繁體中文",
        "en": "english 英语 英語 英文",
        "ja": "japanese 日本語 日语 日語 日文",
        "ko": "korean 한국어 韩语 韓語 韩文",
        "de": "german deutsch 德语 德語",
        "fr": "french français francais 法语 法語",
        "es": "spanish español espanol castellano 西班牙语 西班牙語",
        "pt": "portuguese português portugues 葡萄牙语 葡萄牙語",
        "it": "italian italiano 意大利语 意大利語",
        "nl": "dutch nederlands 荷兰语",
        "pl": "polish polski 波兰语",
        "ru": "russian русский 俄语 俄語",
        "uk": "ukrainian українська 乌克兰语",
        "tr": "turkish türkçe turkce 土耳其语",
        "vi": "vietnamese 越南语 越南語",
        "id": "indonesian 印尼语 印度尼西亚语",
        "th": "thai ไทย ภาษาไทย 泰语 泰語",
        "ar": "arabic العربية 阿拉伯语",
        "hi": "hindi हिन्दी हिंदी 印地语",
    }.items()
}
_WORD: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_LATIN_LETTER: Final = re.compile("[\u00a1\u00bf-\u024f\u1e00-\u1eff]")
DEFAULT: Final = "en"
UNKNOWN: Final = ("en", "de", "fr", "pt", "pl", "sk", "ro", "hu", "sv", "fi", "tr", "vi", "id")
"""Languages to ask about a text that does not show its own: those whose abbreviations are no words of another one."""


def language_by_script(word: str, around: str) -> str:
    """The language whose rules a word that is not in Latin letters follows ("ru", "hi", ...), in a text `around` it; ""
    for Latin letters, digits and scripts that write no full stop after an abbreviation."""
    if word.isascii():
        return ""
    found = next((language for language, script in _SCRIPTS if script.search(word)), "")
    if found == "ru":
        return next((language for language, letters in _NOT_RUSSIAN if letters.search(around)), found)
    return found


class LatinLanguage:
    """What the words so far say about the language of a text in Latin letters; `add` text, `reset` for the next."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def reset(self) -> None:
        """Forget everything: another text begins."""
        self._counts.clear()

    def add(self, text: str) -> None:
        """More of the text, whole words."""
        self._counts.update(_signs(text))

    @property
    def languages(self) -> tuple[str, ...]:
        """The likeliest languages of what was added, several when they are equally likely; empty when there is no sign
        of any."""
        counts = self._counts
        if not counts:
            return ()
        most = max(counts.values())
        return tuple(language for language in _SMALL_WORDS if counts[language] == most)


def is_small_word(language: str, word: str) -> bool:
    """Whether `word`, in small letters, is one of the commonest of the language."""
    return language in _LANGUAGES_OF.get(word, ())


def spoken_language(*texts: str, usual: str = "") -> str:
    """The language that somebody speaks, by what was said ("zh", "en", ...), the last first; "" when that is not
    known. A text that may be of several languages ("No.") is of the one that was spoken before it, or else of the
    `usual` one."""
    latin = False
    for place, text in enumerate(texts):
        found = _language_of_other_letters(text)
        if found:
            return found
        words = LatinLanguage()
        words.add(text)
        languages = words.languages
        if len(languages) > 1:
            before = spoken_language(*texts[place + 1 :]) or usual
            return before if before in languages else DEFAULT if DEFAULT in languages else languages[0]
        if languages:
            return languages[0]
        latin = latin or _WORD.search(text) is not None
    return DEFAULT if latin else ""


def _language_of_other_letters(text: str) -> str:
    """By the script of most words; a Chinese character or a syllable counts as one."""
    counts: Counter[str] = Counter()
    for script, letters in _SYLLABLES:
        counts[script] = len(letters.findall(text))
    if counts["ja"]:
        counts["ja"] += counts.pop("zh")
    words = _WORD.findall(text)
    counts.update(filter(None, (language_by_script(word, text) for word in words)))
    if not counts:
        return ""
    language, count = counts.most_common(1)[0]
    return language if count and count >= sum(word[0] < "\u0370" for word in words) else ""


@lru_cache(maxsize=256)
def home_language(wake_words: tuple[str, ...]) -> str:
    """The language of a household, by the words that wake its devices; the first one that shows any decides."""
    return next(filter(None, map(spoken_language, wake_words)), "")


@lru_cache(maxsize=256)
def named_language(name: str) -> str:
    """The language that a person calls `name` ("English", "中文", "pt-BR"); "" when it is not known here."""
    name = name.strip().casefold()
    tag = re.split("[-_ ]", name)[0]
    return next((language for language, names in _NAMES.items() if name in names or tag in (language, *names)), "")


def _signs(text: str) -> Iterator[str]:
    for word in _WORD.findall(text.replace("\u2019", "'")):
        if word == "I":
            yield DEFAULT  # in other languages it is a small letter
        else:
            yield from _LANGUAGES_OF.get(word.lower(), ())
    for letter in _LATIN_LETTER.findall(text.lower()):
        yield from _OF_LETTER.get(letter, ())
