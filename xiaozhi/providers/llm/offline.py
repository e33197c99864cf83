"""The offline assistant: answers from `config/offline.yaml`, in English and Chinese, without any model behind it. The
default.

Keeps the contract of a language model (streams, calls tools, is told their results), so that whoever sets a real one
changes nothing else. Not an imitation of one: what is not in the file it does not understand, and says so in the
language of the question.

A question may take up to three rounds: ask the device (its volume), do the deed, confirm. Nothing is kept between them;
where an answer stands is read from the tool results that follow the question."""

from __future__ import annotations

import json
import math
import random
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from xiaozhi.chat import UNKNOWN_SPEAKER, CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import Fault, SettingsError
from xiaozhi.providers.contracts.llm import Llm, LlmTraits
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.families.offline_facts import OfflineFacts
from xiaozhi.providers.families.offline_file import LANGUAGES, Deed, PhraseFile, Rule, Texts
from xiaozhi.providers.families.offline_patterns import language_of
from xiaozhi.providers.families.offline_phrases import Match, load
from xiaozhi.providers.families.offline_sounds import sounds
from xiaozhi.providers.families.offline_things import ThingNames
from xiaozhi.providers.registry import provider

_PIECE = re.compile(r"\S+\s*|\s+")
_HAN_PIECE = 4
"""Characters per piece of Chinese text: about what a language model streams at a time."""
_FAILED = re.compile(
    r"\b(error|failed|fails|was not called|was not made|not available|"
    r"no result within|did not answer|disconnected|cut short|refused|"
    r"no such tool|unknown tool|invalid)\b|失败|错误|不支持",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"-?\d+")
_LONGEST_NUMBER = 9
PREPARE_DEADLINE_S = 10.0
LONGEST_USUAL = 150
"""UTF-8 bytes of an answer that is prepared as sound: a Chinese character has three, and takes as long to say as three
letters. What is longer is a story."""
MAX_RESULT = 20_000
"""Characters of a tool's answer that are looked at."""


class OfflineLlmOptions(ProviderOptions):
    """`phrases`: a file of config/."""

    phrases: Path = Path("offline.yaml")


@provider("llm", "offline", OfflineLlmOptions)
class OfflineLlm(Llm):
    """Stateless; shared by all devices."""

    needs_services: ClassVar[bool] = True
    traits = LlmTraits(offline=True, writes=False)

    def __init__(self, options: OfflineLlmOptions, services: Services, *, chance: random.Random | None = None) -> None:
        """Raises SettingsError with every fault of the phrase file."""
        self._book = load(services.config_dir / options.phrases)
        self.now = services.now
        self._things = ThingNames(self._book.file.things)
        self._chance = chance or random.Random()
        self._inference = services.inference
        self.traits = replace(self.traits, usual_replies=tuple(usual_replies(self._book.file)))

    @classmethod
    def faults(cls, options: OfflineLlmOptions, config_dir: Path) -> list[Fault]:
        """Those of the phrase file."""
        try:
            load(config_dir / options.phrases)
        except SettingsError as error:
            return list(error.faults)
        return []

    def warm_up(self) -> None:
        """Make what matching needs, so that the first question does not wait for it. Raises Overloaded,
        VendorTimeout."""
        for language in LANGUAGES:
            self._prepare(language)

    def chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        """The answer to the last question, in pieces; or the one tool call it needs first. Raises Overloaded,
        VendorTimeout (a date in the lunar calendar is worked out in the inference pool)."""
        question, results = _under_way(messages)
        self._prepare(language_of(question))
        match = self._book.match(question, _before(messages))
        language = self._language(question, messages, context, match)
        if match is None:
            yield from _pieces(self._chance.choice(self._book.file.replies.unknown.of(language)))
            return
        step = self._step(match, results, tools, language, messages)
        if isinstance(step, ToolCall):
            yield step
        else:
            yield from _pieces(step)

    def _language(self, question: str, messages: Sequence[Message], context: CallContext, match: Match | None) -> str:
        if match is not None and match.mentioned:
            # An instruction of the configuration's author: the answer is for the one who talked before.
            said = [language_of(message.content) for message in messages if message.role == "user"][:-1]
            found = next(filter(None, reversed(said)), "")
        else:
            found = language_of(question)
        return found or ("zh" if context.language.lower().startswith("zh") else "en")

    def _step(
        self,
        match: Match,
        results: Sequence[tuple[str, str]],
        tools: Sequence[ToolSpec],
        language: str,
        messages: Sequence[Message],
    ) -> ToolCall | str:
        """What comes next: a tool call, or the words that end the answer."""
        rule = match.rule
        facts = self._facts(match, language, messages)
        if match.mentioned:
            return self._say(rule.answer.of(language), facts)
        if rule.first is not None:
            answer = _result_of(rule.first.tool, results)
            if answer is None:
                spec = _find(rule.first.tool, (), tools)
                return _call(spec, {}) if spec is not None else self._without(rule, language, facts)
            values = _values(rule.first.values, answer)
            if values is None:
                return self._failed(language, facts)
            facts.add(values)
        if rule.tool is None:
            return self._say(rule.answer.of(language), facts)
        if rule.tool.of:
            return self._switch(match, rule.tool, results, tools, facts, language, messages)
        done = _result_of(rule.tool.name, results)
        spec = _find(rule.tool.name, rule.tool.arguments, tools)
        if done is None:
            if spec is None:
                return self._without(rule, language, facts)
            facts.limit(*_limits(spec, rule.tool))
            arguments = self._arguments(rule, spec, facts, language)
            if rule.without_value is not None and "" in arguments.values():
                return self._say(rule.without_value.of(language), facts)
            return _call(spec, arguments)
        if _has_failed(done[:MAX_RESULT]):
            return self._failed(language, facts)
        facts.add({"result": done[:MAX_RESULT]})
        if spec is not None:
            facts.limit(*_limits(spec, rule.tool))
        return self._say(rule.answer.of(language), facts)

    def _switch(
        self,
        match: Match,
        deed: Deed,
        results: Sequence[tuple[str, str]],
        tools: Sequence[ToolSpec],
        facts: OfflineFacts,
        language: str,
        messages: Sequence[Message],
    ) -> ToolCall | str:
        """As `_step`, for a thing that was named."""
        rule, name = match.rule, str(match.values[deed.of])
        if results:
            failed = _has_failed(results[-1][1][:MAX_RESULT])
            return self._failed(language, facts) if failed else self._say(rule.answer.of(language), facts)
        replies = self._book.file.replies
        told = next((message.content for message in messages if message.role == "system"), "")
        table = sounds() if language == "zh" else None
        found = self._things.find(name, deed, tools, told, table)
        if len(found) == 1:
            return ToolCall(_call_id(), found[0].tool, found[0].arguments)
        if found and replies.which is not None:
            facts.add({"choices": ("、" if language == "zh" else ", ").join(thing.label for thing in found)})
            return self._say(replies.which.of(language), facts)
        if self._things.known(name, table):
            return self._without(rule, language, facts)
        return self._say(replies.unknown.of(language), facts)

    def _prepare(self, language: str) -> None:
        """What is needed to understand what was heard almost right is made once, off the hub."""
        if not self._book.is_prepared(language):
            self._inference.run(self._book.prepare, language, kind="other", deadline=PREPARE_DEADLINE_S)

    def _facts(self, match: Match, language: str, messages: Sequence[Message]) -> OfflineFacts:
        facts = OfflineFacts(self.now(), language, self._chance, self._inference)
        facts.add(match.values)
        slots = self._book.file.slots
        for name, value in match.values.items():
            if slots[name].kind == "day":
                facts.about(str(value))
        said = [message.content for message in messages if message.role == "assistant" and message.content.strip()]
        replies = self._book.file.replies
        last = said[-1] if said else replies.nothing_said.of(language)[0] if replies.nothing_said is not None else ""
        facts.add({"last": last, "speaker": _speaker(messages)})
        return facts

    def _say(self, templates: Sequence[str], facts: OfflineFacts) -> str:
        return facts.fill(self._chance.choice(templates))

    def _without(self, rule: Rule, language: str, facts: OfflineFacts) -> str:
        return self._say((rule.without_tool or self._book.file.replies.without_tool).of(language), facts)

    def _failed(self, language: str, facts: OfflineFacts) -> str:
        return self._say(self._book.file.replies.failed.of(language), facts)

    def _arguments(self, rule: Rule, spec: ToolSpec, facts: OfflineFacts, language: str) -> dict[str, Any]:
        deed = rule.tool
        if deed is None:
            return {}
        taken = {_plain(name): name for name in _properties(spec)}
        wanted = {**deed.arguments, **{name: value for name, value in deed.extras.items() if _plain(name) in taken}}
        if any(isinstance(value, str) and "{answer}" in value for value in wanted.values()):
            facts.add({"answer": self._say(rule.answer.of(language), facts)})
        return {taken.get(_plain(name), name): facts.value(given) for name, given in wanted.items()}


# --- the dialogue --------------------------------------------------------------------------------------------------


def usual_replies(file: PhraseFile) -> list[str]:
    """The answers of a phrase file that are said word for word and are no stories: first what is said instead of an
    answer, then those of the most rules."""
    replies = file.replies
    instead = [text for each in (replies.unknown, replies.without_tool, replies.failed) for text in _texts(each)]
    answers = Counter(text for rule in file.rules.values() for text in _texts(rule.answer))
    return list(dict.fromkeys([*instead, *(text for text, _ in answers.most_common())]))


def _texts(by_language: Texts) -> list[str]:
    texts = [text for language in LANGUAGES for text in by_language.of(language)]
    return [text for text in texts if "{" not in text and len(text.encode()) <= LONGEST_USUAL]


def _under_way(messages: Sequence[Message]) -> tuple[str, list[tuple[str, str]]]:
    """The last question, and (tool, result) of every call made for it so far."""
    start = next((place for place in range(len(messages) - 1, -1, -1) if messages[place].role == "user"), None)
    if start is None:
        return "", []
    names: dict[str | None, str] = {}
    results: list[tuple[str, str]] = []
    for message in messages[start + 1 :]:
        names.update({call.id: call.name for call in message.tool_calls})
        if message.role == "tool":
            results.append((names.get(message.tool_call_id, ""), message.content))
    return _without_speaker(messages[start].content), results


def _before(messages: Sequence[Message]) -> str:
    """The question before the last."""
    questions = [message.content for message in messages if message.role == "user"]
    return _without_speaker(questions[-2]) if len(questions) > 1 else ""


def _speaker(messages: Sequence[Message]) -> str:
    """Who speaks, as far as it is known: told whenever somebody else begins to. "" for somebody unknown."""
    told = (_told(message.content) for message in reversed(messages) if message.role == "user")
    name = next((name for name, _ in told if name), "")
    return "" if name in UNKNOWN_SPEAKER.values() else name


def _without_speaker(content: str) -> str:
    """What was said, of `{"speaker": ..., "content": ...}` (the first time a voice is recognised)."""
    return _told(content)[1]


def _told(content: str) -> tuple[str, str]:
    """(speaker or "", what was said)."""
    if not content.lstrip().startswith("{"):
        return "", content
    parsed = _parsed(content)
    if not isinstance(parsed, dict) or not isinstance(parsed.get("content"), str):
        return "", content
    return str(parsed.get("speaker") or ""), parsed["content"]


def _pieces(text: str) -> Iterator[str]:
    """`text` as a language model would stream it."""
    for match in _PIECE.finditer(text):
        word = match[0]
        step = _HAN_PIECE if language_of(word) == "zh" else len(word)
        for at in range(0, len(word), step):
            yield word[at : at + step]


# --- tools ---------------------------------------------------------------------------------------------------------


def _plain(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())


def _properties(spec: ToolSpec) -> Mapping[str, Any]:
    properties = spec.parameters.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def _find(
    names: Sequence[str], arguments: Sequence[str] | Mapping[str, Any], tools: Sequence[ToolSpec]
) -> ToolSpec | None:
    """The first tool on offer whose name ends like one of `names` and that takes all `arguments`."""
    for name in names:
        for spec in tools:
            taken = {_plain(key) for key in _properties(spec)}
            if _plain(spec.name).endswith(_plain(name)) and all(_plain(argument) in taken for argument in arguments):
                return spec
    return None


def _call(spec: ToolSpec, arguments: Mapping[str, Any]) -> ToolCall:
    return ToolCall(_call_id(), spec.name, arguments)


def _call_id() -> str:
    return f"call_{uuid.uuid4().hex[:16]}"


def _result_of(names: Sequence[str], results: Sequence[tuple[str, str]]) -> str | None:
    plain = [_plain(name) for name in names]
    return next((text for tool, text in results if tool and any(_plain(tool).endswith(name) for name in plain)), None)


def _limits(spec: ToolSpec, deed: Deed) -> tuple[int, int]:
    """Least and most of the first number among the deed's arguments, as the tool declares them; 0..100 otherwise."""
    for name in deed.arguments:
        declared = next((value for key, value in _properties(spec).items() if _plain(key) == _plain(name)), None)
        if isinstance(declared, Mapping):
            least, most = declared.get("minimum"), declared.get("maximum")
            return _whole(least, 0), _whole(most, 100)
    return 0, 100


def _whole(bound: Any, otherwise: int) -> int:
    return int(bound) if isinstance(bound, int | float) and math.isfinite(bound) else otherwise


def _has_failed(answer: str) -> bool:
    """Whether a tool says that it did not do what it should: false, null, an error in JSON, or words to that effect."""
    parsed = _parsed(answer)
    if isinstance(parsed, Mapping):
        return parsed.get("success") is False or bool(parsed.get("error")) or parsed.get("isError") is True
    if parsed is None or isinstance(parsed, str):
        return answer.strip() == "null" or _FAILED.search(answer) is not None
    return parsed is False


def _parsed(answer: str) -> Any:
    """The value of a JSON text; None when it is none."""
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        return None


def _values(wanted: Mapping[str, str], answer: str) -> dict[str, Any] | None:
    """The wanted values of a tool's answer: by their path in JSON, or the last number of a sentence. None when one is
    missing."""
    answer = answer[:MAX_RESULT]
    parsed = _parsed(answer)
    if parsed is None or isinstance(parsed, str):
        numbers = _NUMBER.findall(answer) if len(wanted) == 1 and not _has_failed(answer) else []
        return {next(iter(wanted)): int(numbers[-1])} if numbers and len(numbers[-1]) <= _LONGEST_NUMBER else None
    values: dict[str, Any] = {}
    for name, path in wanted.items():
        value = parsed
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(parsed, int | float) and len(wanted) == 1:
            value = parsed
        if isinstance(value, bool) or not isinstance(value, int | float | str) or value == "":
            return None
        if isinstance(value, float):
            if not math.isfinite(value):
                return None
            value = round(value)
        values[name] = value
    return values
