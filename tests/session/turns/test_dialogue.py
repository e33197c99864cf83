from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.chat import UNANSWERED, Message, ToolCall
from xiaozhi.session.turns.dialogue import (
    NOT_MADE,
    STARTED,
    Dialogue,
    Exchange,
    as_exchange,
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


NOBODY = user(UNANSWERED)
NO_ANSWER = assistant(UNANSWERED, interrupted=True)


# --- one turn ---------------------------------------------------------------------------------------------------------


def whole_turn() -> Exchange:
    exchange = Exchange()
    exchange.asked("what time is it?")
    exchange.calling("Let me see.", [CALL, CALL_2])
    for number, result in enumerate(("12:00", "sunny")):
        exchange.call_started(number)
        exchange.call_ended(number, result)
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


def test_whenever_it_is_interrupted_it_is_known_which_calls_were_made() -> None:
    exchange = Exchange()
    exchange.asked("what time is it?")
    exchange.calling("Let me see.", [CALL, CALL_2])
    assert exchange.tool_calls == 2
    question = [user("what time is it?"), assistant("", CALL, CALL_2)]
    assert exchange.remembered(whole=False) == [*question, tool(NOT_MADE), tool(NOT_MADE, CALL_2)]
    exchange.call_started(0)
    exchange.call_started(1)
    exchange.call_ended(1, "sunny")
    assert exchange.remembered(whole=False) == [*question, tool(STARTED), tool("sunny", CALL_2)]

    exchange.call_ended(0, "12:00")
    exchange.calling("", [CALL])
    exchange.call_started(0)
    assert exchange.tool_calls == 3
    assert exchange.remembered(whole=True)[-4:] == [
        tool("12:00"),
        tool("sunny", CALL_2),
        assistant("", CALL),
        tool(STARTED),
    ]


def test_calls_of_one_id_have_results_of_their_own() -> None:
    exchange = Exchange()
    exchange.calling("", [CALL, CALL])
    exchange.call_ended(1, "second")
    assert [message.content for message in exchange.messages] == ["", NOT_MADE, "second"]


def test_what_was_heard_and_was_no_answer_is_not_remembered() -> None:
    exchange = Exchange()
    exchange.asked("hello")
    exchange.sentence_heard("One moment.")
    exchange.sentence_heard("The user greets me.")
    exchange.forget_heard(1)
    exchange.sentence_heard("Hello!")
    assert exchange.remembered(whole=False)[-1] == assistant("One moment. Hello!", interrupted=True)


def test_a_speculation_leaves_no_trace() -> None:
    dialogue = Dialogue()
    dialogue.append(user("one"), assistant("1"))
    before = dialogue.messages(), dialogue.snapshot(), dialogue.tokens
    exchange = whole_turn()
    exchange.sentence_heard("It is noon.")
    del exchange
    assert (dialogue.messages(), dialogue.snapshot(), dialogue.tokens) == before


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
        ([assistant(""), user(""), user(" "), assistant("\n")], []),
    ],
)
def test_calls_and_results_come_in_pairs_or_not_at_all(messages: list[Message], kept: list[Message]) -> None:
    assert whole_exchanges(messages) == kept


@pytest.mark.parametrize(
    "left,exchange",
    [
        ([user("a"), assistant("b")], [user("a"), assistant("b")]),
        ([user("a")], [user("a"), NO_ANSWER]),
        ([assistant("Tea is ready.")], [NOBODY, assistant("Tea is ready.")]),
        ([user("a"), assistant("", CALL), tool(STARTED)], [user("a"), assistant("", CALL), tool(STARTED), NO_ANSWER]),
        ([assistant("", CALL), tool("x")], [NOBODY, assistant("", CALL), tool("x"), NO_ANSWER]),
        ([assistant("", CALL), tool("stray", CALL_2)], []),
        ([], []),
    ],
)
def test_an_exchange_begins_with_the_user_and_ends_with_the_assistant(
    left: list[Message], exchange: list[Message]
) -> None:
    assert list(as_exchange(left)) == exchange
    dialogue = Dialogue()
    dialogue.append(*left)
    assert dialogue.messages() == exchange


def test_of_questions_in_a_row_that_nobody_answered_the_newest_stays() -> None:
    dialogue = Dialogue()
    dialogue.append(user("a"), assistant("b"))
    for question in ("one", "two", "three"):
        dialogue.append(user(question))
    dialogue.append(user("four"), assistant("", CALL), tool(STARTED))
    dialogue.append(user("five"))
    assert [message.content for message in dialogue.messages() if message.role == "user"] == [
        "a",
        "three",
        "four",
        "five",
    ]
    assert dialogue.turns == 4


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
words = st.text(alphabet="ab天地.", min_size=1, max_size=60)
some_call = st.builds(ToolCall, st.sampled_from("abcd"), st.just("t"), st.just({"x": 1}))


@st.composite
def turns_of_any_end(draw: st.DrawFn) -> list[Message]:
    """What a turn leaves that may be ended at any moment."""
    exchange = Exchange()
    exchange.asked(draw(contents))
    for _ in range(draw(st.integers(0, 3))):
        calls = draw(st.lists(some_call, min_size=1, max_size=3, unique_by=lambda call: call.id))
        exchange.calling(draw(contents), calls)
        for number in range(draw(st.integers(0, len(calls)))):
            exchange.call_started(number)
            if draw(st.booleans()):
                exchange.call_ended(number, draw(words))
    for sentence in draw(st.lists(words, max_size=2)):
        exchange.sentence_heard(sentence)
    answer = draw(contents)
    exchange.answered(answer)
    return exchange.remembered(whole=draw(st.booleans()))


FOLLOWS = {
    "user": {"assistant", "calls"},
    "assistant": {"user"},
    "calls": {"tool"},
    "tool": {"tool", "assistant", "calls"},
}
"""What may come behind what in the strictest template."""


def assert_well_formed(history: list[Message]) -> None:
    """It begins with the user, alternates and ends with the assistant; results right behind their calls, none without
    the other; nothing empty."""
    kinds = ["calls" if message.tool_calls else message.role for message in history]
    assert not kinds or (kinds[0] == "user" and kinds[-1] == "assistant")
    assert all(after in FOLLOWS[before] for before, after in itertools.pairwise(kinds)), kinds
    wanted: list[str] = []
    for message in history:
        if message.role == "tool":
            assert wanted and message.tool_call_id == wanted.pop(0)
            continue
        assert not wanted
        wanted = [call.id for call in message.tool_calls]
        assert message.content.strip() or wanted
    assert not wanted


@given(st.lists(turns_of_any_end(), max_size=12), st.integers(1, 5), st.integers(20, 400))
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
