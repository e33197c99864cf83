"""What is learnt from refusals: in the words of many servers, and over loopback against vendors with narrow limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT
from loadtest.vendors.sounds import Sounds
from tests.vendors.strict_chat import Check, StrictChat, context_of, nine_character_ids, without, without_role
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import VendorBusy, VendorError, VendorRejected, VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.llm import Llm
from xiaozhi.providers.families.learnt_limits import NO_TOOLS, LearntLimits, compose, learn, merged, offered
from xiaozhi.providers.families.tool_schemas import Level
from xiaozhi.providers.llm.openai import OpenAiLlm
from xiaozhi.providers.registry import validate
from xiaozhi.providers.vllm.openai import OpenAiVllm
from xiaozhi.providers.wrappers import VendorLimits, guard

SOUNDS = Sounds()
WEATHER = ToolSpec("get_weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
TIME = ToolSpec("get_time", "The time.")
TALK = [
    Message("system", "Be kind."),
    Message("user", "weather?"),
    Message("assistant", "Let me see.", tool_calls=(ToolCall("call_abc", "get_weather", {"city": "Paris"}),)),
    Message("tool", "sunny", tool_call_id="call_abc"),
    Message("assistant", "Sunny."),
    Message("user", "thanks"),
]
FIXED = {"model": "m", "stream": True, "temperature": 0.7, "max_tokens": 500, "enable_thinking": False, "seed": 1}
TOOLS = (WEATHER, TIME)


def refused(words: str, kind: type[VendorError] = VendorRejected) -> VendorError:
    return kind("v", words[:300], details=words)


def taught(words: str, limits: LearntLimits = LearntLimits(), tools: tuple[ToolSpec, ...] = TOOLS) -> tuple[str, ...]:  # noqa: B008
    """What a refusal teaches that was not known."""
    offer = offered(tools, limits)
    learnt = learn(refused(words), compose(FIXED, TALK, offer, limits), offer, limits)
    return tuple(name for name in learnt.names if name not in limits.names) if learnt is not None else ()


WORDS: list[tuple[str, str]] = [
    # context
    ("This model's maximum context length is 4097 tokens. However, your messages resulted in 4200 tokens. Please "
     "reduce the length of the messages.", "context"),
    ("This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens (8000 in the "
     "messages, 1000 in the functions). Please reduce the length of the messages or functions.", "context"),
    ("maximum context length is 512 tokens", "context"),
    ('{"error":{"code":"context_length_exceeded","message":"too long"}}', "context"),
    ("Input length 9000 exceeds maximum context length 8192", "context"),
    ("the request exceeds the available context size (4096 tokens), try increasing it", "context"),
    ("request (70494 tokens) exceeds the available context size (67584 tokens)", "context"),
    ("Trying to keep the first 4321 tokens when context the overflows. However, the model is loaded with context "
     "length of only 4096 tokens", "context"),
    ("`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 500 `max_new_tokens`",
     "context"),
    ("Range of input length should be [1, 6000]", "context"),
    ("Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
     "context"),
    ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", "context"),
    ("prompt is too long: 210000 tokens > 200000 maximum", "context"),
    ("Please reduce the length of the messages or completion.", "context"),
    ("Request too large for model", "context"),
    ("413 Payload Too Large", "context"),
    ("Prompt 超长", "context"),
    ("HTTP 413", "context"),
    ("too many messages in the request", "context"),
    ("输入内容过长，超出最大长度限制", "context"),
    ("tokens超过模型上限", "context"),
    # tools
    ("registry.ollama.ai/library/gemma:2b does not support tools", "tools"),
    ("Unsupported param: tools", "tools"),
    ("Unrecognized request argument supplied: tools", "tools"),
    ('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', "tools"),
    ("No endpoints found that support tool use. To learn more about provider routing, visit", "tools"),
    ("Function calling is not enabled for models/gemma-3-4b-it", "tools"),
    ("tools is not supported in this model. For more info, please refer to", "tools"),
    ("This model doesn't support function calling", "tools"),
    ("tools: Extra inputs are not permitted", "tools"),
    ("unknown field `tools`, expected one of `model`, `messages`", "tools"),
    ("当前模型不支持工具调用", "tools"),
    # roles
    ("System role not supported", "system_role"),
    ("Only user and assistant roles are supported!", "tool_role"),
    ("Developer instruction is not enabled for models/gemma-3-1b-it", "system_role"),
    ("Unsupported value: 'messages[0].role' does not support 'system' with this model.", "system_role"),
    ("System messages are not supported by this model", "system_role"),
    ("该模型不支持系统消息", "system_role"),
    ("Conversation roles must alternate user/assistant/user/assistant/...", "tool_role"),
    ("Unexpected role 'tool' after role 'assistant'", "tool_role"),
    ("Invalid value: 'tool'. Supported values are: 'user', 'assistant'. messages with role 'tool'", "tool_role"),
    ("Function call is missing a thought_signature in functionCall parts", "tool_role"),
    ("Tool call id was call_abc but must be a-z, A-Z, 0-9, with a length of 9.", "tool_ids"),
    ("Assistant message must have either content or tool_calls, but not both.", "words_with_calls"),
    # tools and their schemas
    ("Invalid 'tools': array too long. Expected an array with maximum length 1, but got an array with length 2 "
     "instead.", "tool_count"),
    ("Too many tools: at most 1 functions are supported", "tool_count"),
    ("tools 数量超过限制", "tool_count"),
    ("Invalid 'tools[0].function.description': string too long. Expected a string with maximum length 100, but got a "
     "string with length 400 instead.", "tool_description"),
    ("Invalid schema for function 'get_weather': In context=('properties', 'city'), array schema missing items.",
     "tool_schema"),
    ("* GenerateContentRequest.tools[0].function_declarations[0].parameters.properties[city].enum: only allowed for "
     "STRING type", "tool_schema"),
    ("Invalid JSON payload received. Unknown name 'exclusiveMinimum' at 'tools[0].function_declarations[1]."
     "parameters'", "tool_schema"),
    ("Failed to parse the schema of a tool", "tool_schema"),
    # roles, as Spark names them
    ("param validate error: '$.messages[3].role' must be one of [user assistant]", "tool_role"),
    ("messages.3.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`.", "tool_role"),
    # parameters
    ("Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is supported.",
     "parameter_temperature"),
    ("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
     "max_completion_tokens"),
    ("max_tokens is too large: 500. This model supports at most 100 completion tokens", "parameter_max_tokens"),
    ("Unrecognized request argument supplied: enable_thinking", "thinking"),
    ("Budget 0 is invalid. This model only works in thinking mode.", "thinking"),
    ('"thinking.type.disabled" is not supported for this model. Use "thinking.type.adaptive".', "thinking"),
    ("The value of the enable_thinking parameter is restricted to True.", "thinking"),
    ("Reasoning is mandatory for this endpoint and cannot be disabled.", "thinking"),
    ('[{"type":"extra_forbidden","loc":["body","seed"],"msg":"Extra inputs are not permitted"}]', "parameter_seed"),
    ("Your organization must be verified to stream this model.", "streaming"),
    ("Streaming is not supported for this model", "streaming"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "lesson"), WORDS)
def test_what_a_refusal_teaches(words: str, lesson: str) -> None:
    assert taught(words) == (lesson,)
    assert taught(f'{{"error": {{"message": "{words}", "type": "invalid_request_error"}}}}') == (lesson,)


def test_results_of_tools_in_a_request_without_tools() -> None:
    words = "Requests which include `tool_use` or `tool_result` blocks must define `tools`"
    assert taught(words, tools=()) == ("results_without_tools",)
    limits = LearntLimits(results_without_tools=False)
    assert "tool" not in [message["role"] for message in compose(FIXED, TALK, NO_TOOLS, limits)["messages"]]


def test_a_call_without_words_may_have_to_have_no_content() -> None:
    talk = [
        Message("user", "u"),
        Message("assistant", "", (ToolCall("a", "f", {}),)),
        Message("tool", "r", tool_call_id="a"),
    ]
    body = compose(FIXED, talk, NO_TOOLS, LearntLimits())
    learnt = learn(refused("messages.1: all messages must have non-empty content"), body, NO_TOOLS, LearntLimits())
    assert learnt is not None and learnt.names == ("empty_content",)
    assert [message["content"] for message in compose(FIXED, talk, NO_TOOLS, learnt)["messages"]] == ["u", None, "r"]


@pytest.mark.parametrize(
    "words",
    [
        "",
        "Bad Request",
        "Incorrect API key provided: sk-***. You can find your API key at https://platform.openai.com",
        "You exceeded your current quota, insufficient_quota",
        "Insufficient Balance",
        "The model `gpt-9` does not exist or you do not have access to it.",
        'model "x" not found, try pulling it first',
        "Internal Server Error",
        "upstream connect error or disconnect/reset before headers",
        "Your request was rejected as a result of our safety system.",
        "账户余额不足",
    ],
)
def test_what_teaches_nothing(words: str) -> None:
    assert taught(words) == ()


def test_only_refusals_teach() -> None:
    offer = offered(TOOLS, LearntLimits())
    body = compose(FIXED, TALK, offer, LearntLimits())
    for kind in (VendorBusy, VendorTimeout):
        assert learn(refused("this model does not support tools", kind), body, offer, LearntLimits()) is None
    assert learn(refused("this model does not support tools", VendorUnavailable), body, offer, LearntLimits())
    assert learn(VendorRejected("v", "this model does not support tools"), body, offer, LearntLimits()) is None


def test_what_was_not_sent_is_not_learnt() -> None:
    plain = [Message("user", "hello")]
    body = compose({"model": "m"}, plain, offered((), LearntLimits()), LearntLimits())
    for words in ("this model does not support tools", "System role not supported", "Unsupported: temperature"):
        assert learn(refused(words), body, offered((), LearntLimits()), LearntLimits()) is None


def test_one_bad_schema_costs_that_tool_its_schema_and_then_itself() -> None:
    limits = LearntLimits()
    words = "Invalid schema for function 'get_weather': no"
    seen = []
    for _ in range(3):
        offer = offered(TOOLS, limits)
        found = learn(refused(words), compose(FIXED, TALK, offer, limits), offer, limits)
        assert found is not None
        limits = found
        seen.append((dict(limits.tool_levels), offered(TOOLS, limits).names))
    both = ("get_weather", "get_time")
    assert seen == [({"get_weather": 1}, both), ({"get_weather": 2}, both), ({"get_weather": 3}, ("get_time",))]
    assert limits.names == ("tool_schema",) and limits.tools


def test_a_schema_that_nobody_names_is_simplified_for_all_and_tools_go_last() -> None:
    limits, seen = LearntLimits(), []
    for _ in range(3):
        offer = offered(TOOLS, limits)
        found = learn(refused("Invalid tool schema"), compose(FIXED, TALK, offer, limits), offer, limits)
        assert found is not None
        limits = found
        seen.append((limits.tool_schema, limits.tools))
    assert seen == [(Level.SIMPLIFIED, True), (Level.FLAT, True), (Level.FLAT, False)]


def test_requests_under_way_do_not_forget_what_others_learnt() -> None:
    before = LearntLimits()
    first, second = replace(before, tools=False), replace(before, system_role=False, left_out=frozenset({"seed"}))
    assert merged(merged(before, before, first), before, second).names == ("parameter_seed", "system_role", "tools")


def exchanges(count: int, size: int = 900) -> list[Message]:
    talk = [Message("system", "Be kind.")]
    for number in range(count):
        talk += [Message("user", f"question {number}"), Message("assistant", f"{number}" * size)]
    return [*talk, Message("user", "the last question")]


def test_the_oldest_of_a_dialogue_goes_first() -> None:
    body = compose(FIXED, exchanges(5), offered((), LearntLimits()), LearntLimits(context=2_500))
    contents = [message["content"] for message in body["messages"]]
    assert contents[0] == "Be kind." and contents[-1] == "the last question"
    assert contents[1] == "question 3" and len(contents) == 6


def test_a_book_is_clipped_in_the_middle_and_tools_give_way_to_the_question() -> None:
    called = Message("assistant", "", (ToolCall("a", "f", {}),))
    book = [Message("user", "read"), called, Message("tool", "x" * 50_000, tool_call_id="a")]
    tools = offered([ToolSpec(f"tool_{number}", "d" * 500) for number in range(20)], LearntLimits())
    body = compose(FIXED, book, tools, LearntLimits(context=4_000))
    assert "tools" not in body
    assert sum(len(message["content"]) for message in body["messages"]) < 4_000
    assert body["messages"][0]["content"] == "read" and "…" in body["messages"][2]["content"]


# --- over loopback ----------------------------------------------------------------------------------------------------


@contextmanager
def strict(*checks: Check, **block: Any) -> Iterator[tuple[StrictChat, OpenAiLlm]]:
    with StrictChat(*checks, sounds=SOUNDS) as vendor:
        vendor.stand(CHAT, Script(answer=["fine"]))
        base = {"type": "openai", "url": vendor.base_url, "model_name": "m", "timeout": {"first_byte": 1, "gap": 1}}
        llm = OpenAiLlm(validate("llm", "L", base | block))  # type: ignore[arg-type]
        llm.name = "Acme"
        yield vendor, llm
        llm.close()
        assert vendor.refusals == []


def ask(llm: Llm, talk: list[Message], tools: tuple[ToolSpec, ...] = ()) -> str:
    return "".join(str(item) for item in llm.chat(talk, tools, CallContext()))


NARROW: list[tuple[str, Check, dict[str, Any]]] = [
    ("tools", without("tools", "this model does not support tools"), {}),
    ("tools", without("tools", "Unsupported param: tools", 500), {}),
    ("system_role", without_role("system", "System role not supported"), {}),
    ("system_role", without_role("system", "Conversation roles must alternate (system)", 500), {}),
    ("tool_role", without_role("tool", "Unexpected role 'tool'"), {}),
    ("tool_ids", nine_character_ids, {}),
    ("parameter_temperature", without("temperature", "Unsupported parameter: 'temperature'"), {"temperature": 1}),
    ("parameter_seed", without("seed", "seed: Extra inputs are not permitted", 422), {"extra_body": {"seed": 1}}),
    ("max_completion_tokens", without("max_tokens", "Use 'max_completion_tokens' instead of 'max_tokens', which is not "
                                      "supported"), {"max_tokens": 9}),
]  # fmt: skip


@pytest.mark.parametrize(("limitation", "check", "block"), NARROW)
def test_a_refusal_is_learnt_from_once(limitation: str, check: Check, block: dict[str, Any]) -> None:
    with strict(check, **block) as (vendor, llm), capture_logs() as logs:
        for _ in range(3):
            assert ask(llm, TALK, TOOLS) == "fine"
        assert len(vendor.refused) == 1 and len(vendor.taken) == 4
        assert llm.limitations == (limitation,)
        (line,) = [each for each in logs if each["event"] == "vendor limitation"]
        assert (line["provider"], line["limitation"], line["log_level"]) == ("Acme", limitation, "warning")


def test_everything_at_once() -> None:
    checks = [check for _, check, _ in NARROW if check is not nine_character_ids]
    with strict(*checks, temperature=1, max_tokens=9, extra_body={"seed": 1}) as (_, llm):
        assert ask(llm, TALK, TOOLS) == "fine"
        assert ask(llm, TALK, TOOLS) == "fine"
        assert set(llm.limitations) >= {"tools", "system_role", "parameter_seed"}


def test_a_vendor_without_streams_is_asked_for_whole_answers() -> None:
    def check(body: Any) -> tuple[int, str] | None:
        return (400, "Streaming is not supported for this model") if body["stream"] else None

    with strict(check) as (vendor, llm):
        vendor.stand(CHAT, Script(answer="fine"))
        assert ask(llm, TALK) == ask(llm, TALK) == "fine"
        assert llm.limitations == ("streaming",)


@pytest.mark.parametrize(
    "message",
    [
        "maximum context length is 512 tokens",
        "This model's maximum context length is 512 tokens. However, your messages resulted in 1200 tokens.",
        "prompt is too long",
        "上下文长度超出限制",
    ],
)
def test_a_context_that_is_too_long_is_shortened_and_the_limit_kept(message: str) -> None:
    with strict(context_of(2_000, message)) as (vendor, llm):
        for count in range(1, 8):
            assert ask(llm, exchanges(count)) == "fine"
        assert 1 <= len(vendor.refused) <= 2
        assert llm.limitations == ("context",)
        assert vendor.taken[-1]["messages"][-1]["content"] == "the last question"


def test_a_question_that_cannot_be_shortened_is_refused_after_all() -> None:
    with strict(context_of(50, "maximum context length is 10 tokens")) as (vendor, llm):
        with pytest.raises(VendorRejected):
            ask(llm, [Message("user", "x" * 150)])
        assert llm.limitations == () and len(vendor.refused) <= 3


def test_nothing_is_learnt_from_what_did_not_help() -> None:
    def check(body: Any) -> tuple[int, str] | None:
        return 400, "System role not supported"

    with strict(check) as (vendor, llm), capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(VendorRejected):
                ask(llm, TALK)
        assert llm.limitations == () and logs == [] and len(vendor.refused) == 4


def test_one_refusal_is_no_failure_of_the_guard() -> None:
    with strict(without("tools", "this model does not support tools")) as (_, llm):
        reports: list[Any] = []
        guarded = guard("llm", llm, VendorLimits(), observer=reports.append)
        assert ask(guarded, TALK, TOOLS) == "fine"
        assert [report.outcome for report in reports] == ["ok"]
        assert guarded.limitations == tuple(guarded.guard.limitations()) == ("tools",)


def test_results_of_tools_are_told_in_words_to_those_who_know_no_tools() -> None:
    with strict(without("tools", "does not support tools"), without_role("tool", "role 'tool' is unknown")) as (
        vendor,
        llm,
    ):
        assert ask(llm, TALK, TOOLS) == "fine"
        sent = vendor.taken[-1]["messages"]
        assert [message["role"] for message in sent] == ["system", "user", "assistant", "user"]
        assert "sunny" in sent[1]["content"] and not any("tool_calls" in message for message in sent)


def test_the_model_that_sees_learns_about_parameters_as_well() -> None:
    with StrictChat(without("temperature", "Unsupported parameter: 'temperature'"), sounds=SOUNDS) as vendor:
        vendor.stand(CHAT, Script(answer="a cat"))
        block = {"type": "openai", "url": vendor.base_url, "model_name": "m", "temperature": 1}
        vllm = OpenAiVllm(validate("vllm", "V", block))  # type: ignore[arg-type]
        for _ in range(2):
            assert vllm.describe("?", b"x", "image/png", CallContext()) == "a cat"
        assert len(vendor.refused) == 1 and vllm.limitations == ("parameter_temperature",)
        vllm.close()
