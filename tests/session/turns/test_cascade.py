"""What the cascade says for what was asked: recognition, intents, tools, the language model under its deadlines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.hearing import FakeAsr
from tests.fakes.providers import provider_set
from tests.fakes.thinking import FakeIntent, FakeLlm
from tests.fakes.voice import FakeTts
from tests.session.turns.rig import FakeUtterance, spoken
from tests.tools.fakes import context as tool_context
from tests.tools.fakes import tool
from tests.waiting import wait_for
from xiaozhi.chat import CallContext, Message, Seal, ToolCall
from xiaozhi.errors import TurnClosed, VendorGarbage, VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.asr import AsrTraits
from xiaozhi.providers.contracts.intent import Intention, IntentTraits
from xiaozhi.providers.contracts.llm import LlmTraits, Retraction
from xiaozhi.runtime import tasks
from xiaozhi.session.turn_record import Outcome, Speculation, Timeline, TurnOptions
from xiaozhi.session.turns.answer_cache import AnswerCache
from xiaozhi.session.turns.cascade import UNHEARD_VOICED_MS, Cascade
from xiaozhi.session.turns.dialogue import Exchange
from xiaozhi.session.turns.opening import Opening
from xiaozhi.session.turns.pipeline import Briefing, OutputLimit, PipelineParts
from xiaozhi.settings.fixed_texts import TOOL_FILLER
from xiaozhi.speech.sentences import Sentence
from xiaozhi.speech.transcripts import WEAK_VOICED_MS
from xiaozhi.tools.base import Action, FixedTools, ToolOutcome
from xiaozhi.tools.toolbox import Toolbox

SYSTEM = Message("system", "Be brief.")
QUESTION = "how big is the sun"


class FakePlayback:
    """What was given to it, in order."""

    def __init__(self, told: list[str]) -> None:
        self._told = told
        self.faces: list[str] = []

    def emote(self, emotion: Any) -> None:
        self.faces.append(emotion.name)

    def say(self, sentence: Sentence) -> None:
        self._told.append(f"say {sentence.spoken}")


class FakeTurn:
    """A `TurnControl` that records; `closed`: its `open` raises."""

    def __init__(self, opening: Opening, options: TurnOptions) -> None:
        self.opening = opening
        self.context = CallContext(device_id="d")
        self.options = options
        self.timeline = Timeline()
        self.exchange = Exchange()
        self.clock = FakeClock()
        self.told: list[str] = []
        self.shown: list[str] = []
        self.language = "en"
        self.limit: OutputLimit | None = None
        self.closed = False
        self.voices: list[Any] = []
        self.playback = FakePlayback(self.told)

    def heard(self, text: str) -> None:
        self.told.append(f"heard {text}")

    def wait_release(self) -> None:
        self.told.append("release")

    def open(self) -> None:
        self.told.append("open")
        if self.closed:
            raise TurnClosed("shut")

    def show_call(self, tool: str) -> None:
        self.shown.append(tool)

    def output_limit(self) -> OutputLimit | None:
        self.told.append("limit?")
        return self.limit

    def open_playback(self, voice: Any) -> Any:
        self.told.append("playback")
        self.voices.append(voice)
        return self.playback

    def take_back(self, voice: Any, heard: int) -> Any:
        self.told.append("take back")
        self.exchange.forget_heard(heard)
        return self.playback

    def speak_fixed(self, text: str) -> None:
        self.told.append(f"fixed {text}")

    def play(self, path: Path) -> None:
        raise AssertionError("files are played by tools, through the session")

    @property
    def said(self) -> list[str]:
        return [told.removeprefix("say ") for told in self.told if told.startswith("say ")]


class Rig:
    """A cascade and its parts; `ask` runs it."""

    def __init__(
        self,
        *answers: Any,
        tools: Sequence[Any] = (),
        answers_kept: AnswerCache | None = None,
        key: str = "key",
        options: Mapping[str, Any] | None = None,
        **chosen: Any,
    ) -> None:
        self.llm = chosen.setdefault("llm", FakeLlm(*answers))
        self.providers = provider_set(**chosen)
        self.toolbox = Toolbox(FixedTools("test", tools))
        self.options = TurnOptions(**{"llm_first_token": 1.0, "llm_stall": 1.0, **(options or {})})
        self.briefed: list[str] = []
        self.cache = answers_kept
        self.key = key
        self.turn = FakeTurn(Opening(text=QUESTION), self.options)

    def brief(self, question: str) -> Briefing:
        self.briefed.append(question)
        return Briefing([SYSTEM], self.key)

    def ask(self, opening: Opening | None = None, **options: Any) -> Outcome:
        """A new turn, run."""
        turn = self.turn = FakeTurn(opening or Opening(text=QUESTION), self.options)
        for name, value in options.items():
            assert name in vars(turn)
            setattr(turn, name, value)
        parts = PipelineParts(
            providers=self.providers,
            toolbox=self.toolbox,
            tool_context=tool_context(),
            brief=self.brief,
            answers=self.cache,
        )
        return Cascade(parts).run(turn)

    def offered(self, number: int = -1) -> list[str]:
        """The tools that the language model was offered."""
        return [spec.name for spec in self.llm.calls[number].tools]


def call(name: str, number: int = 1, **arguments: Any) -> ToolCall:
    return ToolCall(f"c{number}", name, arguments)


def outcome(action: Action, text: str = "") -> Callable[[Mapping[str, Any]], ToolOutcome]:
    return lambda arguments: ToolOutcome(action, text)


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


# --- tools ------------------------------------------------------------------------------------------------------------


def test_each_call_is_shown_and_timed() -> None:
    def take_two_seconds(arguments: Mapping[str, Any]) -> ToolOutcome:
        rig.turn.clock.advance(2)
        return ToolOutcome(Action.ASK_LLM, "25")

    rig = Rig([call("weather"), call("no_such_tool", 2)], "Warm.", tools=[tool("weather", take_two_seconds)])

    rig.ask()

    assert rig.turn.shown == ["weather", "no_such_tool"]
    assert [(one.tool, one.outcome) for one in rig.turn.timeline.calls] == [
        ("weather", "ask_llm"),
        ("no_such_tool", "not_found"),
    ]
    weather = rig.turn.timeline.calls[0]
    assert weather.ended is not None
    assert weather.ended - weather.began == 2


def test_a_call_goes_back_to_its_vendor_under_its_seal() -> None:
    seal = Seal("v", b"{}")
    rig = Rig([replace(call("weather"), seal=seal)], "Warm.", tools=[tool("weather", outcome(Action.ASK_LLM, "25"))])

    rig.ask()

    (sealed,) = (message for message in rig.llm.calls[1].messages if message.tool_calls)
    assert sealed.tool_calls[0].seal == seal


def test_the_model_calls_a_tool_and_goes_on() -> None:
    rig = Rig(["Let me see. ", call("weather")], "Warm.", tools=[tool("weather", outcome(Action.ASK_LLM, "25"))])

    rig.ask()

    assert rig.turn.told[-3:] == ["say Let me see.", "open", "say Warm."]
    assert rig.turn.exchange.messages == [
        Message("user", QUESTION),
        Message("assistant", "Let me see. ", (call("weather"),)),
        Message("tool", "25", tool_call_id="c1"),
        Message("assistant", "Warm."),
    ]
    assert rig.llm.calls[1].messages == [SYSTEM, *rig.turn.exchange.messages[:-1]]


@pytest.mark.parametrize(
    "action, text, told, asked",
    [
        (Action.SPEAK, "Done.", "Done.", 1),
        (Action.SPEAK, "", "speak", 1),
        (Action.RECORD, "noted", "noted", 1),
        (Action.NOTHING, "", "nothing", 1),
        (Action.ASK_LLM, "25", "25", 2),
        (Action.ERROR, "no sensor", "error: no sensor", 2),
        (Action.NOT_FOUND, "no such tool", "error: no such tool", 2),
    ],
)
def test_what_follows_a_tool(action: Action, text: str, told: str, asked: int) -> None:
    rig = Rig([call("it")], "So.", tools=[tool("it", outcome(action, text))])

    rig.ask()

    assert len(rig.llm.calls) == asked
    assert rig.turn.exchange.messages[2].content == told
    assert rig.turn.said == (["So."] if asked == 2 else [text] if action is Action.SPEAK and text else [])


def test_several_tools_may_speak() -> None:
    tools = [tool("a", outcome(Action.SPEAK, "One.")), tool("b", outcome(Action.SPEAK, "Two."))]
    rig = Rig([call("a"), call("b", 2)], tools=tools)

    rig.ask()

    assert rig.turn.said == ["One.", "Two."]
    assert rig.turn.exchange.messages[-1] == Message("assistant", "One. Two.")


def until_said(rig: Rig, text: str) -> Callable[[Mapping[str, Any]], ToolOutcome]:
    """A tool that works until the user has heard this."""

    def work(arguments: Mapping[str, Any]) -> ToolOutcome:
        wait_for(lambda: text in " ".join(rig.turn.said), "words meanwhile")
        return ToolOutcome(Action.ASK_LLM, "25")

    return work


def test_while_tools_take_long_something_is_said_once_and_not_remembered() -> None:
    words = TOOL_FILLER["en"]
    options = {"tool_filler_seconds": 0.01, "tool_filler": TOOL_FILLER}
    rig = Rig([call("slow")], [call("slow", 2)], "Warm.", options=options)
    rig.toolbox.add(FixedTools("test", [tool("slow", until_said(rig, words))]))

    rig.ask()

    assert " ".join(rig.turn.said) == f"{words} Warm."
    assert words not in str(rig.turn.exchange.messages)


def test_what_is_said_meanwhile_can_be_chosen() -> None:
    options = {"tool_filler_seconds": 0.01, "tool_filler": {"": "Hold on!"}}
    rig = Rig([call("slow")], "Warm.", options=options)
    rig.toolbox.add(FixedTools("test", [tool("slow", until_said(rig, "Hold on!"))]))

    rig.ask()

    assert rig.turn.said == ["Hold on!", "Warm."]


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_tools_that_are_quick_enough_work_in_silence(seconds: float) -> None:
    before = tasks.census.started
    rig = Rig([call("it")], "Warm.", options={"tool_filler_seconds": seconds})
    rig.toolbox.add(FixedTools("test", [tool("it", outcome(Action.ASK_LLM, "25"))]))

    rig.ask()

    assert rig.turn.said == ["Warm."]
    assert tasks.census.started == before, "no greenlet has begun"


def test_a_turn_that_is_over_runs_no_tool() -> None:
    ran: list[Any] = []
    rig = Rig([call("it")], tools=[tool("it", lambda arguments: ran.append(1) or ToolOutcome(Action.NOTHING))])

    with pytest.raises(TurnClosed):
        rig.ask(closed=True)

    assert ran == [] and rig.turn.exchange.tool_calls == 0


def test_at_the_limit_the_model_must_answer_with_what_it_has() -> None:
    rig = Rig(
        [call("it")],
        [call("it", 2)],
        ["Enough. ", call("it", 3)],
        tools=[tool("it", outcome(Action.ASK_LLM, "more"))],
        options={"tool_depth": 2},
    )

    rig.ask()

    assert [rig.offered(number) for number in range(3)] == [["it"], ["it"], []]
    assert rig.turn.exchange.tool_calls == 2, "what was not offered is not run"
    assert rig.turn.said == ["Enough."]


def test_silence_after_tools_is_an_answer() -> None:
    rig = Rig([call("it")], "", tools=[tool("it", outcome(Action.ASK_LLM, "done"))])

    assert rig.ask() is Outcome.ANSWERED
    assert rig.turn.said == []


@pytest.mark.parametrize("answer", ["", "  ", []])
def test_silence_without_tools_is_a_failure(answer: Any) -> None:
    rig = Rig(answer)
    rig.llm.name = "LLM.Acme"

    with pytest.raises(VendorGarbage, match=r"LLM\.Acme"):
        rig.ask()


@pytest.mark.parametrize("kind", ["intent", "llm"])
def test_tools_are_not_offered_where_they_cannot_be_called(kind: str) -> None:
    intent, llm = FakeIntent(), FakeLlm(["Well. ", call("it")])
    if kind == "intent":
        intent.traits = IntentTraits(offers_tools=False)
    else:
        llm.traits = LlmTraits(calls_tools=False)
    rig = Rig(llm=llm, intent=intent, tools=[tool("it")])

    rig.ask()

    assert rig.offered() == []
    assert rig.turn.exchange.tool_calls == 0 and rig.turn.said == ["Well."]


# --- answers through a tool -------------------------------------------------------------------------------------------


def direct_rig(*answers: Any, tools: Sequence[Any] = (), **options: Any) -> Rig:
    return Rig(*answers, tools=[tool("direct_answer", answers_directly="response"), *tools], **options)


def test_an_answer_inside_a_tool_call_is_an_answer() -> None:
    rig = direct_rig([call("direct_answer", response=" I am fine. And you? ")])

    rig.ask()

    assert rig.turn.said == ["I am fine.", "And you?"]
    assert rig.turn.exchange.messages[-1] == Message("assistant", "I am fine. And you?")
    assert rig.turn.exchange.tool_calls == 0 and len(rig.llm.calls) == 1


def test_beside_a_real_tool_it_is_spoken_first_and_then_not_offered_any_more() -> None:
    rig = direct_rig(
        ["Hm. ", call("direct_answer", response="One moment."), call("it", 2)],
        "Done.",
        tools=[tool("it", outcome(Action.ASK_LLM, "ok"))],
    )

    rig.ask()

    assert rig.turn.said == ["Hm.", "One moment.", "Done."]
    assert "direct_answer" in rig.offered(0) and "direct_answer" not in rig.offered(1)
    assert rig.turn.exchange.messages[1].content == "Hm.  One moment."


def test_an_empty_answer_inside_a_tool_call_is_a_failure() -> None:
    rig = direct_rig([call("direct_answer")])

    with pytest.raises(VendorGarbage):
        rig.ask()


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
