"""The daily allowance of a device: counted, kept across restarts and days, shared by workers."""

import datetime
from pathlib import Path

from xiaozhi.history.quota import OutputQuota

MONDAY = datetime.date(2026, 11, 16)
TUESDAY = datetime.date(2026, 11, 17)


class Calendar:
    def __init__(self) -> None:
        self.day = MONDAY

    def __call__(self) -> datetime.date:
        return self.day


def test_without_a_limit_nothing_is_counted_or_written(tmp_path: Path) -> None:
    quota = OutputQuota(tmp_path / "quota.sqlite", 0, Calendar())
    quota.spend("a", 1_000_000)
    assert quota.left("a") is None
    quota.close()
    assert not (tmp_path / "quota.sqlite").exists()


def test_what_was_spoken_is_taken_off_and_never_below_nothing(tmp_path: Path) -> None:
    quota = OutputQuota(tmp_path / "quota.sqlite", 100, Calendar())
    quota.spend("a", 30)
    quota.spend("a", 30)
    quota.spend("b", 500)
    assert (quota.left("a"), quota.left("b"), quota.left("c")) == (40, 0, 100)
    quota.close()


def test_a_restart_remembers(tmp_path: Path) -> None:
    path = tmp_path / "quota.sqlite"
    first = OutputQuota(path, 100, Calendar())
    first.spend("a", 60)
    first.close()
    second = OutputQuota(path, 100, Calendar())
    assert second.left("a") == 40
    second.close()


def test_a_new_day_is_a_new_allowance_and_old_days_are_forgotten(tmp_path: Path) -> None:
    path, calendar = tmp_path / "quota.sqlite", Calendar()
    quota = OutputQuota(path, 100, calendar)
    quota.spend("a", 100)
    calendar.day = TUESDAY
    assert quota.left("a") == 100
    calendar.day = MONDAY
    assert quota.left("a") == 0
    calendar.day = MONDAY + datetime.timedelta(days=8)
    assert quota.left("a") == 100
    calendar.day = MONDAY
    assert quota.left("a") == 100
    quota.close()


def test_two_workers_add_up(tmp_path: Path) -> None:
    path = tmp_path / "quota.sqlite"
    one, other = OutputQuota(path, 100, Calendar()), OutputQuota(path, 100, Calendar())
    one.spend("a", 10)
    other.spend("a", 20)
    one.close()
    other.close()
    third = OutputQuota(path, 100, Calendar())
    assert third.left("a") == 70
    third.close()
