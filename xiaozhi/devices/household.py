"""The devices of one household by name and group: whom operators mean by a group, and whom a user may mean by a name.

A household is the devices that are enrolled at this server, or, where they need not enrol (`server.auth.enabled:
false`), those that are known. Not who is connected, and not what they are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rapidfuzz import fuzz, process

from xiaozhi.settings.fields import words
from xiaozhi.storage import devices
from xiaozhi.storage.database import Database
from xiaozhi.storage.devices import KnownDevice

MIN_LIKENESS: Final = 85
"""0 to 100: "the kitchen" finds "Kitchen", "chicken" does not."""
EVERYONE: Final = frozenset({"all", "everyone", "everybody", "所有人", "所有设备", "大家", "全部", "全家", "每个人"})


@dataclass(frozen=True, slots=True)
class HouseholdRules:
    """`enrolled`: only devices that are enrolled belong to it. `groups`, `intercom`: what holds for devices without
    settings of their own."""

    enrolled: bool
    groups: Sequence[str] = ()
    intercom: bool = True


@dataclass(frozen=True, slots=True)
class HouseholdMember:
    """A device of the household. `intercom`: it may be told something by the others, and tell them."""

    device: str
    name: str
    groups: tuple[str, ...]
    intercom: bool
    client: str
    """The client id that it is enrolled with; "" when it is not."""


class Household:
    """The methods block for the database and raise StorageError, Overloaded. `rules`: those in force."""

    def __init__(self, database: Database, rules: Callable[[], HouseholdRules]) -> None:
        self._database = database
        self._rules = rules

    def members(self) -> list[HouseholdMember]:
        """All of them."""
        rules = self._rules()
        found = self._database.read(devices.by_name)
        return [_member(known, rules) for known in found if known.client or not rules.enrolled]

    def groups(self) -> dict[str, list[str]]:
        """Devices by group."""
        found: dict[str, list[str]] = {}
        for member in self.members():
            for group in member.groups:
                known = next((name for name in found if name.casefold() == group.casefold()), group)
                found.setdefault(known, []).append(member.device)
        return found

    def own_name(self, device: str) -> str:
        """What its owner calls a device; "" when nothing."""
        return next((member.name for member in self.members() if member.device == device), "")


def meant(name: str, members: Sequence[HouseholdMember]) -> list[HouseholdMember]:
    """Whom a user means: a device, a group, or everyone; empty when nobody goes by that name."""
    wanted = " ".join(name.casefold().split()).removeprefix("the ")
    if wanted in EVERYONE:
        return list(members)
    by_name: dict[str, list[HouseholdMember]] = {}
    for member in members:
        for key in {member.name.casefold(), *(group.casefold() for group in member.groups)} - {""}:
            by_name.setdefault(key, []).append(member)
    if wanted in by_name:
        return by_name[wanted]
    likely = process.extract(wanted, list(by_name), scorer=fuzz.ratio, score_cutoff=MIN_LIKENESS, limit=2)
    return by_name[likely[0][0]] if len(likely) == 1 or (likely and likely[0][1] > likely[1][1]) else []


def names_of(members: Sequence[HouseholdMember]) -> list[str]:
    """Names and groups that a user may say."""
    found = dict.fromkeys(member.name for member in members if member.name)
    found |= dict.fromkeys(group for member in members for group in member.groups)
    return list(found)


def _member(known: KnownDevice, rules: HouseholdRules) -> HouseholdMember:
    own: Mapping[str, Any] = known.settings
    groups = own.get("groups", rules.groups)
    listed = words(groups) if isinstance(groups, str) else map(str, groups or ())
    return HouseholdMember(
        known.device, known.label, tuple(listed), own.get("intercom", rules.intercom) is True, known.client
    )
