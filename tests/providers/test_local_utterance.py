"""Sound goes to a model of this machine in order and whole, whatever the pool is busy with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from tests.waiting import take_turns, wait_for
from xiaozhi.errors import VendorError, VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.asr import Transcript
from xiaozhi.providers.families.local_utterance import MAX_BEHIND_S, STEP_MS, Hearing, LocalUtterance, readable
from xiaozhi.runtime.inference import InferencePool

STEP = bytes(STEP_MS * 32)


class Ears(Hearing):
    """Notes what it is given; waits in its thread while `held`."""

    def __init__(self) -> None:
        self.given: list[bytes] = []
        self.held = False
        self.fails: Exception | None = None

    def hear(self, pcm: bytes) -> str:
        """The number of bytes so far, as text."""
        while self.held:
            _native_sleep(0.001)
        if self.fails is not None:
            raise self.fails
        self.given.append(pcm)
        return str(sum(map(len, self.given)))

    def end(self, pcm: bytes) -> Transcript:
        """The same, at the end."""
        return Transcript(self.hear(pcm) + ".")


def _native_sleep(seconds: float) -> None:
    gevent.monkey.get_original("time", "sleep")(seconds)  # sleep: a model that computes in its thread


@pytest.fixture
def pool() -> Iterator[InferencePool]:
    """With two threads, of which one is kept for quick work."""
    found = InferencePool(workers=2, queue_size=1)
    yield found
    found.close()


@pytest.fixture
def ears() -> Ears:
    """Not held."""
    return Ears()


def utterance(ears: Ears, pool: InferencePool, timeout: float = 5.0) -> LocalUtterance:
    """One at a model called "here"."""
    return LocalUtterance(ears, pool, vendor="here", timeout=timeout)


def test_partial_text_comes_while_sound_is_fed(ears: Ears, pool: InferencePool) -> None:
    stream = utterance(ears, pool)
    stream.feed(STEP[:100])
    take_turns()
    assert ears.given == [] and stream.partial == "", "too little to be worth a call"

    stream.feed(STEP)

    wait_for(lambda: stream.partial == str(len(STEP) + 100))
    assert stream.finish() == Transcript(f"{len(STEP) + 100}.")


def test_what_comes_while_a_call_runs_goes_with_the_next_in_order(ears: Ears, pool: InferencePool) -> None:
    ears.held = True
    stream = utterance(ears, pool)
    sounds = [bytes([number]) * len(STEP) for number in range(5)]
    for sound in sounds:
        stream.feed(sound)
        take_turns()
    ears.held = False

    stream.finish()

    assert b"".join(ears.given) == b"".join(sounds)
    assert ears.given[0] == sounds[0] and len(ears.given) <= 3


def test_a_full_pool_loses_no_sound(ears: Ears, pool: InferencePool) -> None:
    busy = Ears()
    busy.held = True
    others = [gevent.spawn(pool.run, busy.hear, b"x", kind="asr", deadline=10) for _ in range(2)]
    wait_for(lambda: pool.queued == 1)
    stream = utterance(ears, pool)
    stream.feed(b"\1" * len(STEP))
    stream.feed(b"\2" * len(STEP))
    take_turns()
    assert ears.given == []

    busy.held = False
    gevent.joinall(others, timeout=10)
    stream.feed(b"\3" * len(STEP))

    stream.finish()
    assert b"".join(ears.given) == b"\1" * len(STEP) + b"\2" * len(STEP) + b"\3" * len(STEP)


def test_half_a_sample_waits_for_its_other_half(ears: Ears, pool: InferencePool) -> None:
    stream = utterance(ears, pool)
    stream.feed(STEP + b"\1")
    wait_for(lambda: ears.given)
    stream.feed(b"\2" + STEP)

    stream.finish()

    assert b"".join(ears.given) == STEP + b"\1\2" + STEP
    assert all(len(piece) % 2 == 0 for piece in ears.given)


def test_a_close_while_the_model_computes_ends_it_and_wakes_who_waits(ears: Ears, pool: InferencePool) -> None:
    ears.held = True
    stream = utterance(ears, pool)
    stream.feed(STEP)
    waiting = gevent.spawn(_error_of, stream.finish)
    take_turns()

    stream.close()

    assert isinstance(waiting.get(timeout=5), VendorUnavailable)
    ears.held = False
    wait_for(lambda: not pool.active)
    assert stream.partial == ""
    with pytest.raises(VendorUnavailable):
        stream.feed(STEP)


def _error_of(function: Any) -> Exception:
    try:
        return RuntimeError(repr(function()))
    except VendorError as error:
        return error


def test_a_library_that_fails_is_told_at_the_next_feed_and_at_the_end(ears: Ears, pool: InferencePool) -> None:
    ears.fails = RuntimeError("no tensor")
    stream = utterance(ears, pool)
    stream.feed(STEP)
    wait_for(lambda: not pool.active)
    take_turns()

    for use in (lambda: stream.feed(STEP), stream.finish):
        with pytest.raises(VendorUnavailable, match="its library failed: no tensor"):
            use()


def test_a_library_that_fails_at_the_end(ears: Ears, pool: InferencePool) -> None:
    stream = utterance(ears, pool)
    stream.feed(STEP[:10])
    ears.fails = ValueError("no text")

    with pytest.raises(VendorUnavailable, match="no text"):
        stream.finish()


def test_a_model_that_does_not_come_to_an_end(ears: Ears, pool: InferencePool) -> None:
    ears.held = True
    stream = utterance(ears, pool, timeout=0.05)
    stream.feed(STEP)

    with pytest.raises(VendorTimeout, match=r"no text within 0\.05 s"):
        stream.finish()

    ears.held = False
    wait_for(lambda: not pool.active)


def test_a_machine_that_is_hopelessly_behind_gives_up(ears: Ears, pool: InferencePool) -> None:
    ears.held = True
    stream = utterance(ears, pool)
    stream.feed(STEP)
    with pytest.raises(VendorUnavailable, match=f"{MAX_BEHIND_S} s behind"):
        stream.feed(bytes((MAX_BEHIND_S + 1) * 32_000))
    ears.held = False
    wait_for(lambda: not pool.active)


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("你 好 世界", "你好世界"),
        (" turn on the light ", "turn on the light"),
        ("打开 wifi 开关", "打开 wifi 开关"),
        ("HELLO 你好", "hello 你好"),
        ("Ich bin da", "Ich bin da"),
        ("こん にちは", "こんにちは"),
        ("", ""),
    ],
)
def test_words_are_written_as_people_write_them(said: str, written: str) -> None:
    assert readable(said) == written
