"""Acoustic echo cancelling: what a loudspeaker plays (far end) is taken out of what the microphone beside it hears, and
it is said how much of that the loudspeaker does not explain (near end).

    microphone ─► linear filter ─► residual ─► suppressor by bands ─► sound
                     ▲                             │
    loudspeaker ─► delay ─► power in each band ────┴─► share that is unexplained

- The delay is where microphone and loudspeaker correlate best, from 0 to `MAX_DELAY_MS`. It is looked for until it is
  found, and again when the residual correlates with what was played: then it has changed. Where the echo comes at
  another time than the filter expects (10 ms earlier to 100 later), the filter is moved and keeps what it knows.
- The filter is a partitioned-block frequency-domain Kalman filter, 240 ms long: F. Kuech, E. Mabande, G. Enzner,
  "State-space architecture of the partitioned-block-based acoustic echo controller", ICASSP 2014. It adapts the less,
  the more it cannot explain, so a voice does not drive it away.
- A codec lies between microphone and server. Its noise follows the echo, some 10 dB below it, and no linear filter can
  take it out; a longer one (420 ms) gained nothing. So the usual residual of each band is learnt, and only what is well
  above it is let through. A voice lies in other bands and at other times than the echo, and passes nearly whole.

Why not a library: AEC3 (the package pywebrtc-audio) gives only what is behind its own suppressor, which cuts the first
half second out of a voice that is as loud as the echo: docs/performance.md."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from xiaozhi.audio.pcm import power

Samples = npt.NDArray[np.float32]
Spectra = npt.NDArray[np.complex64]

SAMPLE_RATE: Final = 16_000
"""Hz, of everything here."""
MAX_DELAY_MS: Final = 800
"""The longest delay of an echo behind its reference."""
LOUD: Final = 55.0**2
"""Power of a packet in which somebody may be heard: -55 dBFS."""
_BLOCK: Final = 320
_SIZE: Final = 2 * _BLOCK
_PARTITIONS: Final = 12
_LONGEST: Final = MAX_DELAY_MS * SAMPLE_RATE // 1_000
_COMPARED: Final = 1_920
"""Samples that are compared to find the delay: 120 ms."""
HISTORY: Final = _LONGEST + (_PARTITIONS + 3) * _BLOCK
"""Samples of the loudspeaker that are wanted from before the microphone's."""
_TRANSITION: Final = np.float32(0.999**2)
"""Of the state: how well the response stays as it is from block to block, squared."""
_INITIAL_VARIANCE: Final = 0.1
"""Variance of a filter that knows nothing."""
FOUND: Final = 0.5
"""From this correlation on, the microphone hears the loudspeaker."""
_LOST: Final = 0.45
"""The same for the residual: the filter has lost the echo."""
_AGREE: Final = 80
"""Samples by which two findings of the delay may differ."""
_LOOKED_AT: Final = 1_120
"""The last samples in which it is looked whether the echo has moved: 70 ms."""
_EARLIER, _LATER = 160, 1_600
"""By how many samples it is looked for before and after where it is expected."""
_WELL: Final = 0.3
"""Share of the power that may be left before it is asked whether the echo has moved."""
_BETTER: Final = 1.1
"""How much more like the moved echo than like the expected one the sound must be."""
_LEARNING: Final = 25
"""Blocks with an echo after which its residual is known: half a second."""
_MARGIN: Final = 4.0
"""Over the usual residual, above which something is let through: 6 dB."""
_STEP_DB: Final = 0.25
"""By which the usual residual is corrected with each block: up to 12 dB a second."""
_FADE: Final = 0.7
"""Of the power of an echo, what is left a block later by reverberation."""
_PLAYS: Final = 1e-3
"""Power of a band in which something is played."""
_NOISE_UP: Final = 1.02
"""By which the noise is taken to rise with each block: 4 dB a second."""
_TINY: Final = np.float32(1e-9)


def _bands() -> npt.NDArray[np.int64]:
    """Which of 24 bands, equally wide to the ear from 100 to 7,000 Hz, each bin is in; -1: none."""
    mel = 2_595 * np.log10(1 + np.arange(_BLOCK + 1) * SAMPLE_RATE / _SIZE / 700)
    low, high = 2_595 * np.log10(1 + np.array([100, 7_000]) / 700)
    band = np.floor((mel - low) / (high - low) * 24).astype(np.int64)
    band[(band < 0) | (band > 23)] = -1
    # The lowest are narrower than a bin: those without one are left out.
    _, numbers = np.unique(band, return_inverse=True)
    return numbers.astype(np.int64) - 1


_BAND: Final = _bands()
_SUMS: Final = np.stack([(band == _BAND) / np.sum(band == _BAND) for band in range(_BAND.max() + 1)]).astype(np.float32)
_WINDOW: Final = np.sin(np.pi * np.arange(_SIZE) / _SIZE).astype(np.float32)


class Cleaned(NamedTuple):
    """What the microphone hears without the loudspeaker."""

    suppressed: bytes
    """s16le mono, 20 ms late: next to nothing is left of the echo, and less of a voice. Silence while the echo is not
    known."""
    filtered: bytes
    """The same before the suppressor: a voice is whole, and something is left of the echo."""
    unexplained: float | None
    """Share of its power that the echo does not explain: 0..1. None: nothing is known of the echo."""


class Correlation(NamedTuple):
    """Of a sound with the part of what was played that it resembles most."""

    peak: float
    """The highest normalised cross-correlation: 0..1."""
    lag: int
    """By how many samples that part lies before the end."""


def correlate(played: Samples, *sounds: Samples) -> list[Correlation]:
    """Of each of `sounds`, all of the same length; `played` ends where they end and reaches further back. What is below
    some hundred Hz counts less: all voices correlate there. Costs 1 ms for two of 0.1 s in a second."""
    near, far = np.diff(np.stack(sounds)), np.diff(played)
    spare = len(far) - near.shape[1]
    size = 1 << (len(far) - 1).bit_length()
    products = np.fft.irfft(np.fft.rfft(far, size) * np.fft.rfft(near, size).conj(), size)[:, : spare + 1]
    sums = np.concatenate(([0.0], np.cumsum(far.astype(np.float64) ** 2)))
    powers = sums[near.shape[1] :] - sums[: spare + 1]
    # Parts of next to no power would be like anything.
    powers += powers.max() / 100 + 1e-9
    normalised = np.abs(products) / np.sqrt(powers * ((near**2).sum(axis=1) + 1e-9)[:, None])
    best = normalised.argmax(axis=1)
    return [Correlation(float(row[at]), spare - int(at)) for row, at in zip(normalised, best, strict=True)]


class _Filter:
    """How the loudspeaker's sound comes to the microphone: 240 ms of it, in partitions of a block."""

    def __init__(self) -> None:
        shape = (_PARTITIONS, _BLOCK + 1)
        self._weights: Spectra = np.zeros(shape, np.complex64)
        self._variance: Samples = np.full(shape, _INITIAL_VARIANCE, np.float32)
        self._played: Spectra = np.zeros(shape, np.complex64)
        self._powers: Samples = np.zeros(shape, np.float32)
        self._error_psd: Samples = np.ones(_BLOCK + 1, np.float32)
        self._error: Samples = np.zeros(_SIZE, np.float32)
        self._constrained = 0

    def played_before(self, blocks: list[Samples]) -> None:
        """What was played before the next block, the latest first; each with the block before it."""
        for number, block in enumerate(blocks):
            self._played[number] = np.fft.rfft(block)
        self._powers = self._played.real**2 + self._played.imag**2

    def take_out(self, near: Samples, far: Samples) -> Samples:
        """The microphone's block without the echo. `far`: the loudspeaker's, with the block before it."""
        played, powers, weights, variance = self._played, self._powers, self._weights, self._variance
        played[1:] = played[:-1].copy()
        powers[1:] = powers[:-1].copy()
        played[0] = np.fft.rfft(far)
        powers[0] = played[0].real ** 2 + played[0].imag ** 2
        echo = np.fft.irfft((played * weights).sum(axis=0), _SIZE)[_BLOCK:]
        left: Samples = near - echo.astype(np.float32)
        self._error[_BLOCK:] = left
        error = np.fft.rfft(self._error)
        self._error_psd += 0.3 * (error.real**2 + error.imag**2 - self._error_psd)
        gain = variance / (0.5 * (variance * powers).sum(axis=0) + self._error_psd + 1e-6)
        weights += gain * played.conj() * error
        variance *= _TRANSITION * (1 - 0.5 * gain * powers)
        variance += (1 - _TRANSITION) * (weights.real**2 + weights.imag**2)
        # A third of the partitions at a time loses what cyclic convolution puts into their second halves.
        response = np.fft.irfft(weights[self._constrained :: 3], _SIZE)
        response[:, _BLOCK:] = 0
        weights[self._constrained :: 3] = np.fft.rfft(response)
        self._constrained = (self._constrained + 1) % 3
        return left


class _Suppressor:
    """Lets through of each band what is well above the usual residual of the echo in it, and above the noise."""

    def __init__(self) -> None:
        count = len(_SUMS)
        self.learnt = 0
        """Blocks from which the usual residual was learnt."""
        self._residual_db: Samples = np.full(count, 20.0, np.float32)
        """The usual residual over what is played."""
        self._far: Samples = np.zeros(count, np.float32)
        self._noise: Samples = np.ones(count, np.float32)
        self.restart()

    def restart(self) -> None:
        """The microphone's sound does not go on where it ended."""
        self._before: Samples = np.zeros(_BLOCK, np.float32)
        self._rest: Samples = np.zeros(_BLOCK, np.float32)

    def suppress(self, left: Samples, far: Samples) -> tuple[Samples, Samples, float]:
        """(the block before with and without suppression, share of this one's power that is let through)."""
        self._far = np.maximum(_powers(np.fft.rfft(far * _WINDOW)), self._far * np.float32(_FADE))
        before, self._before = self._before, left
        spectrum = np.fft.rfft(np.concatenate((before, left)) * _WINDOW)
        powers = _powers(spectrum)
        self._noise = np.minimum(powers, self._noise * np.float32(_NOISE_UP) + _TINY)
        self._learn(powers)
        expected = _MARGIN * (10 ** (self._residual_db / 10) * self._far + self._noise)
        share = np.maximum(0, 1 - expected / (powers + _TINY))
        sound = np.fft.irfft(spectrum * np.append(share, 0)[_BAND], _SIZE).astype(np.float32) * _WINDOW
        passed, self._rest = self._rest + sound[:_BLOCK], sound[_BLOCK:]
        return passed, before, float((share * powers).sum() / (powers.sum() + _TINY))

    def _learn(self, powers: Samples) -> None:
        plays = self._far > _PLAYS
        off = 10 * np.log10((powers + _TINY) / (self._far + _TINY)) - self._residual_db
        if self.learnt >= _LEARNING:
            self._residual_db += np.where(plays, np.sign(off) * _STEP_DB, 0).astype(np.float32)
        elif plays.mean() > 0.3:
            self.learnt += 1
            self._residual_db += np.where(plays, off / min(self.learnt, 10), 0).astype(np.float32)


def _powers(spectrum: Any) -> Samples:
    powers: Samples = _SUMS @ (spectrum.real**2 + spectrum.imag**2)
    return powers


class EchoRemover:
    """One microphone with one loudspeaker. One thread at a time."""

    HELD_BYTES: Final = 150_000
    """What one holds, measured."""

    def __init__(self) -> None:
        self.delay: int | None = None
        """Of the echo behind what is played, samples; None while it is not known."""
        self.correlation = 0.0
        """Of the last loud piece with what was played, while the delay is not known: 0..1."""
        self._filter = _Filter()
        self._suppressor = _Suppressor()
        self._found: deque[int] = deque(maxlen=2)
        self.restart()

    def restart(self) -> None:
        """The microphone's sound does not go on where it ended. What was learnt of the room holds."""
        self._near: Samples = np.zeros(_COMPARED, np.float32)
        self._left: Samples = np.zeros(_COMPARED, np.float32)
        self._echo: Samples = np.zeros(_LOOKED_AT + _LATER, np.float32)
        self._moved = 0
        self._waiting: Samples = np.zeros(0, np.float32)
        self._ready: Samples = np.zeros((2, 0), np.float32)
        self._suppressor.restart()
        self._goes_on = False

    def take_out(self, microphone: bytes, loudspeaker: bytes) -> Cleaned:
        """The microphone's sound without the echo. Both are s16le mono at 16 kHz. `loudspeaker` ends where `microphone`
        ends and is `HISTORY` samples longer. Pieces of any length follow each other, unless `restart` says that they
        do not. Raises ValueError for lengths that do not belong together."""
        near = np.frombuffer(microphone, "<i2").astype(np.float32) / np.float32(32_768)
        far = np.frombuffer(loudspeaker, "<i2").astype(np.float32) / np.float32(32_768)
        if len(far) != len(near) + HISTORY:
            raise ValueError(f"{len(near)} samples of the microphone and {len(far)} of the loudspeaker")
        loud = power(microphone) > LOUD
        self._near = _shifted(self._near, near)
        if self.delay is None:
            self._look_for(far, loud)
        if self.delay is None:
            self._left = _shifted(self._left, near)
            return _nothing(len(near))
        (suppressed, filtered), share = self._taken_out(near, far, self.delay)
        moves = loud and self._follow(self.delay)
        if self._suppressor.learnt < _LEARNING:
            return _nothing(len(near))
        audible = float(np.dot(suppressed, suppressed)) > float(np.dot(near, near)) / 100
        if loud and audible and self._is_lost(far, self.delay):
            return _nothing(len(near))
        if moves:
            return Cleaned(bytes(len(microphone)), bytes(len(microphone)), 0.0)
        return Cleaned(_pcm(suppressed), _pcm(filtered), share if loud else 0.0)

    def _look_for(self, far: Samples, loud: bool) -> None:
        self.correlation = 0.0
        if loud:
            (found,) = correlate(far[-_LONGEST - _COMPARED :], self._near)
            self.correlation = found.peak
            if found.peak > FOUND:
                self._believe(found.lag)

    def _is_lost(self, far: Samples, delay: int) -> bool:
        """Whether the microphone hears what was played at another time than was thought, or what is left of it is still
        like it."""
        heard, left = correlate(far[-_LONGEST - _COMPARED :], self._near, self._left)
        if heard.peak > FOUND and abs(heard.lag - delay) > _AGREE:
            self._believe(heard.lag)
            return True
        return left.peak > _LOST

    def _follow(self, delay: int) -> bool:
        """Whether the echo comes at another time than the filter expects. Each answer begins some samples earlier or
        later than the one before, as the network pleases and the device's clock runs. What the filter knows of the room
        holds: two findings that agree move it."""
        moved, self._moved = self._moved, 0
        left = self._left[-_LOOKED_AT:]
        near = left + self._echo[-_LOOKED_AT:]
        if float(np.dot(left, left)) < _WELL * float(np.dot(near, near)):
            return False
        stays, moves = self._echo[-_LOOKED_AT:], self._echo
        sound = near[: _LOOKED_AT - _EARLIER]
        (found,) = correlate(moves, sound)
        (expected,) = correlate(stays[: _LOOKED_AT - _EARLIER], sound)
        if found.peak < FOUND or found.peak < _BETTER * expected.peak or delay + found.lag < _EARLIER:
            return False
        self._moved = found.lag - _EARLIER
        if moved and abs(self._moved - moved) <= 2:
            self.delay = delay + self._moved
            self._moved = 0
            self._goes_on = False
            self._echo = np.zeros_like(self._echo)
        return True

    def _believe(self, delay: int) -> None:
        """Two findings that agree are the delay."""
        self._found.append(delay)
        if len(self._found) == 2 and abs(self._found[0] - self._found[1]) < _AGREE:
            self._found.clear()
            self.delay = delay
            self._goes_on = False

    def _taken_out(self, near: Samples, far: Samples, delay: int) -> tuple[Samples, float]:
        """(suppressed and filtered sound, share of power that is unexplained)."""
        waiting = np.concatenate((self._waiting, near))
        count = len(waiting) // _BLOCK
        # The filter begins a block before the echo, as far as that has been sent.
        at = len(far) - len(waiting) - delay + min(_BLOCK, delay)
        if not self._goes_on:
            self._goes_on = True
            befores = [at - _BLOCK * number for number in range(_PARTITIONS)]
            self._filter.played_before([far[before - _SIZE : before] for before in befores])
        sounds, shares = [self._ready], []
        for number in range(count):
            block = far[at + (number - 1) * _BLOCK : at + (number + 1) * _BLOCK]
            heard = waiting[number * _BLOCK : (number + 1) * _BLOCK]
            left = self._filter.take_out(heard, block)
            self._left = _shifted(self._left, left)
            self._echo = _shifted(self._echo, heard - left)
            *both, share = self._suppressor.suppress(left, block)
            sounds.append(np.stack(both))
            shares.append(share)
        self._waiting = waiting[count * _BLOCK :]
        ready = np.concatenate(sounds, axis=1)
        missing = max(0, len(near) - ready.shape[1])
        ready = np.pad(ready, ((0, 0), (missing, 0)))
        taken_out, self._ready = ready[:, : len(near)], ready[:, len(near) :]
        return taken_out, float(np.mean(shares)) if shares else 0.0


def _nothing(count: int) -> Cleaned:
    return Cleaned(bytes(2 * count), bytes(2 * count), None)


def _pcm(sound: Samples) -> bytes:
    return (np.clip(sound, -1, 1) * 32_767).astype("<i2").tobytes()


def _shifted(kept: Samples, new: Samples) -> Samples:
    return np.concatenate((kept, new))[-len(kept) :]
