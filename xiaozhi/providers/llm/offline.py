"""The embedded assistant: answers the phrases of `config/offline.yaml`, calls the device's tools for them, and is honest about everything
else.

Not a language model: a table of rules behind the contract of one, streamed in pieces like one, so that nothing above can tell and
everything above is exercised without a vendor. It keeps no state; where a rule stands (what was asked of the device, what it answered) is
read from the messages, as a real model does.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.providers import _offline_phrases as phrases
from xiaozhi.providers._offline_facts import Facts
from xiaozhi.providers._offline_patterns import language_of
from xiaozhi.providers.base import Llm, ProviderOptions, Services
from xiaozhi.providers.registry import provider

FAILURE_MARK = "error:"
"""How `session/answer.py` begins the result of a call that failed."""
_PIECES = re.compile(r"\s*\S+|\s+")


class Options(ProviderOptions):
    """`phrases`: the phrase file, relative to the configuration directory."""

    phrases: str = "offline.yaml"


class _Asked:
    """What the messages tell: the question, and the calls made for it with their results."""

    def __init__(self, messages: Sequence[Message]) -> None:
        start = next((index for index in range(len(messages) - 1, -1, -1) if messages[index].role == "user"), None)
        self.question = messages[start].content if start is not None else ""
        self.results: dict[str, str] = {}
        names: dict[str, str] = {}
        for message in messages[start + 1 :] if start is not None else ():
            names.update({call.id: call.name for call in message.tool_calls})
            if message.role == "tool" and message.tool_call_id in names:
                self.results[names[message.tool_call_id]] = message.content


@provider("llm", "offline", Options)
class OfflineLlm(Llm):
    """See the module. Raises SettingsError for a phrase file with faults."""

    needs_services: ClassVar[bool] = True
    offline: ClassVar[bool] = True

    def __init__(self, options: Options, services: Services) -> None:
        self._book = phrases.load(services.config_dir / Path(options.phrases))
        self._now: Callable[[], datetime] = services.now
        self._chance = random.Random()

    def chat(self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext) -> Iterator[str | ToolCall]:
        asked = _Asked(messages)
        match = self._book.match(asked.question)
        if match is None:
            language = language_of(asked.question) or ("zh" if context.language.startswith("zh") else "en")
            yield from self._speak(self._book.file.replies.unknown.of(language), {})
            return
        rule, language = match.rule, match.language
        replies = self._book.file.replies
        facts = Facts(self._now(), language, self._chance)
        values: dict[str, Any] = {match.slot: match.number} if match.slot else {}
        absent = (rule.without_tool or replies.without_tool).of(language)
        if rule.first is not None:
            tool = _offered(rule.first.tool, tools)
            if tool is None:
                yield from self._speak(absent, facts.known(values))
                return
            if tool.name not in asked.results:
                yield ToolCall(f"offline-{tool.name}", tool.name, {})
                return
            found = _read(asked.results[tool.name], rule.first.values)
            if found is None:
                yield from self._speak(replies.failed.of(language), facts.known(values))
                return
            values |= found
        if rule.tool is None:
            yield from self._speak(rule.answer.of(language), facts.known(values))
            return
        tool = _offered(rule.tool.name, tools, needs=rule.tool.arguments)
        if tool is None:
            yield from self._speak(absent, facts.known(values))
        elif tool.name not in asked.results:
            answer = self._chance.choice(rule.answer.of(language))
            values["answer"] = _fill(answer, facts.known(values))
            yield ToolCall(f"offline-{tool.name}", tool.name, _arguments(rule.tool, tool, facts.known(values)))
        elif asked.results[tool.name].startswith(FAILURE_MARK):
            yield from self._speak(replies.failed.of(language), facts.known(values))
        else:
            yield from self._speak(rule.answer.of(language), facts.known(_kept_within(values, rule.tool, tool)))

    def _speak(self, texts: Sequence[str], values: Mapping[str, Any]) -> Iterator[str]:
        yield from _PIECES.findall(_fill(self._chance.choice(list(texts)), values))


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _offered(name: str, tools: Sequence[ToolSpec], needs: Mapping[str, Any] | None = None) -> ToolSpec | None:
    """The tool whose name ends like `name`, dots, underscores and capitals aside, and which takes all of `needs`."""
    for tool in tools:
        if _bare(tool.name).endswith(_bare(name)) and all(key in tool.parameters.get("properties", {}) for key in needs or ()):
            return tool
    return None


def _read(result: str, paths: Mapping[str, str]) -> dict[str, Any] | None:
    """The values at `paths` ("audio_speaker.volume") of a JSON result; None when one is not there."""
    try:
        tree = json.loads(result)
    except ValueError:
        return None
    found: dict[str, Any] = {}
    for name, path in paths.items():
        value: Any = tree
        for step in path.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        if not isinstance(value, int | float | str):
            return None
        found[name] = int(value) if isinstance(value, float) else value
    return found


def _fill(template: str, values: Mapping[str, Any]) -> str:
    """`template` with its braces filled in; sums are kept within 0 and 100, as every level of a device is a percentage."""

    def value(found: re.Match[str]) -> str:
        name, sign, amount = found.groups()
        known = values.get(name, "")
        if sign and isinstance(known, int):
            known = min(100, max(0, known + int(amount) * (1 if sign == "+" else -1)))
        return str(known)

    return phrases.PLACEHOLDER.sub(value, template)


def _arguments(deed: phrases.Deed, tool: ToolSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    known = tool.parameters.get("properties", {})
    wanted = {**deed.arguments, **{name: value for name, value in deed.extras.items() if name in known}}
    arguments: dict[str, Any] = {}
    for name, value in wanted.items():
        filled: Any = _fill(value, values) if isinstance(value, str) else value
        if known.get(name, {}).get("type") in ("integer", "number"):
            try:
                number = int(filled)
            except (TypeError, ValueError):
                number = 0
            least, most = known[name].get("minimum", number), known[name].get("maximum", number)
            filled = int(min(most, max(least, number)))
        arguments[name] = filled
    return arguments


def _kept_within(values: dict[str, Any], deed: phrases.Deed, tool: ToolSpec) -> dict[str, Any]:
    """What was asked for, as the tool's own limits made of it: an answer must not promise more than was done."""
    kept = dict(values)
    for name, template in deed.arguments.items():
        plain = phrases.PLACEHOLDER.fullmatch(template) if isinstance(template, str) else None
        if plain is not None and not plain[2] and plain[1] in kept:
            kept[plain[1]] = _arguments(deed, tool, values).get(name, kept[plain[1]])
    return kept
