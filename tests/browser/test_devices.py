"""The pages of devices, in a browser: who is there, what can be done with one, its settings and the way back."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.vendors.sounds import hum, wav
from tests.browser.chromium import VIEWERS, BrowserPage, Viewer
from tests.browser.owners import BOARD, arrive, ask_at_start, hear, owner_tools
from tests.lifecycle.house import TTS, House, Script
from tests.waiting import wait_for
from xiaozhi.reminders.ringing import ReminderKind
from xiaozhi.reminders.understanding import When, understand

ANNA, BERT, STRANGER = "02:00:00:00:0d:01", "02:00:00:00:0d:02", "02:00:00:00:0d:03"
WORDS = {
    "en": ("Devices", "connected", "away", "Its own settings"),
    "zh-CN": ("设备", "在线", "离线", "设备自己的设置"),
}


@pytest.fixture(scope="module")
def house_settings() -> dict[str, Any]:
    return {"server": {"auth": {"enabled": True, "enroll": "approve"}}, "device_max_output_size": 5_000}


@pytest.mark.parametrize("viewer", VIEWERS, ids=str)
def test_the_list_and_a_device_fit_and_read_well(page: BrowserPage, house: House, viewer: Viewer) -> None:
    arrive(house, ANNA, owner_tools())
    gone = arrive(house, BERT)
    house.server.known_devices.directory.name_it(ANNA, "Kitchen")
    gone.close()
    title, here, away, settings = WORDS[viewer.language]

    page.go("/console/devices")
    page.wait_for_text("Kitchen")
    for words in (away, title, here, BOARD, "-51 dBm"):  # the list is drawn anew while they come and go
        page.wait_for_text(words)
    page.assert_light()
    page.check("list")

    page.click(f"a[href$='{ANNA.replace(':', '%3A')}']")
    page.wait_for_text(settings)
    page.wait_for_text("240x240")
    page.find(".tools summary")
    page.check("device")


def test_a_device_says_what_the_owner_types(page: BrowserPage, house: House) -> None:
    device = arrive(house, ANNA)
    open_device(page, ANNA)

    page.find("input[name=say]").send_keys("dinner is ready")
    page.click("form.row button[type=submit]")

    answer = device.collect_answer()
    assert answer.sentences == ["dinner is ready"]
    assert answer.frames
    page.wait_for("/It says it|It said it|It is said as soon/.test(document.body.innerText)")


def test_its_screen_is_shown_and_it_reboots_only_when_that_was_meant(page: BrowserPage, house: House) -> None:
    tools = owner_tools()
    arrive(house, ANNA, tools)
    open_device(page, ANNA)

    press(page, "Show its screen")
    page.wait_for("document.querySelector('.screen-shot')?.naturalWidth === 240", "the picture")
    page.check()

    press(page, "Reboot")
    page.click("dialog button[value=no]")
    press(page, "Reboot")
    page.click("dialog button[value=yes]")
    page.wait_for_text("It reboots.")
    assert [name for name, _ in tools.calls] == ["self.screen.snapshot", "self.reboot"]


def test_a_tool_of_the_device_is_tried(page: BrowserPage, house: House) -> None:
    tools = owner_tools()
    arrive(house, ANNA, tools)
    open_device(page, ANNA)

    page.click("details.tools summary")
    field = page.find("details.tools li:nth-of-type(2) input")
    field.clear()
    field.send_keys('{"volume": 11}')
    page.click("details.tools li:nth-of-type(2) button")

    wait_for(lambda: tools.volume == 11, "the volume")


def test_a_voice_is_heard_kept_and_undone(page: BrowserPage, house: House) -> None:
    house.vendor.stand(TTS, Script(answer=wav(hum(0.5, 24_000), 24_000)))
    open_device(page, ANNA, arrives=house)
    house.forget_requests()

    page.find("input[name=voice]").send_keys("nova")
    page.click(".device-form .row button")
    page.wait_for_text("This is how it sounds.")
    page.wait_for("!document.querySelector('[aria-busy]')")
    asked = [request.json() for request in house.vendor.requests if house.vendor.kind(request) == TTS]
    assert [(each["voice"], each["input"]) for each in asked] == [("nova", "Hello, how are you today?")]
    hear(page, 300)
    assert settings_of(house) == {}, "listening changes nothing"

    page.find("textarea[name=prompt]").send_keys("You are a pirate.")
    press(page, "Save", within=".device-form")
    page.wait_for_text("Saved. It holds")
    assert settings_of(house) == {"prompt": "You are a pirate.", "TTS": {"Vendor": {"voice": "nova"}}}
    page.wait_for_text("This machine changed")
    page.check()

    press(page, "Undo to here")
    page.click("dialog button[value=yes]")
    page.wait_for_text("The settings are what they were.")
    assert settings_of(house) == {}
    page.wait_for("document.querySelector('textarea[name=prompt]').value === ''")


def test_what_cannot_be_used_is_said_at_its_field(page: BrowserPage, house: House) -> None:
    open_device(page, ANNA, arrives=house)
    page.expect_fault("422")
    page.click(".device-form summary")

    page.find("textarea[name=correct_words]").send_keys("SQL")
    press(page, "Save", within=".device-form")

    page.wait_for_text("These settings cannot be used")
    wrong = page.find(".field.wrong")
    assert "Correct words" in wrong.text and "what is written|what is spoken" in wrong.text
    assert settings_of(house) == {}
    page.check()


def test_who_comes_and_who_waits_appears_by_itself(page: BrowserPage, house: House) -> None:
    page.go("/console/devices")
    page.wait_for_text("0 connected now")
    ask_at_start(house, STRANGER)
    page.wait_for_text("Waiting to be let in")
    code = house.server.known_devices.directory.of(STRANGER).waiting[0][0]
    assert code in page.text
    page.check("waiting")

    press(page, "Let in")
    page.wait_for_text("may come in now")
    assert ask_at_start(house, STRANGER), "it has a token"
    arrive(house, STRANGER)
    page.wait_for_text("1 connected now")


def test_somebody_is_refused_and_let_in_later(page: BrowserPage, house: House) -> None:
    stranger = "02:00:00:00:0d:09"
    directory = house.server.known_devices.directory
    ask_at_start(house, stranger)
    page.go("/console/devices")
    press(page, "Refuse")
    page.click("dialog button[value=yes]")
    page.wait_for_text("was not let in")
    assert directory.of(stranger).standing.revoked
    assert not ask_at_start(house, stranger)
    assert not directory.waiting()

    page.go(f"/console/devices/{stranger}")
    press(page, "Let in again")
    page.wait_for_text("It may come in again.")
    assert not directory.of(stranger).standing.revoked


def test_a_name_is_given_and_found(page: BrowserPage, house: House) -> None:
    arrive(house, BERT)
    open_device(page, BERT)
    page.find("input[name=label]").send_keys("Bert's room")
    press(page, "Save", within="form.row")
    page.wait_for("document.querySelector('h1').textContent === \"Bert's room\"")

    page.go("/console/devices")
    page.find("input[type=search]").send_keys("RT'S")
    page.wait_for("document.querySelectorAll('tbody tr').length === 1")
    assert "Bert's room" in page.text


def test_a_revoked_device_is_gone_at_once(page: BrowserPage, house: House) -> None:
    device = arrive(house, BERT)
    open_device(page, BERT)

    press(page, "Revoke")
    page.click("dialog button[value=yes]")

    device.wait_closed()
    page.wait_for_text("This device is revoked")
    press(page, "Let in again")
    page.wait_for_text("It may come in again.")


def open_device(page: BrowserPage, device_id: str, arrives: House | None = None) -> None:
    """Its page, complete."""
    if arrives is not None:
        arrive(arrives, device_id)
    page.go(f"/console/devices/{device_id}")
    page.find(".device-form")
    page.wait_for("!document.querySelector('.spinner')")


def press(page: BrowserPage, text: str, within: str = "body") -> None:
    """Click the button with this text, as soon as it can be."""
    found = f"[...document.querySelectorAll('{within} button')].find((each) => each.textContent.trim() === {text!r})"
    page.wait_for(f"Boolean({found} && !{found}.disabled)", f"the button {text}")
    page.run(f"const found = {found}; found.scrollIntoView({{block: 'center'}}); found.click()")


def settings_of(house: House) -> Any:
    """Anna's own settings."""
    return house.server.known_devices.directory.settings_of(ANNA)


def test_a_reminder_is_seen_and_cancelled(page: BrowserPage, house: House) -> None:
    device = arrive(house, ANNA)
    device.close()
    book = house.server.reminders.book
    when = understand("every weekday at 7:30", book.now())
    assert isinstance(when, When)
    book.set(ANNA, ANNA, ReminderKind.REMINDER, when, text="the bus")
    open_device(page, ANNA)

    page.wait_for_text("the bus")
    page.wait_for_text("every weekday at 7:30 AM")
    page.check("reminders")
    page.click("button[aria-label='Cancel: the bus']")
    page.click("dialog button[value=yes]")
    page.wait_for_text("None are set.")
    assert book.coming(ANNA) == []
