"""Tool calls that a model wrote as text, in any of the spellings of local models -> names and arguments. Pure.

`answer_text.py` finds where a call begins and ends; what stands between is read here by its form, not by its marks,
since models mix them:

    {"name": f, "arguments": {...}}, a list of those, {"f": {...}}, {"tool_calls": [...]}      Hermes, Qwen, Llama,
    Doubao <function=f><parameter=x>1</parameter></function>, <invoke name="f"><parameter name="x">   Qwen Coder,
    MiniMax, DSML f<arg_key>x</arg_key><arg_value>1</arg_value>                                              GLM
    functions.f:0 MARK {...}, function MARK f ```json {...}```, f[ARGS]{...}                   Kimi, DeepSeek, Mistral
    call:f{x:<|"|>1<|"|>}                                                                      Gemma f(x=1), [f(x=1),
    g()]                                                                      Llama 4, LFM, tool_code Action: f, Action
    Input: {...}; ✿FUNCTION✿: f ✿ARGS✿: {...}                                ReAct, older Qwen

Nothing is guessed: a call of a tool on offer whose arguments cannot be read is reported with the reason."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from xiaozhi.providers.families import text_marks
from xiaozhi.providers.families.call_arguments import BadToolCall, load_object, parse_arguments
from xiaozhi.providers.families.openai_deltas import MAX_TOOL_CALLS
from xiaozhi.providers.families.tool_names import Offer

NAME_KEYS: Final = (
    "name", "function", "function_name", "tool", "tool_name", "toolName", "recipient_name", "func", "api", "action",
)  # fmt: skip
ARGUMENT_KEYS: Final = (
    "arguments", "parameters", "args", "params", "kwargs", "input", "tool_input", "action_input", "parameter",
    "argument", "function_args", "tool_args",
)  # fmt: skip
WRAPPER_KEYS: Final = ("tool_calls", "function_call", "function_calls", "tool_call", "tool_uses", "calls", "tools")
_MAX_DEPTH = 4
_MAX_FAILURES = 8
_CODE_CHARS = 20_000

_DSML: Final = r"(?:[|｜]{1,2}DSML[|｜]{1,2}\s?)?(?:\w{1,12}:)?"
_NAMING: Final = "invoke|function|tool|tool_call|function_call|tool_use|call"
_FUNCTION: Final = re.compile(
    rf"<{_DSML}(?:{_NAMING})(?:=|\s+name\s*=\s*)[\"']?(?P<name>[\w.:\-]+)[\"']?[^<>]*>"
    rf"(?P<body>.*?)(?=</{_DSML}(?:{_NAMING})>|<{_DSML}(?:{_NAMING})(?:=|\s)|\Z)",
    re.DOTALL,
)
_PARAMETER: Final = re.compile(
    rf"<{_DSML}(?:parameter|param|arg)(?:=|\s+name\s*=\s*)[\"']?(?P<key>[\w.\-]+)[\"']?(?P<more>[^<>]*)>"
    rf"(?P<value>.*?)(?P<end></{_DSML}(?:parameter|param|arg)>|(?=<{_DSML}(?:parameter|param|arg)[=\s])|\Z)",
    re.DOTALL,
)
_CHILD: Final = re.compile(r"<(?P<key>[A-Za-z_][\w\-]*)>(?P<value>[^<>]*)</(?P=key)>")
_TOOL_NAME: Final = re.compile(r"<(tool_name|name|server_name)>\s*([\w.:\-]+)\s*</\1>")
_PAIR: Final = re.compile(r"<arg_key>([^<]*)</arg_key>\s*<arg_value>((?:[^<]|<(?!/?arg_))*)</arg_value>")
_GEMMA: Final = re.compile(r"call:\s*(?P<name>[\w.\-]+)\s*\{(?P<body>(?:(?!call:).)*?)\}\s*(?=call:|<|\Z)", re.DOTALL)
_GEMMA_TEXT: Final = re.compile(r"<\|\"\|>(.*?)<\|\"\|>|<escape>(.*?)<escape>|(\"(?:[^\"\\]|\\.)*\")", re.DOTALL)
_BARE_KEY: Final = re.compile(r"([{,]\s*)([\w.\-]+)\s*:")
_REACT: Final = re.compile(
    r"(?:Action|✿FUNCTION✿)\s*[:：]\s*(?P<name>[\w.\-]+)\s*(?:(?:Action[ _]Input|✿ARGS✿)\s*[:：]\s*(?P<body>.*?))?"
    r"(?=\n\s*Observation|✿RESULT✿|✿RETURN✿|\n\s*Thought|\n\s*Action\s*[:：]|✿FUNCTION✿|\Z)",
    re.DOTALL,
)
_NAMED_IN_JSON: Final = re.compile(
    r"[\"'](?:name|tool_name|function|function_name|tool)[\"']\s*:\s*[\"']([^\"'\n]{1,80})"
)
_FIRST_WORD: Final = re.compile(r"\s*([\w.:\-]+)\s*[:：]?\s*")
_CALLED: Final = re.compile(r"(?<![\w.])((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)\s*\(")
_OWN_TAG: Final = re.compile(r"<(?P<name>[A-Za-z_][\w.\-]*)>(?P<body>.*?)(?P<end></(?P=name)>|\Z)", re.DOTALL)
_LABELLED: Final = re.compile(
    r"(?:name|tool|function|工具|函数)\s*[:=：]\s*[\"']?(?P<name>[\w.\-]+)[\"']?\s*[,;]?\s*"
    r"(?:(?:arguments|parameters|args|input|参数)\s*[:=：]\s*(?P<body>.*))?",
    re.DOTALL | re.IGNORECASE,
)
_LABEL: Final = re.compile(r"\A\s*(?:call|action|function|tool)\s*[:：]\s*", re.IGNORECASE)
_FENCE: Final = re.compile(r"```[ \t]*[\w+\-]*[ \t]*\n?|```")
_SPLIT_CHANNELS: Final = re.compile(r"assistant(?=(?:analysis|commentary|final))")
_COMMENTARY_CALL: Final = re.compile(r"\Acommentary\s*to=(?:functions?\.)?([\w.\-]+)[^{]*(\{.*)", re.DOTALL)
_PYTHON_WORDS: Final = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """One call. `known`: the tool is on offer; else `name` is what the model wrote. `fault`: why it cannot be run."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    known: bool = True


def read_calls(text: str, offer: Offer, *, cut_off: bool = False) -> list[WrittenCall]:
    """The calls in `text`, which is what stood between the marks of calls. `cut_off`: the answer ended inside."""
    for reader in _READERS:
        found = list(reader(text, offer, cut_off))
        if found:
            return found[:MAX_TOOL_CALLS]
    return []


def stripped_channel_calls(text: str, offer: Offer) -> list[WrittenCall]:
    """The calls in an answer of harmony whose marks the server has stripped."""
    found: list[WrittenCall] = []
    for part in _SPLIT_CHANNELS.split(text):
        call = _COMMENTARY_CALL.match(part)
        if call is not None and offer:
            found += read_calls(f"{call[1]} {call[2]}", offer)
    return found


def _made(written: str, offer: Offer, arguments: Any, *, cut_off: bool) -> WrittenCall:
    name = offer.resolve(written)
    if name is None:
        return WrittenCall(written.strip()[:64], fault="there is no tool of this name", known=False)
    try:
        if isinstance(arguments, str):
            arguments = parse_arguments(arguments, cut_off=cut_off, tool=name)
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, Mapping):
            raise BadToolCall(f"its arguments are no object: {str(arguments)[:80]}")
    except BadToolCall as error:
        return WrittenCall(name, fault=str(error))
    return WrittenCall(name, dict(arguments))


# --- tags -------------------------------------------------------------------------------------------------------------


def _tags(text: str, offer: Offer, cut_off: bool) -> Iterator[WrittenCall]:
    if "<" not in text:
        return
    found = list(_FUNCTION.finditer(text))
    for function in found:
        name, body, closed = function["name"], function["body"], function.end() < len(text)
        known = offer.resolve(name)
        parameters = list(_PARAMETER.finditer(body))
        half = bool(parameters) and not parameters[-1]["end"]
        if not closed and (half or cut_off):
            yield WrittenCall(known or name, fault="its arguments were cut off", known=known is not None)
            continue
        arguments: Any = {
            each["key"]: _value(each["value"], as_json='string="false"' in each["more"]) for each in parameters
        }
        if not arguments and body.strip():
            arguments = _children(body) or body
        if isinstance(arguments, dict) and list(arguments) == ["arguments"]:
            # As some models write it who have seen both forms.
            arguments = arguments if "arguments" in offer.properties(known or "") else arguments["arguments"]
        yield _made(name, offer, arguments, cut_off=cut_off)
    if not found and (named := _TOOL_NAME.search(text)) is not None and named[1] != "server_name":
        rest = text[: named.start()] + text[named.end() :]
        yield _made(named[2], offer, _children(rest) or _first_object(rest), cut_off=cut_off)


def _value(text: str, *, as_json: bool) -> Any:
    stripped = text.strip()
    if as_json:
        try:
            return orjson.loads(stripped)
        except orjson.JSONDecodeError:
            return stripped
    return stripped


def _children(body: str) -> dict[str, str]:
    return {child["key"]: child["value"].strip() for child in _CHILD.finditer(body)}


def _first_object(text: str) -> str:
    at = text.find("{")
    return text[at:] if at >= 0 else ""


def _pairs(text: str, offer: Offer, cut_off: bool) -> Iterator[WrittenCall]:
    if "<arg_key>" not in text:
        return
    name = _FIRST_WORD.match(text[: text.index("<arg_key>")])
    if name is None:
        return
    pairs = _PAIR.findall(text)
    if len(pairs) != text.count("<arg_key>"):
        known = offer.resolve(name[1])
        yield WrittenCall(known or name[1], fault="its arguments were cut off", known=known is not None)
        return
    yield _made(name[1], offer, {key.strip(): value.strip() for key, value in pairs}, cut_off=cut_off)


# --- names and JSON between marks -------------------------------------------------------------------------------------


def _segments(text: str, offer: Offer, cut_off: bool) -> Iterator[WrittenCall]:
    """Names and JSON, parted by marks of any kind."""
    pending = ""
    found: list[WrittenCall] = []
    for segment in _between_marks(text):
        bare = (_FENCE.sub("", segment) if "```" in segment else segment).lstrip("> \n").strip()
        if not bare:
            continue
        if bare[0] in "{[":
            if pending:
                found.append(_made(pending, offer, bare, cut_off=cut_off))
                pending = ""
            else:
                found += _json_values(bare, offer, cut_off)
            continue
        word = _FIRST_WORD.match(bare)
        name = word[1] if word is not None else ""
        if word is None:
            continue
        rest = bare[word.end() :]
        if offer.resolve(name) is None:
            if rest[:1] in ("{", "["):  # a label, such as "json" or "functools"
                found += _json_values(rest, offer, cut_off)
            continue
        if pending:
            found.append(_made(pending, offer, "", cut_off=cut_off))
            pending = ""
        if rest[:1] in ("{", "["):
            found.append(_made(name, offer, rest, cut_off=cut_off))
        elif not rest:
            pending = name
    if pending:
        found.append(_made(pending, offer, "", cut_off=cut_off))
    return iter(found)


def _between_marks(text: str) -> Iterator[str]:
    at = begin = 0
    while at < len(text):
        length = text_marks.tag_length(text, at) if text[at] in "<[" else 0
        if length:
            yield text[begin:at].strip()
            at = begin = at + length
        else:
            at += 1
    yield text[begin:].strip()


def _json_values(text: str, offer: Offer, cut_off: bool) -> Iterator[WrittenCall]:
    decoder = json.JSONDecoder(strict=False)
    at = failures = 0
    read = broken = False
    while failures < _MAX_FAILURES and (begin := _next_bracket(text, at)) >= 0:
        try:
            value, at = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            if text[begin] == "[":
                at = begin + 1
                failures += 1
                continue
            broken = True
            value = None if cut_off else load_object(text[begin:])
            if value is None:
                break
            at = len(text)
        calls = list(_calls_in(value, offer, cut_off, 0))
        read = read or bool(calls)
        yield from calls
    if (
        broken
        and not read
        and (named := _NAMED_IN_JSON.search(text)) is not None
        and offer.resolve(named[1]) is not None
    ):
        why = "was cut off" if cut_off else "is not one complete JSON object"
        yield WrittenCall(offer.resolve(named[1]) or "", fault=f"the call {why}")


def _next_bracket(text: str, at: int) -> int:
    found = [place for place in (text.find("{", at), text.find("[", at)) if place >= 0]
    return min(found, default=-1)


def _calls_in(value: Any, offer: Offer, cut_off: bool, depth: int) -> Iterator[WrittenCall]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for item in value:
            yield from _calls_in(item, offer, cut_off, depth + 1)
        return
    if not isinstance(value, Mapping):
        return
    for key in WRAPPER_KEYS:
        if isinstance(value.get(key), (list, Mapping)):
            yield from _calls_in(value[key], offer, cut_off, depth + 1)
            return
    if isinstance(value.get("function"), Mapping):
        yield from _calls_in(value["function"], offer, cut_off, depth + 1)
        return
    name_key = next((key for key in NAME_KEYS if isinstance(value.get(key), str) and value[key]), None)
    if name_key is not None:
        name = value[name_key]
        argument_key = next((key for key in ARGUMENT_KEYS if key in value), None)
        if argument_key is not None:
            if not _is_schema(value[argument_key]):
                yield _made(name, offer, value[argument_key], cut_off=False)
            return
        rest = {key: item for key, item in value.items() if key not in (name_key, "id", "type")}
        known = offer.resolve(name)
        if known is not None and set(rest) <= set(offer.properties(known)):
            yield _made(name, offer, rest, cut_off=False)
        elif known is not None:
            yield WrittenCall(known, fault='its arguments are not where they belong, under "arguments"')
        return
    if len(value) == 1:
        (name, arguments), = value.items()  # fmt: skip
        if isinstance(arguments, (Mapping, str)) and offer.resolve(name) is not None:
            yield _made(name, offer, arguments, cut_off=False)


def _is_schema(arguments: Any) -> bool:
    """The description of a tool, repeated, and no call of it."""
    return isinstance(arguments, Mapping) and arguments.get("type") == "object" and "properties" in arguments


# --- Gemma, Python, ReAct ---------------------------------------------------------------------------------------------


def _gemma(text: str, offer: Offer, cut_off: bool) -> Iterator[WrittenCall]:
    if "call:" not in text:
        return
    for found in _GEMMA.finditer(text):
        yield _made(found["name"], offer, _gemma_json(found["body"]), cut_off=cut_off)


def _gemma_json(body: str) -> str:
    """`a:<|"|>b<|"|>,c:1` as JSON; texts are put aside while the keys get their quotes."""
    texts: list[str] = []

    def keep(found: re.Match[str]) -> str:
        texts.append(found[3] if found[3] is not None else orjson.dumps(found[1] or found[2] or "").decode())
        return f"\0{len(texts) - 1}\0"

    bare = _BARE_KEY.sub(r'\1"\2":', _GEMMA_TEXT.sub(keep, f"{{{body}}}"))
    return re.sub(r"\0(\d+)\0", lambda found: texts[int(found[1])], bare)


def _python(text: str, offer: Offer, cut_off: bool) -> Iterator[WrittenCall]:
    code = _LABEL.sub("", _FENCE.sub("\n", text)).strip()
    if "(" not in code or len(code) > _CODE_CHARS:
        return
    code = next((part for part in _between_marks(code) if "(" in part), "")
    above = code.partition("\n")[0].strip()
    named = offer.resolve(above) if "tool_call" in code else None
    written = [name for name in _CALLED.findall(code) if offer.resolve(name) is not None] or ([named] if named else [])
    if not written:
        return
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        yield WrittenCall(offer.resolve(written[0]) or "", fault="the call is cut off or not written correctly")
        return
    for statement in body:
        value = getattr(statement, "value", None)  # an expression or an assignment has one
        if isinstance(value, ast.AST):
            yield from _python_calls(value, offer, above)


def _python_calls(node: ast.AST, offer: Offer, above: str) -> Iterator[WrittenCall]:
    if isinstance(node, (ast.List, ast.Tuple)):
        for item in node.elts:
            yield from _python_calls(item, offer, above)
        return
    if not isinstance(node, ast.Call):
        return
    written = ast.unparse(node.func)
    name = offer.resolve(written)
    if name is None and written == "tool_call":  # ChatGLM names the tool in the line above
        name = offer.resolve(above)
    if name is None:
        for inner in node.args:  # print(f(x=1))
            yield from _python_calls(inner, offer, above)
        return
    try:
        arguments = {keyword.arg: _literal(keyword.value) for keyword in node.keywords if keyword.arg}
        arguments |= dict(zip(offer.properties(name), map(_literal, node.args), strict=False))
        if len(node.args) > len(offer.properties(name)) or any(keyword.arg is None for keyword in node.keywords):
            raise ValueError("more than it has")
    except (ValueError, TypeError, MemoryError, RecursionError):
        yield WrittenCall(name, fault="its arguments are not plain values")
        return
    yield WrittenCall(name, arguments)


def _literal(node: ast.AST) -> Any:
    if isinstance(node, ast.Name) and node.id in _PYTHON_WORDS:
        return _PYTHON_WORDS[node.id]
    return ast.literal_eval(node)


def _labelled(text: str, offer: Offer, cut_off: bool) -> Iterator[WrittenCall]:
    """`name: f`, `arguments: {...}`, line by line."""
    found = _LABELLED.match(text.strip())
    if found is not None and offer.resolve(found["name"]) is not None:
        yield _made(found["name"], offer, found["body"] or "", cut_off=cut_off)


def _own_tags(text: str, offer: Offer, cut_off: bool) -> Iterator[WrittenCall]:
    """`<f><x>1</x></f>`: the tags have the names of the tool and its arguments."""
    for found in _OWN_TAG.finditer(text):
        name = offer.resolve(found["name"])
        if name is not None and found["end"]:
            yield _made(name, offer, _children(found["body"]) or found["body"], cut_off=cut_off)
        elif name is not None:
            yield WrittenCall(name, fault="its arguments were cut off")


def _react(text: str, offer: Offer, cut_off: bool) -> Iterator[WrittenCall]:
    if "Action" not in text and "✿" not in text:
        return
    for found in _REACT.finditer(text):
        yield _made(found["name"], offer, found["body"] or "", cut_off=cut_off)


def _unreadable(text: str, offer: Offer, cut_off: bool) -> Iterator[WrittenCall]:
    """The last hope: at least the model can be told which call was not understood."""
    word = _FIRST_WORD.match(text.strip().removeprefix("call:"))
    name = offer.resolve(word[1]) if word is not None else None
    if name is not None:
        yield WrittenCall(name, fault="the call was cut off" if cut_off else "the call is not written correctly")


_READERS: Final[tuple[Callable[[str, Offer, bool], Iterator[WrittenCall]], ...]] = (
    _tags,
    _pairs,
    _gemma,
    _react,
    _segments,
    _labelled,
    _python,
    _own_tags,
    _unreadable,
)
