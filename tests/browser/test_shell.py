"""What holds for all pages: sessions that end, a server that does not answer, changes that are not saved, tabs that
nobody sees."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from selenium.webdriver import Keys

from tests.browser.chromium import LAN_HOST, PHONE, BrowserPage
from tests.browser.owners import arrive
from tests.browser.test_devices import press, settings_of
from tests.lifecycle.house import House

ANNA = "02:00:00:00:0d:01"
SOURCES = """const Real = EventSource;
    window.sources = [];
    window.EventSource = class extends Real { constructor(url) { super(url); sources.push(this); } };"""
OPEN = "return sources.filter((each) => each.readyState !== EventSource.CLOSED).length"
PROMPT = "textarea[name=prompt]"


@pytest.fixture(scope="module")
def house_settings() -> dict[str, Any]:
    return {"server": {"auth": {"enabled": True, "enroll": "approve"}, "timezone_offset": 5.5}}


def open_form(page: BrowserPage, host: str = "") -> None:
    """The page of a device with its form."""
    page.go(f"/console/devices/{ANNA}", host=host)
    if host:
        return
    page.find(PROMPT)


def test_a_proof_that_holds_no_more_is_renewed(page: BrowserPage, house: House) -> None:
    arrive(house, ANNA)
    open_form(page)
    seen = house.server.known_devices.directory.of(ANNA).first_seen or 0.0
    at = datetime.fromtimestamp(seen, timezone(timedelta(hours=5.5)))
    assert f"{at.hour % 12 or 12}:{at:%M}" in page.text and "GMT+5:30" in page.text, "times are those of the server"
    page.driver.delete_all_cookies()  # another tab has logged out, or two weeks are over
    page.find(PROMPT).send_keys("You are a pirate.")
    press(page, "Save", within=".device-form")

    page.wait_for_text("Saved. It holds")
    page.expect_fault("403")
    assert settings_of(house) == {"prompt": "You are a pirate."}


def test_whoever_is_logged_out_logs_in_and_goes_on(page: BrowserPage, house: House) -> None:
    arrive(house, ANNA)
    password = house.server.facts().password
    open_form(page, LAN_HOST)
    page.find("input[type=password]").send_keys(password + Keys.ENTER)
    page.find(PROMPT).send_keys(" Be brief.")
    page.driver.delete_all_cookies()
    press(page, "Save", within=".device-form")

    page.wait_for_text("What you have typed is still there")
    page.expect_fault("401")
    assert page.run("return document.activeElement.type") == "password"
    page.check("logged-out")
    page.find("input[type=password]").send_keys(password + Keys.ENTER)
    assert page.find(PROMPT).get_attribute("value").endswith("Be brief.")
    press(page, "Save", within=".device-form")
    page.wait_for_text("Saved. It holds")


def test_changes_are_not_lost_without_a_question(page: BrowserPage, house: House) -> None:
    arrive(house, ANNA)
    page.go("/console/devices")
    page.click(f"a[href$='{ANNA.replace(':', '%3A')}']")
    page.find(PROMPT).send_keys("Hello")
    for leave in ("document.querySelector('nav a[href$=history]').click()", "history.back()"):
        page.run(leave)
        page.wait_for_text("Leave it without them?")
        page.click("dialog button[value=no]")
        page.wait_for("!document.querySelector('dialog')")
        assert page.run("return location.pathname").endswith("0d%3A01")
        assert page.find(PROMPT).get_attribute("value").endswith("Hello")
    page.run("history.back()")
    page.click("dialog button[value=yes]")
    page.wait_for_text("Known devices")


def test_a_page_that_cannot_be_shown_has_a_heading_and_a_way_back(page: BrowserPage) -> None:
    page.become(PHONE)
    page.go("/console/devices/02:00:00:00:0d:77")
    page.wait_for_text("is not known here")
    page.expect_fault("404")
    assert page.find("main h1").text == "02:00:00:00:0d:77"
    assert page.run("return document.title").startswith("02:00:00:00:0d:77")
    assert page.find("main a[href='/console/devices']")
    logs = page.find("nav a[href$=logs]").rect
    assert logs["x"] + logs["width"] <= PHONE.width, "the whole menu can be seen"
    page.check()


def test_a_server_that_does_not_answer_and_a_tab_that_nobody_sees(page: BrowserPage) -> None:
    page.run_before_scripts(SOURCES)
    page.go("/console/devices")
    page.wait_for_text("connected now")
    page.expect_fault("ERR_INTERNET_DISCONNECTED")

    def network(*, offline: bool) -> None:
        conditions = {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)

    network(offline=True)
    page.find("select[name=show]").send_keys("connected")
    page.wait_for_text("The server does not answer.")
    network(offline=False)
    press(page, "Try again")
    page.wait_for("!document.querySelector('.notice.bad')")

    page.go("/talk")
    page.find(".type input")
    network(offline=True)
    page.find(".type input").send_keys("what time is it" + Keys.ENTER)
    page.wait_for_text("The server does not answer.")
    assert page.find(".type input").get_attribute("value") == "what time is it", "what was typed is not lost"
    network(offline=False)
    page.go("/console/devices")
    page.wait_for_text("connected now")

    def see(shown: bool) -> None:
        page.run(
            "Object.defineProperty(document, 'hidden', {value: !args[0], configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'))",
            shown,
        )

    see(False)
    assert page.run(OPEN) == 0
    see(True)
    assert page.run(OPEN) == 1
