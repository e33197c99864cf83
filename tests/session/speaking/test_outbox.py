"""The outbox: pacing and order, with time as an argument."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.session.speaking.outbox_rig import START, STOP, Rig, packets
from xiaozhi.errors import TurnClosed
from xiaozhi.protocol.frames import codec_for
from xiaozhi.protocol.messages import Pong, Stt, TtsPhase, TtsState


@pytest.fixture
def fake() -> Iterator[Rig]:
    """An outbox on fake time."""
    rig = Rig(fake_time=True)
    yield rig
    rig.outbox.close()
    rig.sender.release()
    rig.tasks.kill()


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
