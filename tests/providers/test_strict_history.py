"""A dialogue as the strictest template takes it, whatever is remembered."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vendors.strict_chat import nine_character_ids, strictest_template
from xiaozhi.chat import UNANSWERED, Message, Seal, ToolCall
from xiaozhi.providers.families.learnt_limits import NO_TOOLS, LearntLimits, compose
from xiaozhi.providers.families.strict_history import NO_RESULT, strict_history

SYSTEM, ASK, SAY = Message("system", "s"), Message("user", "u"), Message("assistant", "a")


def call(*ids: str, content: str = "") -> Message:
    return Message("assistant", content, tuple(ToolCall(each, "f", {"x": 1}) for each in ids))


def result(identity: str, content: str = "r") -> Message:
    return Message("tool", content, tool_call_id=identity)


def shown(messages: list[Message]) -> str:
    """One word a message: s:text, u:text, a:text, a[ids]:text, t(id):text."""
    words = []
    for each in messages:
        ids = f"[{','.join(made.id for made in each.tool_calls)}]" if each.tool_calls else ""
        ids = f"({each.tool_call_id})" if each.tool_call_id is not None else ids
        words.append(f"{each.role[0]}{ids}:{each.content}".replace("\n", "/"))
    return " ".join(words)


ROWS: dict[str, tuple[list[Message], str]] = {
    "an ordinary one": ([SYSTEM, ASK, SAY, ASK], "s:s u:u a:a u:u"),
    "an unanswered question": ([SYSTEM, ASK, Message("user", "v")], f"s:s u:u a:{UNANSWERED} u:v"),
    "two answers": ([ASK, SAY, Message("assistant", "b"), ASK], "u:u a:a/b u:u"),
    "a greeting first": ([SYSTEM, SAY, ASK], f"s:s u:{UNANSWERED} a:a u:u"),
    "the assistant last": ([ASK, SAY], f"u:u a:a u:{UNANSWERED}"),
    "empty ones": ([SYSTEM, Message("user", " "), ASK, Message("assistant", ""), Message("user", "v")],
        f"s:s u:u a:{UNANSWERED} u:v"),
    "a system message in the middle": ([SYSTEM, ASK, SAY, Message("system", "t"), ASK], "s:s//t u:u a:a u:u"),
    "nothing but a prompt": ([SYSTEM], "u:s"),
    "nothing": ([], f"u:{UNANSWERED}"),
    "a call": ([ASK, call("c"), result("c"), SAY, ASK], "u:u a[c]: t(c):r a:a u:u"),
    "a call and no answer": ([ASK, call("c"), result("c"), ASK], f"u:u a[c]: t(c):r a:{UNANSWERED} u:u"),
    "a call without its result": ([ASK, call("c"), ASK], f"u:u a[c]: t(c):{NO_RESULT} a:{UNANSWERED} u:u"),
    "an empty result": ([ASK, call("c"), result("c", " ")], f"u:u a[c]: t(c):{NO_RESULT}"),
    "a result without its call": ([ASK, result("c"), SAY, ASK], "u:u a:a u:u"),
    "results in another order": (
        [ASK, call("c", "d"), result("d", "D"), result("c", "C")], "u:u a[c,d]: t(c):C t(d):D"
    ),
    "words in front of a call": ([ASK, SAY, call("c"), result("c")], "u:u a[c]:a t(c):r"),
    "rounds of calls": ([ASK, call("c"), result("c"), call("d"), result("d")], "u:u a[c]: t(c):r a[d]: t(d):r"),
    "one id twice": (
        [ASK, call("c", "c"), result("c", "1"), result("c", "2")], "u:u a[c,c00000001]: t(c):1 t(c00000001):2"
    ),
    "one id in two turns": (
        [ASK, call("c"), result("c"), SAY, ASK, call("c"), result("c")],
        "u:u a[c]: t(c):r a:a u:u a[c00000001]: t(c00000001):r",
    ),
    "no id": ([ASK, call(""), result("")], "u:u a[c00000000]: t(c00000000):r"),
    "a long id": ([ASK, call("x" * 41), result("x" * 41)], "u:u a[c00000000]: t(c00000000):r"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_histories(name: str) -> None:
    given_messages, expected = ROWS[name]
    assert shown(strict_history(given_messages)) == expected


def test_without_a_system_role_the_prompt_goes_to_the_first_words() -> None:
    assert shown(strict_history([SYSTEM, ASK, SAY, ASK], system_role=False)) == "u:s//u a:a u:u"
    assert shown(strict_history([SYSTEM, SAY, ASK], system_role=False)) == f"u:s//{UNANSWERED} a:a u:u"


def test_without_a_tool_role_results_are_the_users_words() -> None:
    talk = [ASK, call("c", content="Let me see."), result("c", "sunny"), SAY, Message("user", "v")]
    assert shown(strict_history(talk, tool_role=False)) == "u:u/(f: sunny) a:a u:v"


def test_narrow_forms_of_calls() -> None:
    talk = [ASK, call("call_abc", content="Let me see."), result("call_abc")]
    assert shown(strict_history(talk, words_with_calls=False)) == "u:u a[call_abc]: t(call_abc):r"
    assert shown(strict_history(talk, short_ids=True)) == "u:u a[c00000000]:Let me see. t(c00000000):r"
    nine = [ASK, call("a1B2c3D4e"), result("a1B2c3D4e")]
    assert shown(strict_history(nine, short_ids=True)) == "u:u a[a1B2c3D4e]: t(a1B2c3D4e):r"


def test_a_call_with_another_id_keeps_its_seal() -> None:
    seal = Seal("v", b"{}")
    sealed = Message("assistant", "", (ToolCall("call_abc", "f", {}, seal=seal),))
    _, calls, _ = strict_history([ASK, sealed, result("call_abc")], short_ids=True)
    assert (calls.tool_calls[0].id, calls.tool_calls[0].seal) == ("c00000000", seal)


words = st.sampled_from(["", " ", "words", "more"])
ids = st.sampled_from(["", "c", "call_1", "x" * 50])
messages = st.lists(
    st.one_of(
        st.builds(Message, st.sampled_from(["system", "user", "assistant"]), words),
        st.builds(lambda text, made: call(*made, content=text), words, st.lists(ids, min_size=1, max_size=3)),
        st.builds(lambda text, made: result(made, text), words, ids),
    ),
    max_size=10,
)


@given(messages, st.booleans(), st.booleans(), st.booleans())
def test_every_dialogue_is_taken_by_the_strictest_template(
    talk: list[Message], system: bool, tools: bool, short: bool
) -> None:
    limits = LearntLimits(system_role=system, tool_role=tools, tool_ids=not short)
    body: dict[str, Any] = compose({}, talk, NO_TOOLS, limits)
    assert strictest_template(body) is None
    if short:
        assert nine_character_ids(body) is None
    roles = {message["role"] for message in body["messages"]}
    assert (system or "system" not in roles) and (tools or "tool" not in roles)


@given(messages)
def test_what_is_strict_stays_as_it_is(talk: list[Message]) -> None:
    once = strict_history(talk)
    assert strict_history(once) == once
