"""What a vendor refused, and how to ask it instead. Pure: no network, no state.

A refusal that would be repeated with every request for ever (the context is too long, this model knows no tools, the
template has no system role, a parameter is unknown) is understood by the vendor's words, in the spellings of OpenAI,
Azure, vLLM, SGLang, llama.cpp, Ollama, LM Studio, TGI, Mistral, Groq, Gemini, DashScope, Zhipu, Volcengine and
OpenRouter. `learn` gives the limits with which to ask again; whoever keeps them asks rightly from then on. A refusal
for any other reason (key, money, load, the model's name) teaches nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import orjson

from xiaozhi.chat import Message, ToolCall, ToolSpec
from xiaozhi.errors import VendorBusy, VendorError, VendorTimeout
from xiaozhi.providers.families.dialect import OPENAI, Dialect
from xiaozhi.providers.families.strict_history import strict_history
from xiaozhi.providers.families.thinking_switches import Switches
from xiaozhi.providers.families.tool_names import NOTHING_OFFERED, Offer
from xiaozhi.providers.families.tool_schemas import MAX_DESCRIPTION_CHARS, MAX_TOOLS, Level, function_of

# Bytes of a request per token where only the limit is known: a little on the safe side for English, about one token per
# character for Chinese.
_BYTES_PER_TOKEN: Final = 3
_SMALLEST_CONTEXT: Final = 400
_SHORTEST_CLIPPED: Final = 200
_BYTES_PER_MESSAGE: Final = 40
_DROPPED: Final = len(Level)
_MOST_TOOLS_REMEMBERED: Final = 64


@dataclass(frozen=True, slots=True)
class LearntLimits:
    """What one vendor block was found unable to do; the defaults are a vendor that can do everything."""

    tools: bool = True
    system_role: bool = True
    tool_role: bool = True
    words_with_calls: bool = True
    empty_content: bool = True
    """False: a message with nothing but calls has no content instead of an empty one."""
    results_without_tools: bool = True
    """False: results of tools are refused in a request that offers none."""
    streaming: bool = True
    tool_ids: bool = True
    """False: ids of calls must be nine letters and digits."""
    context: int = 0
    """Bytes a request may have; 0: not known."""
    tool_count: int = MAX_TOOLS
    tool_description: int = MAX_DESCRIPTION_CHARS
    tool_schema: Level = Level.MENDED
    tool_levels: tuple[tuple[str, int], ...] = ()
    """Tools whose own schema was refused, and the level at which they are sent; beyond the last: not at all."""
    max_completion_tokens: bool = False
    """True: the parameter `max_tokens` has this name."""
    thinking: int = 0
    """How many of the switches that keep the model from thinking were refused."""
    left_out: frozenset[str] = frozenset()
    """Parameters that are not sent."""

    @property
    def names(self) -> tuple[str, ...]:
        """The limitations found, for metrics: "tools", "context", "parameter_temperature" ..."""
        found = {field.name for field in fields(self) if getattr(self, field.name) != field.default}
        if "tool_levels" in found:
            found = (found - {"tool_levels"}) | {"tool_schema"}
        if "left_out" in found:
            found = (found - {"left_out"}) | {f"parameter_{key}" for key in self.left_out}
        return tuple(sorted(found))


CONSEQUENCES: Final = {
    "tools": "it is asked without tools",
    "system_role": "the prompt goes in front of the user's first words",
    "tool_role": "results of tools are told in the user's words",
    "words_with_calls": "what was said beside a tool call is left out",
    "empty_content": "a message with nothing but calls has no content",
    "results_without_tools": "results of tools are told in the user's words where no tools are offered",
    "streaming": "answers come in one piece",
    "tool_ids": "calls get ids of nine letters and digits",
    "context": "the oldest part of a long dialogue is left out",
    "tool_count": "the last tools are not offered",
    "tool_description": "descriptions of tools are cut",
    "tool_schema": "arguments of tools are described in a simpler way",
    "thinking": "it thinks as little as it lets itself be told to",
    "max_completion_tokens": "max_tokens is sent as max_completion_tokens",
}
"""Limitation -> what is done about it. For parameters: they are not sent."""


# --- asking -----------------------------------------------------------------------------------------------------------


def merged(current: LearntLimits, before: LearntLimits, after: LearntLimits) -> LearntLimits:
    """`current` with what was learnt between `before` and `after`, by one of several requests under way."""
    changed = {
        field.name: getattr(after, field.name)
        for field in fields(after)
        if getattr(after, field.name) != getattr(before, field.name)
    }
    return replace(current, **changed)


def parameters(fixed: Mapping[str, Any], limits: LearntLimits, switches: Switches = ()) -> dict[str, Any]:
    """The parameters of a request beside its messages and tools, within `limits`. `switches`: what keeps the model from
    thinking, the best first; the one whose turn it is goes with the request."""
    body = dict(fixed)
    if limits.thinking:
        for key in _THINKING_KEYS:
            body.pop(key, None)
    if limits.thinking < len(switches):
        body |= switches[limits.thinking]
    for key in limits.left_out:
        body.pop(key, None)
    if limits.max_completion_tokens and "max_tokens" in body:
        body["max_completion_tokens"] = body.pop("max_tokens")
    if not limits.streaming:
        body["stream"] = False
    return body


_EMPTY_LIST: Final = orjson.Fragment(b"[]")


@dataclass(frozen=True, slots=True)
class OfferedTools:
    """The tools of a request, ready to be sent (`json` is the whole list) and to be looked up."""

    names: tuple[str, ...] = ()
    size: int = 0
    json: orjson.Fragment = _EMPTY_LIST
    offer: Offer = NOTHING_OFFERED


NO_TOOLS: Final = OfferedTools()


def offered(tools: Sequence[ToolSpec], limits: LearntLimits, dialect: Dialect = OPENAI) -> OfferedTools:
    """The tools as they are sent within `limits`, in the words of `dialect`. Worth keeping: mending the schemas costs
    more than the request."""
    if not tools or not limits.tools:
        return NO_TOOLS
    levels = dict(limits.tool_levels)
    functions = []
    for tool in tools:
        level = max(levels.get(tool.name, 0), limits.tool_schema)
        if level < _DROPPED:
            functions.append(function_of(tool, Level(level), longest=limits.tool_description))
    del functions[limits.tool_count :]
    if not functions:
        return NO_TOOLS
    json = orjson.dumps(dialect.tools(functions), default=str)
    names = tuple(each["function"]["name"] for each in functions)
    offer = Offer([tool for tool in tools if tool.name in names])
    return OfferedTools(names, len(json), orjson.Fragment(json), offer)


def compose(
    fixed: Mapping[str, Any],
    messages: Sequence[Message],
    tools: OfferedTools,
    limits: LearntLimits,
    *,
    switches: Switches = (),
    vendor: str = "",
) -> dict[str, Any]:
    """The body of a request within `limits`, in OpenAI's form. `tools` as `offered` gives them, `switches` as for
    `parameters`. `vendor`: whose seals on calls are sent back."""
    body = parameters(fixed, limits, switches)
    if limits.context:
        room = limits.context - tools.size
        if room < limits.context // 4:  # tools that leave no room for talk
            tools, room = NO_TOOLS, limits.context
        messages = _shortened(messages, room)
    turns = strict_history(
        messages,
        system_role=limits.system_role,
        tool_role=limits.tool_role and limits.tools and (bool(tools.names) or limits.results_without_tools),
        words_with_calls=limits.words_with_calls,
        short_ids=not limits.tool_ids,
    )
    wires: list[dict[str, Any]] = [
        # Nearly all are nothing but words.
        _wire(turn, vendor) if turn.tool_calls or turn.tool_call_id else {"role": turn.role, "content": turn.content}
        for turn in turns
    ]
    body["messages"] = wires
    if not limits.empty_content:
        for wire in wires:
            wire["content"] = wire["content"] or None
    if tools.names:
        body["tools"] = tools.json
    return body


def _wire(message: Message, vendor: str) -> dict[str, Any]:
    # Content is never null: some compatible servers refuse that.
    wire: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        wire["tool_calls"] = [_call(call, vendor) for call in message.tool_calls]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _call(call: ToolCall, vendor: str) -> dict[str, Any]:
    arguments = orjson.dumps(dict(call.arguments), default=str).decode()
    wire = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
    if call.seal is not None and call.seal.vendor == vendor:
        wire["extra_content"] = orjson.loads(call.seal.content)
    return wire


def _shortened(messages: Sequence[Message], room: int) -> list[Message]:
    """The newest of a dialogue within `room` bytes: whole exchanges go first, then the middle of the longest texts."""
    system = [message for message in messages if message.role == "system"]
    talk = [message for message in messages if message.role != "system"]
    while sum(map(_bytes, system + talk)) > room:
        begin = next((place for place, message in enumerate(talk) if place and message.role == "user"), 0)
        if not begin:
            break
        talk = talk[begin:]
    kept = system + talk
    while (total := sum(map(_bytes, kept))) > room:
        place = max(range(len(kept)), key=lambda each: len(kept[each].content))
        longest = kept[place]
        size = max(_SHORTEST_CLIPPED, len(longest.content) - max(_SHORTEST_CLIPPED, (total - room) // 2))
        if size >= len(longest.content):
            break
        half = size // 2
        text = f"{longest.content[:half]}…{longest.content[-half:]}"
        kept[place] = Message(longest.role, text, longest.tool_calls, longest.tool_call_id, longest.interrupted)
    return kept


def _bytes(message: Message) -> int:
    calls = sum(len(call.name) + len(str(call.arguments)) + _BYTES_PER_MESSAGE for call in message.tool_calls)
    return len(message.content.encode()) + _BYTES_PER_MESSAGE + calls


# --- understanding refusals -------------------------------------------------------------------------------------------

_NOT: Final = re.compile(
    r"not? \w*\s?support|un-?support|n't support|not (?:\w+ )?(?:enabled|allowed|available|permitted|implemented|"
    r"recogni[sz]ed|a valid|known|accepted|compatible)|no endpoints|unrecogni[sz]ed|unknown|unexpected|"
    r"extra (?:inputs|fields|keys)|disabled|requires? --|cannot|incompatible|isn't|doesn't|does not|"
    r"不支持|未开通|无法|不允许|暂不|未知"
)
_WRONG: Final = re.compile(
    r"only the default|must be|should be|invalid|restricted|out of range|range of|less than|greater than|too large|"
    r"deprecated|at most|无效|错误|有误|不合法|取值|范围"
)
_CONTEXT: Final = re.compile(
    r"context[ _-]?(?:length|window|size|limit)|exceed_context|maximum (?:context|prompt|input|sequence)|"
    r"max(?:imum)?[_ ](?:model|input|prompt|total|seq\w*)[_ ](?:len\w*|tokens|size)|too many (?:input |prompt )?tokens|"
    r"(?:prompt|input|messages?|request|conversation|text|content|query)s?(?: \w+){0,3} too (?:long|large)|"
    r"too long for (?:the|this) model|reduce (?:the |your )?(?:length|prompt|message|input|number of)|"
    r"exceed\w*[^.]{0,40}(?:context|tokens?|max\w*[_ ]?input|character limit)|tokens?[^.]{0,40}exceed|"
    r"range of input length|input length|token limit|inputs? tokens? \+|max_new_tokens[^.]{0,20}must be|"
    r"n_ctx|n_keep|kv cache|context the overflows|payload too large|entity too large|http 413|too many messages|"
    r"number of messages|"
    r"上下文|(?:长度|token\w*|字数)[^，。]{0,10}(?:超|过长|限制|上限)|超(?:过|出|长)[^，。]{0,12}(?:长度|token|限制|上限)|"
    r"prompt ?超长|(?:输入|内容|文本)[^，。]{0,6}过长",
    re.IGNORECASE,
)
_LIMIT: Final = re.compile(
    r"(?:maximum|max\b|limit|context (?:length|size|window)|at most|only|supports?|\[\s*1\s*,|[>≤]|<=|less than|"
    r"不超过|最大|上限)[^\d]{0,48}(\d[\d,_]*)"
)
_NUMBER: Final = re.compile(r"\d[\d,_]*")
_TOOL_WORD: Final = re.compile(
    r"\btools?\b|tool[_ -](?:use|call|choice)|function[_ -]?call|\bfunctions?\b|工具|函数调用"
)
_SCHEMA_WORD: Final = re.compile(
    r"schema|propert(?:y|ies)|\bitems\b|\benum\b|\$ref|anyof|oneof|allof|additionalprop|\brequired\b|parameters\W|"
    r"function_declarations|unknown name|invalid type|type must|of type"
)
_TOOL_PLACE: Final = re.compile(r"(?:tools\W{1,3}\d+\W{1,3})?(?:tools|functions?|function_declarations)\W{1,3}(\d+)")
_COUNT: Final = re.compile(
    r"array too long|too many (?:tools|functions)|(?:number|count|amount) of (?:tools|functions)|"
    r"(?:tools|functions)[^.]{0,60}(?:at most|up to|maximum of|max(?:imum)? (?:number|count|length)|exceed|more than|"
    r"limit)|(?:at most|up to|maximum of|more than|exceed\w*)[^.]{0,30}(?:tools|functions)|"
    r"(?:工具|函数|tools|functions)[^，。]{0,6}(?:数|个)"
)
_SYSTEM: Final = re.compile(
    r"system[^.]{0,60}(?:not|un|n't)\W?\w*\s?(?:support|allow|enabled|valid|permit)|(?:support|allow)\w*[^.]{0,60}\bsystem|"
    r"developer instruction|only user and assistant|role\W{0,8}system\b|system\W{0,3}(?:role|message|prompt)|"
    r"roles? must alternate|first message|must start with a user|系统(?:角色|消息|提示|人设)"
)
_TOOL_ROLE: Final = re.compile(
    r"role\W{0,12}tool\b|\btool\W{0,3}(?:role|message)|(?:unexpected|unknown|invalid|unsupported) (?:message )?role|"
    r"roles? must alternate|only user and assistant|tool_call_id|thought_signature|reasoning_content|"
    r"expected .thinking."
)
_EMPTY: Final = re.compile(
    r"non-?empty|not be (?:empty|blank)|(?:is|are|was) (?:empty|blank)|empty (?:content|message)|不能为空|内容为空"
)
_NEEDS_TOOLS: Final = re.compile(
    r"(?:must|need)[^.]{0,30}\btools|toolconfig|tools[^.]{0,30}(?:must be|is required|are required)"
)
_TOOL_IDS: Final = re.compile(r"tool[_ ]?call[_ ]?id|\btool_calls?\b[^.]{0,20}\bid\b|\bid\b[^.]{0,60}length of 9")
_ID_FORM: Final = re.compile(r"length of|a-z|alphanumeric|characters|too long|pattern|format")
_ROLES_ONLY: Final = re.compile(
    r"roles? must alternate|only user and assistant|(?:unexpected|unknown|invalid) role|"
    r"\brole\W+(?:must|should) be one of"
)
_STREAMING: Final = re.compile(
    r"stream\w*[^.]{0,40}(?:not (?:\w+ )?(?:support|allow|available)|unsupported|n't support)|"
    r"(?:not support\w*|unsupported|verified to|doesn't support)[^.]{0,30}\bstream"
)
_ABOUT_THINKING: Final = re.compile(
    r"(?:reason|think)\w*[^.]{0,60}(?:mandatory|cannot be disabled|required|restricted to true|only)|"
    r"only works in thinking|budget -?\d+ is invalid|think\w*[_ .](?:level|budget|config|type|value)"
)
_NO_MODEL: Final = re.compile(
    r"model[_ ]not[_ ]found|models?(?:[ /]\S+)? (?:does not exist|(?:is )?not found)|no such model"
)
_NO_LESSON: Final = re.compile(
    r"api[ _-]?key|unauthori[sz]ed|authenticat|insufficient[_ ](?:quota|balance)|billing|arrear|credit|"
    rf"{_NO_MODEL.pattern}|余额|欠费|鉴权|密钥"
)
_THINKING_KEYS: Final = frozenset(
    {"enable_thinking", "thinking", "think", "reasoning_effort", "reasoning", "output_config", "chat_template_kwargs"}
)
_NOT_PARAMETERS: Final = frozenset({"model", "messages", "tools", "stream"})


def chooses_to_think(body: Mapping[str, Any]) -> bool:
    """Whether something in `body` says how much is to be thought."""
    return not _THINKING_KEYS.isdisjoint(body)


def is_missing_model(error: VendorError) -> bool:
    """Whether the vendor says that it has no such model."""
    return _NO_MODEL.search(error.details.lower()) is not None


def learn(
    error: VendorError, body: Mapping[str, Any], tools: OfferedTools, limits: LearntLimits
) -> LearntLimits | None:
    """The limits with which to ask again what `body` asked with `tools`; None: `error` teaches nothing new."""
    text = error.details.lower()
    if not text or isinstance(error, (VendorBusy, VendorTimeout)) or _NO_LESSON.search(text):
        return None
    if "tools" not in body:
        tools = NO_TOOLS
    for lesson in (_from_calls, _from_tools, _from_context, _from_roles, _from_no_tools, _from_parameters):
        learnt = lesson(text, body, tools, limits)
        if learnt is not None and learnt != limits:
            return learnt
    return None


def _has_role(body: Mapping[str, Any], role: str) -> bool:
    return any(message["role"] == role for message in body["messages"])


def _from_calls(text: str, body: Mapping[str, Any], tools: OfferedTools, limits: LearntLimits) -> LearntLimits | None:
    if not any("tool_calls" in message for message in body["messages"]):
        return None
    if limits.tool_ids and _TOOL_IDS.search(text) and _ID_FORM.search(text):
        return replace(limits, tool_ids=False)
    if limits.empty_content and any(message["content"] == "" for message in body["messages"]) and _EMPTY.search(text):
        return replace(limits, empty_content=False)
    if limits.results_without_tools and "tools" not in body and _NEEDS_TOOLS.search(text):
        return replace(limits, results_without_tools=False)
    if "content or tool_calls" in text or ("content" in text and "tool_calls" in text and "both" in text):
        return replace(limits, words_with_calls=False)
    return None


def _from_tools(text: str, body: Mapping[str, Any], tools: OfferedTools, limits: LearntLimits) -> LearntLimits | None:
    if not tools.names or not _TOOL_WORD.search(text):
        return None
    if "description" in text and re.search(r"too long|maximum|at most|exceed|longer|max", text):
        fitting = [number for number in _numbers(text) if 16 <= number < limits.tool_description]
        return replace(limits, tool_description=max(fitting, default=limits.tool_description // 2))
    if _COUNT.search(text):
        fitting = [number for number in _numbers(text) if 1 <= number < len(tools.names)]
        return replace(limits, tool_count=max(fitting, default=len(tools.names) // 2))
    named = _named(text, tools.names)
    if not _SCHEMA_WORD.search(text) or (not named and _NOT.search(text) and "schema" not in text):
        return None
    if named:
        levels = dict(limits.tool_levels)
        level = max(levels.get(named, 0), limits.tool_schema) + 1
        if named not in levels and len(levels) >= _MOST_TOOLS_REMEMBERED:
            levels.pop(next(iter(levels)))
        levels[named] = level
        return replace(limits, tool_levels=tuple(levels.items()))
    if limits.tool_schema < Level.FLAT:
        return replace(limits, tool_schema=Level(limits.tool_schema + 1))
    return replace(limits, tools=False)


def _named(text: str, names: Sequence[str]) -> str:
    """The one tool that a refusal is about, "" when it says none."""
    place = _TOOL_PLACE.search(text)
    if place is not None and int(place[1]) < len(names):
        return names[int(place[1])]
    found = [name for name in names if re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", text)]
    return max(found, key=len, default="")


def _from_context(text: str, body: Mapping[str, Any], tools: OfferedTools, limits: LearntLimits) -> LearntLimits | None:
    if not _CONTEXT.search(text):
        return None
    size = len(orjson.dumps(body["messages"])) + tools.size
    limit = next((number for match in _LIMIT.finditer(text) if (number := _number(match[1])) >= 64), 0)
    used = max((number for number in _numbers(text) if number > limit), default=0)
    if limit and used and used < limit * 1_000:
        room = int(size * limit / used * 0.85)
    elif limit:
        room = int(limit * 0.9) if "character" in text or "字" in text else limit * _BYTES_PER_TOKEN
        room = min(room, int(size * 0.75))
    else:
        room = size // 2
    if limits.context:
        room = min(room, int(limits.context * 0.6))
    return replace(limits, context=max(_SMALLEST_CONTEXT, room)) if room < size else None


def _from_roles(text: str, body: Mapping[str, Any], tools: OfferedTools, limits: LearntLimits) -> LearntLimits | None:
    about_system = "system" in text or "developer instruction" in text
    if limits.tool_role and _has_role(body, "tool") and _TOOL_ROLE.search(text) and not about_system:
        return replace(limits, tool_role=False)
    if limits.system_role and _has_role(body, "system") and _SYSTEM.search(text):
        return replace(limits, system_role=False)
    if limits.tool_role and _has_role(body, "tool") and _ROLES_ONLY.search(text):
        return replace(limits, tool_role=False)
    return None


def _from_no_tools(
    text: str, body: Mapping[str, Any], tools: OfferedTools, limits: LearntLimits
) -> LearntLimits | None:
    used = "tools" in body or _has_role(body, "tool")
    if limits.tools and used and _TOOL_WORD.search(text) and _NOT.search(text):
        return replace(limits, tools=False)
    return None


def _from_parameters(
    text: str, body: Mapping[str, Any], tools: OfferedTools, limits: LearntLimits
) -> LearntLimits | None:
    thinks_less = replace(limits, thinking=limits.thinking + 1)
    if _ABOUT_THINKING.search(text) and chooses_to_think(body):
        return thinks_less
    if not (_NOT.search(text) or _WRONG.search(text)):
        return None
    if body.get("stream") and _STREAMING.search(text):
        return replace(limits, streaming=False)
    for key in body:
        if key in _NOT_PARAMETERS or re.search(rf"(?<!\w){re.escape(key.lower())}(?!\w)", text) is None:
            continue
        if key == "max_tokens" and "max_completion_tokens" in text:
            return replace(limits, max_completion_tokens=True)
        if key in _THINKING_KEYS:
            return thinks_less
        return replace(limits, left_out=limits.left_out | {key})
    return None


def _numbers(text: str) -> list[int]:
    return [_number(found) for found in _NUMBER.findall(text)]


def _number(text: str) -> int:
    return int(text.replace(",", "").replace("_", "")[:12] or 0)
