from __future__ import annotations

from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent.event import Event
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.errors import VendorTimeout, VendorUnavailable
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.speaking.speech_cache import SpeechCache, SpeechKey


def key(text: str = "hello", voice: str = "v", frame_ms: int = 60) -> SpeechKey:
    return SpeechKey(voice, "opus", 24_000, frame_ms, text)


@pytest.fixture
def tasks() -> Iterator[Tasks]:
    """A group that is gone after the test."""
    group = Tasks()
    yield group
    group.kill()


class Maker:
    """A synthesis that takes until it is told to go on."""

    def __init__(self, result: tuple[bytes, ...] | Exception) -> None:
        self.result = result
        self.calls = 0
        self.may_go_on = Event()

    def __call__(self) -> Iterator[bytes]:
        self.calls += 1
        self.may_go_on.wait()
        if isinstance(self.result, Exception):
            raise self.result
        yield from self.result


def outcome(action: Callable[[], object]) -> object:
    try:
        return action()
    except Exception as error:  # noqa: BLE001  what a caller gets is the subject
        return type(error)


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
    assert cache.get_or_make(key(), lambda: [b"a"], deadline=1) == (b"a",)
    assert len(cache) == 0


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2_000), st.integers(0, 5)), max_size=60))
def test_the_bound_is_kept_whatever_is_put(puts: list[tuple[int, int, int]]) -> None:
    cache = SpeechCache(20_000)
    for text, size, count in puts:
        kept = cache.put(key(str(text)), [bytes(size)] * count)
        assert cache.size_bytes <= 20_000
        assert kept is (cache.get(key(str(text))) == (bytes(size),) * count and count > 0) or not kept


def test_one_synthesis_per_key_and_everybody_gets_it(tasks: Tasks) -> None:
    cache, make = SpeechCache(1 << 20), Maker((b"a", b"b"))
    askers = [tasks.spawn("ask", cache.get_or_make, key(), make, deadline=5) for _ in range(20)]
    other = tasks.spawn("ask", cache.get_or_make, key("other"), lambda: [b"c"], deadline=5)
    other.join(timeout=5)
    assert other.value == (b"c",), "another text does not wait"
    make.may_go_on.set()
    gevent.joinall(askers, timeout=5)
    assert [asker.value for asker in askers] == [(b"a", b"b")] * 20
    assert make.calls == 1
    assert cache.get_or_make(key(), make, deadline=5) == (b"a", b"b")
    assert make.calls == 1


def test_a_failure_is_shared_and_not_kept(tasks: Tasks) -> None:
    cache, make = SpeechCache(1 << 20), Maker(VendorUnavailable("tts"))
    askers = [tasks.spawn("ask", outcome, lambda: cache.get_or_make(key(), make, deadline=5)) for _ in range(5)]
    gevent.sleep(0)
    make.may_go_on.set()
    gevent.joinall(askers, timeout=5)
    assert [asker.value for asker in askers] == [VendorUnavailable] * 5
    assert make.calls == 1
    assert cache.get_or_make(key(), lambda: [b"now it works"], deadline=5) == (b"now it works",)


def test_when_the_maker_is_killed_another_takes_over(tasks: Tasks) -> None:
    cache, make = SpeechCache(1 << 20), Maker((b"a",))
    askers = [tasks.spawn("ask", cache.get_or_make, key(), make, deadline=5) for _ in range(4)]
    gevent.sleep(0)
    assert make.calls == 1
    askers[0].kill()
    make.may_go_on.set()
    gevent.joinall(askers[1:], timeout=5)
    assert [asker.value for asker in askers[1:]] == [(b"a",)] * 3
    assert make.calls == 2


def test_waiting_for_another_has_a_deadline(tasks: Tasks) -> None:
    cache, make = SpeechCache(1 << 20), Maker((b"a",))
    tasks.spawn("ask", cache.get_or_make, key(), make, deadline=5)
    gevent.sleep(0)
    with pytest.raises(VendorTimeout):
        cache.get_or_make(key(), make, deadline=0.01)
    assert make.calls == 1
    make.may_go_on.set()


def test_the_sound_is_made_anew_when_it_was_too_large_to_keep() -> None:
    cache, big = SpeechCache(1_000), (bytes(500),)
    assert cache.get_or_make(key(), lambda: big, deadline=1) == big
    assert cache.get_or_make(key(), lambda: big, deadline=1) == big
    assert len(cache) == 0
