"""Echo cancelling: where the microphone's sound lies among what was sent, and what becomes of it. Time is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.sound import tone
from xiaozhi.audio.echo import likeness
from xiaozhi.audio.opus import Encoder
from xiaozhi.audio.pcm import power
from xiaozhi.errors import Overloaded, VendorTimeout
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.session.listening.decoder import Packet
from xiaozhi.session.listening.echo import (
    DOUBT_MS,
    GUESSED_WITHIN_MS,
    KEPT_MS,
    LEAD_MS,
    TAIL_MS,
    TOLD_WITHIN_MS,
    WARM_UP_MS,
    Alignment,
    LoudspeakerEcho,
    PlayedSound,
)

MS = 16
FRAME = 960
LEAD = LEAD_MS * MS


# --- what the device plays --------------------------------------------------------------------------------------------


def pcm_frame(value: int) -> bytes:
    return np.full(FRAME, value, "<i2").tobytes()


def played(*frames: tuple[int, int, int]) -> PlayedSound:
    """(value of every sample, timestamp, position at which it was sent)."""
    sound = PlayedSound(60, "pcm", 16_000)
    for value, timestamp, at in frames:
        sound.add(pcm_frame(value), timestamp, at)
    return sound


def values(sound: bytes) -> set[int]:
    return set(np.frombuffer(sound, "<i2").tolist())


IN_HAND = 10 * MS
"""What PCM is late by."""


def test_frames_sent_ahead_are_played_one_after_the_other() -> None:
    sound = played((1, 60, 1_000), (2, 120, 1_000), (3, 180, 1_000))

    assert sound.end == 1_000 + 3 * FRAME
    assert [sound.end_of(timestamp) for timestamp in (60, 120, 180)] == [1_000 + n * FRAME for n in (1, 2, 3)]
    assert values(sound.read(1_000 + FRAME + IN_HAND, FRAME)) == {2}
    assert values(sound.read(1_000 + 2 * FRAME, FRAME)) == {2, 3}


def test_where_nothing_was_sent_it_is_silent() -> None:
    sound = played((1, 60, 1_000), (2, 120, 10_000))

    assert values(sound.read(0, 1_000)) == {0}
    assert values(sound.read(1_000 + FRAME, 5_000)) == {0}
    assert values(sound.read(9_000, FRAME * 3)) == {0, 1, 2}, "a resampler's rest comes with the next packet"
    assert len(sound.read(50_000, 333)) == 666


def test_timestamps_begin_anew_with_every_turn_and_the_last_turn_counts() -> None:
    sound = played((1, 60, 0), (2, 120, 0), (3, 180, 0), (9, 60, 20_000))

    assert sound.end_of(60) == 20_000 + FRAME
    assert sound.end_of(180) == 3 * FRAME, "the new turn has not come so far: it is the old one's"
    assert sound.end_of(240) is None


def test_timestamps_wrap_at_32_bits() -> None:
    sound = played((1, 2**32 - 60, 0), (2, 2**32, 0), (3, 2**32 + 60, 0))

    assert sound.end_of(2**32 - 60) == FRAME
    assert sound.end_of(60) == 3 * FRAME


def test_only_some_seconds_are_kept() -> None:
    sound = played(*((1 + n % 7, 60 * (n + 1), 0) for n in range(1_000)))

    frames = KEPT_MS // 60
    assert sound.end_of(60 * (1_000 - frames)) is None
    assert sound.end_of(60 * (1_001 - frames)) is not None
    assert values(sound.read(0, (1_000 - frames) * FRAME)) == {0}
    assert 0 not in values(sound.read(sound.end - 2 * FRAME, FRAME))


def test_opus_is_decoded_and_a_corrupt_packet_is_silence() -> None:
    sound = PlayedSound(60)
    for number, packet in enumerate(Encoder(24_000, 60).encode(tone(300, 24_000))):
        sound.add(packet if number != 2 else b"\xff\xff", 60 * (number + 1), 0)

    assert max(values(sound.read(FRAME, FRAME))) > 1_000
    assert values(sound.read(2 * FRAME, FRAME)) == {0}


# --- alignment --------------------------------------------------------------------------------------------------------


def test_without_timestamps_the_least_delayed_packet_counts() -> None:
    alignment = Alignment()

    late = (0, 5, 200, 140, 80, 20, 0, 3)
    places = [alignment.place(FRAME, (n + 1) * FRAME + ms * MS) for n, ms in enumerate(late)]

    assert places == [n * FRAME for n in range(len(late))]
    assert alignment.jumps == 0


def test_without_timestamps_a_lost_packet_moves_it_once() -> None:
    alignment = Alignment()
    arrivals = [(n + 1) * FRAME for n in range(60) if n != 20]

    places = [alignment.place(FRAME, arrived) for arrived in arrivals]

    assert places[-1] == 59 * FRAME
    assert alignment.jumps == 1


def test_a_timestamp_says_what_was_played_and_the_reference_is_ahead_of_it() -> None:
    alignment = Alignment()

    assert alignment.place(FRAME, 50_000, told=30_000) == 30_000 + LEAD - FRAME
    assert alignment.place(FRAME, 50_000 + FRAME, told=30_000 + FRAME) == 30_000 + LEAD


@pytest.mark.parametrize(("off_ms", "jumps"), [(TOLD_WITHIN_MS, 0), (TOLD_WITHIN_MS + 1, 1), (-TOLD_WITHIN_MS - 1, 1)])
def test_timestamps_move_it_only_by_more_than_their_step(off_ms: int, jumps: int) -> None:
    alignment = Alignment()
    alignment.place(FRAME, 50_000, told=30_000)

    place = alignment.place(FRAME, 50_000 + FRAME, told=30_000 + FRAME + off_ms * MS)

    assert alignment.jumps == jumps
    assert place == 30_000 + LEAD + (off_ms * MS if jumps else 0)


def test_what_was_told_holds_while_nothing_is_told() -> None:
    alignment = Alignment()
    alignment.place(FRAME, 50_000, told=30_000)

    places = [alignment.place(FRAME, 50_000 + n * FRAME) for n in range(1, 100)]

    assert places[-1] == 30_000 + LEAD + 98 * FRAME
    assert alignment.jumps == 0


def test_a_microphone_that_was_closed_begins_anew() -> None:
    alignment = Alignment()
    alignment.place(FRAME, 50_000, told=30_000)

    assert alignment.place(FRAME, 200_000) == 200_000 - FRAME
    assert alignment.place(FRAME, 200_000 + FRAME + GUESSED_WITHIN_MS * MS) == 200_000


# --- both together ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool() -> Iterator[InferencePool]:
    pool = InferencePool(workers=1)
    pool.start()
    yield pool
    pool.close()


class BusyPool:
    """Refuses, or takes too long."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def run(self, *args: Any, **options: Any) -> bytes:
        raise self.error


def canceller(pool: Any, clock: FakeClock) -> LoudspeakerEcho:
    return LoudspeakerEcho(pool, frame_ms=60, audio_format="pcm", sample_rate=16_000, clock=clock)


def test_the_devices_own_voice_goes_and_silence_around_it_passes(pool: InferencePool) -> None:
    clock = FakeClock()
    echo = canceller(pool, clock)
    voice = np.random.default_rng(3).standard_normal(50 * FRAME) * 2_000
    room = np.concatenate([np.zeros(100 * MS), 0.6 * voice])
    left = []
    for number in range(50):
        echo.sent(voice[number * FRAME : (number + 1) * FRAME].astype("<i2").tobytes(), (number + 1) * 60)
        clock.advance(0.06)
        pcm = room[number * FRAME : (number + 1) * FRAME].astype("<i2").tobytes()
        left.append(np.frombuffer(echo.cancel(pcm, Packet(b"", clock())), "<i2").astype(float))

    assert np.mean(np.concatenate(left[-10:]) ** 2) < 0.36 * 2_000**2 / 100, "20 dB at least"

    clock.advance(TAIL_MS / 1_000 + 0.5)
    question = tone(60)
    assert echo.cancel(question, Packet(b"", clock())) == question, "nothing plays"


def test_a_new_canceller_lets_nobody_be_heard_until_it_has_learnt(pool: InferencePool) -> None:
    clock = FakeClock()
    echo = canceller(pool, clock)
    heard = []
    for number in range(DOUBT_MS // 60 + 5):
        echo.sent(tone(60, amplitude=3_000), (number + 1) * 60)
        clock.advance(0.06)
        heard.append(any(echo.cancel(tone(60, hz=900), Packet(b"", clock()))))

    assert WARM_UP_MS // 60 <= heard.index(True) <= DOUBT_MS // 60
    echo.forget()
    echo.sent(tone(60), 60)
    clock.advance(0.06)
    assert not any(echo.cancel(tone(60), Packet(b"", clock()))), "the microphone was closed: it begins anew"


def test_a_timestamp_that_is_said_again_says_nothing(pool: InferencePool) -> None:
    """Firmware says each once; a device that repeats the last would else seem to go back."""
    clock = FakeClock()
    echo = canceller(pool, clock)
    voice = np.random.default_rng(3).standard_normal(60 * FRAME) * 2_000
    room = np.concatenate([np.zeros(100 * MS), 0.6 * voice])
    left = []
    for number in range(60):
        echo.sent(voice[number * FRAME : (number + 1) * FRAME].astype("<i2").tobytes(), (number + 1) * 60)
        clock.advance(0.06)
        pcm = room[number * FRAME : (number + 1) * FRAME].astype("<i2").tobytes()
        told = 60 * min(number, 20)
        left.append(np.frombuffer(echo.cancel(pcm, Packet(b"", clock(), told)), "<i2").astype(float))

    assert np.mean(np.concatenate(left[-10:]) ** 2) < 0.36 * 2_000**2 / 100


def test_nothing_is_made_before_something_was_played() -> None:
    clock = FakeClock()
    echo = canceller(None, clock)
    clock.advance(0.06)

    assert echo.cancel(tone(60), Packet(b"", clock())) == tone(60)


@pytest.mark.parametrize("error", [Overloaded("pool"), VendorTimeout("inference", "late")])
def test_what_cannot_be_cancelled_is_not_heard(error: Exception) -> None:
    clock = FakeClock()
    echo = canceller(BusyPool(error), clock)
    echo.sent(pcm_frame(500), 60)
    clock.advance(0.06)

    assert echo.cancel(pcm_frame(300), Packet(b"", clock(), 60)) == bytes(2 * FRAME)


def test_an_echo_that_the_canceller_has_lost_is_not_heard(pool: InferencePool) -> None:
    """The delay becomes 200 ms shorter in the middle of an answer: what is left of the echo is like what was played."""
    clock = FakeClock()
    echo = canceller(pool, clock)
    voice = np.random.default_rng(3).standard_normal(120 * FRAME) * 2_000
    late, early = (np.concatenate([np.zeros(delay * MS), 0.6 * voice]) for delay in (240, 40))
    left = []
    for number in range(120):
        echo.sent(voice[number * FRAME : (number + 1) * FRAME].astype("<i2").tobytes(), (number + 1) * 60)
        clock.advance(0.06)
        room = late if number < 60 else early
        pcm = room[number * FRAME : (number + 1) * FRAME].astype("<i2").tobytes()
        left.append(power(echo.cancel(pcm, Packet(b"", clock()))))

    assert max(left[55:60]) < 0.36 * 2_000**2 / 100, "it was cancelled before"
    assert max(left[62:]) < 0.36 * 2_000**2 / 50


class LeavesSome:
    """A pool that leaves `share` (an amplitude) of what the microphone hears, and finds it unlike what was played."""

    def __init__(self) -> None:
        self.share = 0.0

    def run(self, function: Any, sound: bytes, played: bytes, **options: Any) -> Any:
        if function is likeness:
            return 0.0
        return (np.frombuffer(sound, "<i2") * self.share).astype("<i2").tobytes()


def test_a_faint_rest_of_the_echo_is_not_heard_and_a_voice_is() -> None:
    clock, pool = FakeClock(), LeavesSome()
    echo = canceller(pool, clock)
    number = 0

    def hears(share: float, amplitude: int = 5_000) -> bool:
        nonlocal number
        number += 1
        echo.sent(tone(60, amplitude=3_000), number * 60)
        clock.advance(0.06)
        pool.share = share
        return any(echo.cancel(tone(60, hz=900, amplitude=amplitude), Packet(b"", clock())))

    for _ in range(DOUBT_MS // 60 + 1):
        hears(0.05)

    assert not hears(0.12), "18 dB less than what the microphone hears"
    assert hears(0.16), "16 dB less: somebody far away"
    assert not hears(1.0, amplitude=500), "the room still rings"
    heard = [hears(1.0, amplitude=500) for _ in range(1_000 // 60)]
    assert heard == sorted(heard), "once it has faded"
    assert heard[-1], "what is as faint for a second is no echo"
