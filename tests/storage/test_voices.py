"""Voices in the database: by user, one of each name, erased with the device."""

from __future__ import annotations

from xiaozhi.devices.directory import DeviceDirectory
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.speech.voice_likeness import KnownVoice, VoiceSample
from xiaozhi.storage import kept_data, voices
from xiaozhi.storage.database import Database
from xiaozhi.storage.voices import KeptVoice

HERE, THERE = "11:22:33:44:55:66", "11:22:33:44:55:67"


def keep(database: Database, owner: str, name: str, vector: bytes = b"\x00\x01\xff", most: int = 5) -> bool:
    kept = KeptVoice(owner, KnownVoice(name, VoiceSample("m", vector, 2.5)), 100.0, "spoken")
    return database.run(lambda connection: voices.keep(connection, kept, most))


def names(database: Database, owner: str) -> list[str]:
    return [voice.name for voice in database.read(lambda connection: voices.of(connection, owner))]


def test_what_is_kept_comes_back_as_it_was(database: Database) -> None:
    assert keep(database, HERE, "小明")

    assert database.read(lambda c: voices.of(c, HERE)) == [KnownVoice("小明", VoiceSample("m", b"\x00\x01\xff", 2.5))]
    (kept,) = database.read(voices.everyone)
    assert (kept.owner, kept.made_at, kept.consent) == (HERE, 100.0, "spoken")
    assert database.read(kept_data.rows_by_table)["voice"] == 1


def test_people_belong_to_a_user(database: Database) -> None:
    keep(database, HERE, "Anna")
    keep(database, THERE, "Anna")
    keep(database, THERE, "Ben")

    assert names(database, HERE) == ["Anna"]
    assert database.run(lambda c: voices.erase(c, THERE)) == ["Anna", "Ben"]
    assert names(database, HERE) == ["Anna"]


def test_a_name_stands_once_however_it_is_written(database: Database) -> None:
    keep(database, HERE, "Anna")
    keep(database, HERE, " ANNA ", b"new")

    assert database.read(lambda c: voices.of(c, HERE))[0].sample.vector == b"new"
    assert database.run(lambda c: voices.erase(c, HERE, "anna")) == [" ANNA "]
    assert database.run(lambda c: voices.erase(c, HERE, "anna")) == []


def test_there_is_a_limit_and_replacing_is_always_possible(database: Database) -> None:
    assert keep(database, HERE, "a", most=2) and keep(database, HERE, "b", most=2)
    assert not keep(database, HERE, "c", most=2)
    assert keep(database, HERE, "b", most=2) and keep(database, THERE, "c", most=2)


def test_forgetting_a_device_erases_the_voices_of_all_who_used_it(database: Database) -> None:
    for owner in (HERE, f"{HERE}@guest", THERE, f"{HERE}0", "11_22%"):
        keep(database, owner, "Anna")
    directory = DeviceDirectory(database, DeviceNotes(database))

    assert directory.forget(HERE) is False, "it was not enrolled, and its voices go all the same"

    assert {kept.owner for kept in database.read(voices.everyone)} == {THERE, f"{HERE}0", "11_22%"}
    directory.forget("11_22%")
    assert {kept.owner for kept in database.read(voices.everyone)} == {THERE, f"{HERE}0"}
