"""Echo cancelling: where the microphone's sound lies among what was sent, and what becomes of it. Time is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.sound import tone
from xiaozhi.audio.opus import Encoder
from xiaozhi.audio.pcm import power
from xiaozhi.errors import Overloaded, VendorTimeout
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.session.listening.decoder import Packet, Sound
from xiaozhi.session.listening.echo import (
    GUESSED_WITHIN_MS,
    KEPT_MS,
    LEAD_MS,
    SEARCH_MS,
    TAIL_MS,
    TOLD_WITHIN_MS,
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


class SometimesBusy:
    """A pool that refuses while it has an `error`."""

    def __init__(self, pool: InferencePool) -> None:
        self.error: Exception | None = None
        self._pool = pool

    def run(self, *args: Any, **options: Any) -> Any:
        if self.error is not None:
            raise self.error
        return self._pool.run(*args, **options)


def canceller(pool: Any, clock: FakeClock) -> LoudspeakerEcho:
    return LoudspeakerEcho(pool, frame_ms=60, audio_format="pcm", sample_rate=16_000, clock=clock)


def speech(frames: int, seed: int = 3) -> np.ndarray:
    """Noise, most of it below 1 kHz, that comes and goes as speech does."""
    noise = np.random.default_rng(seed).standard_normal(frames * FRAME) * 5_000
    sound = np.convolve(noise, np.ones(8) / 8, "same")
    return sound * (np.sin(np.arange(len(sound)) / 3_000) > -0.3)


def late(sound: np.ndarray, ms: int) -> np.ndarray:
    return np.concatenate([np.zeros(ms * MS), sound])[: len(sound)]


class Room:
    """A device that plays and listens, frame by frame; notes what is left of it and whether it is somebody. `fast_ppm`:
    its clock against the server's."""

    def __init__(self, echo: LoudspeakerEcho, clock: FakeClock) -> None:
        self.echo = echo
        self.clock = clock
        self.fast_ppm = 0.0
        self.left: list[float] = []
        self.words: list[float] = []
        self.somebody: list[bool] = []

    def hears(self, microphone: np.ndarray, played: np.ndarray | None = None, told: Any = lambda number: None) -> None:
        for number in range(len(microphone) // FRAME):
            here = slice(number * FRAME, (number + 1) * FRAME)
            if played is not None:
                self.echo.sent(played[here].astype("<i2").tobytes(), (number + 1) * 60)
            self.clock.advance(0.06 / (1 + self.fast_ppm / 1e6))
            packet = Packet(b"x", self.clock(), told(number))
            sound = self.echo.cancel(microphone[here].astype("<i2").tobytes(), packet)
            self.left.append(power(sound.for_detector))
            self.words.append(power(sound.for_recogniser))
            self.somebody.append(self.echo.somebody)


@pytest.fixture
def room(pool: InferencePool) -> Room:
    clock = FakeClock()
    return Room(canceller(pool, clock), clock)


ECHO_POWER = 0.36 * 5_000**2 / 8


def test_the_devices_own_voice_goes_and_silence_around_it_passes(room: Room) -> None:
    voice = speech(60)

    room.hears(0.6 * late(voice, 100), voice)

    assert max(room.left[-10:]) < ECHO_POWER / 50
    assert not any(room.somebody)
    room.clock.advance(TAIL_MS / 1_000 + 0.5)
    question = tone(60)
    assert room.echo.cancel(question, Packet(b"x", room.clock())) == Sound(question, question), "nothing plays"
    assert room.echo.somebody


def test_somebody_is_noticed_over_it_within_five_packets_and_forgotten_soon(room: Room) -> None:
    voice, words = speech(110), np.zeros(110 * FRAME)
    words[70 * FRAME : 85 * FRAME] = speech(15, seed=8)

    room.hears(0.6 * late(voice, 100) + 0.6 * words, voice)

    assert not any(room.somebody[:70])
    assert room.somebody.index(True) < 75
    assert not any(room.somebody[95:])


def test_the_recogniser_is_given_the_whole_voice_as_soon_as_there_may_be_one(room: Room) -> None:
    voice, words = speech(110), np.zeros(110 * FRAME)
    words[70 * FRAME : 85 * FRAME] = speech(15, seed=8)

    room.hears(0.6 * late(voice, 100) + 0.6 * words, voice)

    assert max(room.words[60:70]) < ECHO_POWER / 50, "of the device alone no word is left"
    assert sum(room.words[72:85]) > 1.05 * sum(room.left[72:85])


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("fast_ppm", [100.0, -100.0])
def test_a_clock_that_is_off_is_followed(room: Room, fast_ppm: float, told: bool) -> None:
    """Five minutes between two answers: 30 ms."""
    room.fast_ppm = fast_ppm
    voice, words = speech(60), np.zeros(60 * FRAME)
    words[30 * FRAME :] = 0.6 * speech(30, seed=8)
    name = (lambda number: 60 * (number + 1)) if told else (lambda number: 0)
    room.hears(0.6 * late(voice, 100), voice, told=name)
    room.hears(np.zeros(5_000 * FRAME))
    room.left.clear()
    room.somebody.clear()

    room.hears(0.6 * late(voice, 100) + words, voice, told=name)

    assert not any(room.somebody[:30])
    assert max(room.left[:30]) < ECHO_POWER / 15
    assert room.somebody[30:].index(True) < 6


@pytest.mark.parametrize("stalled_frames", [10, 25])
def test_a_stall_of_the_network_is_nobody(room: Room, stalled_frames: int) -> None:
    """What the microphone heard comes in one burst, without timestamps."""
    voice = speech(120)
    echo = 0.6 * late(voice, 100)
    room.hears(echo[: 60 * FRAME], voice[: 60 * FRAME])
    for number in range(60, 60 + stalled_frames):
        room.echo.sent(voice[number * FRAME : (number + 1) * FRAME].astype("<i2").tobytes(), 60 * (number + 1))
        room.clock.advance(0.06)
    for number in range(60, 60 + stalled_frames):
        pcm = echo[number * FRAME : (number + 1) * FRAME].astype("<i2").tobytes()
        room.echo.cancel(pcm, Packet(b"x", room.clock()))
        room.somebody.append(room.echo.somebody)

    rest = slice((60 + stalled_frames) * FRAME, None)
    room.hears(echo[rest], voice[rest])

    assert not any(room.somebody)
    assert max(room.left[-10:]) < ECHO_POWER / 20


def test_somebody_who_speaks_from_the_first_moment_on_is_heard_before_long(room: Room) -> None:
    voice = speech(90)

    room.hears(0.3 * late(voice, 100) + 0.6 * speech(90, seed=8), voice)

    assert True in room.somebody[: SEARCH_MS // 60 + 10]


def test_a_packet_that_was_not_cancelled_in_time_is_a_gap(pool: InferencePool) -> None:
    clock, sometimes = FakeClock(), SometimesBusy(pool)
    room = Room(canceller(sometimes, clock), clock)
    voice = speech(90)
    echo = 0.6 * late(voice, 100)
    room.hears(echo[: 60 * FRAME], voice[: 60 * FRAME])

    sometimes.error = Overloaded("pool")
    room.hears(echo[60 * FRAME : 61 * FRAME], voice[60 * FRAME : 61 * FRAME])
    sometimes.error = None
    room.hears(echo[61 * FRAME :], voice[61 * FRAME :])

    assert room.left[60] == 0
    assert max(room.left[61:]) < ECHO_POWER / 20
    assert not any(room.somebody)


def test_sound_that_was_lost_and_made_up_is_nobody(room: Room) -> None:
    voice = speech(60)
    room.hears(0.6 * late(voice, 100), voice)
    for number in range(5):
        room.echo.sent(pcm_frame(1), number)
        room.clock.advance(0.06)
        made_up = speech(1, seed=20 + number).astype("<i2").tobytes()
        room.echo.cancel(made_up, Packet(b"", room.clock()))

    assert not room.echo.somebody


def test_a_new_canceller_lets_nobody_be_heard_until_it_has_found_the_echo(room: Room) -> None:
    voice = speech(60)

    room.hears(0.6 * late(voice, 100), voice)

    first = next(number for number, left in enumerate(room.left) if left)
    assert first >= 5
    room.echo.forget()
    room.left.clear()
    room.hears(0.6 * late(voice, 100), voice)
    assert not any(room.left[:5]), "the microphone was closed: it begins anew"


def test_a_device_without_an_echo_is_heard_after_it_was_looked_for(room: Room) -> None:
    """It has a headset, or takes the echo out itself."""
    frames = SEARCH_MS // 60

    room.hears(speech(frames + 10, seed=9), speech(frames + 10))

    assert not any(room.somebody[: frames - 1])
    assert room.somebody[-1] and room.left[-1] > 0


def test_after_an_answer_the_room_is_known_in_the_next(room: Room) -> None:
    voice = speech(60)
    room.hears(0.6 * late(voice, 100), voice)
    room.hears(np.zeros(30 * FRAME))
    words = 0.6 * speech(30, seed=8)
    words[: 4 * FRAME] = 0
    room.left.clear()
    room.somebody.clear()

    room.hears(0.6 * late(speech(30), 100) + words, speech(30))

    assert 4 <= room.somebody.index(True) < 10, "no second half is lost to learning"


def test_an_echo_that_the_canceller_has_lost_is_not_heard(room: Room) -> None:
    """The delay becomes 200 ms shorter in the middle of an answer: what is left of the echo is like what was played."""
    voice = speech(120)
    both = np.concatenate([late(voice, 240)[: 60 * FRAME], late(voice, 40)[60 * FRAME :]])

    room.hears(0.6 * both, voice)

    assert not any(room.somebody)
    assert max(room.left[55:60]) < ECHO_POWER / 50, "it was cancelled before"
    assert max(room.left[80:]) < ECHO_POWER / 50


def test_a_timestamp_that_is_said_again_says_nothing(room: Room) -> None:
    """Firmware says each once; a device that repeats the last would else seem to go back."""
    voice = speech(60)

    room.hears(0.6 * late(voice, 100), voice, told=lambda number: 60 * min(number, 20))

    assert max(room.left[-10:]) < ECHO_POWER / 50


def test_memory_is_held_only_while_it_is_needed(room: Room) -> None:
    room.hears(speech(5))
    assert room.echo.held_bytes == 0, "nothing was played"

    voice = speech(10)
    room.hears(0.6 * voice, voice)
    assert room.echo.held_bytes > 150_000

    room.echo.forget()
    assert room.echo.held_bytes == 0


def test_nothing_is_made_before_something_was_played() -> None:
    clock = FakeClock()
    echo = canceller(None, clock)
    clock.advance(0.06)

    assert echo.cancel(tone(60), Packet(b"", clock())) == Sound(tone(60), tone(60))


@pytest.mark.parametrize("error", [Overloaded("pool"), VendorTimeout("inference", "late")])
def test_what_cannot_be_cancelled_is_not_heard(error: Exception) -> None:
    clock = FakeClock()
    echo = canceller(BusyPool(error), clock)
    echo.sent(pcm_frame(500), 60)
    clock.advance(0.06)

    assert echo.cancel(pcm_frame(300), Packet(b"", clock(), 60)) == Sound(bytes(2 * FRAME), bytes(2 * FRAME))
