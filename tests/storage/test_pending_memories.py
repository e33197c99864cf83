"""Visits that are not saved yet: taken by one worker, renewed, put back, never changed by who lost the lease."""

from __future__ import annotations

from typing import Any

from gevent import joinall
from sqlalchemy import select

from tests.databases import opened
from xiaozhi.runtime import tasks
from xiaozhi.storage import pending_memories
from xiaozhi.storage.database import Database
from xiaozhi.storage.pending_memories import PendingVisit
from xiaozhi.storage.tables import pending_memory


def visit(id: str, created_at: float = 100.0) -> PendingVisit:
    """A visit with texts that are hard to keep."""
    said = (("user", "a\x00b \ud83d \u2028 \r '"), ("assistant", "ho"))
    return PendingVisit(id, f"device-{id}", "s", said, created_at)


def accept(database: Database, *ids: str, owner: str = "", until: float = 0.0) -> None:
    """Rows of `owner`, or due at once."""
    mine = [visit(id) for id in ids] if owner else []
    others = [] if owner else [(visit(id), until) for id in ids]
    database.run(lambda connection: pending_memories.accept(connection, mine, owner, until, others))


def claim(database: Database, owner: str, now: float, limit: int = 10, kept_since: float = 0.0) -> list[str]:
    """Take for ten seconds."""
    visits, _ = database.run(
        lambda connection: pending_memories.claim(
            connection, owner, now, now + 10.0, limit=limit, kept_since=kept_since
        )
    )
    return [visit.id for visit in visits]


def rows(database: Database) -> dict[str, tuple[Any, ...]]:
    """id -> (owner, due_at, attempts)."""
    columns = pending_memory.c
    found = select(columns.id, columns.owner, columns.due_at, columns.attempts)
    return {row.id: (row.owner, row.due_at, row.attempts) for row in database.read(lambda c: c.execute(found).all())}


def test_what_is_kept_comes_back_as_it_was(database: Database) -> None:
    accept(database, "a")
    visits, given_up = database.run(
        lambda connection: pending_memories.claim(connection, "me", 1.0, 11.0, limit=5, kept_since=0.0)
    )
    assert visits == [visit("a")] and given_up == 0


def test_one_worker_has_a_visit_until_its_lease_ends(database: Database) -> None:
    accept(database, "a", owner="one", until=10.0)
    assert claim(database, "two", 9.0) == []
    database.run(lambda connection: pending_memories.tend(connection, "one", ["a"], 20.0, []))
    assert claim(database, "two", 19.0) == []
    assert claim(database, "two", 20.0) == ["a"]

    database.run(lambda connection: pending_memories.remove(connection, "one", ["a"]))
    database.run(lambda connection: pending_memories.put_back(connection, "one", "a", 5, 0.0))
    database.run(lambda connection: pending_memories.tend(connection, "one", ["a"], 1_000.0, ["a"]))
    assert rows(database) == {"a": ("two", 30.0, 0)}


def test_the_oldest_come_first_and_no_more_than_asked_for(database: Database) -> None:
    others = [(visit(str(age), created_at=float(age)), 0.0) for age in (3, 1, 2)]
    database.run(lambda connection: pending_memories.accept(connection, (), "", 0.0, others))
    assert claim(database, "me", 1.0, limit=2) == ["1", "2"]
    assert claim(database, "me", 1.0, limit=2) == ["3"]


def test_put_back_is_due_later_and_let_go_at_once(database: Database) -> None:
    accept(database, "a", "b", "c", owner="one", until=10.0)
    database.run(lambda connection: pending_memories.put_back(connection, "one", "a", 1, 500.0))
    database.run(lambda connection: pending_memories.let_go(connection, "one", [visit("new")], ["c"], 5.0))
    assert rows(database) == {"a": ("", 500.0, 1), "b": ("", 5.0, 0), "new": ("", 5.0, 0)}
    assert database.read(lambda connection: pending_memories.any_due(connection, 4.0)) is False
    assert database.read(lambda connection: pending_memories.any_due(connection, 5.0)) is True


def test_too_old_visits_are_given_up(database: Database) -> None:
    database.run(
        lambda connection: pending_memories.accept(
            connection, (), "", 0.0, [(visit("old", 10.0), 0.0), (visit("young", 20.0), 0.0)]
        )
    )
    assert claim(database, "me", 1.0, kept_since=15.0) == ["young"]
    assert set(rows(database)) == {"young"}


def test_two_workers_at_once_share(url: str) -> None:
    with opened(url) as one, opened(url) as two:
        ids = [f"{number:03}" for number in range(60)]
        accept(one, *ids)
        taken: dict[str, list[str]] = {"one": [], "two": []}

        def take(name: str, database: Database) -> None:
            while found := claim(database, name, 1.0, limit=5):
                taken[name] += found

        joinall([tasks.spawn("test", take, "one", one), tasks.spawn("test", take, "two", two)], raise_error=True)
        assert sorted(taken["one"] + taken["two"]) == ids
