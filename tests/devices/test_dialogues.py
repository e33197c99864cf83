"""Dialogues of devices that left: for how long, how many, for whom; through the database, for any worker."""

from __future__ import annotations

from pathlib import Path

from tests.databases import opened
from tests.fakes.clock import FakeClock
from xiaozhi.devices.dialogues import ResumeStore
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.storage import devices, presences


def test_a_device_that_is_back_in_time_goes_on_once() -> None:
    clock = FakeClock()
    store = ResumeStore(seconds=120, clock=clock)
    store.put("a", "c", b"one")
    store.put("a", "c", b"two")
    store.put("b", "c", b"three")
    clock.advance(119)
    assert store.take("a", "c") == b"two"
    assert store.take("a", "c") is None
    clock.advance(2)
    assert store.take("b", "c") is None
    assert len(store) == store.size_bytes == 0


def test_the_store_is_bounded_in_number_and_bytes() -> None:
    clock = FakeClock()
    store = ResumeStore(max_entries=3, max_bytes=100, clock=clock)
    for number in range(5):
        store.put(str(number), "c", b"x" * 10)
    assert len(store) == 3 and store.take("1", "c") is None and store.take("2", "c") is not None
    store.put("big", "c", b"x" * 85)
    assert store.size_bytes <= 100 and store.take("big", "c") is not None
    store.put("4", "c", b"x" * 101)
    assert store.take("4", "c") is None, "what is too large replaces what was there"


def test_no_time_to_come_back_means_nothing_is_kept() -> None:
    store = ResumeStore(seconds=0)
    store.put("a", "c", b"x")
    assert store.take("a", "c") is None and len(store) == 0


def test_nobody_else_goes_on_with_it() -> None:
    """Another client id under the same device id neither takes the dialogue nor drives it out."""
    store = ResumeStore()
    store.put("a", "mine", b"my PIN")
    for stranger in ("other", "", "MINE", "mine "):
        assert store.take("a", stranger) is None
        store.put("a", stranger, b"what the stranger said")
    assert store.take("a", "mine") == b"my PIN"


def test_who_sends_no_client_id_is_not_waited_for() -> None:
    store = ResumeStore()
    store.put("a", "", b"anybody's")
    assert store.take("a", "") is None and len(store) == 0


class Shared:
    """What all servers share."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], tuple[bytes, float]] = {}

    def keep(self, device: str, client: str, snapshot: bytes, said_at: float) -> None:
        if said_at >= self.kept.get((device, client), (b"", 0.0))[1]:
            self.kept[device, client] = snapshot, said_at

    def look_up(self, device: str, client: str) -> tuple[bytes, float] | None:
        return self.kept.get((device, client))


def test_a_visit_that_ends_late_takes_nothing_from_what_was_said_elsewhere_meanwhile() -> None:
    shared, clock = Shared(), FakeClock()
    here, there = (ResumeStore(elsewhere=shared, clock=clock, today=clock) for _ in range(2))
    here.save("a", "c", b"first")
    clock.advance(1)
    there.fetch("a", "c")
    assert there.take("a", "c") == b"first"
    there.save("a", "c", b"first, second")
    clock.advance(1)
    here.put("a", "c", b"first")

    here.fetch("a", "c")
    assert here.take("a", "c") == b"first, second"
    clock.advance(1)
    here.put("a", "c", b"first, second")
    assert shared.kept["a", "c"] == (b"first, second", clock() - 2), "nothing was said in this visit"


def test_in_the_database_too_what_was_said_later_counts_and_the_end_of_the_visit_says_how_long_it_is_kept(
    tmp_path: Path,
) -> None:
    clock = FakeClock(1000.0)
    with opened(tmp_path) as database:
        notes = DeviceNotes(database)
        here, there = (ResumeStore(notes=notes, clock=clock, today=clock) for _ in range(2))
        here.save("a", "c", b"first")
        clock.advance(1)
        there.save("a", "c", b"first, second")
        assert notes.flush()
        clock.advance(500)
        here.put("a", "c", b"first")
        assert notes.flush()

        def kept_since(since: float) -> object:
            return database.read(lambda connection: devices.look_up(connection, [("a", "c")], since))["a", "c"].dialogue

        assert kept_since(1001.0) == (b"first, second", 1001.0)
        assert kept_since(1002.0) is None
        there.put("a", "c", b"first, second")
        assert notes.flush()
        assert kept_since(1501.0) == (b"first, second", 1001.0), "kept from the end of the visit on"
        database.run(lambda connection: presences.tidy(connection, 0.0, 1501.0))
        assert kept_since(1501.0) is not None
        database.run(lambda connection: presences.tidy(connection, 0.0, 1502.0))
        assert kept_since(0.0) is None


def test_another_worker_and_a_restart_know_the_dialogue(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        notes = DeviceNotes(database)
        store = ResumeStore(notes=notes, today=lambda: 1000.0)
        store.save("a", "c", b"under way")
        store.put("a", "c", b"the end")
        store.put("b", "", b"nobody's")
        assert notes.flush()
    with opened(tmp_path) as database:
        found = database.read(lambda connection: devices.look_up(connection, [("a", "c"), ("a", "x")], 999.0))
        assert found["a", "x"].dialogue is None, "another client id"
        kept = found["a", "c"].dialogue
        assert kept == (b"the end", 1000.0)
        late = database.read(lambda connection: devices.look_up(connection, [("a", "c")], 1001.0))
        assert late["a", "c"].dialogue is None, "too old"

    here = ResumeStore(today=lambda: 1010.0)
    here.learn("a", "c", *kept)
    assert here.take("a", "c") == b"the end"
    here.put("a", "c", b"newer")
    here.learn("a", "c", *kept)
    assert here.take("a", "c") == b"newer", "what is newer stays"
