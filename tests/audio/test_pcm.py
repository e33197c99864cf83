"""PCM arithmetic: loudness, mixing down, and a resampler that does not care how its stream is cut."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.sound import QUIETEST_DBFS, energy_dbfs, silence, tone
from xiaozhi.audio import pcm


def test_energy() -> None:
    assert energy_dbfs(b"") == energy_dbfs(silence(100)) == QUIETEST_DBFS
    assert energy_dbfs(struct.pack("<h", -32768) * 100) == pytest.approx(0, abs=0.01)
    assert energy_dbfs(tone(1000, amplitude=32767)) == pytest.approx(-3.01, abs=0.05)
    assert energy_dbfs(tone(1000, amplitude=3277)) == pytest.approx(-23.0, abs=0.1)
    assert energy_dbfs(b"\1") == QUIETEST_DBFS


def test_to_mono_is_the_mean_of_the_channels() -> None:
    assert pcm.to_mono(struct.pack("<4h", 100, 300, -32768, -32768), 2) == struct.pack("<2h", 200, -32768)
    assert pcm.to_mono(b"abc", 1) == b"abc"
    assert pcm.to_mono(struct.pack("<3h", 1, 3, 9) + b"x", 2) == struct.pack("<h", 2), "an incomplete frame is dropped"
    with pytest.raises(ValueError):
        pcm.to_mono(b"", 0)


@pytest.mark.parametrize(
    "source,target", [(24_000, 16_000), (8_000, 16_000), (44_100, 16_000), (22_050, 24_000), (16_000, 48_000)]
)
def test_resampling_keeps_length_and_sound(source: int, target: int) -> None:
    resampler = pcm.Resampler(source, target)
    out = resampler.feed(tone(1000, source)) + resampler.flush()
    assert len(out) / 2 * 1000 / target == pytest.approx(1000, abs=1)
    middle = out[len(out) // 4 // 2 * 2 : len(out) // 2 // 2 * 2]
    assert energy_dbfs(middle) == pytest.approx(energy_dbfs(tone(1000, source)), abs=0.2)
    zero_crossings = sum(
        a < 0 <= b for (a,), (b,) in zip(struct.iter_unpack("<h", out), struct.iter_unpack("<h", out[2:]), strict=False)
    )
    assert zero_crossings == pytest.approx(440, abs=3)


@given(st.lists(st.integers(1, 3000), max_size=30))
def test_the_cut_of_the_stream_does_not_matter(cuts: list[int]) -> None:
    data = tone(250, 24_000)
    whole = pcm.Resampler(24_000, 16_000)
    expected = whole.feed(data) + whole.flush()
    pieces, resampler = b"", pcm.Resampler(24_000, 16_000)
    at = 0
    for cut in [*cuts, len(data)]:
        pieces += resampler.feed(data[at : at + cut])
        at += cut
    pieces += resampler.flush()
    assert len(pieces) == len(expected)
    pairs = zip(struct.iter_unpack("<h", pieces), struct.iter_unpack("<h", expected), strict=True)
    assert max((abs(a - b) for (a,), (b,) in pairs), default=0) <= 3, "soxr's dither apart"


def test_equal_rates_pass_through_whole_samples() -> None:
    resampler = pcm.Resampler(16_000, 16_000)
    assert resampler.feed(b"abc") == b"ab"
    assert resampler.feed(b"d") == b"cd"
    resampler.feed(b"e")
    resampler.reset()
    assert resampler.feed(b"fg") == b"fg"


def test_flush_begins_a_new_stream() -> None:
    resampler = pcm.Resampler(48_000, 16_000)
    first = resampler.feed(tone(100, 48_000)) + resampler.flush()
    assert resampler.feed(tone(100, 48_000)) + resampler.flush() == first
    assert math.isclose(len(first), 3200, abs_tol=2)


@pytest.mark.parametrize("source,target", [(0, 16_000), (16_000, -1)])
def test_impossible_rates(source: int, target: int) -> None:
    with pytest.raises(ValueError):
        pcm.Resampler(source, target)
