from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import FakeClock
from xiaozhi.chat import Message, ToolCall
from xiaozhi.session.turns.dialogue import (
    Dialogue,
    Exchange,
    ResumeStore,
    estimate_tokens,
    join_sentences,
    whole_exchanges,
)

CALL = ToolCall("c1", "get_time", {"zone": "UTC"})
CALL_2 = ToolCall("c2", "get_weather", {})


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str, *calls: ToolCall, interrupted: bool = False) -> Message:
    return Message("assistant", text, calls, interrupted=interrupted)


def tool(text: str, call: ToolCall = CALL) -> Message:
    return Message("tool", text, tool_call_id=call.id)


# --- one turn ---------------------------------------------------------------------------------------------------------


def whole_turn() -> Exchange:
    exchange = Exchange()
    exchange.asked("what time is it?")
    exchange.calling("Let me see.", [CALL, CALL_2])
    exchange.called(["12:00", "sunny"])
    exchange.answered("It is noon. And sunny.")
    return exchange


def test_a_whole_answer_is_remembered_as_it_was_written() -> None:
    exchange = whole_turn()
    exchange.sentence_heard("Let me see.")
    assert exchange.remembered(whole=True) == exchange.messages
    assert [message.role for message in exchange.messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert [message.tool_call_id for message in exchange.messages] == [None, None, "c1", "c2", None]


def test_of_an_interrupted_answer_only_what_was_heard_is_remembered() -> None:
    exchange = whole_turn()
    exchange.sentence_heard("Let me see.")
    exchange.sentence_heard("It is noon.")
    assert exchange.heard == ("Let me see.", "It is noon.")
    assert exchange.remembered(whole=False) == [
        user("what time is it?"),
        assistant("", CALL, CALL_2),
        tool("12:00"),
        tool("sunny", CALL_2),
        assistant("Let me see. It is noon.", interrupted=True),
    ]


def test_of_an_answer_nobody_heard_only_the_question_is_remembered() -> None:
    exchange = Exchange()
    exchange.asked("hello")
    exchange.answered("Hi!")
    assert exchange.remembered(whole=False) == [user("hello")]


def test_nothing_asked_and_nothing_heard_leaves_nothing_to_remember() -> None:
    exchange = Exchange()
    exchange.asked("")
    assert exchange.remembered(whole=False) == exchange.messages == []


def test_tool_calls_are_counted_when_they_begin_and_remembered_when_they_have_results() -> None:
    exchange = Exchange()
    exchange.asked("what time is it?")
    exchange.calling("Let me see.", [CALL, CALL_2])
    assert exchange.tool_calls == 2
    assert exchange.remembered(whole=False) == [user("what time is it?")]
    exchange.called(["12:00", "sunny"])
    exchange.calling("", [CALL])
    assert exchange.tool_calls == 3
    assert exchange.remembered(whole=True)[-1] == tool("sunny", CALL_2)


def test_a_speculation_leaves_no_trace() -> None:
    dialogue = Dialogue()
    dialogue.append(user("one"), assistant("1"))
    before = dialogue.messages(), dialogue.snapshot(), dialogue.tokens
    exchange = whole_turn()
    exchange.sentence_heard("It is noon.")
    del exchange
    assert (dialogue.messages(), dialogue.snapshot(), dialogue.tokens) == before


def test_results_must_match_the_calls() -> None:
    exchange = Exchange()
    exchange.calling("", [CALL, CALL_2])
    with pytest.raises(ValueError):
        exchange.called(["only one"])


@pytest.mark.parametrize(
    "sentences,text",
    [
        (["Hi.", "You?"], "Hi. You?"),
        (["你好。", "在吗？"], "你好。在吗？"),
        (["好。", "Yes."], "好。Yes."),
        ([], ""),
        (["a", "", "b"], "a b"),
    ],
)
def test_sentences_become_a_text_again(sentences: list[str], text: str) -> None:
    assert join_sentences(sentences) == text


# --- tool pairs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages,kept",
    [
        ([tool("stray"), user("a")], [user("a")]),
        ([user("a"), assistant("", CALL)], [user("a")]),
        ([user("a"), assistant("Let me see", CALL)], [user("a"), assistant("Let me see")]),
        ([assistant("", CALL), user("b"), tool("late")], [user("b")]),
        ([assistant("", CALL, CALL_2), tool("x", CALL_2)], [assistant("", CALL_2), tool("x", CALL_2)]),
        ([assistant("", CALL), tool("x"), tool("again")], [assistant("", CALL), tool("x")]),
        (
            [assistant("", CALL, CALL_2), tool("b", CALL_2), tool("a")],
            [assistant("", CALL, CALL_2), tool("a"), tool("b", CALL_2)],
        ),
        ([assistant(""), user("")], []),
    ],
)
def test_calls_and_results_come_in_pairs_or_not_at_all(messages: list[Message], kept: list[Message]) -> None:
    assert whole_exchanges(messages) == kept
    dialogue = Dialogue()
    dialogue.append(*messages)
    assert dialogue.messages() == kept


# --- a session --------------------------------------------------------------------------------------------------------


def test_the_system_prompt_has_its_own_place() -> None:
    dialogue = Dialogue(system="Be brief.")
    dialogue.append(user("a"), assistant("b"))
    assert dialogue.messages()[0] == Message("system", "Be brief.")
    dialogue.system = ""
    assert dialogue.messages() == [user("a"), assistant("b")]


def test_the_oldest_turns_go_first() -> None:
    dialogue = Dialogue(max_turns=3)
    for number in range(5):
        dialogue.append(user(f"q{number}"), assistant(f"a{number}"))
    assert [message.content for message in dialogue.messages()] == ["q2", "a2", "q3", "a3", "q4", "a4"]
    assert dialogue.turns == 3
    dialogue.trim(turns=1)
    assert [message.content for message in dialogue.messages()] == ["q4", "a4"]
    dialogue.append()
    dialogue.append(user(""))
    assert dialogue.turns == 1


def test_whole_exchanges_go_when_the_tokens_are_too_many() -> None:
    dialogue = Dialogue(max_tokens=100)
    dialogue.append(user("a"), assistant("", CALL), tool("天" * 40), assistant("b"))
    dialogue.append(user("c"), assistant("天" * 60))
    assert dialogue.messages() == [user("c"), assistant("天" * 60)]
    assert dialogue.tokens <= 100


def test_one_exchange_beyond_the_budget_is_shortened_where_it_is_longest() -> None:
    dialogue = Dialogue(max_tokens=300)
    dialogue.append(user("read me the book"), assistant("", CALL), tool("天地" * 5_000), assistant("Gladly."))
    messages = dialogue.messages()
    assert [message.role for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages[2].content.startswith("天地天地") and messages[2].content.endswith("…")
    assert messages[3].content == "Gladly."
    assert dialogue.tokens <= 300


@pytest.mark.parametrize("text,tokens", [("", 0), ("天气", 2), ("abcd", 1), ("abcde", 2), ("天气 is fine", 2 + 2)])
def test_tokens_are_estimated(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


contents = st.text(alphabet="ab天地 .", max_size=60)
some_call = st.builds(ToolCall, st.sampled_from("abcd"), st.just("t"), st.just({"x": 1}))
calls = st.lists(some_call, max_size=3, unique_by=lambda call: call.id)
messages = st.one_of(
    st.builds(Message, st.just("user"), contents),
    st.builds(lambda text, made: Message("assistant", text, tuple(made)), contents, calls),
    st.builds(lambda text, call_id: Message("tool", text, tool_call_id=call_id), contents, st.sampled_from("abcd")),
)


def assert_well_formed(history: list[Message]) -> None:
    """No result without its call, no call without its result, results right behind their calls."""
    wanted: list[str] = []
    for message in history:
        if message.role == "tool":
            assert wanted and message.tool_call_id == wanted.pop(0)
            continue
        assert not wanted
        wanted = [call.id for call in message.tool_calls]
        assert message.content or wanted
    assert not wanted


@given(st.lists(st.lists(messages, max_size=8), max_size=12), st.integers(1, 5), st.integers(20, 400))
def test_however_it_is_trimmed_the_history_is_well_formed(
    turns: list[list[Message]], max_turns: int, max_tokens: int
) -> None:
    dialogue = Dialogue(max_turns=max_turns, max_tokens=max_tokens)
    for turn in turns:
        dialogue.append(*turn)
        assert dialogue.turns <= max_turns
        assert dialogue.tokens <= max_tokens or dialogue.turns == 1
        assert_well_formed(dialogue.messages())
        assert dialogue.size_bytes >= sum(len(message.content) for message in dialogue.messages())
    again = Dialogue(max_turns=max_turns, max_tokens=max_tokens)
    assert again.restore(dialogue.snapshot()) is True
    assert again.messages() == dialogue.messages()
    assert again.snapshot() == dialogue.snapshot()


# --- coming back ------------------------------------------------------------------------------------------------------


def test_a_snapshot_brings_everything_back() -> None:
    dialogue = Dialogue(system="Be brief.")
    dialogue.append(*whole_turn().messages)
    dialogue.append(user("more"), assistant("So", interrupted=True))
    later = Dialogue(system="Be long.")
    later.append(user("I am back"), assistant("Hi"))
    assert later.restore(dialogue.snapshot()) is True
    assert later.messages() == [
        Message("system", "Be long."),
        *dialogue.messages()[1:],
        user("I am back"),
        assistant("Hi"),
    ]
    assert later.turns == 3


UNREADABLE = (
    "",
    "x",
    "[]",
    "{}",
    '{"version":1}',
    '{"version":99,"exchanges":[]}',
    '{"version":1,"exchanges":[3]}',
    '{"version":1,"exchanges":[["x"]]}',
    '{"version":1,"exchanges":[[{"role":"user"}]]}',
    '{"version":1,"exchanges":[[{"role":"boss","content":"x"}]]}',
)


@pytest.mark.parametrize("snapshot", [text.encode() for text in UNREADABLE])
def test_a_snapshot_that_cannot_be_read_changes_nothing(snapshot: bytes) -> None:
    dialogue = Dialogue()
    dialogue.append(user("a"), assistant("b"))
    assert dialogue.restore(snapshot) is False
    assert dialogue.messages() == [user("a"), assistant("b")]


def test_a_device_that_is_back_in_time_goes_on_once() -> None:
    clock = FakeClock()
    store = ResumeStore(seconds=120, clock=clock)
    store.put("a", "c", b"one")
    store.put("a", "c", b"two")
    store.put("b", "c", b"three")
    clock.advance(119)
    assert store.take("a", "c") == b"two"
    assert store.take("a", "c") is None
    clock.advance(2)
    assert store.take("b", "c") is None
    assert len(store) == store.size_bytes == 0


def test_the_store_is_bounded_in_number_and_bytes() -> None:
    clock = FakeClock()
    store = ResumeStore(max_entries=3, max_bytes=100, clock=clock)
    for number in range(5):
        store.put(str(number), "c", b"x" * 10)
    assert len(store) == 3 and store.take("1", "c") is None and store.take("2", "c") is not None
    store.put("big", "c", b"x" * 85)
    assert store.size_bytes <= 100 and store.take("big", "c") is not None
    store.put("4", "c", b"x" * 101)
    assert store.take("4", "c") is None, "what is too large replaces what was there"


def test_no_time_to_come_back_means_nothing_is_kept() -> None:
    store = ResumeStore(seconds=0)
    store.put("a", "c", b"x")
    assert store.take("a", "c") is None and len(store) == 0


def test_nobody_else_goes_on_with_it() -> None:
    """Another client id under the same device id neither takes the dialogue nor drives it out."""
    store = ResumeStore()
    store.put("a", "mine", b"my PIN")
    for stranger in ("other", "", "MINE", "mine "):
        assert store.take("a", stranger) is None
        store.put("a", stranger, b"what the stranger said")
    assert store.take("a", "mine") == b"my PIN"


def test_who_sends_no_client_id_is_not_waited_for() -> None:
    store = ResumeStore()
    store.put("a", "", b"anybody's")
    assert store.take("a", "") is None and len(store) == 0
