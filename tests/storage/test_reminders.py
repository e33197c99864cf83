"""Queries about reminders, on both engines: the bound, claims and their leases, what was changed meanwhile."""

from __future__ import annotations

from dataclasses import replace

from xiaozhi.storage import reminders
from xiaozhi.storage.database import Database
from xiaozhi.storage.reminders import ReminderRow

ANNA = "02:00:00:00:00:0a"


def row(id: str, due_at: float, *, rule: str = "", person: str = ANNA) -> ReminderRow:
    return ReminderRow(
        id=id,
        device=ANNA,
        person=person,
        kind="alarm",
        text="the\x00 bus",
        language="en",
        created_at=0.0,
        due_at=due_at,
        rule=rule,
        start="2026-03-04T07:00:00" if rule else "",
        look_at=due_at,
    )


def claim(database: Database, worker: str, now: float) -> list[str]:
    taken = database.run(
        lambda connection: reminders.claim(connection, worker, now, now + 30, limit=10, kept_since=now - 3600)
    )
    return [each.id for each in taken]


def test_a_device_has_a_bound_and_each_user_his_own(database: Database) -> None:
    added = [
        database.run(lambda connection, one=one: reminders.add(connection, one, 2))  # type: ignore[misc]
        for one in (row("a", 20), row("b", 10, person="guest"), row("c", 30))
    ]

    assert added == [True, True, False]
    assert [each.id for each in database.read(lambda c: reminders.of_device(c, ANNA))] == ["b", "a"]
    [mine] = database.read(lambda c: reminders.of_device(c, ANNA, ANNA))
    assert (mine.id, mine.text) == ("a", "the bus")
    assert database.run(lambda c: reminders.erase(c, ANNA, ["a", "x"])) == 1
    assert database.run(lambda c: reminders.erase(c, ANNA)) == 1


def test_a_claim_is_one_workers_until_its_lease_ends(database: Database) -> None:
    for one in (row("a", 20), row("b", 10), row("c", 99)):
        database.run(lambda connection, one=one: reminders.add(connection, one, 9))  # type: ignore[misc]
    assert database.read(lambda c: reminders.outlook(c, 50)).next_at == 10
    assert claim(database, "one", 25) == ["b", "a"]
    assert claim(database, "two", 25) == []
    assert claim(database, "two", 55) == ["b", "a"]

    [held, _] = database.read(lambda c: reminders.of_device(c, ANNA))[:2]
    over = replace(held, look_at=None, rang_at=55.0)
    assert not database.run(lambda c: reminders.settle(c, replace(held, worker="one"), over))
    assert database.run(lambda c: reminders.settle(c, held, over))
    assert not database.run(lambda c: reminders.settle(c, held, over)), "once"
    assert database.read(reminders.waiting) == 2
    last = database.read(lambda c: reminders.rang_last(c, ANNA, ANNA, 50.0))
    assert last is not None and last.id == "b"


def test_a_lease_that_is_longer_than_any_is_freed(database: Database) -> None:
    database.run(lambda connection: reminders.add(connection, row("a", 20), 9))
    assert claim(database, "one", 5_000) == ["a"]
    database.run(lambda connection: reminders.free_stuck(connection, 25, 85))
    assert claim(database, "two", 25) == ["a"]


def test_what_repeats_is_found_and_what_is_over_is_forgotten(database: Database) -> None:
    for one in (row("a", 20, rule="FREQ=DAILY"), replace(row("b", 10), look_at=None, rang_at=11.0), row("c", 5)):
        database.run(lambda connection, one=one: reminders.add(connection, one, 9))  # type: ignore[misc]

    assert [each.id for each in database.read(reminders.repeating)] == ["a"]
    claim(database, "one", 4_000)
    assert database.run(lambda c: reminders.erase(c, ANNA, ["b"])) == 0
