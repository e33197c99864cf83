"""Who may speak: what is heard, prepared, interrupted and announced, decided without a device and without waiting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from tests.fakes.alarm import FakeAlarm
from tests.fakes.clock import FakeClock
from tests.session.turns.rig import FakeUtterance, TurnRig, settle
from tests.subtitles import shown
from tests.waiting import PATIENCE_S
from xiaozhi.chat import Message
from xiaozhi.errors import Overloaded, TurnClosed
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.turn_record import Outcome, Timeline, TurnRecord
from xiaozhi.session.turns.announcements import MAX_WAITING
from xiaozhi.session.turns.opening import Announcement, Delivery, Opening
from xiaozhi.session.turns.turn_taking import ANNOUNCEMENT_DEADLINE_S, PAUSE_S, TurnTaking

TEA = Opening(fixed="The tea is ready.")
LATER = Opening(fixed="Dinner too.")


class FakeTurn:
    """A turn that is what the test says it is; writes what is done with it into the stage's log."""

    def __init__(self, stage: Stage, number: int, opening: Opening) -> None:
        self.opening = opening
        self.utterance = opening.utterance
        self.ended = False
        self.speaking = False
        self.name = opening.fixed or opening.text or opening.instruction or f"answer {number}"
        self._stage = stage

    def start(self, *, prepared: bool) -> None:
        self._stage.log.append(f"{'prepare' if prepared else 'start'} {self.name}")

    def release(self) -> None:
        self._stage.log.append(f"release {self.name}")

    def discard(self) -> None:
        if not self.ended:
            self.ended = True
            self._stage.log.append(f"discard {self.name}")

    def interrupt(self, reason: str) -> bool:
        if self.ended:
            return False
        self.end(Outcome.INTERRUPTED, reason)
        return True

    def end(self, outcome: Outcome = Outcome.ANSWERED, reason: str = "") -> None:
        """What a turn does when it ends; its session tells turn-taking."""
        self.ended, self.speaking = True, False
        self._stage.log.append(f"end {self.name}: {reason or outcome}")
        if self.opening.announcement is not None:
            record = TurnRecord(1, outcome, Timeline(), False, reason=reason, script=[Message("user", "x")])
            self.opening.announcement.ended(record)
        self._stage.taking.turn_ended()


class Stage:
    """Turn-taking, and the session around it."""

    def __init__(self, *, prepares: bool = True) -> None:
        self.log: list[str] = []
        self.turns: list[FakeTurn] = []
        self.tasks = Tasks()
        self.clock = FakeClock()
        self.alarm = FakeAlarm(self.clock)
        self.accepts = True
        self.realtime = False
        self.voices = 0
        self.error: Exception | None = None
        self.overloaded = False
        self.taking = TurnTaking(
            self._make,
            tasks=self.tasks,
            accepts=lambda: self.accepts,
            barges_in=lambda: self.realtime,
            on_voice=self._on_voice,
            prepares=prepares,
            admit=self._admit,
            clock=self.clock,
            alarm=self.alarm,
        )

    def _make(self, opening: Opening) -> Any:
        if self.error is not None:
            raise self.error
        self.turns.append(FakeTurn(self, len(self.turns) + 1, opening))
        return self.turns[-1]

    def _admit(self) -> None:
        if self.overloaded:
            raise Overloaded("server")

    def _on_voice(self) -> None:
        self.voices += 1

    def news(self) -> list[str]:
        """What has happened since the last call."""
        news, self.log = self.log, []
        return news

    def ended(self, utterance: Any) -> None:
        self.taking.utterance_ended(utterance)

    def paused(self, utterance: Any) -> None:
        self.taking.utterance_paused(utterance)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.tasks.kill()


@pytest.fixture
def quiet(stage: Stage) -> Stage:
    """Nobody has spoken for a while."""
    stage.clock.advance(PAUSE_S)
    return stage


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


# --- announcements ----------------------------------------------------------------------------------------------------


def test_an_announcement_is_spoken_at_once_when_nobody_speaks(quiet: Stage) -> None:
    announcement = quiet.taking.announce(TEA)

    assert quiet.news() == ["start The tea is ready."]
    assert announcement.delivery is Delivery.SPEAKING and not announcement.settled
    assert quiet.turns[0].opening.announcement is announcement
    assert quiet.turns[0].opening.fixed == TEA.fixed and TEA.announcement is None
    quiet.turns[0].end()
    assert announcement.delivery is Delivery.SPOKEN
    assert announcement.record is not None and announcement.record.outcome is Outcome.ANSWERED
    assert len(quiet.tasks) == 0, "nothing waits"


def test_now_interrupts_the_turn_under_way(stage: Stage) -> None:
    stage.ended(FakeUtterance())
    stage.paused(FakeUtterance())

    announcement = stage.taking.announce(TEA, when="now")

    assert stage.news()[2:] == ["discard answer 2", "end answer 1: superseded", "start The tea is ready."]
    assert announcement.delivery is Delivery.SPEAKING
    later = stage.taking.announce(LATER, when="now")
    assert (announcement.delivery, announcement.reason) == (Delivery.INTERRUPTED, "superseded")
    stage.turns[-1].end(Outcome.FAILED, "VendorTimeout")
    assert (later.delivery, later.reason) == (Delivery.FAILED, "VendorTimeout")


def test_an_announcement_waits_for_the_end_of_an_answer_and_a_pause(stage: Stage) -> None:
    stage.ended(FakeUtterance())
    announcement = stage.taking.announce(TEA)
    assert stage.news() == ["start answer 1"]
    assert announcement.delivery is Delivery.WAITING

    answer_ends_while_waiting(stage)

    assert stage.news() == ["end answer 1: answered", "start The tea is ready."]
    # Woken by the end of the answer, then the pause. Firmware sends its `listen start` in it.
    assert stage.alarm.waits == [ANNOUNCEMENT_DEADLINE_S, PAUSE_S]
    assert len(stage.tasks) == 0


def test_an_announcement_waits_for_the_users_words_and_their_answer(quiet: Stage) -> None:
    utterance = FakeUtterance()
    quiet.taking.speech_started()
    announcement = quiet.taking.announce(TEA)
    quiet.paused(utterance)
    steps = iter(
        [
            lambda: quiet.taking.utterance_resumed(),
            lambda: quiet.paused(utterance),
            lambda: quiet.ended(utterance),
            lambda: quiet.turns[1].end(),
        ]
    )

    def next_step(seconds: float) -> None:
        step = next(steps, None)
        if step is not None:
            step()
            quiet.alarm.ring()

    quiet.alarm.while_waiting = next_step
    assert quiet.tasks.join(timeout=PATIENCE_S)

    assert quiet.news() == [
        "prepare answer 1",
        "discard answer 1",
        "prepare answer 2",
        "release answer 2",
        "end answer 2: answered",
        "start The tea is ready.",
    ]
    assert announcement.delivery is Delivery.SPEAKING


def test_what_nobody_has_said_in_the_end_does_not_hold_it_up(quiet: Stage) -> None:
    quiet.taking.speech_started()
    quiet.taking.announce(TEA)
    quiet.alarm.while_waiting = once(lambda: quiet.taking.utterance_dropped("too short"))

    assert quiet.tasks.join(timeout=PATIENCE_S)

    assert quiet.news() == ["start The tea is ready."]


def test_announcements_are_spoken_one_after_the_other(quiet: Stage) -> None:
    first, second = quiet.taking.announce(TEA), quiet.taking.announce(LATER)
    assert (first.delivery, second.delivery) == (Delivery.SPEAKING, Delivery.WAITING)

    answer_ends_while_waiting(quiet)

    assert quiet.news() == [
        "start The tea is ready.",
        "end The tea is ready.: answered",
        "start Dinner too.",
    ]
    quiet.turns[1].end()
    assert len(quiet.tasks) == 0, "nobody looks when nothing waits"


def test_one_that_comes_later_does_not_overtake_those_that_wait(stage: Stage) -> None:
    stage.taking.announce(TEA)
    stage.clock.advance(PAUSE_S)
    later = stage.taking.announce(LATER)
    assert later.delivery is Delivery.WAITING
    stage.alarm.while_waiting = once(lambda: stage.turns[0].end())

    assert stage.tasks.join(timeout=PATIENCE_S)

    assert [turn.name for turn in stage.turns] == ["The tea is ready.", "Dinner too."]


def test_one_that_finds_no_moment_is_dropped_at_its_deadline(stage: Stage) -> None:
    stage.ended(FakeUtterance())
    soon, late = stage.taking.announce(TEA, deadline=5), stage.taking.announce(LATER, deadline=50)

    assert stage.tasks.join(timeout=PATIENCE_S)

    assert stage.alarm.waits == [5, 45]
    assert (soon.delivery, late.delivery) == (Delivery.DROPPED, Delivery.DROPPED)
    assert "deadline" in soon.reason and soon.record is None
    assert stage.news() == ["start answer 1"]


def test_too_many_are_dropped_at_once(stage: Stage) -> None:
    stage.ended(FakeUtterance())
    waiting = [stage.taking.announce(TEA) for _ in range(MAX_WAITING)]

    one_more = stage.taking.announce(TEA)

    assert (one_more.delivery, one_more.reason) == (Delivery.DROPPED, "too many announcements are waiting")
    assert {announcement.delivery for announcement in waiting} == {Delivery.WAITING}
    assert len(stage.tasks) == 1, "one greenlet waits with all of them"


def test_one_that_cannot_begin_does_not_keep_the_others_from_it(stage: Stage) -> None:
    stage.ended(FakeUtterance())
    broken, well = stage.taking.announce(TEA), stage.taking.announce(LATER)

    def then(seconds: float) -> None:
        if not stage.turns[0].ended:
            stage.error = RuntimeError("no toolbox")
            stage.turns[0].end()
        elif broken.settled:
            stage.error = None

    stage.alarm.while_waiting = then
    assert stage.tasks.join(timeout=PATIENCE_S)

    assert (broken.delivery, broken.reason) == (Delivery.DROPPED, "could not begin")
    assert well.delivery is Delivery.SPEAKING


@pytest.mark.parametrize("when", ["idle", "now"])
def test_a_session_that_takes_no_more_turns_announces_nothing(quiet: Stage, when: Any) -> None:
    quiet.accepts = False

    assert quiet.taking.announce(TEA, when=when).delivery is Delivery.DROPPED
    assert quiet.news() == []


def test_one_that_waits_when_the_session_leaves_is_not_begun(stage: Stage) -> None:
    stage.ended(FakeUtterance())
    announcement = stage.taking.announce(TEA, deadline=20)
    stage.accepts = False

    answer_ends_while_waiting(stage)

    assert announcement.delivery is Delivery.DROPPED
    assert stage.news() == ["start answer 1", "end answer 1: answered"]


def test_the_end_of_the_session_drops_what_waits(stage: Stage) -> None:
    stage.ended(FakeUtterance())
    announcement = stage.taking.announce(TEA)
    fates: list[Delivery] = []
    waiting = stage.tasks.spawn("reminder", lambda: fates.append(announcement.wait(PATIENCE_S)))
    again = stage.tasks.spawn("reminder", lambda: fates.append(announcement.wait(PATIENCE_S)))
    settle_once()

    stage.taking.close()

    gevent.joinall([waiting, again], timeout=PATIENCE_S)
    assert fates == [Delivery.DROPPED] * 2
    assert announcement.reason == "the session is over"
    assert stage.tasks.join(timeout=PATIENCE_S)
    stage.taking.close()


def test_whoever_waits_is_told_so_when_it_takes_too_long(stage: Stage) -> None:
    announcement = Announcement(deadline=0)

    assert announcement.wait(0.001) is Delivery.WAITING


def answer_ends_while_waiting(stage: Stage) -> None:
    """Let the first turn end ten seconds into the first wait, and everything else take its course."""

    def end() -> None:
        stage.clock.advance(10)
        stage.turns[0].end()

    stage.alarm.while_waiting = once(end)
    assert stage.tasks.join(timeout=PATIENCE_S)


def once(function: Any) -> Any:
    """Calls `function` in the first wait only."""
    left = [function]

    def call(seconds: float) -> None:
        if left:
            left.pop()()

    return call


def settle_once() -> None:
    gevent.sleep(0)


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
