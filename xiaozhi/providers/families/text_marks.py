"""The marks that models leave in their text: of reasoning, of tool calls, of the chat template. One grammar for all
families instead of a list of every mark, because new models spell the same few words in new ways.

    <think> </think> <seed:think> <|begin_of_thought|> <|END_THINKING|> [THINK] ◁think▷      reasoning
    <details ...> <summary> Thinking... </summary>                                             reasoning in a box
    <tool_call> <|tool_calls_section_begin|> <｜tool▁calls▁begin｜> [TOOL_CALLS] <function=f> <invoke name="f">   calls
    <tool_response> <|tool_response> [TOOL_RESULTS]                                            results, made up
    <|im_start|>user <|eot_id|> </s> [/INST] <<SYS>> <end_of_turn>                             the template

Pure reading; `answer_text.py` decides what becomes of it. Sources: the chat templates of the models and the tool-call
and reasoning parsers of vLLM, SGLang and llama.cpp."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


class Kind(Enum):
    """What a mark is."""

    THOUGHT_BEGINS = auto()
    THOUGHT_ENDS = auto()
    CALL_BEGINS = auto()
    CALL_ENDS = auto()
    RESULT_BEGINS = auto()
    RESULT_ENDS = auto()
    ROLE = auto()
    """The name of a role follows."""
    OTHER_ROLE = auto()
    """Somebody else's turn begins."""
    CHANNEL = auto()
    MESSAGE = auto()
    TURN_ENDS = auto()
    TEXT_ENDS = auto()
    """Of the whole text: what a model writes behind it belongs to another."""
    TEMPLATE = auto()
    """Anything else of a template, and wrappers such as <answer>."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark. `word`: its letters only, in lower case, without begin and end, so that opening and closing marks have
    the same. `names_call`: the mark itself names the function."""

    kind: Kind
    word: str
    text: str
    names_call: bool = False


QUOTES: Final = {"`": "`", '"': '"', "'": "'", "“": "”", "‘": "’", "「": "」", "『": "』", "«": "»"}
"""Opening -> closing: a mark right between them is mentioned, not meant."""

BOX: Final = "details"
"""The word of reasoning that a platform shows in a box that can be folded."""

_BEGINNING: Final = re.compile(r"[<\[◁]")
_NAME: Final = r"[A-Za-z_][\w:.▁\-]*"
_TAG: Final = re.compile(
    rf"</?[|｜]{{0,2}}/?(?:DSML[|｜]{{1,2}}\s?)?(?P<name>{_NAME})"
    r"(?:=[^<>\n]{1,100}|(?P<more>[ \t]+[^<>\n]{0,200}?))?"
    r"[|｜]{0,2}/?>"
    r"|<</?SYS>>|<\|\"\|>"
)
_TAG_BEGUN: Final = re.compile(
    rf"<(?:<|<?/?[|｜]{{0,2}}/?(?:DSML[|｜]{{0,2}}\s?)?(?:{_NAME})?(?:=[^<>\n]{{0,100}})?[|｜]{{0,2}}/?|<?/?SYS>?|\|\"\|?)\Z"
)
# Only these have attributes that are worth waiting for; behind any other word a space ends the hope.
_WITH_ATTRIBUTES: Final = r"(?:invoke|function(?:_call)?|tool(?:_call|_use)?|think\w*|reason\w*)"
_ATTRIBUTED: Final = re.compile(rf"(?:\w{{1,12}}:)?{_WITH_ATTRIBUTES}\Z", re.IGNORECASE)
_ATTRIBUTES_BEGUN: Final = re.compile(
    rf"</?[|｜]{{0,2}}(?:DSML[|｜]{{1,2}}\s?)?(?:\w{{1,12}}:)?{_WITH_ATTRIBUTES}[ \t]"
    r"[^<>\n]{0,200}\Z",
    re.IGNORECASE,
)
_BOX: Final = re.compile(
    r"<details(?:[ \t][^<>\n]{0,200})?>\s{0,8}"
    r"<summary>\s{0,8}(?:think|thought|reason|深度思考|思考)[^<>]{0,40}</summary>",
    re.IGNORECASE,
)
_BOX_BEGUN: Final = re.compile(
    r"<details(?:[ \t][^<>\n]{0,200})?(?:>\s{0,8}(?:<s?u?m?m?a?r?y?(?:>[^<>]{0,48}(?:</?s?u?m?m?a?r?y?)?)?)?)?\Z",
    re.IGNORECASE,
)
_BOX_END: Final = "</details>"
_BRACKET: Final = re.compile(
    r"\[/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS?|TOOL_RESULTS?|TOOL_CONTENT|AVAILABLE_TOOLS|(?:END_)?TOOL_REQUEST|"
    r"THINK(?:ING)?|think|THOUGHT|REASONING|ARGS|CALL_ID|"
    r"BOS|EOS|PAD|UNK|SEP|CLS|MASK|[gs]MASK|unused\d{1,3}|\|[A-Za-z_ ]{1,20}\|)\]"
)
_BRACKET_BEGUN: Final = re.compile(r"\[/?\|?[A-Za-z_]{0,18}\d{0,3}\|?\Z")
_TRIANGLE: Final = re.compile(r"◁/?[\w ]{1,24}▷")
_TRIANGLE_BEGUN: Final = re.compile(r"◁/?[\w ]{0,24}\Z")

_THOUGHT: Final = frozenset(
    {
        "think", "thinking", "thought", "thoughts", "thinkingprocess", "thoughtprocess", "reasoning", "reason",
        "reflection", "analysis", "scratchpad", "monologue", "innermonologue", "antthinking", "chainofthought", "cot",
        "rationale", "deliberation", "ponder", "workingout", "innerthoughts",
        "planning", "selfreflection", "critique", "internalthoughts",
    }
)  # fmt: skip
_CALL: Final = frozenset(
    {
        "toolcall", "toolcalls", "functioncall", "functioncalls", "toolcallssection", "toolcallsection", "tooluse",
        "tools", "tool", "action", "plugin", "usetool", "calltool", "apicall", "toolcode", "toolrequest", "call",
        "pythontag", "python", "functions",
    }
)  # fmt: skip
_NAMING: Final = frozenset({"invoke", "function"})
_RESULT: Final = frozenset(
    {
        "toolresponse", "toolresponses", "toolresult", "toolresults", "tooloutput", "tooloutputs", "functionresult",
        "functionresults", "functionresponse", "functionoutput", "toolcontent",
    }
)  # fmt: skip
_ROLE: Final = frozenset({"im", "header", "headerid", "turn", "turntoken", "role", "ofturn", "ofturntoken"})
_OTHERS: Final = frozenset(
    {"user", "human", "usertoken", "system", "systemtoken", "developer", "observation", "environment", "ipython"}
)
_PLAIN: Final = frozenset(
    {
        "s", "bos", "eos", "pad", "unk", "sep", "cls", "mask", "eot", "eom", "eod", "eop", "sop", "eor",
        "answer", "finalanswer", "final", "response", "solution", "output", "utterance", "sentence",
    }
)  # fmt: skip
_ENDS_TEXT: Final = frozenset({"text", "eos", "eod", "sentence"})
_TURN: Final = frozenset({"return", "call", "eotid", "eomid", "eot", "eom"})
_BEGIN: Final = re.compile(r"\A(?:begin|start|open)(?:of|_)?|(?:begin|start|prefix|open)\Z")
_END: Final = re.compile(r"\A(?:end|close)(?:of|_)?|(?:end|suffix|close|stop)\Z")
_NAME_ATTRIBUTE: Final = re.compile(r"\sname\s*=|=[\w\"']")
_NUMBERED: Final = re.compile(r"(?:unused|reserved|extraid|reservedspecialtoken|special|placeholder)\d*\Z")


def next_mark(text: str, at: int = 0) -> int:
    """Where the next mark could begin; the length of `text` when nowhere."""
    found = _BEGINNING.search(text, at)
    return found.start() if found is not None else len(text)


def read(text: str, at: int = 0) -> Mark | None:
    """The mark that begins at `at`, or None: what stands there is text (HTML, a comparison, a link)."""
    first = text[at]
    if first == "<":
        if (found := _BOX.match(text, at)) is not None:
            return Mark(Kind.THOUGHT_BEGINS, BOX, found.group())
        if text.startswith(_BOX_END, at):
            return Mark(Kind.TEMPLATE, BOX, _BOX_END)
        found = _TAG.match(text, at)
        return _tag(found) if found is not None else None
    if first == "[":
        found = _BRACKET.match(text, at)
        return _bracket(found.group()) if found is not None else None
    found = _TRIANGLE.match(text, at) if first == "◁" else None
    if found is None:
        return None
    ends = found.group()[1] == "/"
    return Mark(Kind.THOUGHT_ENDS if ends else Kind.THOUGHT_BEGINS, "think", found.group())


def is_thought(word: str) -> bool:
    """Whether a word names reasoning."""
    return word in _THOUGHT


def begun(text: str, at: int = 0) -> bool:
    """Whether the rest of `text` from `at` on could become a mark."""
    first = text[at]
    if first == "<":
        return any(begun.match(text, at) for begun in (_TAG_BEGUN, _ATTRIBUTES_BEGUN, _BOX_BEGUN))
    if first == "[":
        return _BRACKET_BEGUN.match(text, at) is not None
    return first == "◁" and _TRIANGLE_BEGUN.match(text, at) is not None


def tag_length(text: str, at: int) -> int:
    """How long the tag at `at` is, whatever it means; 0 when there is none."""
    found = _TAG.match(text, at) or _BRACKET.match(text, at)
    return found.end() - at if found is not None else 0


def _tag(found: re.Match[str]) -> Mark | None:
    whole = found.group()
    name = found["name"]
    if name is None:  # <<SYS>>, and the quotes of Gemma, which only mean something inside a call
        return Mark(Kind.TEMPLATE, "sys", whole)
    if found["more"] and not _ATTRIBUTED.match(name):
        return None
    word = name.lower().replace("▁", "").replace("_", "").replace("-", "").replace(".", "")
    space, _, local = word.rpartition(":")
    word = space if space in _THOUGHT else local or space
    piped = "|" in whole or "｜" in whole
    ends = whole.startswith(("</", "<|/", "<｜/"))
    begins = False
    if word not in _PLAIN and (bare := _END.sub("", word)) != word:
        word, ends = bare, True
    elif word not in _PLAIN and (bare := _BEGIN.sub("", word)) != word:
        word, begins = bare, True
    elif piped and whole.endswith(("|>", "｜>")) and whole[1] not in "|｜/":
        ends = True  # <channel|>, <tool_call|>
    found_mark = _meaning(word, whole, piped=piped, begins=begins, ends=ends)
    own = found_mark is not None and found_mark.kind in (Kind.CALL_BEGINS, Kind.CALL_ENDS)
    return found_mark if own or "DSML" not in whole else None


def _meaning(word: str, whole: str, *, piped: bool, begins: bool, ends: bool) -> Mark | None:
    if word in _THOUGHT:
        return Mark(Kind.THOUGHT_ENDS if ends else Kind.THOUGHT_BEGINS, word, whole)
    if word in _NAMING and ("=" in whole or ends or "DSML" in whole):
        return Mark(Kind.CALL_ENDS if ends else Kind.CALL_BEGINS, word, whole, names_call=not ends)
    if _calls(word, piped=piped, marked=begins or ends):
        named = not ends and _NAME_ATTRIBUTE.search(whole) is not None
        return Mark(Kind.CALL_ENDS if ends else Kind.CALL_BEGINS, word, whole, names_call=named)
    if word in _RESULT:
        return Mark(Kind.RESULT_ENDS if ends else Kind.RESULT_BEGINS, word, whole)
    if piped and word == "channel":
        return Mark(Kind.THOUGHT_ENDS if ends else Kind.CHANNEL, word, whole)
    if piped and word == "message":
        return Mark(Kind.MESSAGE, word, whole)
    if word in _ROLE and (piped or begins or ends):
        if word == "headerid" and ends:
            return Mark(Kind.TEMPLATE, word, whole)
        return Mark(Kind.TURN_ENDS if ends else Kind.ROLE, word, whole)
    if piped and word == "" and begins:  # <|start|>
        return Mark(Kind.ROLE, "start", whole)
    if (piped or word in _PLAIN) and word in _ENDS_TEXT and ends:
        return Mark(Kind.TEXT_ENDS, word, whole)
    if word == "eos":
        return Mark(Kind.TEXT_ENDS, word, whole)
    if word == "s" and ends:  # may be the end of HTML's struck-out text as well
        return Mark(Kind.TURN_ENDS, word, whole)
    if piped and (word in _TURN or (ends and word == "")):
        return Mark(Kind.TURN_ENDS, word, whole)
    if piped and word in _OTHERS:
        return Mark(Kind.OTHER_ROLE, word, whole)
    if piped or word in _PLAIN or _NUMBERED.match(word) or word.startswith("0x"):
        return Mark(Kind.TEMPLATE, word, whole)
    return None


def _calls(word: str, *, piped: bool, marked: bool) -> bool:
    if word in ("python", "call", "tool", "plugin", "action", "functions"):
        return piped and (marked or word == "python")
    return word in _CALL or word.endswith(("toolcall", "toolcalls", "functioncall", "functioncalls"))


def _bracket(whole: str) -> Mark:
    word = whole.strip("[]/|").lower().replace("_", "").replace(" ", "")
    ends = whole[1] == "/"
    if word in _THOUGHT or word == "unused16":
        return Mark(Kind.THOUGHT_ENDS if ends else Kind.THOUGHT_BEGINS, "think", whole)
    if word == "unused17":
        return Mark(Kind.THOUGHT_ENDS, "think", whole)
    if word in ("toolcalls", "toolcall", "toolrequest", "endtoolrequest", "unused11", "unused12"):
        ends = ends or word in ("endtoolrequest", "unused12")
        return Mark(Kind.CALL_ENDS if ends else Kind.CALL_BEGINS, "toolcalls", whole)
    if word in ("toolresults", "toolresult", "toolcontent"):
        return Mark(Kind.RESULT_ENDS if ends else Kind.RESULT_BEGINS, word, whole)
    if word == "inst" and not ends:
        return Mark(Kind.OTHER_ROLE, word, whole)
    if word == "eos":
        return Mark(Kind.TEXT_ENDS, word, whole)
    return Mark(Kind.OTHER_ROLE if word in _OTHERS else Kind.TEMPLATE, word, whole)
