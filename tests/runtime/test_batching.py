"""Batches across greenlets: company, order, isolation of failures, deadlines that lose nothing, bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import FakeClock
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import Overloaded
from xiaozhi.runtime.batching import Batcher, BatcherClosed
from xiaozhi.runtime.inference import InferenceClosed, InferencePool

Deliver = Callable[[Any, Exception | None], None]


class ScriptedPool:
    """Takes jobs like `InferencePool.submit`; they end when the test says so, delivered from the hub as the contract
    demands."""

    def __init__(self) -> None:
        self.jobs: list[tuple[list[Any], Deliver, Callable[..., Any]]] = []
        self.full = False

    def submit(
        self,
        function: Callable[..., Any],
        items: list[Any],
        *,
        kind: str,
        deliver: Callable[[Any, Exception | None], None],
    ) -> None:
        if self.full:
            raise Overloaded("inference pool")
        self.jobs.append((list(items), deliver, function))

    def finish(self) -> list[Any]:
        """End the oldest job; its items."""
        items, deliver, function = self.jobs.pop(0)

        def work() -> None:
            try:
                value = function(items)
            except Exception as error:  # noqa: BLE001  what a caller gets is the subject
                deliver(None, error)
            else:
                deliver(value, None)

        gevent.get_hub().loop.run_callback(work)
        turn()
        return items


def turn(times: int = 5) -> None:
    """Some turns of the event loop."""
    for _ in range(times):
        gevent.sleep(0)


def double(items: list[int]) -> list[int]:
    return [item * 2 for item in items]


def batcher(pool: Any, function: Any = double, **options: Any) -> Batcher[Any, Any]:
    return Batcher(function, pool, kind="vad", **{"deadline": PATIENCE_S, **options})


@pytest.fixture
def real_pool() -> Iterator[InferencePool]:
    made = InferencePool(workers=2)
    made.start()
    yield made
    assert made.close()


def test_alone_it_starts_at_once() -> None:
    pool = ScriptedPool()
    batches = batcher(pool, max_wait_ms=500)
    ticket = batches.submit(21)
    turn()
    assert [items for items, _, _ in pool.jobs] == [[21]], "an item without company must not wait for any"
    pool.finish()
    assert batches.wait(ticket) == 42


def test_an_eager_one_starts_before_others_have_their_say() -> None:
    pool = ScriptedPool()
    batches = batcher(pool, eager=True, max_batch=2, max_wait_ms=0)
    tickets = [batches.submit(n) for n in range(4)]
    assert [items for items, _, _ in pool.jobs] == [[0]]
    assert [pool.finish(), pool.finish(), pool.finish()] == [[0], [1, 2], [3]]
    assert [batches.wait(ticket) for ticket in tickets] == [0, 2, 4, 6]


def test_one_turn_of_the_loop_is_one_batch() -> None:
    pool = ScriptedPool()
    batches = batcher(pool, max_wait_ms=0)
    tickets = [batches.submit(n) for n in range(5)]
    turn()
    assert pool.finish() == [0, 1, 2, 3, 4]
    assert [batches.wait(ticket) for ticket in tickets] == [0, 2, 4, 6, 8]
    assert batches.stats.batches == 1 and batches.stats.largest == 5 and batches.stats.mean_size == 5
    assert batches.stats.sizes[2] == 1


def test_while_one_runs_the_next_collects() -> None:
    pool = ScriptedPool()
    batches = batcher(pool, max_wait_ms=0)
    batches.submit(1)
    turn()
    later = [batches.submit(n) for n in (2, 3, 4)]
    turn()
    assert len(pool.jobs) == 1 and batches.waiting == 3
    pool.finish()
    assert pool.finish() == [2, 3, 4]
    assert [batches.wait(ticket) for ticket in later] == [4, 6, 8]


def test_with_company_expected_the_oldest_waits_max_wait_but_no_longer(real_pool: InferencePool) -> None:
    batches = batcher(real_pool, max_wait_ms=300, deadline=PATIENCE_S, clock=FakeClock())
    crowd = [batches.submit(n) for n in range(100)]  # from now on company is likely
    for ticket in crowd:
        batches.wait(ticket)
    before = batches.stats.batches
    first = batches.submit(1)
    turn()
    second = batches.submit(2)
    assert batches.wait(first) == 2 and batches.wait(second) == 4
    assert batches.stats.batches == before + 1, "it waits for company"


def test_full_batch_does_not_wait() -> None:
    pool = ScriptedPool()
    batches = batcher(pool, max_wait_ms=500, max_batch=3)
    batches.submit(0)
    turn()
    for n in range(50):
        batches.submit(n)
    pool.finish()
    while pool.jobs:
        assert 0 < len(pool.finish()) <= 3
    assert batches.stats.items >= 48 and batches.stats.largest == 3


def test_every_greenlet_gets_its_own_result_in_order(real_pool: InferencePool) -> None:
    seen: dict[int, list[int]] = {}

    def worker(number: int) -> None:
        seen[number] = [batches.run(number * 1000 + step) for step in range(20)]

    batches = batcher(real_pool, max_wait_ms=1)
    gevent.joinall([gevent.spawn(worker, number) for number in range(30)], raise_error=True, timeout=PATIENCE_S)
    assert seen == {number: [2 * (number * 1000 + step) for step in range(20)] for number in range(30)}
    assert batches.stats.items == 600 and batches.stats.batches < 600


def test_an_exception_in_place_of_a_result_is_for_that_item_only() -> None:
    pool = ScriptedPool()
    batches = batcher(pool, lambda items: [ValueError("odd") if item % 2 else item for item in items], max_wait_ms=0)
    even, odd = batches.submit(2), batches.submit(3)
    turn()
    pool.finish()
    assert batches.wait(even) == 2
    with pytest.raises(ValueError, match="odd"):
        batches.wait(odd)
    assert batches.stats.failed == 1


def test_a_batch_that_fails_as_a_whole_is_tried_item_by_item() -> None:
    def fussy(items: list[int]) -> list[int]:
        if 13 in items:
            raise RuntimeError("unlucky")
        return items

    pool = ScriptedPool()
    batches = batcher(pool, fussy, max_wait_ms=0)
    tickets = [batches.submit(item) for item in (1, 13, 2)]
    turn()
    pool.finish()
    assert [pool.finish() for _ in range(3)] == [[1], [13], [2]]
    assert batches.wait(tickets[0]) == 1 and batches.wait(tickets[2]) == 2
    with pytest.raises(RuntimeError, match="unlucky"):
        batches.wait(tickets[1])


def test_the_wrong_number_of_results_is_a_failure() -> None:
    pool = ScriptedPool()
    batches = batcher(pool, lambda items: items[1:], max_wait_ms=0)
    ticket = batches.submit(1)
    turn()
    pool.finish()
    with pytest.raises(RuntimeError, match="0 results for 1"):
        batches.wait(ticket)


def test_late_is_overloaded_and_the_result_comes_with_the_next_wait() -> None:
    pool = ScriptedPool()
    batches = batcher(pool, max_wait_ms=0, deadline=0.02)
    running, waiting = batches.submit(1), None
    turn()
    waiting = batches.submit(2)
    for ticket in (running, waiting):
        with pytest.raises(Overloaded):
            batches.wait(ticket)
    assert batches.stats.late == 2
    pool.finish()
    pool.finish()
    assert batches.wait(running) == 2 and batches.wait(waiting) == 4


def test_refused_by_the_pool_waits_and_is_offered_again() -> None:
    pool = ScriptedPool()
    batches = batcher(pool, max_wait_ms=0, deadline=0.05)
    pool.full = True
    ticket = batches.submit(1)
    with pytest.raises(Overloaded):
        batches.wait(ticket)
    pool.full = False
    waiting = gevent.spawn(batches.wait, ticket)
    wait_for(lambda: pool.jobs)
    assert pool.finish() == [1]
    assert waiting.get(timeout=PATIENCE_S) == 2


def test_refused_items_keep_their_order() -> None:
    pool = ScriptedPool()
    batches = batcher(pool, max_wait_ms=0)
    pool.full = True
    for n in range(5):
        batches.submit(n)
    turn()
    pool.full = False
    wait_for(lambda: pool.jobs)
    assert pool.finish() == [0, 1, 2, 3, 4]


def test_a_second_wait_has_the_whole_deadline_again() -> None:
    clock = FakeClock()
    batches = batcher(ScriptedPool(), max_wait_ms=0, deadline=0.02, clock=clock)
    ticket, other = batches.submit(1), batches.submit(2)
    clock.advance(1)
    with pytest.raises(Overloaded):
        batches.wait(ticket)
    second = gevent.spawn(batches.wait, ticket)
    turn()
    with pytest.raises(Overloaded):
        batches.wait(other)  # for the first time; the same look at the clock spared the one before it
    assert not second.ready()
    second.kill()


def test_a_closed_pool_fails_the_batch() -> None:
    pool = InferencePool(workers=1)
    pool.close()
    with pytest.raises(InferenceClosed):
        batcher(pool).run(1)


def test_too_many_waiting_are_refused_at_the_door() -> None:
    batches = batcher(ScriptedPool(), max_waiting=3)
    for n in range(3):
        batches.submit(n)
    with pytest.raises(Overloaded):
        batches.submit(3)
    assert batches.stats.refused == 1


def test_a_killed_waiter_does_not_disturb_the_others() -> None:
    pool = ScriptedPool()
    batches = batcher(pool, max_wait_ms=0)
    killed, other = gevent.spawn(batches.run, 1), gevent.spawn(batches.run, 2)
    turn()
    killed.kill()
    pool.finish()
    assert other.get(timeout=PATIENCE_S) == 4


def test_a_woken_greenlet_may_submit_again_at_once() -> None:
    pool = ScriptedPool()
    batches = batcher(pool, max_wait_ms=0)
    chain = gevent.spawn(lambda: batches.run(batches.run(batches.run(1))))
    for _ in range(3):
        turn()
        pool.finish()
    assert chain.get(timeout=PATIENCE_S) == 8


def test_close_fails_what_waits_and_delivers_what_runs() -> None:
    pool = ScriptedPool()
    batches = batcher(pool, max_wait_ms=0)
    running = batches.submit(1)
    turn()
    waiting = gevent.spawn(batches.run, 2)
    turn()
    batches.close()
    batches.close()
    with pytest.raises(BatcherClosed):
        waiting.get(timeout=PATIENCE_S)
    with pytest.raises(BatcherClosed):
        batches.submit(3)
    pool.finish()
    assert batches.wait(running) == 2


def test_sizes_can_be_observed() -> None:
    pool, sizes = ScriptedPool(), list[int]()
    batches = batcher(pool, max_wait_ms=0)
    batches.observe = sizes.append
    batches.submit(1)
    batches.submit(2)
    turn()
    pool.finish()
    assert sizes == [2]


@given(st.lists(st.sampled_from(["submit", "turn", "finish"]), max_size=60), st.integers(1, 4))
def test_nothing_is_lost_doubled_or_reordered(steps: Sequence[str], max_batch: int) -> None:
    pool, ran = ScriptedPool(), []

    def record(items: list[int]) -> list[int]:
        ran.extend(items)
        return items

    batches = batcher(pool, record, max_wait_ms=0, max_batch=max_batch)
    tickets: list[Any] = []
    for step in steps:
        if step == "submit":
            tickets.append(batches.submit(len(tickets)))
        elif step == "turn":
            turn(1)
        elif pool.jobs:
            pool.finish()
        assert len(pool.jobs) <= 1, "one batch in flight"
    for _ in range(len(tickets) + 1):
        turn()
        if pool.jobs:
            pool.finish()
    assert ran == list(range(len(tickets)))
    assert [batches.wait(ticket) for ticket in tickets] == ran
