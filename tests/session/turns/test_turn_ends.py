"""Turns that end early, and what they leave behind: interruption, failures, order of the last steps."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.fakes.voice import FakeTts
from tests.session.turns.rig import (
    APOLOGY,
    ScriptedPipeline,
    TurnRig,
    fail,
    say,
    settle,
)
from tests.subtitles import shown
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.chat import Message
from xiaozhi.errors import ConnectionClosed, TurnClosed, VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.tts import Pcm
from xiaozhi.session.turn_record import Outcome
from xiaozhi.session.turns.opening import Announcement, Delivery, Opening
from xiaozhi.session.turns.pipeline import TurnControl
from xiaozhi.session.turns.turn import Turn
from xiaozhi.session.turns.turn_state import TurnState

Make = Callable[..., TurnRig]


# --- interrupted ------------------------------------------------------------------------------------------------------


def test_an_interrupt_keeps_what_was_heard_and_stops_at_once(make: Make) -> None:
    rig = make()
    voice = OneSentence()
    turn = rig.turn(pipeline=ScriptedPipeline(voice, "First. Then another one."))
    turn.start(prepared=False)
    rig.wait_for("tts sentence_start First")
    assert turn.speaking

    sent_before = len(rig.sender.binaries)
    assert turn.interrupt("abort") is True

    assert turn.state is TurnState.ENDED
    rig.wait_for("tts stop")
    assert len(rig.sender.binaries) == sent_before
    record = turn.record
    assert record is not None and record.reason == "abort" and record.outcome is Outcome.INTERRUPTED
    assert record.script[0] == Message("user", "what is up")
    assert record.script[1:] == [Message("assistant", "First.", interrupted=True)]
    assert rig.told.calls[-1] == "end interrupted"
    wait_for(lambda: voice.sessions[0].over)
    assert rig.sent.count("tts stop") == 1


class OneSentence(FakeTts):
    """Says the first sentence and keeps the next one to itself."""

    def sound_of(self, sentence: str) -> Iterator[Pcm]:
        if sentence != "First.":
            self.sessions[-1].gone.wait(60)
            return
        yield from super().sound_of(sentence)


def test_an_interrupt_before_anything_was_heard_sends_nothing(rig: TurnRig) -> None:
    never = Event()
    turn = rig.turn(work=lambda control: never.wait(PATIENCE_S) and None)
    turn.start(prepared=False)
    settle()

    assert turn.interrupt("abort")

    settle()
    assert rig.sent == []
    assert turn.record is not None and turn.record.script == []
    with pytest.raises(TurnClosed):
        rig.outbox.open_turn(turn.id)


def test_a_turn_that_is_interrupted_before_it_runs_has_its_outcome(rig: TurnRig) -> None:
    pipeline = ScriptedPipeline(rig.tts, "Fine.")
    turn = rig.turn(pipeline=pipeline)
    turn.start(prepared=False)

    turn.interrupt("abort")

    settle()
    assert pipeline.runs == 0
    assert rig.told.calls == ["end interrupted"]


def test_a_turn_whose_greenlet_is_killed_is_an_interrupted_one(rig: TurnRig) -> None:
    never = Event()
    pipeline = ScriptedPipeline(rig.tts, work=lambda control: never.wait(PATIENCE_S) and None)
    turn = rig.turn(pipeline=pipeline)
    turn.start(prepared=False)
    wait_for(lambda: pipeline.runs == 1)

    pipeline.greenlet.kill()

    assert turn.record is not None
    assert (turn.record.outcome, turn.record.reason) == (Outcome.INTERRUPTED, "killed")


def test_a_prepared_turn_whose_greenlet_is_killed_can_still_be_discarded(rig: TurnRig) -> None:
    never = Event()
    pipeline = ScriptedPipeline(rig.tts, work=lambda control: never.wait(PATIENCE_S) and None)
    turn = rig.turn(pipeline=pipeline)
    turn.start(prepared=True)
    wait_for(lambda: pipeline.runs == 1)

    pipeline.greenlet.kill()

    assert turn.state is TurnState.PREPARED
    turn.discard()
    assert rig.told.calls == ["discard"]


@pytest.mark.parametrize("error", [TurnClosed("shut"), ConnectionClosed(1006, "gone")])
def test_a_gate_that_shuts_ends_the_turn_without_an_apology(rig: TurnRig, error: Exception) -> None:
    record = rig.run(work=fail(error))

    assert (record.outcome, record.reason) == (Outcome.INTERRUPTED, str(error))
    assert rig.sent == []


def test_what_waits_for_silence_may_be_superseded_meanwhile(rig: TurnRig) -> None:
    """In realtime mode an answer does not begin while the user speaks; the end of his words may end the turn."""
    begun = Event()
    go_on = Event()

    def somebody_speaks() -> None:
        begun.set()
        go_on.wait(PATIENCE_S)

    rig.told.quiet = somebody_speaks
    closed: list[str] = []

    def work(turn: TurnControl) -> None:
        try:
            turn.open()
        except TurnClosed as error:
            closed.append(str(error))
            raise

    turn = rig.turn(work=work)
    turn.start(prepared=False)
    assert begun.wait(PATIENCE_S)
    gate_before = rig.sent
    turn.interrupt("superseded")
    go_on.set()
    settle()

    assert gate_before == rig.sent == []
    assert turn.record is not None and turn.record.reason == "superseded"


# --- failures ---------------------------------------------------------------------------------------------------------


def test_whole_sentences_are_heard_before_the_apology(rig: TurnRig) -> None:
    def work(turn: TurnControl) -> None:
        say(turn, rig.tts, "This is one.")
        raise VendorTimeout("llm:Acme", "nothing for 5 s")

    record = rig.run(work=work)

    assert rig.sentences == ["This is one", shown(APOLOGY)]
    assert (record.outcome, record.reason, record.failed_vendor) == (Outcome.FAILED, "VendorTimeout", "llm:Acme")
    assert record.script[1:] == [Message("assistant", "This is one.", interrupted=True)]
    assert record.characters == len("This is one.") + len(APOLOGY), "an apology is counted and not remembered"
    assert rig.sent.count("tts start") == rig.sent.count("tts stop") == 1


def test_a_fault_of_ours_is_logged_and_apologised_for(rig: TurnRig) -> None:
    with capture_logs() as logged:
        record = rig.run(work=fail(ZeroDivisionError("oops")))

    assert (record.outcome, record.reason, record.failed_vendor) == (Outcome.FAILED, "ZeroDivisionError", "")
    assert rig.sentences == [shown(APOLOGY)]
    assert [entry["event"] for entry in logged if entry["log_level"] == "error"] == ["turn failed"]


@pytest.mark.parametrize("opening", [Opening(instruction="Say goodbye."), Opening(fixed="Tea.")])
def test_nobody_is_apologised_to_who_has_not_asked(rig: TurnRig, opening: Opening) -> None:
    if opening.fixed:
        announcement = Announcement(deadline=2_000)
        announcement.begun()
        opening = Opening(fixed="Tea.", announcement=announcement)
        rig.tts.errors["Tea."] = VendorUnavailable("acme")

    record = rig.run(opening, work=fail(VendorUnavailable("acme")))

    assert record.outcome is Outcome.FAILED
    assert rig.sentences == []
    if opening.announcement is not None:
        assert opening.announcement.delivery is Delivery.FAILED
        assert opening.announcement.reason == record.reason == "VendorError"


@pytest.mark.parametrize(
    ("asked", "options", "heard"),
    [
        ("wie ist das Wetter", {}, "Verzeihung."),
        ("今天天气怎么样", {}, "抱歉。"),
        ("how is the weather", {}, "Sorry."),
        ("как погода", {}, "Sorry."),
        ("wie ist das Wetter", {"language": "zh"}, "抱歉。"),
        ("123", {"home_language": "de"}, "Verzeihung."),
        ("123", {}, "Sorry."),
    ],
)
def test_an_apology_is_in_the_language_of_the_conversation(
    make: Make, asked: str, options: dict[str, str], heard: str
) -> None:
    texts = {"zh": "抱歉。", "en": "Sorry.", "de": "Verzeihung."}
    rig = make(apology=texts, **options)
    rig.run(Opening(text=asked), work=fail(VendorUnavailable("llm")))
    assert rig.sentences == [shown(heard)]


def test_without_an_apology_the_turn_just_ends(make: Make) -> None:
    rig = make(apology={})

    assert rig.run(work=fail(VendorUnavailable("acme"))).outcome is Outcome.FAILED

    assert rig.sent == []


def test_what_is_queued_when_a_turn_fails_is_not_heard_behind_its_end(make: Make) -> None:
    rig = make(apology={})
    rig.tts.ms_per_char = 100

    def work(turn: TurnControl) -> None:
        say(turn, rig.tts, "This is long.")
        wait_for(lambda: rig.outbox.queued_frames > 10)
        raise VendorUnavailable("acme")

    rig.run(work=work)

    assert rig.outbox.queued_frames == 0
    rig.wait_for("tts stop")
    assert rig.sender.messages[-1] == json.loads(str(rig.sender.log[-1].data))


def test_a_voice_that_fails_is_replaced_for_the_apology(make: Make) -> None:
    emergency = FakeTts(ms_per_char=1)
    rig = make(emergency=emergency)
    rig.tts.errors["Fine."] = VendorUnavailable("tts:Acme")

    record = rig.run(words="Fine.")

    assert (record.outcome, record.failed_vendor) == (Outcome.FAILED, "tts:Acme")
    assert emergency.said == [APOLOGY]
    assert rig.tts.said == ["Fine."], "the voice that has just failed is not tried again"
    assert rig.sentences == [shown(APOLOGY)] and rig.frames > 0


def test_a_voice_that_fails_in_what_was_said_before_the_model_failed(make: Make) -> None:
    emergency = FakeTts(ms_per_char=1)
    rig = make(emergency=emergency)
    rig.tts.errors["Fine."] = VendorUnavailable("tts:Acme")

    def work(turn: TurnControl) -> None:
        say(turn, rig.tts, "Fine.")
        raise VendorTimeout("llm:Acme")

    record = rig.run(work=work)

    assert record.failed_vendor == "llm:Acme"
    assert emergency.said == [APOLOGY]


def test_without_any_voice_the_apology_is_shown(rig: TurnRig) -> None:
    rig.tts.errors = {"Fine.": VendorUnavailable("tts:Acme"), APOLOGY: VendorUnavailable("tts:Acme")}

    record = rig.run(words="Fine.")

    assert record.outcome is Outcome.FAILED
    assert rig.frames == 0
    assert rig.sent == ["stt what is up", "tts start", f"tts sentence_start {shown(APOLOGY)}", "tts stop"]


def test_a_device_that_leaves_during_the_apology_gets_none(rig: TurnRig) -> None:
    """The gate is shut while the voices are tried: nothing can be shown, and the turn still has one outcome."""

    def leaves(turn: TurnControl) -> None:
        turn.open()
        rig.outbox.close()
        raise VendorUnavailable("acme")

    record = rig.run(work=leaves)

    assert record.outcome is Outcome.FAILED
    assert rig.sentences == []


def test_a_subtitle_that_cannot_be_sent_is_given_up(rig: TurnRig) -> None:
    class Leaving(FakeTts):
        def sound_of(self, sentence: str) -> Any:
            rig.outbox.close()
            raise VendorUnavailable("acme")

    voice = Leaving()
    rig.tts.errors[APOLOGY] = VendorUnavailable("acme")

    record = rig.run(pipeline=ScriptedPipeline(voice, "Fine."))

    assert record.outcome is Outcome.FAILED


def test_a_fault_in_the_apology_is_logged_and_the_turn_ends(rig: TurnRig) -> None:
    rig.tts.errors[APOLOGY] = ZeroDivisionError("oops")

    with capture_logs() as logged:
        record = rig.run(work=fail(VendorUnavailable("acme")))

    assert record.outcome is Outcome.FAILED and record.failed_vendor == "acme"
    assert "apology failed" in [entry["event"] for entry in logged]
    assert rig.sent[-1] == "tts stop"


def test_an_exit_command_is_obeyed_when_the_vendor_has_failed(rig: TurnRig) -> None:
    rig.told.takes_text = False

    record = rig.run(work=fail(VendorUnavailable("acme")))

    assert record.outcome is Outcome.ANSWERED
    assert rig.sent == []


# --- memory and order -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["answered", "interrupted", "discarded"])
def test_a_turn_is_freed_without_a_garbage_collection(make: Make, ending: str) -> None:
    rig = make()
    turn = rig.turn(words="Fine. And more of it.")
    turn.start(prepared=ending == "discarded")
    wait_for(lambda: rig.tts.said)
    if ending == "interrupted":
        turn.interrupt("abort")
    if ending == "discarded":
        turn.discard()
    assert turn.wait(PATIENCE_S)
    wait_for(lambda: rig.tts.sessions[0].over)
    settle()
    gone = weakref.ref(turn)
    rig.turns.clear()
    rig.told.records.clear()
    gc.disable()
    try:
        del turn
        wait_for(lambda: gone() is None)
    finally:
        gc.enable()


steps = st.lists(st.sampled_from(["start", "prepare", "release", "discard", "interrupt", "run", "exit"]), max_size=8)


@settings(max_examples=60)
@given(steps)
def test_whatever_is_called_in_whatever_order_a_turn_has_one_end(order: list[str]) -> None:
    rig = TurnRig()
    turn = rig.turn(words="Fine.")
    begun = False
    try:
        for step in order:
            match step:
                case "start" | "prepare" if not begun:
                    begun = True
                    turn.start(prepared=step == "prepare")
                case "release":
                    turn.release()
                case "discard":
                    turn.discard()
                case "interrupt":
                    assert turn.interrupt("test") is not turn.ended or turn.ended
                case "run":
                    settle()
                case "exit":
                    rig.told.takes_text = False
            assert_consistent(turn, rig)
        turn.interrupt("end")
        assert turn.ended
        assert_consistent(turn, rig)
    finally:
        rig.close()


def assert_consistent(turn: Turn, rig: TurnRig) -> None:
    ends = [call for call in rig.told.calls if call == "discard" or call.startswith("end ")]
    assert len(ends) == (1 if turn.ended else 0)
    assert (turn.record is not None) is (turn.state is TurnState.ENDED)
    assert turn.speaking is (turn.state is TurnState.AUDIBLE)
    if turn.state in (TurnState.PREPARED, TurnState.DISCARDED):
        assert "open" not in rig.told.calls


def test_the_pipeline_of_a_turn_is_told_what_it_asks_for(rig: TurnRig) -> None:
    seen: dict[str, Any] = {}

    def work(turn: TurnControl) -> None:
        seen.update(opening=turn.opening, context=turn.context, options=turn.options, now=turn.clock())
        gevent.sleep(0)

    rig.run(Opening(text="x"), work=work)

    assert seen["opening"] == Opening(text="x")
    assert (seen["context"].device_id, seen["context"].turn_id) == ("d", 1)
    assert seen["options"] is rig.options and seen["now"] == 1000.0
