"""The phrase file of the offline assistant (`config/offline.yaml`): read, checked, and turned into look-ups.

Shared by the recogniser, which listens for its English phrases, and by the offline language model, which answers. Knows
nothing about sound, tools or time: what a rule *means* is `llm/offline.py`.

Every fault of a file is reported at once, with its place written as in the file.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from xiaozhi.errors import Fault, SettingsError
from xiaozhi.providers.families.offline_patterns import (
    PatternError,
    PatternSentence,
    canonical_forms,
    canonical_sentence,
    expand,
    language_of,
    spoken_sentences,
)
from xiaozhi.settings.yaml_reader import read_file
from xiaozhi.speech.numerals import MAX_SPOKEN

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

FACTS = (
    *("time", "date", "weekday", "month", "year", "lunar", "part_of_day", "coin", "die", "number", "answer"),
    "result",
)
"""Names the assistant itself can fill in."""

MAX_TEXT = 400
"""Characters of a question that are looked at; anything longer is no phrase."""
MAX_PADDING = 4
"""Pieces of padding that may be taken off both ends together."""
MAX_LISTENED = 5_000
"""English sentences the recogniser listens for; what was heard is compared with each (about 1 us), and more are
confused anyway."""

_PHONEMES = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
PHONEMES = frozenset(_PHONEMES.split())
"""Those of the bundled acoustic model: ARPAbet without stress, as in the CMU dictionary."""

PLACEHOLDER = re.compile(r"\{\s*([a-z_]+)\s*(?:([+-])\s*(\d+))?\s*\}")
"""`{name}`, `{name + 10}`, `{name - 10}`."""


class _Model(BaseModel):
    # "forbid": in this file a misspelt key would silently do nothing.
    model_config = ConfigDict(extra="forbid", frozen=True)


def _checked_template(text: str) -> str:
    rest = PLACEHOLDER.sub("", text)
    if "{" in rest or "}" in rest:
        raise ValueError("braces hold a name, or a name + or - a whole number: {time}, {volume + 10}")
    return text


def _checked_argument(value: Any) -> str | int | bool:
    if isinstance(value, str):
        return _checked_template(value)
    if isinstance(value, int):
        return value
    raise ValueError("a text, a whole number, true or false")


def _checked_pronunciation(sounds: str) -> str:
    wrong = [sound for sound in sounds.split() if sound not in PHONEMES]
    if wrong or not sounds.strip():
        raise ValueError(f"phonemes, each one of {' '.join(sorted(PHONEMES))}")
    return " ".join(sounds.split())


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Template = Annotated[str, Field(min_length=1), AfterValidator(_checked_template)]
Names = Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_as_list), Field(min_length=1)]
"""One name or several, the first that fits counts."""
Argument = Annotated[str | int | bool, PlainValidator(_checked_argument)]
Pronunciation = Annotated[str, AfterValidator(_checked_pronunciation)]


class Texts(_Model):
    """One or more ways to say something, per language."""

    en: list[Template] = Field(min_length=1)
    zh: list[Template] = Field(min_length=1)

    def of(self, language: str) -> list[str]:
        return self.zh if language == "zh" else self.en


class RulePhrases(_Model):
    """Patterns per language; a rule may know only one language."""

    en: list[str] = []
    zh: list[str] = []


class Question(_Model):
    """A tool that is asked before a rule can go on, and where in its JSON answer the wanted values are."""

    tool: Names
    values: dict[str, str] = Field(min_length=1)


class Deed(_Model):
    """The tool a rule runs."""

    name: Names
    arguments: dict[str, Argument] = {}
    extras: dict[str, Argument] = {}


class Rule(_Model):
    """What is said, what is answered, and what is done in between. `typed`: phrases that nobody listens for."""

    say: RulePhrases
    typed: RulePhrases = RulePhrases()
    mentions: RulePhrases = RulePhrases()
    answer: Texts
    first: Question | None = None
    tool: Deed | None = None
    without_tool: Texts | None = None


class Slot(_Model):
    """A whole number in a phrase."""

    least: int = Field(0, ge=0, le=MAX_SPOKEN)
    most: int = Field(100, ge=0, le=MAX_SPOKEN)
    spoken: list[int] = []

    @model_validator(mode="after")
    def _within(self) -> Slot:
        if self.least > self.most:
            raise ValueError("`least` must not be above `most`")
        outside = [value for value in self.spoken if not self.least <= value <= self.most]
        if outside:
            raise ValueError(f"`spoken` must lie between `least` and `most`, unlike {outside[0]}")
        return self


class RuleReplies(_Model):
    """What is said when no rule can speak."""

    unknown: Texts
    without_tool: Texts
    failed: Texts


class Padding(_Model):
    """Words around a phrase that mean nothing."""

    en: list[str] = []
    zh: list[str] = []


class PhraseFile(_Model):
    """The file as it is written."""

    version: Literal[1]
    slots: dict[str, Slot] = {}
    pronunciations: dict[str, Pronunciation] = {}
    padding: Padding = Padding()
    replies: RuleReplies
    rules: dict[str, Rule] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that fits a question. `number` fills its slot, when it has one. `mentioned`: the question is a longer
    instruction that only mentions it: answered, but nothing is done for it."""

    name: str
    rule: Rule
    slot: str = ""
    number: int | None = None
    mentioned: bool = False


class PhraseBook:
    """A checked phrase file with its look-ups. Immutable; shared freely between greenlets and threads."""

    def __init__(self, file: PhraseFile, source: str = "offline.yaml") -> None:
        """Raises SettingsError with every fault the models cannot see: patterns, slots, doubles, unknown names."""
        self.file = file
        self._index: dict[str, dict[str, tuple[str, str]]] = {"en": {}, "zh": {}}
        self._spoken: dict[str, None] = {}
        self._mentions: list[tuple[str, str]] = []
        faults: list[Fault] = []
        for name, rule in file.rules.items():
            self._add(name, rule, source, faults)
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
        self._padding = {
            "en": [_canonical(text, "en") for text in file.padding.en],
            "zh": [_canonical(text, "zh") for text in file.padding.zh],
        }

    @property
    def spoken(self) -> list[str]:
        """Every English sentence to listen for, in lower-case words, numbers spelt out."""
        return list(self._spoken)

    def match(self, text: str) -> Match | None:
        """The rule that `text` is a phrase of, whatever padding surrounds it; None when there is none."""
        if len(text) > MAX_TEXT:
            return None
        language = language_of(text)
        if not language:
            return None
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
        return self._mentioned(text)

    def _mentioned(self, text: str) -> Match | None:
        lowered = text.lower()
        for words, name in self._mentions:
            if words in lowered:
                return Match(name, self.file.rules[name], mentioned=True)
        return None

    def _look_up(self, form: str, number: int | None, language: str) -> Match | None:
        found = self._index[language].get(form)
        if found is None:
            return None
        name, slot = found
        if slot:
            limits = self.file.slots[slot]
            if number is None or not limits.least <= number <= limits.most:
                return None
        return Match(name, self.file.rules[name], slot, number if slot else None)

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
        known = {*FACTS, *self.file.slots, *(rule.first.values if rule.first else ())}
        for key, template in _templates(rule):
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
        for field, phrases in (("say", rule.say), ("typed", rule.typed)):
            for language in LANGUAGES:
                for place, pattern in enumerate(getattr(phrases, language)):
                    try:
                        sentences = self._read(pattern)
                    except PatternError as error:
                        faults.append(Fault(f"{where}.{field}.{language}.{place}", repr(pattern), str(error)))
                        continue
                    for sentence in sentences:
                        self._enter(name, sentence, language, f"{where}.{field}.{language}.{place}", faults)
                    if field == "say" and language == "en":
                        self._listen_for(sentences)

    def _read(self, pattern: str) -> list[PatternSentence]:
        sentences = expand(pattern)
        for sentence in sentences:
            if len(sentence.slots) > 1:
                raise PatternError("a phrase may have one slot")
            for slot in sentence.slots:
                if slot not in self.file.slots:
                    raise PatternError(
                        f"<{slot}> is not among the slots: {', '.join(self.file.slots) or 'there are none'}"
                    )
        return sentences

    def _enter(self, name: str, sentence: PatternSentence, language: str, where: str, faults: list[Fault]) -> None:
        key = canonical_sentence(sentence, language)
        slot = sentence.slots[0] if sentence.slots else ""
        owner, _ = self._index[language].setdefault(key, (name, slot))
        if owner != name:
            faults.append(
                Fault(where, repr(" ".join(sentence.words)), f"a phrase of one rule only; rules.{owner} has it too")
            )

    def _listen_for(self, sentences: list[PatternSentence]) -> None:
        numbers = {
            name: slot.spoken or list(range(slot.least, slot.most + 1)) for name, slot in self.file.slots.items()
        }
        for sentence in sentences:
            if len(self._spoken) > MAX_LISTENED:
                return  # a fault already; no need to count how far it goes
            self._spoken.update(dict.fromkeys(" ".join(words).lower() for words in spoken_sentences(sentence, numbers)))


def _canonical(text: str, language: str) -> str:
    return next(canonical_forms(text, language))[0]


def _templates(rule: Rule) -> Iterator[tuple[str, str]]:
    for key, texts in (("answer", rule.answer), ("without_tool", rule.without_tool)):
        if texts is not None:
            for language in LANGUAGES:
                for place, template in enumerate(texts.of(language)):
                    yield f"{key}.{language}.{place}", template
    if rule.tool is not None:
        for group, values in (("arguments", rule.tool.arguments), ("extras", rule.tool.extras)):
            for name, value in values.items():
                if isinstance(value, str):
                    yield f"tool.{group}.{name}", value


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
    file, wrong = _validated(raw, path.name)
    faults += wrong
    if file is not None:
        try:
            book = PhraseBook(file, path.name)
        except SettingsError as error:
            faults += error.faults
    if faults:
        raise SettingsError(faults)
    return book


def _validated(raw: dict[str, Any], source: str) -> tuple[PhraseFile | None, list[Fault]]:
    """The file as far as it can be understood, and what is wrong with the rest."""
    try:
        return PhraseFile.model_validate(raw), []
    except ValidationError as error:
        problems = error.errors(include_url=False)
    faults = [_fault(source, problem) for problem in problems]
    # Without the rules that are wrong, the others can be checked for what the models cannot see.
    bad = {problem["loc"][1] for problem in problems if problem["loc"][0] == "rules" and len(problem["loc"]) > 1}
    if not bad or any(problem["loc"][0] != "rules" for problem in problems):
        return None, faults
    rest = {name: rule for name, rule in raw["rules"].items() if name not in bad}
    return (PhraseFile.model_validate({**raw, "rules": rest}) if rest else None), faults


_KEYS = sorted(
    {
        key
        for model in (PhraseFile, Rule, RulePhrases, Texts, Question, Deed, Slot, RuleReplies, Padding)
        for key in model.model_fields
    }
)


def _fault(source: str, problem: Any) -> Fault:
    place = ".".join(map(str, problem["loc"]))
    value = "missing" if problem["type"] == "missing" else repr(problem["input"])
    shown = value if len(value) <= 80 else value[:77] + "..."
    if problem["type"] != "extra_forbidden":
        return Fault(f"{source}: {place}", shown, problem["msg"].removeprefix("Value error, "))
    near = difflib.get_close_matches(str(problem["loc"][-1]), _KEYS, 1)
    return Fault(f"{source}: {place}", shown, f"no such key here{f'; did you mean {near[0]!r}?' if near else ''}")
