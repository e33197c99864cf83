"""The echo remover: that an echo goes, wherever it lies, that a voice stays, and what it says of both."""

from __future__ import annotations

import numpy as np
import pytest

from xiaozhi.audio.echo import HISTORY, MAX_DELAY_MS, Cleaned, EchoRemover, correlate

RATE = 16_000
PACKET = 960
Sound = np.ndarray


def noise(seconds: float, seed: int, loud: float = 2_000) -> Sound:
    """Sound that comes and goes, as speech does."""
    samples = np.random.default_rng(seed).standard_normal(int(seconds * RATE)) * loud
    return samples * (np.sin(np.arange(len(samples)) / 3_000) > -0.3)


def late(sound: Sound, ms: int) -> Sound:
    return np.concatenate([np.zeros(ms * 16), sound])[: len(sound)]


def through(remover: EchoRemover, microphone: Sound, loudspeaker: Sound, piece: int = PACKET) -> list[Cleaned]:
    far = np.concatenate([np.zeros(HISTORY), loudspeaker]).astype("<i2")
    near = microphone.astype("<i2")
    return [
        remover.take_out(near[at : at + piece].tobytes(), far[at : at + piece + HISTORY].tobytes())
        for at in range(0, len(near), piece)
    ]


def sound_of(pieces: list[Cleaned]) -> Sound:
    return np.frombuffer(b"".join(piece.suppressed for piece in pieces), "<i2").astype(float)


def power_of(sound: Sound) -> float:
    return float(np.mean(sound**2))


@pytest.mark.parametrize("delay_ms", [0, 40, 300, MAX_DELAY_MS - 50])
def test_an_echo_goes_and_nothing_is_left_unexplained(delay_ms: int) -> None:
    played, remover = noise(4, 1), EchoRemover()
    echo = 0.5 * late(played, delay_ms)

    pieces = through(remover, echo, played)

    assert remover.delay is not None and abs(remover.delay - delay_ms * 16) <= 2
    assert power_of(sound_of(pieces)[-RATE:]) < power_of(echo[-RATE:]) / 100, "20 dB at least"
    assert sum(piece.unexplained or 0 for piece in pieces[-16:]) < 16 * 0.1


def test_nothing_is_heard_before_the_echo_is_known() -> None:
    played = noise(2, 1)

    pieces = through(EchoRemover(), 0.5 * late(played, 100), played)

    known = [piece.unexplained is not None for piece in pieces]
    assert 3 <= known.index(True) <= 1_500 // 60
    assert not any(sound_of(pieces[: known.index(True)]))


def test_a_voice_over_an_echo_stays_and_is_not_explained_by_it() -> None:
    played, remover = noise(6, 1), EchoRemover()
    voice = np.concatenate([np.zeros(4 * RATE), noise(2, 2, loud=1_000)])
    echo = 0.5 * late(played, 100)

    pieces = through(remover, echo + voice, played)

    left = sound_of(pieces)[-RATE:]
    alike = np.corrcoef(left[320:], voice[-RATE:-320])[0, 1]
    assert alike > 0.7, "the voice, 20 ms late"
    assert sum(piece.unexplained or 0 for piece in pieces[-16:]) > 16 * 0.3
    assert max(piece.unexplained or 0 for piece in pieces[-50:-34]) < 0.1, "before it"


def test_a_voice_stays_where_nothing_is_played() -> None:
    played = np.concatenate([noise(3, 1), np.zeros(2 * RATE)])
    voice = np.concatenate([np.zeros(3 * RATE), noise(2, 2)])

    left = sound_of(through(EchoRemover(), 0.5 * late(played, 40) + voice, played))

    assert power_of(left[-RATE:]) > power_of(voice[-RATE:]) / 2


def test_an_echo_whose_delay_changes_is_not_heard_and_is_found_again() -> None:
    played, remover = noise(8, 1), EchoRemover()
    echo = 0.5 * np.concatenate([late(played, 240)[: 4 * RATE], late(played, 40)[4 * RATE :]])

    pieces = through(remover, echo, played)

    assert remover.delay is not None and abs(remover.delay - 40 * 16) <= 2
    heard = sound_of(pieces[66:])
    assert max(power_of(heard[at : at + PACKET]) for at in range(0, len(heard), PACKET)) < power_of(echo) / 50


@pytest.mark.parametrize("move", [-23, 20, 1_280])
def test_an_answer_that_begins_earlier_or_later_is_taken_out_without_learning_the_room_anew(move: int) -> None:
    room = np.random.default_rng(3).standard_normal(2_400) * np.exp(-np.arange(2_400) / 500)
    room[0] = 6.0
    played, remover = noise(6, 1), EchoRemover()
    played[4 * RATE : 5 * RATE] = 0.0
    echo = 0.05 * np.convolve(late(played, 100), room)[: len(played)]
    echo[int(4.5 * RATE) :] = np.roll(echo, move)[int(4.5 * RATE) :]

    pieces = through(remover, echo, played)

    begins = 5 * RATE + 3_200 + 3 * PACKET
    filtered = np.frombuffer(b"".join(piece.filtered for piece in pieces), "<i2").astype(float)
    assert power_of(filtered[begins : begins + RATE // 4]) < power_of(echo[begins : begins + RATE // 4]) / 10
    assert remover.delay is not None and abs(remover.delay - 1_600 - move) <= 2


def test_an_echo_that_becomes_louder_is_not_heard() -> None:
    played = noise(8, 1)
    echo = 0.3 * late(played, 100) * np.where(np.arange(8 * RATE) < 4 * RATE, 1, 2)

    heard = sound_of(through(EchoRemover(), echo, played)[66:])

    assert max(power_of(heard[at : at + PACKET]) for at in range(0, len(heard), PACKET)) < power_of(echo) / 10


@pytest.mark.parametrize("piece", [320, 640, 1_000, 333])
def test_pieces_of_any_length_keep_their_length(piece: int) -> None:
    played = noise(3, 1)[: 333 * 1_000 // 333 * 48 // piece * piece]
    echo = 0.5 * late(played, 100)

    pieces = through(EchoRemover(), echo, played, piece)

    assert {len(one.suppressed) for one in pieces} == {len(one.filtered) for one in pieces} == {2 * piece}
    assert power_of(sound_of(pieces)[-RATE:]) < power_of(echo[-RATE:]) / 100


def test_after_a_gap_it_knows_the_room() -> None:
    played, remover = noise(4, 1), EchoRemover()
    through(remover, 0.5 * late(played, 100), played)

    remover.restart()
    again = noise(1, 5)
    pieces = through(remover, 0.5 * late(again, 100), again)

    assert all(piece.unexplained is not None for piece in pieces)
    assert power_of(sound_of(pieces)) < power_of(0.5 * again) / 50


def test_lengths_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="loudspeaker"):
        EchoRemover().take_out(bytes(1_920), bytes(960))


def test_an_echo_is_like_what_was_played_wherever_it_lies_and_a_voice_is_not() -> None:
    played = noise(1, 3).astype(np.float32) / 32_768
    other = noise(1, 4)[4_000:7_000].astype(np.float32) / 32_768
    echo = 0.3 * played[4_000:7_000]

    found, voice, both, none = correlate(played, echo, other, echo + 0.3 * other, np.zeros(3_000, np.float32))

    assert found.peak > 0.9 and found.lag == RATE - 7_000
    assert voice.peak < 0.2
    assert 0.5 < both.peak < 0.85
    assert none.peak == 0
    assert correlate(np.zeros(RATE, np.float32), echo)[0].peak == 0
