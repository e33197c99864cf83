"""The local store: each turn once, for its time, and gone when it is erased."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.databases import opened, postgres_server
from tests.fakes.sound import tone
from tests.history.samples import AT, DEVICE, ended, entry, session
from xiaozhi.history.encoding import compressed
from xiaozhi.history.store import DAY_S, LocalHistory, Retention
from xiaozhi.storage.database import Database

OTHER = "02:00:00:00:00:02"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = postgres_server(request.config).new_url() if request.param == "postgresql" else tmp_path
    with opened(url) as made:
        yield made


class Time:
    def __init__(self) -> None:
        self.now = AT

    def __call__(self) -> float:
        return self.now


def store(database: Database, days: int = 30, sound_days: int = 7, clock: Time | None = None) -> LocalHistory:
    return LocalHistory(database, lambda: Retention(days, sound_days), clock=clock or Time())


def test_a_turn_is_there_once_however_often_it_comes(database: Database) -> None:
    made = store(database)
    made.deliver([entry(1)])
    made.deliver([entry(1), entry(2)])
    made.session_ended(ended())
    made.session_ended(ended())

    first, second = made.newest(DEVICE, 10)
    assert (first.said, first.spoken, first.outcome) == ("question 1", ("Answer 1.", "Really."), "answered")
    assert first.tools == entry(1).tools
    assert first.timings == {"model": 100, "ended": 900}
    assert second.turn == 2
    (kept,) = made.sessions(DEVICE)
    assert (kept.id, kept.client, kept.began_at, kept.ended_at) == (session().id, "client", AT, AT + 100)


def test_a_device_is_known_in_every_spelling(database: Database) -> None:
    made = store(database)
    made.deliver([entry(1, device="02-00-00-00-00-0A")])

    assert len(made.newest("02:00:00:00:00:0a", 10)) == 1
    assert made.newest(OTHER, 10) == []


def test_sound_is_kept_beside_its_turn(database: Database) -> None:
    made = store(database)
    sound = compressed(tone(300))
    made.deliver([entry(1), replace(entry(2), sound=sound)])

    assert made.sound_turns(session().id) == [2]
    assert made.sound(session().id, 2) == sound
    assert made.sound(session().id, 1) is None
    assert made.totals().sound_bytes > sound.size


def test_the_newest_are_shown_the_oldest_of_them_first(database: Database) -> None:
    made = store(database)
    made.deliver([entry(turn) for turn in range(1, 6)])

    assert [turn.turn for turn in made.newest(DEVICE, 2)] == [4, 5]


def test_what_is_older_than_its_time_is_removed_sound_before_text(database: Database) -> None:
    clock = Time()
    made = store(database, days=30, sound_days=7, clock=clock)
    made.deliver([replace(entry(1), sound=compressed(tone(60)))])
    made.deliver([entry(1, number=2, at=AT + 29 * DAY_S)])

    clock.now = AT + 8 * DAY_S
    assert made.sweep() == 1
    assert made.sound_turns(session().id) == []
    assert len(made.newest(DEVICE, 10)) == 2

    clock.now = AT + 31 * DAY_S
    assert made.sweep() == 1
    assert [turn.session for turn in made.newest(DEVICE, 10)] == [session(2).id]
    assert [row.id for row in made.sessions(DEVICE)] == [session(2).id]
    assert made.sweep() == 0


def test_without_a_limit_nothing_is_removed(database: Database) -> None:
    clock = Time()
    made = store(database, days=0, sound_days=0, clock=clock)
    made.deliver([replace(entry(1), sound=compressed(tone(60)))])
    clock.now = AT + 10_000 * DAY_S

    assert made.sweep() == 0
    assert made.totals().sounds == 1


def test_sound_without_a_time_of_its_own_goes_with_its_turn(database: Database) -> None:
    clock = Time()
    made = store(database, days=3, sound_days=0, clock=clock)
    made.deliver([replace(entry(1), sound=compressed(tone(60)))])
    clock.now = AT + 4 * DAY_S

    assert made.sweep() == 1
    assert (made.totals().turns, made.totals().sounds, made.totals().sessions) == (0, 0, 0)


def test_more_than_one_transaction_takes_is_removed_in_several(database: Database) -> None:
    clock = Time()
    made = store(database, clock=clock)
    made.deliver([entry(turn) for turn in range(1, 1_202)])
    clock.now = AT + 60 * DAY_S

    assert made.sweep() == 1_201
    assert made.totals().turns == 0


def test_what_was_erased_does_not_come_back(database: Database) -> None:
    clock = Time()
    made = store(database, clock=clock)
    made.deliver([replace(entry(1), sound=compressed(tone(60))), entry(2)])
    made.deliver([entry(1, number=2, device=OTHER)])
    clock.now = AT + 10

    assert made.erase(DEVICE.upper()) == (2, 1)
    assert made.newest(DEVICE, 10) == []
    assert made.sessions(DEVICE) == []
    assert len(made.newest(OTHER, 10)) == 1

    made.deliver([entry(2), entry(3), entry(20)])
    assert [turn.turn for turn in made.newest(DEVICE, 10)] == [20]


def test_what_was_erased_is_not_left_in_the_file(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        made = store(database)
        made.deliver([entry(1, said="a very secret question")])
        made.erase(DEVICE)

    assert not any(b"a very secret question" in path.read_bytes() for path in tmp_path.iterdir())


def test_totals_of_nothing(database: Database) -> None:
    totals = store(database).totals()

    assert (totals.sessions, totals.turns, totals.sounds, totals.sound_bytes, totals.since) == (0, 0, 0, 0, None)
