"""The phrase file of the offline assistant (`config/offline.yaml`) as it is written: its models. Every key is known, so
that a misspelt one is a fault."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
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

from xiaozhi.errors import Fault
from xiaozhi.speech.numerals import MAX_SPOKEN

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

FACTS = (
    *("time", "date", "weekday", "month", "year", "lunar", "part_of_day", "coin", "die", "number", "answer"),
    *("result", "last", "choices", "days", "speaker"),
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
    """The tool a rule runs. `of`: the slot that says which thing it is for: the name is then the end of a tool that
    names this thing too. `switch`: what a tool is given that only switches it. `house`: the same for Home Assistant."""

    name: Names
    of: str = ""
    switch: bool | None = None
    house: str = ""
    arguments: dict[str, Argument] = {}
    extras: dict[str, Argument] = {}


class Rule(_Model):
    """What is said, what is answered, and what is done in between. `typed`: phrases that nobody listens for. `after`:
    the rule that the question before fitted; only then this one counts, and what stood in its slots is known.
    `without_value`: said where a value for the tool is not known. `made_of`: kinds of words (`words`) and slots that
    make it in any order."""

    say: RulePhrases
    typed: RulePhrases = RulePhrases()
    mentions: RulePhrases = RulePhrases()
    made_of: list[str] = []
    answer: Texts
    first: Question | None = None
    tool: Deed | None = None
    without_tool: Texts | None = None
    without_value: Texts | None = None
    after: str = ""


class Slot(_Model):
    """What may stand in a phrase: a whole number, or something else that can be told from any text."""

    kind: Literal["number", "sum", "day", "time", "thing", "words", "name"] = "number"
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

    @property
    def open(self) -> bool:
        """Nobody can list what may stand there."""
        return self.kind != "number"


class RuleReplies(_Model):
    """What is said when no rule can speak."""

    unknown: Texts
    without_tool: Texts
    failed: Texts
    which: Texts | None = None
    nothing_said: Texts | None = None


class WordLists(_Model):
    """Words per language."""

    en: list[str] = []
    zh: list[str] = []

    def of(self, language: str) -> list[str]:
        return self.zh if language == "zh" else self.en


class PhraseFile(_Model):
    """The file as it is written."""

    version: Literal[1]
    slots: dict[str, Slot] = {}
    pronunciations: dict[str, Pronunciation] = {}
    padding: WordLists = WordLists()
    small_words: WordLists = WordLists()
    things: dict[str, WordLists] = {}
    words: dict[str, WordLists] = {}
    replies: RuleReplies
    rules: dict[str, Rule] = Field(min_length=1)


def _texts(rule: Rule) -> Iterator[tuple[str, Texts | None]]:
    yield "answer", rule.answer
    yield "without_tool", rule.without_tool
    yield "without_value", rule.without_value


def templates(rule: Rule) -> Iterator[tuple[str, str]]:
    """Every text of a rule that may have names in braces, with its key."""
    for key, texts in _texts(rule):
        if texts is not None:
            for language in LANGUAGES:
                for place, template in enumerate(texts.of(language)):
                    yield f"{key}.{language}.{place}", template
    if rule.tool is not None:
        for group, values in (("arguments", rule.tool.arguments), ("extras", rule.tool.extras)):
            for name, value in values.items():
                if isinstance(value, str):
                    yield f"tool.{group}.{name}", value


def validated(raw: dict[str, Any], source: str) -> tuple[PhraseFile | None, list[Fault]]:
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
        for model in (PhraseFile, Rule, RulePhrases, Texts, Question, Deed, Slot, RuleReplies, WordLists)
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
