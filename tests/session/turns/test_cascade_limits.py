"""Deadlines of an answer, and the limit of a day."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.fakes.thinking import FakeIntent, FakeLlm
from tests.fakes.voice import FakeTts
from tests.session.turns.cascade_rig import QUESTION, FakePlayback, Rig, call, outcome
from tests.tools.fakes import tool
from xiaozhi.chat import Message
from xiaozhi.errors import VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.intent import Intention
from xiaozhi.providers.contracts.llm import Retraction
from xiaozhi.session.turn_record import Outcome
from xiaozhi.session.turns.pipeline import OutputLimit
from xiaozhi.speech.sentences import Sentence
from xiaozhi.tools.base import Action, ToolOutcome

# --- deadlines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps, options, said",
    [
        ([9.0, "Late."], {"llm_first_token": 0.01}, []),
        (["Soon. Or", 9.0, " later."], {"llm_stall": 0.01}, ["Soon."]),
    ],
)
def test_a_model_that_stalls_is_given_up(steps: list[Any], options: dict[str, float], said: list[str]) -> None:
    rig = Rig(steps, options=options)

    with pytest.raises(VendorTimeout, match=r"llm: nothing for 0\.0 s"):
        rig.ask()

    assert rig.turn.said == said
    assert rig.llm.calls[0].ended == "cut", "the vendor's request is closed at once"


def test_a_sign_of_life_is_not_the_first_word() -> None:
    class Thinking(FakeLlm):
        """A second passes behind each piece."""

        def chat(self, *asked: Any) -> Any:
            for item in super().chat(*asked):
                yield item
                rig.turn.clock.advance(1.0)

    rig = Rig(llm=Thinking(["", "", "Hello."]))
    rig.ask()
    assert rig.turn.said == ["Hello."]
    assert rig.turn.timeline.llm_first == 1002.0


def test_what_turned_out_to_be_thought_is_not_remembered() -> None:
    rig = Rig(["They greet me. I think", Retraction(), "Hello."])
    rig.ask()
    assert rig.turn.told[-3:] == ["say They greet me.", "take back", "say Hello."]
    assert rig.turn.exchange.messages[-1] == Message("assistant", "Hello.")


def test_a_thought_of_which_nothing_was_said_yet_takes_nothing_back() -> None:
    rig = Rig(["I think", Retraction(), "Hello."])
    rig.ask()
    assert rig.turn.told[-2:] == ["playback", "say Hello."]


def test_what_was_heard_before_a_tool_is_no_part_of_the_thought_behind_it() -> None:
    rig = Rig(
        ["One moment. ", call("it")],
        ["They want to know. I", Retraction(), "Warm."],
        tools=[
            tool(
                "it",
                lambda arguments: rig.turn.exchange.sentence_heard("One moment.") or ToolOutcome(Action.ASK_LLM, "25"),
            )
        ],
    )
    rig.ask()
    assert rig.turn.told[-3:] == ["say They want to know.", "take back", "say Warm."]
    assert rig.turn.exchange.heard == ("One moment.",)


# --- the day's limit --------------------------------------------------------------------------------------------------


def limited(characters: int) -> OutputLimit:
    return OutputLimit(characters, "Enough for today.")


@pytest.mark.parametrize(
    "characters, said",
    [
        (1, ["One.", "Enough for today."]),
        (4, ["One.", "Enough for today."]),
        (5, ["One.", "Two.", "Enough for today."]),
        (12, ["One.", "Two.", "Three."]),
    ],
)
def test_within_an_answer_the_limit_ends_it_between_two_sentences(characters: int, said: list[str]) -> None:
    rig = Rig(["One. ", "Two. ", "Three."])

    assert rig.ask(limit=limited(characters)) is Outcome.ANSWERED

    assert rig.turn.said == said
    cut = said[-1].startswith("Enough")
    assert rig.turn.exchange.messages[-1].content == (" ".join(said[:-1]) if cut else "One. Two. Three.")


def test_a_model_that_never_ends_is_cut_off_at_the_limit() -> None:
    class Endless(FakeLlm):
        def chat(self, *asked: Any) -> Any:
            self.closed = False
            try:
                while True:
                    yield "On and on. "
            finally:
                self.closed = True

    llm = Endless()
    rig = Rig(llm=llm)

    assert rig.ask(limit=limited(30)) is Outcome.ANSWERED

    assert llm.closed and rig.turn.said == ["On and on."] * 3 + ["Enough for today."]


def test_the_limit_holds_for_ready_texts_and_over_the_rounds_of_one_answer() -> None:
    rig = Rig(intent=FakeIntent({QUESTION: Intention(reply="One. Two. Three.")}))
    rig.ask(limit=limited(5))
    assert rig.turn.said == ["One.", "Two.", "Enough for today."]

    rig = Rig(["One. ", call("it")], "Two. Three.", tools=[tool("it", outcome(Action.ASK_LLM, "25"))])
    rig.ask(limit=limited(5))
    assert rig.turn.said == ["One.", "Two.", "Enough for today."]
    assert [message.content for message in rig.turn.exchange.messages[1:]] == ["One. ", "25", "Two."]


def test_the_first_token_and_the_others_have_deadlines_of_their_own() -> None:
    rig = Rig([0.03, "One. ", "Two."], options={"llm_first_token": 5.0, "llm_stall": 0.01})

    rig.ask()

    assert rig.turn.said == ["One.", "Two."]


def test_the_whole_answer_has_a_deadline() -> None:
    class Dripping(FakeLlm):
        """Never stalls and never ends: a minute passes between its words."""

        def chat(self, *asked: Any) -> Any:
            for item in super().chat(*asked):
                yield item
                rig.turn.clock.advance(60)

    rig = Rig(llm=Dripping(["On and on. ", "And ", "on", "."] * 9), options={"llm_total": 120.0, "llm_stall": 60.0})

    with pytest.raises(VendorTimeout, match="not complete within 120 s"):
        rig.ask()

    assert rig.turn.said == ["On and on."]
    assert rig.llm.calls[0].ended == "cut", "although another piece was there already"


def test_the_rounds_of_one_answer_share_its_deadline_and_tools_do_not_count() -> None:
    class Slow(FakeLlm):
        def chat(self, *asked: Any) -> Any:
            rig.turn.clock.advance(50)
            yield from super().chat(*asked)
            rig.turn.clock.advance(50)

    def work(arguments: Mapping[str, Any]) -> ToolOutcome:
        rig.turn.clock.advance(1_000)
        return ToolOutcome(Action.ASK_LLM, "more")

    rig = Rig(llm=Slow([call("it")], [call("it")], "Done."), tools=[tool("it", work)], options={"llm_total": 240.0})

    with pytest.raises(VendorTimeout, match="not complete within 240 s"):
        rig.ask()

    assert len(rig.llm.calls) == 3


def test_the_request_of_the_vendor_is_closed_when_its_words_cannot_be_spoken() -> None:
    """At once, whoever else may hold the stream: the vendor should know before an apology is spoken."""
    streams: list[Any] = []

    class Kept(FakeLlm):
        def chat(self, *asked: Any) -> Any:
            streams.append(super().chat(*asked))
            return streams[-1]

    class Mute(FakePlayback):
        def say(self, sentence: Sentence) -> None:
            raise VendorUnavailable("tts:Acme")

    rig = Rig(llm=Kept(["One. ", "Two. ", "Three."]))

    with pytest.raises(VendorUnavailable, match="tts:Acme"):
        rig.ask(playback=Mute([]))

    assert next(streams[0], "closed") == "closed"


def test_a_model_that_fails_in_the_middle_is_closed() -> None:
    rig = Rig(["This is one. This", VendorUnavailable("llm:Acme")])

    with pytest.raises(VendorUnavailable):
        rig.ask()

    assert rig.turn.said == ["This is one."], "half a sentence is not spoken"
    assert rig.llm.calls[0].ended == "failed"


def test_words_are_corrected_for_the_voice() -> None:
    rig = Rig("Ask Xiaozhi.", options={"correct_words": ("Xiaozhi|Shao-jr",)}, tts=FakeTts())

    rig.ask()

    assert rig.turn.said == ["Ask Shao-jr."]
