"""When everything is looked at by the garbage collector."""

from __future__ import annotations

from tests.fakes.clock import FakeClock
from xiaozhi.runtime.collection import GROWTH_BYTES, LOOK_S, REST_S, GrowthCollector

MB = 1 << 20


class Memory:
    """A process of `held` bytes; a collection gives `garbage` back."""

    def __init__(self, held: int) -> None:
        self.held = held
        self.garbage = 0
        self.collections = 0
        self.reads = 0

    def read(self) -> int:
        self.reads += 1
        return self.held

    def collect(self) -> int:
        self.collections += 1
        self.held -= self.garbage
        self.garbage = 0
        return 1

    def grow(self, size: int, *, garbage: bool = False) -> None:
        self.held += size
        self.garbage += size if garbage else 0


def collector(memory: Memory, clock: FakeClock) -> GrowthCollector:
    made = GrowthCollector(resident=memory.read, collect=memory.collect, clock=clock)
    made.check(clock())
    return made


def test_a_process_that_stays_as_it_is_is_never_collected_and_seldom_looked_at() -> None:
    clock, memory = FakeClock(), Memory(200 * MB)
    made = collector(memory, clock)
    for _ in range(4000):
        made.check(clock.advance(0.25))

    assert memory.collections == 0
    assert memory.reads <= 1000 / LOOK_S + 2


def test_garbage_never_becomes_more_than_the_step() -> None:
    clock, memory = FakeClock(), Memory(200 * MB)
    made = collector(memory, clock)
    most = 0
    for _ in range(100):
        memory.grow(8 * MB, garbage=True)
        made.check(clock.advance(LOOK_S))
        most = max(most, memory.held)

    assert 5 <= memory.collections <= 20
    assert most <= 200 * MB + GROWTH_BYTES + 8 * MB


def test_growth_that_is_in_use_is_looked_at_once_per_step() -> None:
    clock, memory = FakeClock(), Memory(100 * MB)
    made = collector(memory, clock)
    for _ in range(900):
        memory.grow(MB)
        made.check(clock.advance(LOOK_S))

    # 64 MB at first, a quarter of it all later.
    assert memory.collections == 8


def test_it_rests_between_two_collections() -> None:
    clock, memory = FakeClock(), Memory(100 * MB)
    made = collector(memory, clock)
    for _ in range(60):
        memory.grow(1000 * MB)
        made.check(clock.advance(LOOK_S))

    assert memory.collections <= 60 * LOOK_S / REST_S + 1


def test_what_was_given_back_counts_again_when_it_is_taken_again() -> None:
    clock, memory = FakeClock(), Memory(500 * MB)
    made = collector(memory, clock)
    memory.held = 100 * MB
    made.check(clock.advance(LOOK_S))
    memory.grow(GROWTH_BYTES, garbage=True)

    assert made.check(clock.advance(LOOK_S))
