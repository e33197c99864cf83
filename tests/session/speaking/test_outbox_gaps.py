"""Gaps in the sound to a device, told apart by what they come from; and how far ahead of its time sound is sent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.alarm import FakeAlarm
from tests.fakes.clock import FakeClock
from tests.session.speaking.test_outbox import Rig, packets
from xiaozhi.protocol.messages import TtsPhase, TtsState


class Player(Rig):
    """A rig on fake time."""

    clock: FakeClock
    alarm: FakeAlarm

    def play(self, count: int, sentence: str = "") -> None:
        """Frames of turn 1, sent to the last one."""
        if sentence:
            self.outbox.message(1, TtsState(TtsPhase.SENTENCE_START, sentence))
        self.outbox.frames(1, packets(count))
        self.run()

    @property
    def gaps(self) -> dict[str, int]:
        """What was counted, without zeros."""
        stats = self.outbox.stats
        counts = {
            "starved": stats.starved,
            "pauses": stats.pauses,
            "server": stats.server_late,
            "slow": stats.slow_sends,
        }
        return {cause: count for cause, count in counts.items() if count}


@pytest.fixture
def player() -> Iterator[Player]:
    made = Player(fake_time=True)
    made.outbox.open_turn(1)
    yield made
    made.outbox.close()
    made.tasks.kill()


def test_a_voice_that_has_nothing_ready_starves_the_device(player: Player) -> None:
    player.play(6)
    assert player.gaps == {}
    player.clock.advance(3)
    player.play(4)
    assert player.gaps == {"starved": 1}


def test_a_voice_that_comes_before_the_device_has_played_all_makes_no_gap(player: Player) -> None:
    """A frame was due at 60 ms and comes at 165; the device has sound until 180."""
    player.play(3)
    player.clock.now = 1000.165
    player.play(3)
    assert player.gaps == {}


def test_silence_between_two_sentences_is_a_pause(player: Player) -> None:
    player.play(4, "one")
    player.clock.advance(3)
    player.play(4, "two")
    assert player.gaps == {"pauses": 1}


def test_a_frame_that_a_busy_server_sends_late(player: Player) -> None:
    late = iter((0.4,))
    player.alarm.while_waiting = lambda seconds: player.clock.advance(next(late, 0.0)) and None
    player.play(9)
    assert player.gaps == {"server": 1}


def test_a_frame_that_the_network_takes_slowly(player: Player) -> None:
    log, clock = player.sender.log, player.clock

    def slow_at_the_fourth() -> float:
        if len(log) == 3:
            clock.advance(0.4)
        return clock()

    player.sender.clock = slow_at_the_fourth
    player.play(9)
    assert player.gaps == {"slow": 1}


def test_the_lead_is_asked_for_at_each_turn() -> None:
    leads = iter((3, 6))
    player = Player(fake_time=True, lead=lambda: next(leads))
    for turn in (1, 2):
        player.outbox.open_turn(turn)
        player.outbox.frames(turn, packets(9, str(turn)))
        player.run()
        player.clock.now = 1010.0

    times = [at for at, _ in player.sent()]
    assert times[:9] == [0, 0, 0, 60, 120, 180, 240, 300, 360]
    assert [at - 10_000 for at in times[9:]] == [0, 0, 0, 30, 60, 90, 120, 150, 180]
