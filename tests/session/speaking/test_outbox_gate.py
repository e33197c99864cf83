"""The gate of the outbox, back-pressure, ends and failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import gevent
import pytest
from gevent.event import Event
from structlog.testing import capture_logs

from tests.session.speaking.outbox_rig import START, STOP, Rig, packets
from tests.waiting import PATIENCE_S, take_turns, wait_for
from xiaozhi.errors import ConnectionClosed, TurnClosed
from xiaozhi.protocol.messages import Pong


@pytest.fixture
def fake() -> Iterator[Rig]:
    """An outbox on fake time."""
    rig = Rig(fake_time=True)
    yield rig
    rig.outbox.close()
    rig.sender.release()
    rig.tasks.kill()


@pytest.fixture
def real() -> Iterator[Rig]:
    """An outbox on real time, its frames 10 ms long."""
    rig = Rig(fake_time=False, frame_ms=10, linger_s=0.05)
    yield rig
    rig.outbox.close()
    rig.sender.release()
    rig.tasks.kill()


# --- the gate ---------------------------------------------------------------------------------------------------------


def test_a_shut_turn_sends_nothing_more_and_takes_nothing_more(real: Rig) -> None:
    outbox = real.outbox
    outbox.open_turn(1)
    outbox.frames(1, packets(40))
    real.sender.wait_for(lambda sender: len(sender.binaries) >= 5)
    outbox.shut_turn(1)
    sent = len(real.sender.binaries)
    outbox.urgent(STOP)
    for refused in (
        lambda: outbox.frames(1, packets(1)),
        lambda: outbox.message(1, START),
        lambda: outbox.mark(1, lambda: None),
        lambda: outbox.finish(1, 1),
        lambda: outbox.open_turn(1),
    ):
        with pytest.raises(TurnClosed):
            refused()
    outbox.shut_turn(1)  # again is fine
    real.run()
    assert len(real.sender.binaries) == sent
    assert real.sender.messages[-1]["state"] == "stop"
    assert outbox.stats.dropped == 40 - sent


def test_what_is_taken_back_is_not_sent_and_the_turn_goes_on(real: Rig) -> None:
    outbox, marks = real.outbox, []
    outbox.open_turn(1)
    outbox.message(1, START)
    outbox.mark(1, lambda: marks.append("first"))
    outbox.frames(1, packets(40))
    real.sender.wait_for(lambda sender: len(sender.binaries) >= 5)
    outbox.mark(1, lambda: marks.append("second"))
    outbox.take_back(1)
    assert outbox.queued_frames == 0
    sent = len(real.sender.binaries)
    outbox.take_back(2)  # not its turn
    outbox.frames(1, packets(2, "g"))
    outbox.mark(1, lambda: marks.append("third"))
    real.run()
    assert [frame.decode() for frame in real.sender.binaries[sent:]] == ["g0", "g1"]
    assert marks == ["first", "third"] and outbox.stats.dropped == 40 - sent


def test_the_messages_that_open_a_turn_are_not_taken_back(fake: Rig) -> None:
    outbox = fake.outbox
    outbox.open_turn(1)
    outbox.message(1, START)
    outbox.frames(1, packets(3))
    outbox.take_back(1)
    fake.run()
    assert [what for _, what in fake.sent()] == ["tts start"]


def test_shutting_is_effective_while_the_writer_waits_for_the_next_frame(real: Rig) -> None:
    outbox = real.outbox
    for turn in range(1, 30):
        outbox.open_turn(turn)
        outbox.frames(turn, packets(10, f"{turn}-"))
        gevent.sleep(0.001 * (turn % 7))  # sleep: the turn is shut at any moment between two frames
        outbox.shut_turn(turn)
        before = len(real.sender.binaries)
        gevent.sleep(0)
        assert len(real.sender.binaries) == before
    real.run()
    assert len(real.sender.binaries) == before


def test_a_frame_in_a_blocked_send_is_the_last_of_its_turn(real: Rig) -> None:
    outbox = real.outbox
    real.sender.hold()
    outbox.open_turn(1)
    outbox.frames(1, packets(10, "old"))
    real.sender.wait_for(lambda sender: sender.held)  # the writer is inside send_binary with the first frame
    outbox.shut_turn(1)
    outbox.urgent(STOP)
    outbox.open_turn(2)
    outbox.frames(2, packets(4, "new"))
    real.sender.release()
    real.run()
    assert [what for _, what in real.sent()] == ["old0", "tts stop", "new0", "new1", "new2", "new3"]


def test_a_new_turn_does_not_wait_for_the_due_time_of_an_old_one(fake: Rig) -> None:
    outbox = fake.outbox
    assert fake.alarm is not None and fake.clock is not None

    def interrupt(seconds: float) -> None:
        if outbox.stats.frames == 3:  # the writer waits for the fourth frame, due at 60 ms
            fake.clock.advance(0.02)
            outbox.shut_turn(1)
            outbox.open_turn(2)
            outbox.frames(2, packets(4, "new"))

    fake.alarm.while_waiting = interrupt
    outbox.open_turn(1)
    outbox.frames(1, packets(4, "old"))
    fake.run()
    assert fake.sent() == [
        (0, "old0"),
        (0, "old1"),
        (0, "old2"),
        (20, "new0"),
        (20, "new1"),
        (20, "new2"),
        (80, "new3"),
    ]


def test_opening_a_turn_shuts_the_one_before(real: Rig) -> None:
    real.sender.hold()
    real.outbox.open_turn(1)
    real.outbox.frames(1, packets(10, "old"))
    real.outbox.open_turn(2)
    real.outbox.open_turn(2)  # again is fine
    real.outbox.frames(2, packets(1, "new"))
    real.sender.release()
    real.run()
    assert [what for _, what in real.sent()] == ["new0"]


def test_a_turn_that_was_shut_before_it_opened_never_opens(real: Rig) -> None:
    outbox = real.outbox
    outbox.open_turn(5)
    outbox.shut_turn(6)  # thrown away while it was being prepared
    outbox.frames(5, packets(1))
    with pytest.raises(TurnClosed):
        outbox.open_turn(6)
    outbox.open_turn(7)
    with pytest.raises(TurnClosed):
        outbox.open_turn(6)
    for turn in range(100, 400):
        outbox.shut_turn(turn)
    with pytest.raises(TurnClosed):
        outbox.open_turn(399)
    outbox.open_turn(400)


# --- back-pressure, ends and failures ---------------------------------------------------------------------------------


AHEAD_FRAMES = 96
"""Of 10 ms: 960 ms."""


def test_a_full_lane_makes_the_producer_wait_and_loses_nothing(real: Rig) -> None:
    outbox = real.outbox
    outbox.open_turn(1)
    real.sender.hold()
    producer = real.tasks.spawn("producer", outbox.frames, 1, packets(120))
    wait_for(lambda: outbox.queued_bytes >= (AHEAD_FRAMES - 1) * 2)
    take_turns()
    assert AHEAD_FRAMES - 1 <= outbox.queued_frames <= AHEAD_FRAMES and not producer.ready(), "one is being sent"
    real.sender.release()
    producer.join(timeout=PATIENCE_S)
    assert outbox.finish(1, 10) is True
    assert [data.decode() for data in real.sender.binaries] == [f"f{index}" for index in range(120)]


@pytest.mark.parametrize("end", ["shut", "close", "die"])
def test_whoever_waits_is_let_go_when_the_turn_or_the_outbox_ends(real: Rig, end: str) -> None:
    outbox, outcomes = real.outbox, []

    def attempt(action: Callable[[], object]) -> None:
        try:
            action()
        except TurnClosed:
            outcomes.append("closed")

    outbox.open_turn(1)
    real.sender.hold()
    outbox.frames(1, packets(AHEAD_FRAMES))
    gevent.sleep(0)
    actions = (
        lambda: outbox.frames(1, packets(10)),
        lambda: outbox.message(1, START),
        lambda: outbox.mark(1, lambda: None),
        lambda: outbox.finish(1, 60),
    )
    waiters = [real.tasks.spawn("waiter", attempt, action) for action in actions]
    take_turns()
    assert outcomes == []
    if end == "shut":
        outbox.shut_turn(1)
    elif end == "close":
        outbox.close()
        outbox.close()
    else:
        real.sender.error = ConnectionClosed(1006)
        real.sender.release()
    gevent.joinall(waiters, timeout=PATIENCE_S)  # the writer may still be inside its send
    assert outcomes == ["closed"] * 4
    assert outbox.closed is (end != "shut")


def test_finish_waits_until_the_last_frame_was_heard(real: Rig) -> None:
    outbox = real.outbox
    outbox.open_turn(1)
    assert outbox.finish(1, 5) is True  # nothing was said
    outbox.frames(1, packets(8))
    assert outbox.finish(1, 5) is True
    assert len(real.sender.binaries) == 8
    first, last = real.sender.log[0].at, real.sender.log[-1].at
    heard = real.sender.clock() - first
    assert heard >= 8 * 0.010 and heard - (last - first) > 0.02  # the model of the device, not the last send
    assert outbox.played_ms(1) == pytest.approx(80)


def test_finish_gives_up_at_its_deadline(real: Rig) -> None:
    real.outbox.open_turn(1)
    real.sender.hold()
    real.outbox.frames(1, packets(5))
    assert real.outbox.finish(1, 0.02) is False


def test_finish_is_interrupted_while_the_last_words_play(real: Rig) -> None:
    outbox, ended = real.outbox, Event()

    def wait() -> None:
        with pytest.raises(TurnClosed):
            outbox.finish(1, 30)
        ended.set()

    outbox.open_turn(1)
    outbox.frames(1, packets(3))
    real.tasks.spawn("finish", wait)
    real.sender.wait_for(lambda sender: len(sender.binaries) == 3)
    outbox.shut_turn(1)
    assert ended.wait(timeout=PATIENCE_S)


def test_a_device_that_does_not_read_overflows_the_urgent_lane(real: Rig) -> None:
    real.sender.hold()
    for number in range(300):
        real.outbox.urgent(Pong(number))
    assert set(real.overflows) == {"slow reader"}
    real.sender.release()
    real.run()
    assert [message["timestamp"] for message in real.sender.messages] == list(range(256))


def test_a_lane_without_any_room_for_long_is_given_up(real: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi.session.speaking.outbox.ROOM_DEADLINE_S", 0.02)
    real.sender.hold()
    real.outbox.open_turn(1)
    with pytest.raises(TurnClosed):
        real.outbox.frames(1, packets(100))
    assert real.overflows == ["stuck outbox"] and real.outbox.closed


def test_a_closed_connection_ends_the_outbox_quietly(real: Rig, caplog: pytest.LogCaptureFixture) -> None:
    real.sender.error = ConnectionClosed(1006)
    real.outbox.open_turn(1)
    real.outbox.frames(1, packets(5))
    real.run()
    assert real.outbox.closed and real.overflows == []
    real.outbox.urgent(Pong(1))  # nobody to tell, nobody to complain to
    with pytest.raises(TurnClosed):
        real.outbox.open_turn(2)
    assert len(real.tasks) == 0


def test_an_unexpected_failure_closes_the_connection(real: Rig) -> None:
    real.sender.error = ValueError("a bug")
    with capture_logs() as logs:
        real.outbox.urgent(Pong(1))
        real.run()
    assert real.outbox.closed and real.overflows == ["outbox failed"]
    assert [(entry["event"], entry["task"]) for entry in logs] == [("task failed", "writer")]


def test_killing_the_writer_closes_the_outbox(real: Rig) -> None:
    real.outbox.open_turn(1)
    real.outbox.frames(1, packets(40))
    real.sender.wait_for(lambda sender: len(sender.binaries) >= 4)
    real.tasks.kill()
    sent = len(real.sender.binaries)
    assert real.outbox.closed
    assert real.tasks.join(PATIENCE_S), "nobody is left who could send"
    assert len(real.sender.binaries) == sent


def test_the_writer_lingers_and_then_leaves_nothing_behind(real: Rig) -> None:
    outbox = real.outbox
    assert len(real.tasks) == 0  # an idle device has no writer
    for number in range(3):
        outbox.urgent(Pong(number))
        real.sender.wait_for(lambda sender, number=number: len(sender.messages) == number + 1)
        assert len(real.tasks) == 1
    real.run()
    assert not outbox.closed
    outbox.urgent(Pong(3))
    real.run()
    assert [message["timestamp"] for message in real.sender.messages] == [0, 1, 2, 3]


def test_closing_ends_a_writer_that_lingers() -> None:
    rig = Rig(fake_time=False, linger_s=60)
    rig.outbox.urgent(Pong(1))
    rig.sender.wait_for(lambda sender: sender.messages)
    rig.outbox.close()
    rig.run()


def test_two_devices_do_not_wait_for_each_other(real: Rig) -> None:
    other = Rig(fake_time=False, frame_ms=10, linger_s=0.05)
    real.sender.hold()
    for rig in (real, other):
        rig.outbox.open_turn(1)
        rig.outbox.frames(1, packets(6))
    other.run()
    assert len(other.sender.binaries) == 6 and not real.sender.binaries
    real.sender.release()
    real.run()
    assert len(real.sender.binaries) == 6


def test_frames_that_waited_for_a_slow_socket_are_not_bunched(real: Rig) -> None:
    outbox = real.outbox
    outbox.open_turn(1)
    outbox.frames(1, packets(4))
    real.sender.wait_for(lambda sender: len(sender.binaries) == 3)
    real.sender.hold()
    outbox.frames(1, packets(4, "g"))
    gevent.sleep(0.1)  # sleep: the socket is slow
    real.sender.release()
    real.run()
    times = [item.at for item in real.sender.log]
    assert len(times) == 8
    assert all(after - before >= 0.003 for before, after in pairwise(times[4:]))  # half a frame, less the early timer
    assert outbox.stats.late_max_s > 0.05
