"""What the cascade says for what was asked: recognition, intents, the language model, answers given before."""

from __future__ import annotations

import pytest

from tests.fakes.hearing import FakeAsr
from tests.fakes.thinking import FakeIntent
from tests.session.turns.cascade_rig import QUESTION, SYSTEM, Rig, call, outcome
from tests.session.turns.rig import FakeUtterance, spoken
from tests.tools.fakes import tool
from xiaozhi.chat import Message
from xiaozhi.errors import VendorUnavailable
from xiaozhi.providers.contracts.asr import AsrTraits
from xiaozhi.providers.contracts.intent import Intention
from xiaozhi.providers.contracts.llm import LlmTraits
from xiaozhi.session.turn_record import Outcome, Speculation
from xiaozhi.session.turns.answer_cache import AnswerCache
from xiaozhi.session.turns.cascade import UNHEARD_VOICED_MS
from xiaozhi.session.turns.opening import Opening
from xiaozhi.session.turns.pipeline import OutputLimit
from xiaozhi.speech.transcripts import WEAK_VOICED_MS
from xiaozhi.tools.base import Action

# --- from the utterance to the language model -------------------------------------------------------------------------


def test_a_typed_question_is_answered_by_the_model() -> None:
    rig = Rig("Very big. Believe me!")

    assert rig.ask() is Outcome.ANSWERED

    turn = rig.turn
    assert turn.told == ["release", "limit?", "playback", "say Very big.", "say Believe me!"]
    assert turn.voices == [rig.providers.tts]
    assert turn.exchange.messages == [Message("user", QUESTION), Message("assistant", "Very big. Believe me!")]
    assert rig.llm.calls[0].messages == [SYSTEM, Message("user", QUESTION)]
    assert rig.llm.calls[0].context is turn.context
    assert rig.briefed == [QUESTION]
    assert turn.timeline.llm_asked == turn.timeline.llm_first == turn.timeline.tts_asked == 1000.0
    assert turn.playback.faces != []


def test_an_utterance_is_recognised_first() -> None:
    rig = Rig("Fine.")

    assert rig.ask(spoken(FakeUtterance("  hello "))) is Outcome.ANSWERED

    assert rig.turn.told[:2] == ["heard hello", "release"]
    assert rig.llm.calls[0].asked == "hello"


@pytest.mark.parametrize(
    "speculative, before_release", [(Speculation.ASR, False), (Speculation.OFF, False), (Speculation.LLM, True)]
)
def test_how_far_it_goes_before_the_release(speculative: Speculation, before_release: bool) -> None:
    rig = Rig("Fine.", options={"speculative": speculative})

    rig.ask(spoken(FakeUtterance("hello")))

    assert ("release" not in rig.turn.told) is before_release
    assert rig.turn.said == ["Fine."]


def test_a_vendor_that_keeps_the_dialogue_is_not_asked_on_a_guess() -> None:
    rig = Rig("Fine.", options={"speculative": Speculation.LLM})
    rig.llm.traits = LlmTraits(offline=True, keeps_dialogue=True)

    rig.ask(spoken(FakeUtterance("hello")))

    assert "release" in rig.turn.told and rig.turn.said == ["Fine."]


def test_a_refusal_is_spoken_instead_and_not_remembered() -> None:
    rig = Rig("Fine.")

    assert rig.ask(limit=OutputLimit(0, "Enough for today.")) is Outcome.ANSWERED

    assert rig.turn.told[-1] == "fixed Enough for today."
    assert rig.llm.calls == [] and rig.turn.exchange.messages == []


@pytest.mark.parametrize(
    "voiced_ms, reply, told",
    [
        (UNHEARD_VOICED_MS, "Pardon?", ["heard ", "release", "fixed Pardon?"]),
        (UNHEARD_VOICED_MS - 1, "Pardon?", ["heard ", "release"]),
        (UNHEARD_VOICED_MS, "", ["heard ", "release"]),
    ],
)
def test_what_cannot_be_understood(voiced_ms: float, reply: str, told: list[str]) -> None:
    asr = FakeAsr()
    asr.traits = AsrTraits(unheard_reply=reply)
    rig = Rig(asr=asr)

    assert rig.ask(spoken(FakeUtterance(" ", voiced_ms=voiced_ms))) is Outcome.UNHEARD

    assert rig.turn.told == told
    assert rig.llm.calls == []


@pytest.mark.parametrize(
    ("text", "voiced_ms", "asked"),
    [
        ("[BLANK_AUDIO]", 2_000.0, None),
        ("(music)", 2_000.0, None),
        ("Thank you.", WEAK_VOICED_MS - 1, None),
        ("Thank you.", 2_000.0, "Thank you."),
        ("what time is it", WEAK_VOICED_MS - 1, "what time is it"),
    ],
)
def test_what_a_recogniser_makes_of_silence_is_not_asked(text: str, voiced_ms: float, asked: str | None) -> None:
    rig = Rig("Fine.")

    outcome = rig.ask(spoken(FakeUtterance(text, voiced_ms=voiced_ms)))

    assert outcome is (Outcome.UNHEARD if asked is None else Outcome.ANSWERED)
    assert [call.asked for call in rig.llm.calls] == ([] if asked is None else [asked])


def test_an_empty_text_is_nothing_to_answer() -> None:
    asr = FakeAsr()
    asr.traits = AsrTraits(unheard_reply="Pardon?")
    rig = Rig(asr=asr)

    assert rig.ask(Opening()) is Outcome.UNHEARD
    assert rig.turn.told == ["release"]


def test_a_recogniser_that_fails_is_the_turns_business() -> None:
    rig = Rig()

    with pytest.raises(VendorUnavailable):
        rig.ask(spoken(FakeUtterance(VendorUnavailable("asr:Acme"))))


def test_an_instruction_stands_in_for_a_question() -> None:
    rig = Rig("Goodbye.", intent=FakeIntent({"": Intention(reply="not asked")}))

    assert rig.ask(Opening(instruction="Say goodbye.")) is Outcome.ANSWERED

    assert rig.llm.calls[0].messages == [SYSTEM, Message("user", "Say goodbye.")]
    assert rig.turn.exchange.messages == [Message("assistant", "Goodbye.")]


# --- intents ----------------------------------------------------------------------------------------------------------


def test_an_intent_may_answer_by_itself() -> None:
    rig = Rig(intent=FakeIntent({QUESTION: Intention(reply="Big.")}))

    rig.ask()

    assert rig.turn.said == ["Big."] and rig.llm.calls == []
    assert rig.turn.exchange.messages[-1] == Message("assistant", "Big.")


def test_an_intent_may_call_tools_without_the_model() -> None:
    intent = FakeIntent({QUESTION: Intention(calls=(call("light"),))})
    rig = Rig(intent=intent, tools=[tool("light", outcome(Action.SPEAK, "Done."))])

    rig.ask()

    assert rig.turn.told[-2:] == ["open", "say Done."], "a tool has effects: not before the turn is open"
    assert rig.llm.calls == []
    assert [message.role for message in rig.turn.exchange.messages] == ["user", "assistant", "tool", "assistant"]


def test_the_model_is_asked_with_what_the_intents_tools_found() -> None:
    intent = FakeIntent({QUESTION: Intention(calls=(call("weather"),))})
    rig = Rig("It is warm.", intent=intent, tools=[tool("weather", outcome(Action.ASK_LLM, "25 degrees"))])

    rig.ask()

    assert rig.llm.calls[0].messages[-1].content == "25 degrees"
    assert rig.turn.said == ["It is warm."]


# --- answers given before ---------------------------------------------------------------------------------------------


def test_a_question_that_was_answered_before_is_not_asked_again() -> None:
    rig = Rig("Very big.", answers_kept=AnswerCache())

    rig.ask()
    rig.ask()

    assert len(rig.llm.calls) == 1
    assert rig.turn.said == ["Very big."]
    assert rig.turn.exchange.messages[-1] == Message("assistant", "Very big.")


def test_what_tools_found_is_not_kept() -> None:
    cache = AnswerCache()
    rig = Rig([call("it")], "Warm.", answers_kept=cache, tools=[tool("it", outcome(Action.ASK_LLM, "25"))])

    rig.ask()

    assert len(cache) == 0
