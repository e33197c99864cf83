"""Whom people mean by a name or a group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import opened
from xiaozhi.devices.directory import DeviceDirectory
from xiaozhi.devices.household import Household, HouseholdMember, HouseholdRules, meant, names_of
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.storage import enrolments
from xiaozhi.storage.database import Database, sqlite_url

KITCHEN, HALL, BED, ATTIC = (f"02:00:00:00:00:0{letter}" for letter in "abcd")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(sqlite_url(tmp_path / "db.sqlite")) as made:
        yield made


def furnish(database: Database) -> DeviceDirectory:
    """Three devices with names, and one without."""
    notes = DeviceNotes(database)
    directory = DeviceDirectory(database, notes)
    for device, name, groups in (
        (KITCHEN, "Kitchen", ["downstairs"]),
        (HALL, "Hall", "downstairs, cold"),
        (BED, "卧室", ()),
    ):
        notes.saw(device, {"board": "x"})
        directory.name_it(device, name)
        if groups:
            directory.change_settings(device, lambda own, groups=groups: {"groups": groups})  # type: ignore[misc]
    notes.saw(ATTIC, {})
    assert notes.flush()
    directory.change_settings(BED, lambda own: {"intercom": False})
    return directory


def test_who_belongs_to_it(database: Database) -> None:
    directory = furnish(database)
    database.run(lambda connection: enrolments.enrol(connection, KITCHEN, "k", 1.0))
    everyone = Household(database, lambda: HouseholdRules(enrolled=False, groups=["home"]))
    enrolled = Household(database, lambda: HouseholdRules(enrolled=True))

    assert [member.device for member in everyone.members()] == [KITCHEN, HALL, BED, ATTIC]
    assert everyone.members()[0] == HouseholdMember(KITCHEN, "Kitchen", ("downstairs",), True, "k")
    assert [member.intercom for member in everyone.members()] == [True, True, False, True]
    assert everyone.groups() == {"downstairs": [KITCHEN, HALL], "cold": [HALL], "home": [BED, ATTIC]}
    assert [member.device for member in enrolled.members()] == [KITCHEN]
    assert everyone.own_name(HALL) == "Hall" and everyone.own_name("x") == ""

    directory.revoke(HALL)
    assert HALL not in [member.device for member in everyone.members()]


@pytest.mark.parametrize(
    ("said", "devices"),
    [
        ("Kitchen", [KITCHEN]),
        ("the kitchen", [KITCHEN]),
        ("Kitchens", [KITCHEN]),
        ("chicken", []),
        ("downstairs", [KITCHEN, HALL]),
        ("卧室", [BED]),
        ("everyone", [KITCHEN, HALL, BED, ATTIC]),
        ("所有人", [KITCHEN, HALL, BED, ATTIC]),
        ("", []),
        ("kitchen 1", []),
    ],
)
def test_whom_a_user_means(said: str, devices: list[str]) -> None:
    members = [
        HouseholdMember(KITCHEN, "Kitchen", ("downstairs",), True, ""),
        HouseholdMember(HALL, "Hall", ("Downstairs",), True, ""),
        HouseholdMember(BED, "卧室", (), True, ""),
        HouseholdMember(ATTIC, "", (), True, ""),
    ]
    if said == "kitchen 1":  # as likely the one as the other
        members = [
            HouseholdMember(KITCHEN, "kitchen 2", (), True, ""),
            HouseholdMember(HALL, "kitchen 3", (), True, ""),
        ]
    assert [member.device for member in meant(said, members)] == devices
    assert "" not in names_of(members)
