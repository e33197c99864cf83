"""What the server says without having been asked, and when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from tests.session.turns.rig import FakeUtterance
from tests.session.turns.taking_turns import LATER, TEA, Stage
from tests.waiting import PATIENCE_S
from xiaozhi.session.turn_record import Outcome
from xiaozhi.session.turns.announcements import MAX_WAITING
from xiaozhi.session.turns.opening import Announcement, Delivery
from xiaozhi.session.turns.turn_taking import ANNOUNCEMENT_DEADLINE_S, PAUSE_S


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
