"""The phrase file of the offline assistant (`config/offline.yaml`): read, checked, and turned into look-ups.

Shared by the recogniser, which listens for its English phrases, and by the offline language model, which answers. Knows
nothing about sound, tools or time: what a rule *means* is `llm/offline.py`.

A text is looked up as it is written first, with its padding, then as a phrase with open slots (`offline_open.py`), at
last as what was heard almost right (`offline_loose.py`). Every fault of a file is reported at once, with its place
written as in the file."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from xiaozhi.errors import Fault, SettingsError
from xiaozhi.providers.families.offline_file import (
    FACTS,
    LANGUAGES,
    MAX_LISTENED,
    MAX_PADDING,
    MAX_TEXT,
    PLACEHOLDER,
    PhraseFile,
    Rule,
    templates,
    validated,
)
from xiaozhi.providers.families.offline_loose import LooseChinese, LooseEnglish, LooseKey
from xiaozhi.providers.families.offline_open import (
    MAX_OPEN_SLOTS,
    MAX_OPEN_TEXT,
    OpenPhrase,
    OpenPhrases,
    open_phrase,
)
from xiaozhi.providers.families.offline_orders import (
    FILLER,
    Kinds,
    Order,
    OrderWords,
    before_reason,
    behind_reason,
    is_told,
)
from xiaozhi.providers.families.offline_patterns import (
    PatternError,
    PatternSentence,
    canonical_forms,
    canonical_sentence,
    expand,
    language_of,
    said_once,
    spoken_sentences,
)
from xiaozhi.providers.families.offline_respelled import clauses, respelled
from xiaozhi.providers.families.offline_slots import plain_text
from xiaozhi.providers.families.offline_sounds import SyllableSounds, sounds
from xiaozhi.settings.yaml_reader import read_file

MAX_NUMBERS_HEARD = 3
"""Places of a sentence at which a number may have been heard as other words."""

_POLITE = re.compile("(?:请|麻烦|能不能|可以)?你?(?:帮|给|替)我")
"""Within a Chinese sentence it means nothing: 八点给我定个闹钟."""
_TELLING = re.compile("[他她它]|.*着呢?[。.]?$")
"""Chinese that tells of somebody or how things are: it is not compared by its sound."""


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that fits a question. `values`: what was said in its slots. `mentioned`: the question is a longer
    instruction that only mentions it: answered, but nothing is done for it."""

    name: str
    rule: Rule
    values: Mapping[str, str | int] = field(default_factory=dict)
    mentioned: bool = False

    @property
    def thing(self) -> str:
        """What something is to be done with; "": nothing."""
        return str(self.values.get(self.rule.tool.of, "")) if self.rule.tool is not None else ""

    @property
    def number(self) -> int | None:
        """The (first) number among them."""
        return next((value for value in self.values.values() if isinstance(value, int)), None)


class _Loose:
    """What a language needs to understand what was heard almost right."""

    def __init__(self, book: PhraseBook, language: str) -> None:
        file = book.file
        dropped = [_canonical(text, language) for text in (*file.padding.of(language), *file.small_words.of(language))]
        phrases = [(sentence, LooseKey(*owner)) for sentence, owner in book.sentences(language).items()]
        table = sounds() if language == "zh" else None
        self.chinese = LooseChinese(phrases, dropped, table) if table is not None else None
        self.english = LooseEnglish(phrases, dropped) if language == "en" else None
        self.open = OpenPhrases(book.open_phrases(language), file.slots, language, table) if table is not None else None
        self.orders = book.order_words(language, table) if table is not None else None

    def find(self, text: str, language: str) -> tuple[LooseKey, int | None] | None:
        forms = list(canonical_forms(text, language))
        if self.english is not None:
            return self.english.find(forms)
        if self.chinese is None:
            return None
        whole = forms[0][0]
        for said in islice(self.chinese.numbers_heard(whole), MAX_NUMBERS_HEARD):
            forms += [form for form in canonical_forms(said, language) if form[1] is not None]
        return self.chinese.find(forms)


class PhraseBook:
    """A checked phrase file with its look-ups. Shared freely between greenlets and threads: what `prepare` makes is
    made once, or twice alike."""

    def __init__(self, file: PhraseFile, source: str = "offline.yaml") -> None:
        """Raises SettingsError with every fault the models cannot see: patterns, slots, doubles, unknown names."""
        self.file = file
        self._index: dict[str, dict[str, tuple[str, str]]] = {"en": {}, "zh": {}}
        self._open: dict[str, list[OpenPhrase]] = {"en": [], "zh": []}
        self._open_owners: dict[tuple[str, tuple[str, ...], tuple[str, ...]], str] = {}
        self._spoken: dict[str, None] = {}
        self._mentions: list[tuple[str, str]] = []
        self._loose: dict[str, _Loose] = {}
        self._orders: dict[Kinds, Order] = {}
        faults: list[Fault] = []
        for name, rule in file.rules.items():
            self._add(name, rule, source, faults)
        faults += self._word_faults(source)
        if len(self._spoken) > MAX_LISTENED:
            faults.append(
                Fault(
                    f"{source}: rules",
                    f"{len(self._spoken)} English sentences",
                    f"at most {MAX_LISTENED} to listen for",
                )
            )
        if faults:
            raise SettingsError(faults)
        self._padding: dict[str, list[str]] = {
            language: sorted({_canonical(text, language) for text in file.padding.of(language)}, key=len, reverse=True)
            for language in LANGUAGES
        }
        self._written: dict[str, OpenPhrases] = {
            language: OpenPhrases(self._open[language], file.slots, language, None) for language in LANGUAGES
        }

        self._thing_words = [word for lists in file.things.values() for word in lists.zh]
        self._english_things = [word for lists in file.things.values() for word in lists.en]
        self._order_words: dict[str, OrderWords] = {
            language: self.order_words(language, None) for language in LANGUAGES
        }

    def order_words(self, language: str, table: SyllableSounds | None) -> OrderWords:
        """The look-up of orders in any words."""
        file = self.file
        return OrderWords(self._orders, file.words, file.things, file.slots, language, table)

    @property
    def spoken(self) -> list[str]:
        """Every English sentence to listen for, in lower-case words, numbers spelt out."""
        return list(self._spoken)

    def sentences(self, language: str) -> Mapping[str, tuple[str, str]]:
        """(rule, slot or "") of every canonical sentence without open slots."""
        return self._index[language]

    def open_phrases(self, language: str) -> list[OpenPhrase]:
        """Those with open slots."""
        return self._open[language]

    def is_prepared(self, language: str) -> bool:
        """Whether `match` has what it needs for `language`."""
        return language in self._loose or language not in LANGUAGES

    def prepare(self, language: str) -> None:
        """Make what `match` needs for what was heard almost right: some 100 ms of CPU, once."""
        if not self.is_prepared(language):
            self._loose[language] = _Loose(self, language)

    def match(self, text: str, before: str = "") -> Match | None:
        """The rule that `text` is a phrase of, whatever padding surrounds it and however it is written; None when there
        is none. `before`: what was asked before it."""
        found = self._match(text)
        if found is not None and self._is_told(found, text):
            return None
        if found is None or not found.rule.after:
            return found
        asked = self._match(before)
        if asked is None or asked.name != found.rule.after:
            return None
        return replace(found, values={**asked.values, **found.values})

    def _is_told(self, found: Match, text: str) -> bool:
        """Whether a deed is only spoken of. What somebody wants to be reminded of, or to hear, may be told."""
        free = any(self.file.slots[name].kind == "words" for name in found.values)
        return found.rule.tool is not None and not free and is_told(text, found.thing)

    def _match(self, text: str) -> Match | None:
        if len(text) > MAX_TEXT:
            return None
        text = said_once(text)
        language = language_of(text)
        if not language:
            return self._found_open(self._written["en"], plain_text(text, "en"), "en")
        found = self._as_written(text, language)
        if found is not None:
            return found
        found = self._understood(text, language)
        if found is None or before_reason(found.thing, language):
            found = self._before_reason(text, language) or found
        if found is not None and not self._strange(found):
            return found
        for other in respelled(text, language):
            meant = self._as_written(other, language) or self._understood(other, language)
            if meant is not None and (language == "zh" or meant.number is not None):
                return meant
        return found or self._said_twice(text)

    def _said_twice(self, text: str) -> Match | None:
        """What two clauses ask alike: 你刚刚说什么，再讲一遍."""
        said = [self._match(clause) for clause in clauses(text)]
        alike = len(said) > 1 and all(one is not None and one == said[0] for one in said)
        return said[0] if alike else None

    def _understood(self, text: str, language: str) -> Match | None:
        """What is no phrase as it is written."""
        plain = plain_text(text, language)
        found = (
            self._ordered(self._order_words[language], plain)
            or self._found_open(self._written[language], plain, language)
            or self._mentioned(text)
            or self._after_reason(text, language)
        )
        if len(plain) > MAX_OPEN_TEXT or _TELLING.match(text) or (found is not None and not self._strange(found)):
            return found
        self.prepare(language)
        if found is not None:
            return self._heard_almost(text, language) or found
        return self._almost(text, plain, language)

    def _strange(self, found: Match) -> bool:
        """Whether a Chinese thing has a name that no list knows: 声引 may be 声音."""
        thing = found.thing
        return language_of(thing) == "zh" and not any(word in thing for word in self._thing_words)

    def _as_written(self, text: str, language: str) -> Match | None:
        # Breadth first: the least padding taken off wins, so that "thank you" stays thanks and not an empty rest.
        layer = dict(canonical_forms(text, language))
        seen = set(layer)
        for _ in range(MAX_PADDING + 1):
            for form, number in layer.items():
                found = self._look_up(form, number, language)
                if found is not None:
                    return found
            layer = {form: number for form, number in self._stripped(layer, language) if form not in seen}
            seen |= layer.keys()
        return None

    def _heard_almost(self, text: str, language: str) -> Match | None:
        near = self._loose[language].find(text, language)
        return self._filled(near[0].rule, near[0].slot, near[1]) if near is not None else None

    def _almost(self, text: str, plain: str, language: str) -> Match | None:
        found = self._heard_almost(text, language)
        if found is not None:
            return found
        loose = self._loose[language]
        found = self._found_open(loose.open, plain, language) if loose.open is not None else None
        return found or (self._ordered(loose.orders, plain) if loose.orders is not None else None)

    def _ordered(self, words: OrderWords, plain: str) -> Match | None:
        found = words.find(plain)
        return Match(found[0].rule, self.file.rules[found[0].rule], found[1]) if found is not None else None

    def _after_reason(self, text: str, language: str) -> Match | None:
        """The order behind a short clause that says why: "I am going to bed, so turn off the lamp"."""
        for order in behind_reason(text, language):
            found = self._as_written(order, language)
            found = found or self._ordered(self._order_words[language], plain_text(order, language))
            if found is not None:
                return found
        return None

    def _before_reason(self, text: str, language: str) -> Match | None:
        """The order before a clause that says why: "shut off the fan I'm freezing"."""
        order = before_reason(text, language)
        if not order:
            return None
        plain = plain_text(order, language)
        found = self._as_written(order, language) or self._ordered(self._order_words[language], plain)
        return found or self._found_open(self._written[language], plain, language)

    def _found_open(self, phrases: OpenPhrases, plain: str, language: str) -> Match | None:
        if len(plain) > MAX_OPEN_TEXT:
            return None
        bare = self._bare(plain, language)
        for text in dict.fromkeys((bare, plain, _POLITE.sub("", bare))):
            found = phrases.find(text)
            if found is not None:
                phrase, values = found
                if self._is_bare(phrase) and not self._known_thing(" ".join(map(str, values.values()))):
                    continue
                return Match(phrase.rule, self.file.rules[phrase.rule], values)
        return None

    def _is_bare(self, phrase: OpenPhrase) -> bool:
        """Whether a thing stands alone ("lamp please"): only what is known to be one is meant to be switched on."""
        return self.file.slots[phrase.slots[0]].kind == "thing" and "".join(phrase.literals).strip() in ("", "please")

    def _known_thing(self, name: str) -> bool:
        return any(f" {word} " in f" {name} " for word in self._english_things)

    def _bare(self, text: str, language: str) -> str:
        """`text` without the padding at its ends."""
        glue = "" if language == "zh" else " "
        for _ in range(MAX_PADDING):
            before = text
            for piece in self._padding[language]:
                if text.startswith(piece + glue):
                    text = text[len(piece) + len(glue) :]
                if text.endswith(glue + piece):
                    text = text[: -len(piece) - len(glue)]
            if text == before:
                break
        return text

    def _mentioned(self, text: str) -> Match | None:
        lowered = text.lower()
        for words, name in self._mentions:
            if words in lowered:
                return Match(name, self.file.rules[name], mentioned=True)
        return None

    def _look_up(self, form: str, number: int | None, language: str) -> Match | None:
        found = self._index[language].get(form)
        return self._filled(*found, number) if found is not None else None

    def _filled(self, name: str, slot: str, number: int | None) -> Match | None:
        if not slot:
            return Match(name, self.file.rules[name])
        limits = self.file.slots[slot]
        if number is None or not limits.least <= number <= limits.most:
            return None
        return Match(name, self.file.rules[name], {slot: number})

    def _stripped(self, layer: dict[str, int | None], language: str) -> Iterator[tuple[str, int | None]]:
        glue = "" if language == "zh" else " "
        for form, number in layer.items():
            for piece in self._padding[language]:
                if form.startswith(piece + glue):
                    yield form[len(piece) + len(glue) :], number
                if form.endswith(glue + piece):
                    yield form[: -len(piece) - len(glue)], number

    def _add(self, name: str, rule: Rule, source: str, faults: list[Fault]) -> None:
        where = f"{source}: rules.{name}"
        if rule.after and rule.after not in self.file.rules:
            faults.append(Fault(f"{where}.after", rule.after, "the name of another rule"))
        known = {*FACTS, *self.file.slots, *(rule.first.values if rule.first else ())}
        for key, template in templates(rule):
            for match in PLACEHOLDER.finditer(template):
                if match[1] not in known:
                    faults.append(
                        Fault(
                            f"{where}.{key}",
                            repr(template),
                            f"{{{match[1]}}} must be one of {', '.join(sorted(known))}",
                        )
                    )
        self._mentions += [(words.lower(), name) for words in (*rule.mentions.en, *rule.mentions.zh) if words.strip()]
        for key, phrases in (("say", rule.say), ("typed", rule.typed)):
            for language in LANGUAGES:
                for place, pattern in enumerate(getattr(phrases, language)):
                    try:
                        sentences = self._read(pattern)
                    except PatternError as error:
                        faults.append(Fault(f"{where}.{key}.{language}.{place}", repr(pattern), str(error)))
                        continue
                    at = f"{where}.{key}.{language}.{place}"
                    closed = []
                    for sentence in sentences:
                        if self._is_open(sentence):
                            self._enter_open(open_phrase(name, sentence, language), language, at, faults)
                        else:
                            self._enter(name, sentence, language, at, faults)
                            closed.append(sentence)
                    if key == "say" and language == "en":
                        if len(closed) < len(sentences):
                            faults.append(Fault(at, repr(pattern), "what nobody can listen for stands under `typed`"))
                        self._listen_for(closed)

        for place, pattern in enumerate(rule.made_of):
            at = f"{where}.made_of.{place}"
            try:
                for sentence in self._read(pattern):
                    self._enter_order(name, sentence, at, faults)
            except PatternError as error:
                faults.append(Fault(at, repr(pattern), str(error)))

    def _enter_order(self, name: str, sentence: PatternSentence, where: str, faults: list[Fault]) -> None:
        for word in sentence.words:
            if not word.startswith("<") and (word not in self.file.words or word == FILLER):
                faults.append(Fault(where, repr(word), f"a kind of `words`: {', '.join(self.file.words)}; or a slot"))
        owner = self._orders.setdefault(frozenset(sentence.words), Order(name, sentence.slots))
        if owner.rule != name:
            faults.append(Fault(where, repr(" ".join(sentence.words)), f"only one rule; rules.{owner.rule} has it too"))

    def _word_faults(self, source: str) -> Iterator[Fault]:
        """A word of two kinds would be of neither."""
        for language in LANGUAGES:
            owners: dict[str, str] = {}
            for kind, lists in self.file.words.items():
                for place, word in enumerate(lists.of(language)):
                    owner = owners.setdefault(plain_text(word, language), kind)
                    if owner != kind:
                        where = f"{source}: words.{kind}.{language}.{place}"
                        yield Fault(where, repr(word), f"a word of one kind only; words.{owner} has it too")

    def _read(self, pattern: str) -> list[PatternSentence]:
        sentences = expand(pattern)
        for sentence in sentences:
            if len(sentence.slots) > MAX_OPEN_SLOTS or len(set(sentence.slots)) < len(sentence.slots):
                raise PatternError(f"a phrase may have {MAX_OPEN_SLOTS} slots, each once")
            for slot in sentence.slots:
                if slot not in self.file.slots:
                    raise PatternError(
                        f"<{slot}> is not among the slots: {', '.join(self.file.slots) or 'there are none'}"
                    )
        return sentences

    def _is_open(self, sentence: PatternSentence) -> bool:
        return len(sentence.slots) > 1 or any(self.file.slots[slot].open for slot in sentence.slots)

    def _enter(self, name: str, sentence: PatternSentence, language: str, where: str, faults: list[Fault]) -> None:
        key = canonical_sentence(sentence, language)
        slot = sentence.slots[0] if sentence.slots else ""
        owner, _ = self._index[language].setdefault(key, (name, slot))
        if owner != name:
            faults.append(
                Fault(where, repr(" ".join(sentence.words)), f"a phrase of one rule only; rules.{owner} has it too")
            )

    def _enter_open(self, phrase: OpenPhrase, language: str, where: str, faults: list[Fault]) -> None:
        kinds = tuple(self.file.slots[slot].kind for slot in phrase.slots)
        owner = self._open_owners.setdefault((language, phrase.literals, kinds), phrase.rule)
        if owner == phrase.rule:
            self._open[language].append(phrase)
        else:
            faults.append(Fault(where, repr(phrase.literals), f"a phrase of one rule only; rules.{owner} has it too"))

    def _listen_for(self, sentences: list[PatternSentence]) -> None:
        numbers = {
            name: slot.spoken or list(range(slot.least, slot.most + 1))
            for name, slot in self.file.slots.items()
            if not slot.open
        }
        for sentence in sentences:
            if len(self._spoken) > MAX_LISTENED:
                return  # a fault already; no need to count how far it goes
            self._spoken.update(dict.fromkeys(" ".join(words).lower() for words in spoken_sentences(sentence, numbers)))


def _canonical(text: str, language: str) -> str:
    return next(canonical_forms(text, language))[0]


def load(path: Path) -> PhraseBook:
    """Read and check a phrase file, once for as long as it does not change. Raises SettingsError with every fault
    found."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        status = None  # the reader says it better
    return _load(path, status and (status.st_mtime_ns, status.st_size))


@functools.lru_cache(maxsize=4)
def _load(path: Path, state: object) -> PhraseBook:
    del state  # only a part of the key
    raw, faults = read_file(path)
    if faults and not raw:
        raise SettingsError(faults)
    file, wrong = validated(raw, path.name)
    faults += wrong
    if file is not None:
        try:
            book = PhraseBook(file, path.name)
        except SettingsError as error:
            faults += error.faults
    if faults:
        raise SettingsError(faults)
    return book
