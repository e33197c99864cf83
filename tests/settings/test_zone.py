"""The owner's time zone, as browsers call it."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest

from xiaozhi.settings import zone_name


@pytest.mark.parametrize(
    ("zone", "name"),
    [
        (ZoneInfo("Asia/Shanghai"), "Asia/Shanghai"),
        (ZoneInfo("UTC"), "+00:00"),
        (datetime.UTC, "+00:00"),
        (datetime.timezone(datetime.timedelta(hours=-3.5)), "-03:30"),
        (datetime.timezone(datetime.timedelta(hours=5.75)), "+05:45"),
    ],
)
def test_a_zone_has_a_name_that_browsers_know(zone: datetime.tzinfo, name: str) -> None:
    assert zone_name(zone) == name
