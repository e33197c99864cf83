"""The offline assistant and whose voice it hears: it hands on what was asked for, and the answer to the question of
consent; the tools decide."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fakes.inference import InlineInference
from xiaozhi.chat import UNKNOWN_SPEAKER, CallContext, Message, ToolCall, ToolSpec
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.llm.offline import OfflineLlm, OfflineLlmOptions

CONFIG = Path(__file__).resolve().parents[2] / "config"


NAME, CONFIRMED = {"name": {"type": "string"}}, {"confirmed": {"type": "boolean"}}
TOOLS = (
    ToolSpec("remember_voice", "", {"type": "object", "properties": {**NAME, **CONFIRMED}}),
    ToolSpec("forget_voice", "", {"type": "object", "properties": NAME}),
)


@pytest.fixture(scope="module")
def llm() -> OfflineLlm:
    services = Services(inference=InlineInference(), config_dir=CONFIG)  # type: ignore[arg-type]
    return OfflineLlm(OfflineLlmOptions(), services, chance=random.Random(1))


def answer(llm: OfflineLlm, *said: str, tools: Sequence[ToolSpec] = TOOLS) -> tuple[str, dict[str, object], str]:
    """The tool that is called for the last of what the user said, with what; and what is said."""
    messages = [message for text in said for message in (Message("user", text), Message("assistant", "May I?"))][:-1]
    found = list(llm.chat(messages, tools, CallContext()))
    call = next((item for item in found if isinstance(item, ToolCall)), None)
    words = "".join(item for item in found if isinstance(item, str))
    return (call.name, dict(call.arguments), words) if call is not None else ("", {}, words)


@pytest.mark.parametrize(
    "said, name",
    [
        ("Remember my voice, I am Anna.", "Anna"),
        ("please learn my voice, my name is mary ann", "Mary Ann"),
        ("I'm Tom, please remember my voice", "Tom"),
        ("记住我的声音，我是小明", "小明"),
        ("请记住我的声音，我叫王小红", "王小红"),
        ("我是小明，请记住我的声音。", "小明"),
        ("记主我的生音，我是小明", "小明"),
    ],
)
def test_a_voice_is_to_be_remembered(llm: OfflineLlm, said: str, name: str) -> None:
    assert answer(llm, said)[:2] == ("remember_voice", {"name": name})


@pytest.mark.parametrize(
    "asked, said, name",
    [
        ("Remember my voice, I am Anna.", "Yes, please.", "Anna"),
        ("remember my voice, i am anna", "no", "Anna"),
        ("记住我的声音，我是小明", "可以", "小明"),
        ("记住我的声音，我是小明", "不要", "小明"),
    ],
)
def test_the_answer_goes_to_the_tool_that_asked(llm: OfflineLlm, asked: str, said: str, name: str) -> None:
    assert answer(llm, asked, said)[:2] == ("remember_voice", {"name": name, "confirmed": True})


def test_something_else_is_no_answer(llm: OfflineLlm) -> None:
    assert answer(llm, "remember my voice, I am Anna", "what is three plus five")[0] == ""
    assert answer(llm, "tell me a joke", "yes")[0] == ""
    assert "offline" in answer(llm, "tell me a joke", "yes")[2]
    assert answer(llm, "remember my voice, I am Anna", "yes", "yes")[0] == ""


@pytest.mark.parametrize("said", ["forget my voice", "忘掉我的声音", "把我的声音删掉"])
def test_a_voice_is_forgotten_only_where_it_is_known_whose(llm: OfflineLlm, said: str) -> None:
    known = f'{{"speaker": "Anna", "content": "{said}"}}'
    assert answer(llm, known)[:2] == ("forget_voice", {"name": "Anna"})
    assert answer(llm, '{"speaker": "Anna", "content": "hello"}', said)[:2] == ("forget_voice", {"name": "Anna"})
    name, _, words = answer(llm, said)
    assert name == "" and ("whose" in words or "谁" in words)
    for nobody in UNKNOWN_SPEAKER.values():
        asked = f'{{"speaker": "{nobody}", "content": "{said}"}}'
        assert answer(llm, '{"speaker": "Anna", "content": "hello"}', asked) == ("", {}, words)


@pytest.mark.parametrize(
    "said, name",
    [
        ("forget the voice of anna", "Anna"),
        ("忘掉小明的声音", "小明"),
        ("forget all voices", ""),
        ("忘掉所有的声音", ""),
    ],
)
def test_the_voice_of_somebody_or_of_all(llm: OfflineLlm, said: str, name: str) -> None:
    assert answer(llm, said)[:2] == ("forget_voice", {"name": name})


def test_without_a_name_it_asks_for_one_and_without_tools_it_says_so(llm: OfflineLlm) -> None:
    assert "who are you" in answer(llm, "remember my voice")[2]
    assert "voiceprint" in answer(llm, "remember my voice, I am Anna", tools=())[2]
    assert answer(llm, "remember my voice, I am tired of the noise in the kitchen")[0] == ""
