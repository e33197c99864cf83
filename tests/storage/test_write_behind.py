"""Write-behind: gathered, written together, kept while the database fails, bounded."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from gevent.event import Event
from sqlalchemy import Connection

from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import Overloaded, StorageError, StorageUnavailable
from xiaozhi.storage.write_behind import WriteBehind

Batch = Mapping[str, int]


class FakeDatabase:
    """Runs work in the caller. `fails`: with what calls fail, in order; `hold` keeps them until it is set."""

    def __init__(self) -> None:
        self.fails: list[Exception | None] = []
        self.hold: Event | None = None
        self.calls = 0

    def run(self, work: Callable[[Any], Any], *, deadline: float) -> Any:
        """See Database."""
        self.calls += 1
        if self.hold is not None:
            self.hold.wait(PATIENCE_S)
        error = self.fails.pop(0) if self.fails else None
        if error is not None:
            raise error
        return work(None)


class Kept:
    """A write-behind of counts, and the batches that reached the database."""

    def __init__(self, **options: Any) -> None:
        self.database = FakeDatabase()
        self.batches: list[dict[str, int]] = []
        self.told: list[tuple[Batch, object]] = []
        self.counts: WriteBehind[str, int] = WriteBehind(
            "test",
            self.database,  # type: ignore[arg-type]
            self._write,
            merge=operator.add,
            on_written=lambda batch, result: self.told.append((batch, result)),
            gather=0.001,
            **options,
        )

    def _write(self, connection: Connection, batch: Batch) -> str:
        self.batches.append(dict(batch))
        return "result"


@pytest.fixture
def kept() -> Iterator[Kept]:
    """Closed in the end."""
    made = Kept()
    yield made
    made.counts.close(1)


def test_values_of_a_key_are_joined_and_written_together(kept: Kept) -> None:
    for key, value in (("a", 1), ("b", 2), ("a", 10)):
        assert kept.counts.put(key, value)
    assert (kept.counts.unwritten("a", 0), kept.counts.unwritten("c", 0), len(kept.counts)) == (11, 0, 2)
    assert kept.counts.flush()
    assert kept.batches == [{"a": 11, "b": 2}]
    assert kept.told == [({"a": 11, "b": 2}, "result")]
    assert (kept.counts.unwritten("a", 0), len(kept.counts)) == (0, 0)
    assert kept.counts.flush()
    assert kept.database.calls == 1, "nothing to write, nothing asked"


def test_the_lasting_greenlet_writes_by_itself(kept: Kept) -> None:
    kept.counts.start()
    kept.counts.put("a", 1)
    wait_for(lambda: kept.batches == [{"a": 1}], "the first batch")
    kept.counts.put("a", 2)
    wait_for(lambda: kept.batches == [{"a": 1}, {"a": 2}], "the second batch")


@pytest.mark.parametrize("error", [StorageUnavailable("down"), Overloaded("storage")])
def test_a_batch_that_failed_is_kept_and_tried_again(kept: Kept, error: Exception) -> None:
    kept.database.fails = [error, error]
    kept.counts.put("a", 1)
    assert not kept.counts.flush()
    kept.counts.put("a", 2)
    assert kept.counts.unwritten("a", 0) == 3
    kept.counts.start()
    wait_for(lambda: bool(kept.batches), "a try that works")
    assert kept.batches == [{"a": 3}] and kept.database.calls == 3


def test_what_comes_while_a_batch_is_written_waits_for_the_next(kept: Kept) -> None:
    kept.database.hold = Event()
    kept.counts.start()
    kept.counts.put("a", 1)
    wait_for(lambda: kept.database.calls == 1, "the writing")
    kept.counts.put("a", 2)
    kept.counts.put("b", 5)
    assert (kept.counts.unwritten("a", 0), kept.counts.unwritten("b", 0)) == (3, 5)
    kept.database.fails = [StorageUnavailable("down")]
    kept.database.hold.set()
    wait_for(lambda: bool(kept.batches), "a try that works")
    assert kept.batches == [{"a": 3, "b": 5}]


def test_a_batch_that_is_refused_does_not_block_those_behind_it(kept: Kept) -> None:
    kept.database.fails = [StorageError("constraint")]
    kept.counts.put("bad", 1)
    assert kept.counts.flush()
    assert kept.counts.dropped == 1
    kept.counts.put("good", 1)
    assert kept.counts.flush()
    assert kept.batches == [{"good": 1}]


def test_the_bound_counts_keys_and_drops_new_ones() -> None:
    kept = Kept(capacity=2)
    assert [kept.counts.put(key, 1) for key in ("a", "b", "c", "a")] == [True, True, False, True]
    assert kept.counts.dropped == 1
    kept.counts.flush()
    assert kept.counts.put("c", 1)
    assert kept.counts.close(1) == 0, "though nobody had started it"
    assert kept.batches == [{"a": 2, "b": 1}, {"c": 1}]


def test_the_end_writes_what_is_left_and_tells_what_is_lost(kept: Kept) -> None:
    kept.counts.start()
    kept.counts.put("a", 1)
    assert kept.counts.close(5) == 0
    assert kept.batches == [{"a": 1}]

    broken = Kept()
    broken.database.fails = [StorageUnavailable("down")] * 5
    broken.counts.start()
    broken.counts.put("a", 1)
    assert broken.counts.close(5) == 1


def test_a_writer_that_a_bug_has_ended_can_be_started_again(kept: Kept) -> None:
    kept.database.fails = [KeyError("a bug")]
    kept.counts.start()
    kept.counts.put("a", 1)
    wait_for(lambda: kept.database.calls == 1, "the bug")

    def written() -> bool:
        kept.counts.start()
        return kept.batches == [{"a": 1}]

    wait_for(written, "the next writer")
