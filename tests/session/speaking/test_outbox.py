from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import gevent
import pytest
from gevent.event import Event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.fakes.alarm import FakeAlarm
from tests.fakes.clock import FakeClock
from tests.fakes.sender import RecordingSender
from tests.waiting import PATIENCE_S, take_turns, wait_for
from xiaozhi.errors import ConnectionClosed, TurnClosed
from xiaozhi.protocol.frames import codec_for
from xiaozhi.protocol.messages import Pong, Stt, TtsPhase, TtsState
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.speaking.outbox import Outbox

START = TtsState(TtsPhase.START)
STOP = TtsState(TtsPhase.STOP)


def packets(count: int, mark: str = "f") -> list[bytes]:
    """Packets that say which one they are."""
    return [f"{mark}{index}".encode() for index in range(count)]


class Rig:
    """An outbox, the socket it writes to, and all that it was told to do wrong."""

    def __init__(self, *, fake_time: bool, version: int = 1, frame_ms: int = 60, **options: object) -> None:
        self.clock = FakeClock() if fake_time else None
        self.sender = RecordingSender(clock=self.clock) if self.clock is not None else RecordingSender()
        self.tasks = Tasks()
        self.overflows: list[str] = []
        self.late: list[float] = []
        self.alarm = FakeAlarm(self.clock) if self.clock is not None else None
        if self.clock is not None:
            options |= {"clock": self.clock, "alarm": self.alarm}
        self.outbox = Outbox(
            send_text=self.sender.send_text,
            send_binary=self.sender.send_binary,
            codec=codec_for(version, False),
            session_id="s",
            frame_ms=frame_ms,
            tasks=self.tasks,
            on_overflow=self.overflows.append,
            on_frame=self.late.append,
            **options,  # type: ignore[arg-type]
        )

    def run(self) -> None:
        """Let the writer work until it has nothing left to do."""
        assert self.tasks.join(timeout=PATIENCE_S)

    def sent(self, since: float = 1000.0) -> list[tuple[float, str]]:
        """(ms, what) of everything that was sent: frames by their name, messages by type and state."""
        shown = []
        for item in self.sender.log:
            if isinstance(item.data, bytes):
                what = item.data.decode()
            else:
                body = item.message
                what = " ".join(filter(None, [body["type"], body.get("state"), body.get("text")]))
            shown.append((round((item.at - since) * 1000, 3), what))
        return shown


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


# --- pacing and order, with time as an argument -----------------------------------------------------------------------


def test_messages_and_frames_come_in_order_and_on_time(fake: Rig) -> None:
    outbox = fake.outbox
    outbox.open_turn(1)
    outbox.message(1, Stt("hello"))
    outbox.message(1, START)
    outbox.message(1, TtsState(TtsPhase.SENTENCE_START, "one"))
    outbox.frames(1, packets(4, "a"))
    outbox.message(1, TtsState(TtsPhase.SENTENCE_START, "two"))
    outbox.frames(1, packets(2, "b"))
    outbox.message(1, STOP)
    fake.run()
    assert fake.sent() == [
        (0, "stt hello"),
        (0, "tts start"),
        (0, "tts sentence_start one"),
        (0, "a0"),
        (0, "a1"),
        (0, "a2"),
        (60, "a3"),
        (120, "tts sentence_start two"),  # with its sound, not before
        (120, "b0"),
        (180, "b1"),
        (180, "tts stop"),
    ]
    assert [item.message["session_id"] for item in fake.sender.log if isinstance(item.data, str)] == ["s"] * 5
    assert (outbox.stats.frames, outbox.stats.messages, outbox.stats.frame_bytes) == (6, 5, 12)
    assert max(fake.late) == 0.0


def test_an_urgent_message_does_not_wait_for_the_next_frame(fake: Rig) -> None:
    outbox = fake.outbox
    assert fake.alarm is not None and fake.clock is not None

    def at_20_ms(seconds: float) -> None:
        if len(fake.alarm.waits) == 2:  # between the first and the second paced frame
            fake.clock.advance(0.02)
            outbox.urgent(Pong(1))

    fake.alarm.while_waiting = at_20_ms
    outbox.open_turn(1)
    outbox.frames(1, packets(5))
    fake.run()
    assert fake.sent() == [(0, "f0"), (0, "f1"), (0, "f2"), (60, "f3"), (80, "pong"), (120, "f4")]


def test_urgent_messages_overtake_what_waits_and_keep_their_order(fake: Rig) -> None:
    fake.outbox.open_turn(1)
    fake.outbox.frames(1, packets(2))
    fake.outbox.urgent(Pong(1))
    fake.outbox.urgent(Stt("x"))
    fake.run()
    assert [what for _, what in fake.sent()] == ["pong", "stt x", "f0", "f1"]


def test_a_mark_is_called_right_before_the_sound_behind_it(fake: Rig) -> None:
    seen: list[tuple[str, int]] = []
    outbox = fake.outbox
    outbox.open_turn(1)
    outbox.frames(1, packets(4))
    outbox.mark(1, lambda: seen.append(("two", outbox.stats.frames)))
    outbox.frames(1, packets(1, "g"))
    outbox.mark(1, lambda: seen.append(("end", outbox.stats.frames)))
    assert fake.alarm is not None
    fake.alarm.while_waiting = lambda seconds: outbox.shut_turn(1) if outbox.stats.frames == 4 else None
    fake.run()
    # Shut in the 60 ms before g0: that sentence was not heard, so its mark was not called.
    assert fake.sent()[-1] == (60, "f3")
    assert seen == []


def test_marks_are_called_in_order_and_a_broken_one_harms_nobody(fake: Rig) -> None:
    seen: list[int] = []
    fake.outbox.open_turn(1)
    fake.outbox.mark(1, lambda: seen.append(fake.outbox.stats.frames))
    fake.outbox.frames(1, packets(2))
    fake.outbox.mark(1, lambda: seen[99])
    fake.outbox.mark(1, lambda: fake.outbox.urgent(Pong(1)))
    fake.outbox.mark(1, lambda: seen.append(fake.outbox.stats.frames))
    with capture_logs() as logs:
        fake.run()
    assert seen == [0, 2]
    assert [entry["event"] for entry in logs] == ["mark failed"]
    assert [what for _, what in fake.sent()] == ["f0", "f1", "pong"]


def test_timestamps_are_a_playback_clock_of_the_turn() -> None:
    rig = Rig(fake_time=True, version=2)
    codec = codec_for(2, False)
    for turn in (1, 2):
        rig.outbox.open_turn(turn)
        rig.outbox.frames(turn, packets(3))
        rig.run()
    stamps = [codec.unpack(data).timestamp_ms for data in rig.sender.binaries]
    assert stamps == [60, 120, 180, 60, 120, 180]


@pytest.mark.parametrize("version", [1, 2])
def test_an_observer_is_told_of_each_frame_that_was_sent(version: int) -> None:
    """What an echo canceller needs: the packet without the wire's framing, and when on the turn's clock it plays."""
    rig = Rig(fake_time=True, version=version)
    told: list[tuple[bytes, int, int]] = []
    rig.outbox.on_sent = lambda packet, timestamp: told.append((packet, timestamp, len(rig.sender.binaries)))
    rig.outbox.open_turn(1)
    rig.outbox.message(1, START)
    rig.outbox.frames(1, packets(3))
    rig.run()
    assert told == [(b"f0", 60, 1), (b"f1", 120, 2), (b"f2", 180, 3)], "each behind its frame"
    rig.outbox.on_sent = None
    rig.outbox.frames(1, packets(1))
    rig.run()
    assert len(told) == 3


def test_no_observer_is_told_of_a_frame_that_was_not_sent() -> None:
    told: list[int] = []
    rig = Rig(fake_time=True, on_sent=lambda packet, timestamp: told.append(timestamp))
    rig.outbox.open_turn(1)
    rig.outbox.frames(1, packets(9))
    assert rig.alarm is not None
    rig.alarm.while_waiting = lambda seconds: rig.outbox.shut_turn(1)
    rig.run()
    assert told == [60 * (number + 1) for number in range(len(rig.sender.binaries))]
    assert 0 < len(told) < 9


def test_flushing_waits_for_what_is_urgent() -> None:
    rig = Rig(fake_time=False, linger_s=0.01)
    assert rig.outbox.flush(0), "nothing waits"
    rig.sender.hold()
    rig.outbox.urgent(Pong(1))
    assert not rig.outbox.flush(0.01)
    rig.sender.release()
    assert rig.outbox.flush(2)
    assert [message["type"] for message in rig.sender.messages] == ["pong"]
    rig.outbox.close()
    assert not rig.outbox.flush(2)
    rig.run()


def test_a_fixed_delay_is_kept() -> None:
    rig = Rig(fake_time=True, fixed_delay_ms=40)
    rig.outbox.open_turn(1)
    rig.outbox.frames(1, packets(6))
    rig.run()
    assert [at for at, _ in rig.sent()] == [0, 0, 0, 40, 80, 120]


def test_one_wait_and_one_send_per_paced_frame(fake: Rig) -> None:
    fake.outbox.open_turn(1)
    fake.outbox.frames(1, packets(43))
    fake.run()
    assert fake.alarm is not None
    assert len(fake.alarm.waits) == 40 + 1  # and the linger


def test_a_message_without_sound_behind_it_does_not_pull_the_next_frame_forward(fake: Rig) -> None:
    outbox = fake.outbox
    outbox.open_turn(1)
    outbox.frames(1, packets(3))
    outbox.message(1, Stt("x"))
    fake.run()
    assert fake.clock is not None
    fake.clock.now = 1000.01
    outbox.frames(1, packets(1, "g"))
    fake.run()
    assert fake.sent()[-2:] == [(0, "stt x"), (60, "g0")]


def test_what_was_played_is_what_had_time_to_play(fake: Rig) -> None:
    outbox, clock = fake.outbox, fake.clock
    assert clock is not None
    outbox.open_turn(1)
    assert outbox.played_ms(1) == 0
    outbox.frames(1, packets(3))
    outbox.mark(1, lambda: clock.advance(0.1))
    outbox.mark(1, lambda: outbox.shut_turn(1))
    fake.run()
    assert outbox.played_ms(1) == pytest.approx(100)
    clock.advance(5)
    assert outbox.played_ms(1) == pytest.approx(100)  # what was shut stays what it was
    assert outbox.played_ms(7) == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["frames", "message", "mark", "urgent", "shut", "open", "run"]), max_size=40),
    st.integers(1, 8),
)
def test_whatever_is_asked_only_the_open_turn_is_sent(plan: list[str], prebuffer: int) -> None:
    rig = Rig(fake_time=True, prebuffer_frames=prebuffer, ahead_ms=400 * 60)
    outbox, turn, open_turns, expected = rig.outbox, 0, set[int](), 0
    for step in plan:
        if step == "open":
            turn += 1
            outbox.open_turn(turn)
            open_turns = {turn}
        elif step == "shut":
            outbox.shut_turn(turn)
            open_turns.discard(turn)
            shut_at = len(rig.sender.log)
            rig.run()
            assert all(isinstance(item.data, str) for item in rig.sender.log[shut_at:])
        elif step == "urgent":
            outbox.urgent(Pong(1))
            expected += 1
        elif step == "run":
            rig.run()
        elif turn in open_turns:
            if step == "frames":
                outbox.frames(turn, packets(3, f"{turn}-"))
            elif step == "message":
                outbox.message(turn, Stt(str(turn)))
            else:
                outbox.mark(turn, lambda: None)
        else:
            with pytest.raises(TurnClosed):
                outbox.frames(turn, packets(1))
    rig.run()
    assert sum(what == "pong" for _, what in rig.sent()) == expected
    numbers = [int(what.split("-")[0]) for _, what in rig.sent() if "-" in what]
    assert numbers == sorted(numbers), "a frame of an older turn after one of a newer turn"
    assert outbox.queued_frames == outbox.queued_bytes == 0


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
