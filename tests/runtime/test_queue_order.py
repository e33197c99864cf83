"""A short job never waits for two long ones, a long one not for ever, and without estimates all leave as they came."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.runtime.queue_order import MOST_OVERTAKEN, JobQueue

SHORT, LONG = 0.2, 2.0


def waiting(*jobs: tuple[str, float]) -> JobQueue[str]:
    """These, in this order."""
    queue: JobQueue[str] = JobQueue()
    for name, cost in jobs:
        queue.add(name, cost)
    return queue


def start_next(queue: JobQueue[str]) -> str:
    """As the pool does it; the cost is in the name."""
    name = queue.take()
    queue.began(LONG if name.startswith("long") else SHORT)
    return name


def test_jobs_without_estimates_leave_as_they_came() -> None:
    queue = waiting(("a", 0), ("b", 0), ("c", 0))

    assert [queue.take() for _ in range(3)] == ["a", "b", "c"]
    with pytest.raises(IndexError):
        queue.take()


def test_a_short_job_goes_past_long_ones() -> None:
    queue = waiting(("long1", LONG), ("long2", LONG), ("short", SHORT))

    assert [start_next(queue) for _ in range(3)] == ["short", "long1", "long2"]


def test_a_long_job_is_overtaken_a_few_times_only() -> None:
    queue = waiting(("long", LONG))
    order = []
    for place in range(10):
        queue.add(f"short{place}", SHORT)
        order.append(start_next(queue))

    assert order.index("long") == MOST_OVERTAKEN


def test_a_short_job_that_waited_for_a_long_one_does_not_wait_for_the_next() -> None:
    queue: JobQueue[str] = waiting(("long1", LONG), ("long2", LONG))
    for place in range(MOST_OVERTAKEN):
        queue.add(f"short{place}", SHORT)
        start_next(queue)
    assert start_next(queue) == "long1", "both have waited long enough"
    queue.add("late", SHORT)

    assert [start_next(queue) for _ in range(2)] == ["late", "long2"]


def test_one_that_left_is_not_there_any_more() -> None:
    queue = waiting(("a", 1), ("b", 1))
    queue.remove("a")

    assert "a" not in queue and "b" in queue and len(queue) == 1
    with pytest.raises(ValueError, match="does not wait"):
        queue.remove("a")


@given(st.lists(st.sampled_from(["short", "long", "next"]), max_size=60))
def test_whatever_comes_nobody_waits_for_two_long_ones(events: list[str]) -> None:
    queue: JobQueue[str] = JobQueue()
    seen: dict[str, int] = {}
    running = ""
    for count, event in enumerate([*events, *["next"] * 60]):
        if event == "next":
            if not len(queue):
                running = ""
                continue
            running = start_next(queue)
            seen.pop(running, None)
            if running.startswith("long"):
                seen = {name: waited + 1 for name, waited in seen.items()}
            assert all(waited <= 1 for waited in seen.values()), seen
        else:
            name = f"{event}{count}"
            queue.add(name, LONG if event == "long" else SHORT)
            if event == "short":
                seen[name] = int(running.startswith("long"))
    assert not len(queue)
