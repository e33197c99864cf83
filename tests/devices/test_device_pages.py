"""What pages show of many devices: some at a time, found by what is known of them, and whether there is something new;
on both databases."""

from __future__ import annotations

import pytest

from xiaozhi.devices.directory import MAX_WAITING_SHOWN, DeviceDirectory
from xiaozhi.devices.enrolment import Asker, Enrolment, EnrolmentRules
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.speech.voice_likeness import KnownVoice, VoiceSample
from xiaozhi.storage import console_store, devices, presences, summaries, voices
from xiaozhi.storage.console_store import AuditEntry
from xiaozhi.storage.database import Database
from xiaozhi.storage.presences import Visit
from xiaozhi.storage.voices import KeptVoice

ANNA, BERT, CARL = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"


class Shelf:
    """A directory with devices in it."""

    def __init__(self, database: Database) -> None:
        self.now = 1_000.0
        self.database = database
        self.notes = DeviceNotes(database, clock=lambda: self.now)
        self.directory = DeviceDirectory(database, self.notes, clock=lambda: self.now)
        self.enrolment = Enrolment(database, EnrolmentRules(enroll="approve"), clock=lambda: self.now)

    def seen(self, device: str, **report: object) -> None:
        """It has asked."""
        self.now += 1
        self.notes.saw(device, report)
        assert self.notes.flush()

    def waits(self, device: str) -> str:
        """Somebody asks to be let in as this device."""
        return self.enrolment.ask(Asker(device, f"client {device}", "203.0.113.4")).code

    def visit(self, device: str, worker: str, *, alive: bool = True) -> None:
        """It connects to a worker."""
        beat = self.now if alive else self.now - 1_000
        name = f"{device} at {worker}"
        self.database.run(lambda each: presences.heartbeat(each, worker, "", 1, beat))
        self.database.run(lambda each: presences.keep(each, {name: Visit(name, device, worker, self.now)}))

    def stands(self, device: str, worker: str) -> None:
        """A worker can tell it something while nobody talks with it."""
        self.database.run(lambda each: presences.heartbeat(each, worker, "", 1, self.now))
        self.database.run(lambda each: presences.keep_standing(each, {(device, worker): self.now}))

    def leave(self, device: str, worker: str) -> None:
        """It leaves."""
        self.database.run(lambda each: presences.keep(each, {f"{device} at {worker}": None}))

    def found(self, search: str = "", limit: int = 50, offset: int = 0) -> list[str]:
        """A page of device ids."""
        return [record.device for record in self.directory.page(search, limit, offset)[0]]


@pytest.fixture
def shelf(database: Database) -> Shelf:
    return Shelf(database)


def test_those_seen_last_come_first_and_those_never_seen_come_last(shelf: Shelf) -> None:
    shelf.seen(ANNA)
    shelf.seen(BERT)
    shelf.waits(CARL)

    assert shelf.found() == [BERT, ANNA, CARL]
    assert shelf.found(limit=2) == [BERT, ANNA]
    assert shelf.found(limit=2, offset=2) == [CARL]
    assert shelf.directory.page("", 1, 0)[1] == 3


def test_a_device_is_known_by_whatever_is_kept_of_it(shelf: Shelf) -> None:
    shelf.directory.revoke(ANNA)
    shelf.directory.change_settings(BERT, lambda own: {"prompt": "x"}, who="test")
    shelf.directory.name_it(CARL, "a name alone makes no device")

    assert sorted(shelf.found()) == [ANNA, BERT]
    assert sorted(record.device for record in shelf.directory.all()) == sorted(shelf.found())


def test_by_state_and_by_name(shelf: Shelf) -> None:
    gone = "02:00:00:00:00:0d"
    shelf.seen(ANNA)
    shelf.seen(BERT)
    shelf.seen(gone)
    shelf.visit(ANNA, "w1")
    shelf.stands(BERT, "w1")
    shelf.visit(gone, "w2", alive=False)
    shelf.waits(CARL)
    shelf.directory.revoke(gone)
    shelf.directory.name_it(BERT, "aunt")
    shelf.directory.name_it(CARL, "Bathroom")

    def named(state: str, order: str = "name") -> list[str]:
        return [record.device for record in shelf.directory.page("", 9, 0, state=state, order=order)[0]]

    assert named("") == [ANNA, gone, BERT, CARL]
    assert named("connected") == [ANNA, BERT], "also one that can be told something while nobody talks with it"
    assert named("away") == [CARL]
    assert named("waiting") == [CARL]
    assert named("revoked", "seen") == [gone]
    assert shelf.directory.page("aunt", 9, 0, state="away")[1] == 0


def test_nothing_is_left_of_a_device_that_is_removed_but_that_it_was_revoked(shelf: Shelf) -> None:
    database, directory = shelf.database, shelf.directory
    sample = KnownVoice("Anna", VoiceSample("model", b"\0" * 8, 3.0))
    for device in (ANNA, BERT):
        shelf.seen(device, board="esp-box")
        directory.approve(shelf.waits(device))
        directory.name_it(device, "Kitchen")
        directory.change_settings(device, lambda own: {"prompt": "x"}, who="test")
        directory.keep_picture(device, b"picture")
        for owner in (device, f"{device}@client"):
            kept = KeptVoice(owner, sample, 1.0, "yes")
            database.run(lambda each, kept=kept: voices.keep(each, kept, 9))
            database.run(lambda each, owner=owner: summaries.keep(each, owner, "likes tea", 1.0))
    issued = shelf.now

    directory.remove(ANNA.upper())

    assert shelf.found() == [BERT] == [record.device for record in directory.all()]
    assert (directory.settings_of(ANNA), directory.versions_of(ANNA), directory.picture_of(ANNA)) == ({}, [], None)
    assert (directory.labels([ANNA]), directory.voices_of(ANNA)) == ({}, [])
    assert [
        database.read(lambda each, owner=owner: summaries.of(each, owner)) for owner in (ANNA, f"{ANNA}@client")
    ] == [
        *("", ""),
    ]
    standing = database.read(lambda each: devices.standing_of(each, ANNA))
    assert standing.tokens_from >= issued and not standing.revoked, "its tokens are void"
    assert len(directory.voices_of(BERT)) == 2 and directory.of(BERT).label == "Kitchen"

    directory.revoke(BERT)
    directory.remove(BERT)
    assert directory.of(BERT).standing.revoked
    shelf.seen(ANNA)
    assert shelf.found()[0] == ANNA, "it may come again, as a new one"


def test_voices_of_a_device_and_not_of_another(shelf: Shelf) -> None:
    for owner, person in ((ANNA, "Ann"), (f"{ANNA}@client", "Bob"), (BERT, "Ann")):
        kept = KeptVoice(owner, KnownVoice(person, VoiceSample("model", b"\0" * 8, 3.0)), 1.0, "yes")
        shelf.database.run(lambda each, kept=kept: voices.keep(each, kept, 9))

    def known(device: str) -> list[tuple[str, str]]:
        return [(kept.owner, kept.known.name) for kept in shelf.directory.voices_of(device)]

    assert known(ANNA) == [(ANNA, "Ann"), (f"{ANNA}@client", "Bob")]
    assert not shelf.directory.forget_voice(ANNA, BERT, "Ann"), "of another device"
    assert not shelf.directory.forget_voice(ANNA, ANNA, "")
    assert shelf.directory.forget_voice(ANNA, f"{ANNA}@client", "bob")
    assert (known(ANNA), known(BERT)) == ([(ANNA, "Ann")], [(BERT, "Ann")])


@pytest.mark.parametrize(
    ("search", "found"),
    [("KITCH", [ANNA]), ("厨房", [BERT]), ("esp", [BERT, ANNA]), ("00:0b", [BERT]), ("_", []), ("%", []), ("'", [])],
)
def test_search(shelf: Shelf, search: str, found: list[str]) -> None:
    shelf.seen(ANNA, board="esp-box")
    shelf.seen(BERT, board="esp-box-3")
    shelf.directory.name_it(ANNA, "Kitchen")
    shelf.directory.name_it(BERT.upper(), "厨房")

    assert shelf.found(search) == found


def test_names_are_given_and_taken_away(shelf: Shelf) -> None:
    shelf.seen(ANNA)
    shelf.directory.name_it(ANNA, "Kitchen")
    shelf.directory.name_it(ANNA, "Living room")
    assert shelf.directory.of(ANNA).label == "Living room"
    assert shelf.directory.labels([ANNA, BERT]) == {ANNA: "Living room"}

    shelf.directory.name_it(ANNA, "")
    assert shelf.directory.of(ANNA).label == ""


def test_who_waits_longest_comes_first_and_not_all_are_shown(shelf: Shelf) -> None:
    names = [f"02:00:00:00:01:{number:02x}" for number in range(MAX_WAITING_SHOWN + 2)]
    for name in names:
        shelf.now += 1
        shelf.waits(name)

    shown = {record.device for record in shelf.directory.waiting()}

    assert shown == set(names[:MAX_WAITING_SHOWN])


def test_something_new_is_noticed_and_nothing_new_is_not(shelf: Shelf) -> None:
    seen = [shelf.directory.pulse()]

    def changed() -> bool:
        seen.append(shelf.directory.pulse())
        return seen[-1][1] != seen[-2][1]

    assert not changed()
    shelf.visit(ANNA, "w1")
    assert changed() and seen[-1][0] == 1
    shelf.now += 1
    shelf.visit(ANNA, "w2")
    assert changed() and seen[-1][0] == 1, "one device at two workers"
    shelf.visit(BERT, "w3", alive=False)
    assert seen[-1][0] == 1 and not changed()
    shelf.leave(ANNA, "w1")
    assert changed()
    shelf.stands(BERT, "w2")
    assert changed() and seen[-1][0] == 2, "one that can be told something while nobody talks with it"
    shelf.database.run(lambda each: console_store.note(each, AuditEntry(shelf.now, "owner", "", "device named", {}), 9))
    assert changed(), "what another page changes"
    shelf.now += 1
    code = shelf.waits(CARL)
    assert changed()
    shelf.now += 1
    shelf.directory.approve(code)
    assert changed()
    shelf.now += 1
    shelf.directory.revoke(CARL)
    assert changed()
    assert not changed()


def test_the_last_picture_of_a_screen_stays(shelf: Shelf) -> None:
    assert shelf.directory.picture_of(ANNA) is None
    shelf.directory.keep_picture(ANNA, b"one")
    shelf.now += 5
    shelf.directory.keep_picture(ANNA.upper(), b"two")

    assert shelf.directory.picture_of(ANNA) == (b"two", shelf.now)
