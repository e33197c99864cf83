"""The overview in a browser: what it shows is what the server is asked for, for everybody."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.browser.chromium import PHONE, VIEWERS, BrowserPage, Viewer
from tests.lifecycle.house import House
from xiaozhi.app.vendor_health import FAILED, VendorVerdict
from xiaozhi.runtime.last_hour import LastHour

READY = "document.querySelectorAll('.overview-figures .card').length === 6"
CHARTS = "document.querySelectorAll('.chart canvas').length === 4"


def an_hour() -> LastHour:
    """Three quarters of an hour with a dozen devices, a minute ago nobody was answered."""
    now = 600.0
    began = time.time() - 46 * 60 - now
    hour = LastHour(clock=lambda: now, wall=lambda: began + now)
    ended = 0
    hour.turns = lambda: ended
    for minute in range(45):
        devices = round(12 + 4 * math.sin(minute / 6))
        hour.devices = lambda devices=devices: devices  # type: ignore[misc]
        for turn in range(devices // 2):
            ended += 1
            hour.answered(0.55 + 0.08 * turn + (0.9 if minute in (20, 21) else 0.0))
        hour.tick(0.002 + 0.001 * (minute % 3) + (0.045 if minute == 20 else 0.0))
        now += 60
        hour.tick(0.001)
    now += 60
    hour.tick(0.001)
    return hour


@pytest.fixture
def busy(house: House) -> Iterator[None]:
    """The server has had such an hour."""
    before, house.server.metrics.last_hour = house.server.metrics.last_hour, an_hour()
    yield
    house.server.metrics.last_hour = before


@pytest.fixture
def fresh(house: House) -> Iterator[None]:
    """The server has just begun, however long the tests before took."""
    before, house.server.metrics.last_hour = house.server.metrics.last_hour, LastHour()
    yield
    house.server.metrics.last_hour = before


@pytest.fixture
def troubled(house: House) -> Iterator[None]:
    """A vendor has refused the key."""
    health = house.server.vendor_health
    verdict = VendorVerdict("llm", "LLM.Vendor", FAILED, shown="401, the key is not accepted: see api_key")
    health.tried(verdict)
    yield
    health.tried(replace(verdict, state="ok"))


@pytest.mark.parametrize("viewer", VIEWERS, ids=str)
def test_everybody_can_use_it(busy: None, troubled: None, page: BrowserPage, viewer: Viewer) -> None:
    page.go("/console")
    page.wait_for(READY)
    page.wait_for(CHARTS)

    page.assert_light()
    page.check("overview")


@pytest.mark.parametrize("viewer", [PHONE], ids=str)
def test_a_quiet_server_has_nothing_to_draw_yet(fresh: None, page: BrowserPage, viewer: Viewer) -> None:
    page.go("/console")
    page.wait_for(READY)

    page.wait_for_text("The first minute is not over yet.")
    page.wait_for_text("All is well.")
    page.check("quiet")


def test_the_charts_are_tables_too(busy: None, page: BrowserPage) -> None:
    page.go("/console")
    page.wait_for(CHARTS)
    label = page.find(".chart").get_attribute("aria-label")
    assert label is not None and label.startswith("Devices, the last hour. Latest: Devices ")

    page.click("details summary")

    page.wait_for("document.querySelectorAll('.overview-rows tbody tr').length >= 45")
    page.check("table")


def test_what_is_wrong_is_said_with_what_to_do(troubled: None, page: BrowserPage) -> None:
    page.go("/console")

    page.wait_for_text("LLM.Vendor fails: 401, the key is not accepted: see api_key. Settings")
    assert "All is well." not in page.text
    assert page.find(".notice.bad a").get_attribute("href").endswith("/console/settings")  # type: ignore[union-attr]
    page.click(".notice.bad a")
    page.wait_for("location.pathname === '/console/settings'")
