"""Ready speech is found by all that its sound depends on, within a bound in bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.session.speaking.speech_cache import SpeechCache, SpeechKey


def key(text: str = "hello", voice: str = "v", frame_ms: int = 60) -> SpeechKey:
    return SpeechKey(voice, "opus", 24_000, frame_ms, text)


def test_what_was_put_is_found_by_all_that_its_sound_depends_on() -> None:
    cache = SpeechCache(1 << 20)
    assert cache.put(key(), [b"a", b"b"]) is True
    assert cache.get(key()) == (b"a", b"b")
    assert cache.get(key(voice="w")) is None
    assert cache.get(key(frame_ms=20)) is None
    assert cache.get(SpeechKey("v", "pcm", 24_000, 60, "hello")) is None
    assert (cache.hits, cache.misses, len(cache)) == (1, 3, 1)
    cache.clear()
    assert len(cache) == cache.size_bytes == 0


def test_the_least_recently_used_goes_first() -> None:
    cache = SpeechCache(4 * 1_500)
    for text in "abcd":
        assert cache.put(key(text), [bytes(1_000)])
    cache.get(key("a"))
    cache.put(key("e"), [bytes(1_000)])
    assert [cache.get(key(text)) is not None for text in "abcde"] == [True, False, True, True, True]


@pytest.mark.parametrize("frames", [[], [bytes(3_000)]])
def test_nothing_and_too_much_is_not_kept(frames: list[bytes]) -> None:
    cache = SpeechCache(10_000)
    assert cache.put(key(), frames) is False
    assert cache.get(key()) is None


def test_no_memory_means_no_cache() -> None:
    cache = SpeechCache(0)
    assert cache.put(key(), [b"a"]) is False
    assert cache.get(key()) is None
    assert len(cache) == 0


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2_000), st.integers(0, 5)), max_size=60))
def test_the_bound_is_kept_whatever_is_put(puts: list[tuple[int, int, int]]) -> None:
    cache = SpeechCache(20_000)
    for text, size, count in puts:
        kept = cache.put(key(str(text)), [bytes(size)] * count)
        assert cache.size_bytes <= 20_000
        assert kept is (cache.get(key(str(text))) == (bytes(size),) * count and count > 0) or not kept
