"""Who may speak: what is heard, prepared and interrupted, decided without a device and without waiting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.session.turns.rig import FakeUtterance, TurnRig, settle
from tests.session.turns.taking_turns import LATER, TEA, Stage
from tests.subtitles import shown
from tests.waiting import PATIENCE_S
from xiaozhi.errors import TurnClosed
from xiaozhi.session.turns.opening import Delivery, Opening
from xiaozhi.session.turns.turn_taking import TurnTaking


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.tasks.kill()


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_utterance_is_answered(stage: Stage) -> None:
    stage.taking.speech_started()
    stage.ended(FakeUtterance())

    assert stage.news() == ["start answer 1"]
    assert stage.voices == 1
    assert stage.taking.current is stage.taking.under_way is stage.turns[0]
    assert stage.taking.taken and not stage.taking.speaking
    stage.turns[0].speaking = True
    assert stage.taking.speaking
    stage.turns[0].end()
    assert not stage.taking.taken and stage.taking.under_way is None and not stage.taking.speaking


def test_an_answer_is_prepared_in_a_pause_and_released_at_the_end(stage: Stage) -> None:
    utterance = FakeUtterance()
    stage.paused(utterance)
    assert stage.taking.under_way is stage.turns[0] and not stage.taking.taken

    stage.ended(utterance)

    assert stage.news() == ["prepare answer 1", "release answer 1"]
    assert stage.taking.current is stage.turns[0]
    stage.taking.utterance_resumed()
    assert stage.news() == [], "what was released is not discarded any more"


def test_what_was_prepared_is_discarded_when_speech_goes_on(stage: Stage) -> None:
    first, second = FakeUtterance(), FakeUtterance()
    stage.paused(first)
    stage.taking.utterance_resumed()
    stage.paused(second)
    stage.paused(second)
    stage.ended(second)

    assert stage.news() == [
        "prepare answer 1",
        "discard answer 1",
        "prepare answer 2",
        "discard answer 2",
        "prepare answer 3",
        "release answer 3",
    ]


def test_what_was_prepared_for_another_utterance_is_not_used(stage: Stage) -> None:
    stage.paused(FakeUtterance())
    stage.ended(FakeUtterance())

    assert stage.news() == ["prepare answer 1", "discard answer 1", "start answer 2"]


def test_a_preparation_that_has_failed_is_made_anew(stage: Stage) -> None:
    utterance = FakeUtterance()
    stage.paused(utterance)
    stage.turns[0].ended = True

    stage.ended(utterance)

    assert stage.news() == ["prepare answer 1", "start answer 2"]


def test_nothing_is_prepared_where_that_is_switched_off() -> None:
    stage = Stage(prepares=False)
    stage.paused(FakeUtterance())

    assert stage.news() == []


def test_nothing_is_prepared_while_load_is_shed(stage: Stage) -> None:
    stage.overloaded = True
    utterance = FakeUtterance()
    stage.paused(utterance)
    assert stage.news() == []

    stage.overloaded = False
    stage.paused(utterance)

    assert stage.news() == ["prepare answer 1"]


def test_what_is_dropped_was_nothing(stage: Stage) -> None:
    stage.paused(FakeUtterance())
    stage.taking.utterance_dropped("too short")

    assert stage.news() == ["prepare answer 1", "discard answer 1"]
    assert stage.taking.under_way is None


def test_nobody_is_answered_while_no_turns_are_accepted(stage: Stage) -> None:
    stage.accepts = False
    utterance = FakeUtterance()
    stage.paused(utterance)
    stage.ended(utterance)

    assert stage.news() == []
    assert utterance.closed


def test_a_new_question_supersedes_the_answer_under_way(stage: Stage) -> None:
    stage.ended(FakeUtterance())
    stage.paused(FakeUtterance())
    stage.taking.begin(Opening(text="typed"))

    assert stage.news() == [
        "start answer 1",
        "prepare answer 2",
        "discard answer 2",
        "end answer 1: superseded",
        "start typed",
    ]


def test_an_interrupt_silences_and_forgets(stage: Stage) -> None:
    assert stage.taking.interrupt("abort") is False
    stage.ended(FakeUtterance())
    stage.paused(FakeUtterance())

    assert stage.taking.interrupt("abort") is True

    assert stage.news()[2:] == ["discard answer 2", "end answer 1: abort"]
    assert stage.taking.interrupt("again") is False


@pytest.mark.parametrize(
    "realtime, speaking, interrupted", [(True, True, True), (True, False, False), (False, True, False)]
)
def test_speech_interrupts_speech_in_realtime_mode_only(
    stage: Stage, realtime: bool, speaking: bool, interrupted: bool
) -> None:
    stage.realtime = realtime
    stage.ended(FakeUtterance())
    stage.turns[0].speaking = speaking

    stage.taking.speech_started()

    assert ("end answer 1: barge-in" in stage.news()) is interrupted


def test_in_realtime_mode_an_answer_waits_for_the_end_of_the_users_words(stage: Stage) -> None:
    stage.realtime = True
    stage.taking.await_quiet()
    stage.taking.speech_started()
    waiting = stage.tasks.spawn("answer", stage.taking.await_quiet)
    settle()
    assert not waiting.dead

    stage.ended(FakeUtterance())

    waiting.join(timeout=PATIENCE_S)
    assert waiting.dead


@pytest.mark.parametrize("end", ["dropped", "forgotten"])
def test_words_that_are_none_are_not_waited_for(stage: Stage, end: str) -> None:
    stage.realtime = True
    stage.taking.speech_started()
    waiting = stage.tasks.spawn("answer", stage.taking.await_quiet)
    settle()

    stage.taking.utterance_dropped("too short") if end == "dropped" else stage.taking.forget_voice()

    waiting.join(timeout=PATIENCE_S)
    assert waiting.dead


def test_otherwise_nobody_waits_for_silence(stage: Stage) -> None:
    stage.taking.speech_started()

    stage.taking.await_quiet()


def test_when_the_session_is_over_no_turn_begins(stage: Stage) -> None:
    stage.ended(FakeUtterance())
    utterance = FakeUtterance()
    stage.paused(utterance)
    stage.news()

    stage.taking.close()

    assert stage.news() == ["discard answer 2"]
    assert stage.taking.current is None
    stage.ended(utterance)
    assert utterance.closed
    stage.taking.speech_started()
    assert stage.voices == 0
    with pytest.raises(TurnClosed):
        stage.taking.begin(Opening(text="hello"))
    assert stage.taking.announce(TEA, when="now").delivery is Delivery.DROPPED


# --- with real turns --------------------------------------------------------------------------------------------------


def test_an_announcement_follows_a_real_answer_and_its_caller_is_told() -> None:
    rig = TurnRig()
    words = iter(["Fine. And you?"])
    taking = TurnTaking(
        lambda opening: rig.turn(opening, words=next(words)) if opening.text else rig.turn(opening),
        tasks=rig.tasks,
        accepts=lambda: True,
        barges_in=lambda: False,
    )
    rig.told.on_end = taking.turn_ended
    try:
        taking.begin(Opening(text="what is up"))
        answer = taking.current
        tea = taking.announce(TEA)
        assert answer is not None and answer.wait(PATIENCE_S)

        assert tea.wait(PATIENCE_S) is Delivery.SPOKEN

        assert rig.sentences == ["Fine", "And you?", shown(TEA.fixed)]
        assert [record.announcement for record in rig.told.records] == [False, True]
        interrupted = taking.announce(LATER, when="now")
        rig.wait_for("tts sentence_start Dinner too")
        taking.begin(Opening(fixed="Stop."))
        assert interrupted.delivery is Delivery.INTERRUPTED
    finally:
        taking.close()
        rig.close()
