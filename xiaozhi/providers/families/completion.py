"""One chat completion while it is read: the JSON values of its body in, text to be spoken out, tool calls at its end.

Streamed and unstreamed, `delta` or `message`, one odd field or one odd event: judged by content. `finish_reason` says
why an answer ended, not when; the end is `[DONE]` or the end of the body, and text and calls behind a reason count. An
error of any spelling inside an answer with status 200 is an error. Pure: no network, no time.

Source: platform.openai.com/docs/api-reference/chat, and what compatible servers make of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from xiaozhi.chat import ToolCall
from xiaozhi.errors import VendorError, VendorGarbage, VendorRejected, VendorUnavailable
from xiaozhi.net.http_errors import redact
from xiaozhi.providers.families.answer_text import AnswerText
from xiaozhi.providers.families.openai import error_in_answer
from xiaozhi.providers.families.openai_deltas import ToolCalls, new_call_id
from xiaozhi.providers.families.tool_names import NOTHING_OFFERED, Offer

REASONING_KEYS: Final = ("reasoning_content", "reasoning", "thinking", "thought", "reasoning_text", "reasoning_details")
_BESIDE_TEXT: Final = frozenset({*REASONING_KEYS, "tool_calls", "function_call", "channel", "type", "refusal"})
MAX_REASONING_CHARS: Final = 32_000

_STOPS: Final = frozenset(
    {
        "stop", "end_turn", "stop_sequence", "eos", "eos_token", "end", "complete", "completed", "done", "finish",
        "finished", "normal", "tool_calls", "function_call", "tool_use", "tool_call", "function_calls", "success",
    }
)  # fmt: skip
_CUTS: Final = frozenset(
    {
        "length",
        "max_tokens",
        "model_length",
        "max_length",
        "max_output_tokens",
        "token_limit",
        "model_context_window_exceeded",
    }
)
_FILTERED: Final = frozenset(
    {
        "content_filter", "content_filtered", "sensitive", "safety", "prohibited_content", "blocklist", "spii",
        "recitation", "refusal", "risk", "guardrail_intervened", "moderation",
    }
)  # fmt: skip
_FAILED: Final = frozenset(
    {"error", "network_error", "insufficient_system_resource", "abort", "aborted", "failed", "timeout", "cancelled"}
)
_KNOWN: Final = _STOPS | _CUTS | _FILTERED | _FAILED
# Channels of harmony as some servers send them beside the text.
_SILENT_CHANNELS: Final = frozenset({"analysis", "commentary", "thought", "thinking", "reasoning"})
_SUCCESS: Final = frozenset({"", "0", "200", "20000", "ok", "success", "none", "null", "false"})
_ERROR_WORDS: Final = ("error", "bad gateway", "exception", "failed", "overload", "time out", "timeout",
                       "too many requests", "rate limit", "unauthorized",
                       "错误", "失败", "异常", "超时", "限流")  # fmt: skip


class Completion:
    """`take` every value; then, `end`. `vendor` names the vendor in errors, `offer` are the tools on offer."""

    def __init__(self, vendor: str, offer: Offer = NOTHING_OFFERED) -> None:
        self.text = AnswerText(offer)
        """What of the text may be spoken; its `retractions` grow when all so far turned out to be reasoning."""
        self.reason = ""
        """Why the answer ended, in the words of the vendor, "" while none of the known ones was given."""
        self.heard = False
        """Something of a completion has come."""
        self.reasoned = False
        """Reasoning came in a field of its own."""
        self.spoke_behind_the_end = False
        """Text or calls came behind a reason."""
        self.may_end = False
        """A reason came, and not with nothing but reasoning: the body may end at any time."""
        self.ended_early = False
        """The reason came with the first text, or before any."""
        self.failed = False
        """The vendor told of an error."""
        self.filtered = False
        """The vendor's content filter has ended the answer."""
        self._vendor = vendor
        self._offer = offer
        self._calls = ToolCalls()
        self._said: list[str] = []
        self._reasoning: list[str] = []
        self._reasoning_chars = 0
        self._odd = ""
        self._index: Any = None

    @property
    def spoke(self) -> bool:
        """Text of any kind has come."""
        return bool(self._said)

    @property
    def ended_in_length(self) -> bool:
        """The answer was cut off at its limit."""
        return self.reason in _CUTS

    def take(self, value: Any) -> str:
        """Read one value; the text that may be spoken now, often "". Raises VendorError, and BadToolCall for a call
        without end."""
        # Nearly all values are nothing but a piece of text.
        try:
            choice = value["choices"][0]
            delta = choice["delta"]
            content = delta["content"]
            plain = (
                content.__class__ is str
                and (len(delta) == 1 or _BESIDE_TEXT.isdisjoint(delta))
                and choice["finish_reason"] is None
                and choice["index"] == self._index
                and not self.reason
                and "error" not in value
            )
        except (KeyError, IndexError, TypeError):
            plain = False
        if not plain:
            return self._take(value)
        self._said.append(content)
        return self.text.feed(content)

    def _take(self, value: Any) -> str:
        try:
            choice = value["choices"][0]
            index = choice.get("index")
            if index != self._index and not self._is_ours(index):
                return ""
            if value.get("error") or choice.get("error"):
                raise self._error(value.get("error") or choice["error"])
        except (KeyError, IndexError, TypeError, AttributeError):
            found = self._unusual(value)
            if found is None:
                return ""
            choice = found
        self.heard = True
        delta = choice.get("delta")
        whole = not delta and "message" in choice
        if whole:
            delta = choice["message"]
        thoughts = self._reasoning_chars
        text = self._delta(delta, choice, whole=whole) if delta or "text" in choice else ""
        reason = choice.get("finish_reason")
        if reason and isinstance(reason, str):
            only_thinks = self._reasoning_chars != thoughts and not text
            self._end_with(reason.lower(), may_end=not only_thinks)
        return text

    def end(self) -> Iterator[str | ToolCall]:
        """The rest of the text, and the calls. Raises VendorError, BadToolCall."""
        cut_off = self.ended_in_length
        text = self.text.finish(cut_off=cut_off)
        calls = self._calls.whole(cut_off=cut_off, offer=self._offer, vendor=self._vendor) if self._calls else []
        if text:
            self._said.append(text)
            yield text
        if self.filtered:
            raise VendorRejected(self._vendor, "stopped by the vendor's content filter")
        written = self.text.calls
        if not (calls or written or any(map(str.strip, self._said))) and self._reasoning and self.reason in _STOPS:
            text, written = self._answer_in_reasoning()
            if text:
                yield text
        # A server that reads the calls and leaves them in the text as well.
        known = [(call.name, call.arguments) for call in calls]
        for call in written:
            if (call.name, call.arguments) not in known:
                calls.append(ToolCall(new_call_id(), call.name, call.arguments, call.fault))
        yield from calls

    def ended_by(self, odd: bytes) -> VendorError | None:
        """The error that a line which could not be read tells of, when nothing else says why the answer ended."""
        text = odd.decode("utf-8", "replace")
        if self.reason or not (text.startswith("<") or tells_of_an_error(text)):
            return None
        return self._error(text)

    def nothing(self, odd: bytes, content_type: str) -> VendorGarbage:
        """The error of a body in which there was no completion."""
        seen = redact(odd.decode("utf-8", "replace")) if odd else self._odd
        form = content_type or "nameless"
        if seen.startswith("<"):
            return VendorGarbage(self._vendor, f"a web page instead of a completion; is the address right? {seen}")
        return VendorGarbage(self._vendor, f"no completion in a {form} answer{': ' if seen else ''}{seen}")

    def _is_ours(self, index: Any) -> bool:
        """False for another answer to the same question."""
        if self._index is None:
            self._index = index
        return index is None or index == self._index

    # --- one value ----------------------------------------------------------------------------------------------------

    def _unusual(self, value: Any) -> Mapping[str, Any] | None:
        """The choice in a value that has none where it belongs; None: nothing of an answer. Raises VendorError."""
        if isinstance(value, str):
            return self._encoded(value)
        if not isinstance(value, Mapping):
            return None
        if (error := _error_in(value)) is not None:
            raise self._error(error)
        choices = value.get("choices")
        if isinstance(choices, Mapping):
            choices = [choices, *(item for item in choices.values() if isinstance(item, Mapping))]
        if isinstance(choices, list):
            return next((each for each in choices if isinstance(each, Mapping)), None)
        if (choice := _without_choices(value)) is not None:
            return choice
        output = value.get("output") or value.get("data") or value.get("completion")
        if isinstance(output, Mapping) and isinstance(output.get("choices"), list):
            return self._unusual(output)
        if not self._odd:
            self._odd = redact(str(value))
        return None

    def _encoded(self, text: str) -> Mapping[str, Any] | None:
        """A value that was encoded once more, or words."""
        if text[:1] == "{":
            try:
                value = orjson.loads(text)
            except orjson.JSONDecodeError:
                return None
            return self._unusual(value)
        if tells_of_an_error(text):
            raise self._error(text)
        return None

    def _delta(self, delta: Any, choice: Mapping[str, Any], *, whole: bool) -> str:
        if isinstance(delta, str):
            delta = {"content": delta}
        if not isinstance(delta, Mapping):
            legacy = choice.get("text")
            delta = {"content": legacy} if isinstance(legacy, str) else {}
        content = delta.get("content")
        if not _BESIDE_TEXT.isdisjoint(delta):
            content = self._beside_text(delta, content, whole=whole)
        if content is not None and not isinstance(content, str):
            content = self._parts(content)
        if not content:
            return ""
        if whole:
            content = self._not_said_yet(content)
        self.spoke_behind_the_end = self.spoke_behind_the_end or self.may_end
        self._said.append(content)
        return self.text.feed(content)

    def _beside_text(self, delta: Mapping[str, Any], content: Any, *, whole: bool) -> Any:
        """Take what is not text; the text of the delta."""
        fragments = delta.get("tool_calls")
        if not fragments and isinstance(delta.get("function_call"), Mapping):
            fragments = [{"index": 0, "function": delta["function_call"]}]  # before 2023-11
        if fragments and not (whole and self._calls):  # a whole message behind the pieces holds the calls again
            self.spoke_behind_the_end = self.spoke_behind_the_end or self.may_end
            self._calls.add(fragments)
        for key in REASONING_KEYS:
            if delta.get(key):
                self._reason(delta[key])
                break  # some send it under two names
        if content and (delta.get("channel") in _SILENT_CHANNELS or delta.get("type") in _SILENT_CHANNELS):
            self._reason(content)
            return None
        if not content and isinstance(delta.get("refusal"), str):
            return delta["refusal"]
        return content

    def _parts(self, content: Any) -> str:
        """Text sent as typed parts, or as what it is not."""
        if isinstance(content, Mapping):
            content = [content]
        if isinstance(content, (int, float)) and not isinstance(content, bool):
            return str(content)  # the text "5"
        if not isinstance(content, list):
            return ""
        texts = []
        for part in content:
            if isinstance(part, str):
                texts.append(part)
            elif isinstance(part, Mapping):
                kind = part.get("type", "text")
                text = part.get("text", part.get("content"))
                if kind in ("text", "output_text", "refusal"):
                    texts.append(text if isinstance(text, str) else str(part.get("refusal") or ""))
                elif kind in _SILENT_CHANNELS:
                    self._reason(part.get("thinking") or text)
        return "".join(texts)

    def _reason(self, reasoning: Any) -> None:
        self.reasoned = True
        if isinstance(reasoning, list):
            for part in reasoning:
                self._reason(part)
        elif isinstance(reasoning, Mapping):
            self._reason(reasoning.get("text") or reasoning.get("content") or reasoning.get("summary"))
        elif isinstance(reasoning, str) and self._reasoning_chars < MAX_REASONING_CHARS:
            self._reasoning.append(reasoning)
            self._reasoning_chars += len(reasoning)

    def _not_said_yet(self, content: str) -> str:
        """A whole message in a stream may hold everything so far."""
        said = "".join(self._said)
        return content[len(said) :] if said and content.startswith(said) else content

    def _answer_in_reasoning(self) -> tuple[str, list[Any]]:
        """Servers whose reasoning parser swallows answers of models that did not think."""
        text = AnswerText(self._offer)
        spoken = text.feed("".join(self._reasoning)) + text.finish()
        return spoken.strip(), text.calls

    def _end_with(self, reason: str, *, may_end: bool) -> None:
        if reason not in _KNOWN:
            return
        self.may_end = self.may_end or may_end
        if reason in _FAILED:
            self.failed = True
            raise VendorUnavailable(self._vendor, f"the vendor broke off: {reason}")
        # A better word replaces "stop", which some servers put into every piece.
        if not self.reason:
            self.ended_early = len(self._said) < 2
        if not self.reason or reason not in _STOPS:
            self.reason = reason
            self.filtered = reason in _FILTERED

    def _error(self, error: Any) -> VendorError:
        self.failed = True
        return error_in_answer(self._vendor, error)


_ERROR_KEYS: Final = (
    "error", "errors", "err", "fault", "exception", "error_msg", "err_msg", "error_message", "errorMessage",
)  # fmt: skip


def _error_in(value: Mapping[str, Any]) -> Any:
    """The error that a value without choices tells of, in any spelling; None: it tells of none."""
    for key in _ERROR_KEYS:
        if value.get(key):
            return value[key]
    if value.get("object") == "error" or "error" in (value.get("type"), value.get("status"), value.get("event")):
        return value
    base = value.get("base_resp")
    if isinstance(base, Mapping) and str(base.get("status_code", 0)) != "0":
        return {"code": base.get("status_code"), "message": base.get("status_msg")}
    response, header = value.get("Response"), value.get("header")
    if isinstance(response, Mapping) and response.get("Error"):
        return response["Error"]
    if isinstance(header, Mapping) and header.get("code"):
        return header
    if value.get("choices"):
        return None
    if isinstance(value.get("status"), int) and value["status"] >= 400:
        return value
    for key in ("code", "error_code", "err_code", "status_code", "errcode", "statusCode", "ret", "retcode"):
        if key in value and str(value[key] or "").lower() not in _SUCCESS:
            return value
    if value.get("success") is False or (value.get("detail") and "message" not in value):
        return value.get("detail") or value
    message = value.get("message") or value.get("msg")
    return value if isinstance(message, str) and tells_of_an_error(message) else None


def _without_choices(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The choice in a value of another API's form: Ollama's and llama.cpp's own; None: it is none of them."""
    ended = value.get("done") is True or value.get("stop") is True
    reason = (value.get("done_reason") or "stop") if ended else value.get("finish_reason")
    for key in ("message", "delta"):
        if isinstance(value.get(key), Mapping):
            return {"delta": value[key], "finish_reason": reason}
    for key in ("content", "response"):
        if isinstance(value.get(key), str) and not value.keys().isdisjoint(("done", "stop", "role")):
            return {"delta": {"content": value[key]}, "finish_reason": reason}
    return None


def tells_of_an_error(text: str) -> bool:
    """Whether words, or a web page, say that something failed."""
    lower = text.lower()
    return any(word in lower for word in _ERROR_WORDS)
