"""Settings, first steps and logs in the browser: an owner chooses another voice, checks it, saves it and hears it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.vendors.openai_vendor import OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.browser.chromium import BrowserPage
from tests.e2e.stage import ask, settle_phrases
from tests.lifecycle.home import Home, open_home
from xiaozhi.runtime import logs

KEY = "sk-a-right-and-secret-key"
WRONG = "sk-a-wrong-and-secret-key"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds) -> Iterator[Home]:
    directory = tmp_path_factory.mktemp("home")
    with open_home(directory, sounds) as opened:
        yield opened


@pytest.fixture
def site(home: Home, other: OpenAiVendor) -> Iterator[str]:
    """The pages; the file is afterwards what it was before."""
    before = home.local.read_text(encoding="utf-8")
    home.reset()
    yield f"http://127.0.0.1:{home.server.http_port}"
    home.close_devices()
    home.local.write_text(before, encoding="utf-8")
    assert home.server.reload() == ()


@pytest.fixture
def other(sounds: Sounds) -> Iterator[OpenAiVendor]:
    """A second vendor, which wants a key."""
    with OpenAiVendor(sounds=sounds, api_key=KEY, heard="what time is it", keep_alive=False) as vendor:
        assert isinstance(vendor, OpenAiVendor)
        yield vendor


def type_into(page: BrowserPage, selector: str, text: str) -> None:
    page.find(selector).clear()
    page.find(selector).send_keys(text)


def press(page: BrowserPage, what: str) -> None:
    """Press a button that the bar for saving may cover: scroll to it first, as a person does."""
    selector = f"[data-do={what}]"
    page.find(selector)
    page.run("document.querySelector(args[0]).scrollIntoView({block: 'center'})", selector)
    page.click(selector)


def in_kind(kind: str, rest: str) -> str:
    return f".kind:has(#kind-{kind}) {rest}"


def field(page: BrowserPage, key: str) -> str:
    """The selector of the input of a dotted key."""
    name = page.wait_for(
        "[...document.querySelectorAll('.field')].find((each) => each.querySelector('.hint code')?.textContent === "
        f"'{key}')?.querySelector('input, select, textarea')?.id",
        f"a field for {key}",
    )
    return f"#{name}"


def test_another_voice_is_made_checked_saved_and_used(page: BrowserPage, home: Home, other: OpenAiVendor) -> None:
    page.go("/console/settings")
    page.click(in_kind("tts", ".actions button:last-child"))
    page.find(".new-block option[value=openai]").click()
    type_into(page, ".new-block input", "Other")
    page.click(".new-block button")
    type_into(page, field(page, "TTS.Other.api_url"), other.base_url)
    type_into(page, field(page, "TTS.Other.voice"), "v2")
    page.wait_for_text("4 changes, not saved yet")

    type_into(page, field(page, "TTS.Other.api_key"), WRONG)
    press(page, "check")
    page.wait_for_text("It does not work.")
    assert "api_key was refused" in page.text and WRONG not in page.text
    page.check("wrong-key")

    type_into(page, field(page, "TTS.Other.api_key"), KEY)
    press(page, "check")
    page.wait_for_text("It answers.")
    press(page, "listen")
    page.wait_for("document.querySelector('audio')?.duration > 0.1", "a voice to be heard")
    page.wait_for_text("This can be saved.")
    page.check("before-saving")
    press(page, "save")
    page.wait_for_text("Put back")

    assert page.run("return document.querySelector('.kind:has(#kind-tts) select').value") == "Other"
    assert KEY in home.local.read_text(encoding="utf-8") and KEY not in page.run(
        "return document.documentElement.outerHTML"
    )
    settle_phrases(home)
    ask(home.device(), "what is up")
    assert [request.json()["voice"] for request in other.requests if b"Fine" in request.body] == ["v2"]


def test_faults_are_shown_before_anything_is_saved(page: BrowserPage, home: Home) -> None:
    before = home.local.read_bytes()
    page.go("/console/settings")
    page.click("details.group:nth-of-type(6) summary")
    type_into(page, field(page, "asr_timeout"), "-3")

    page.wait_for_text("This cannot be saved yet:")
    assert page.find(f"{field(page, 'asr_timeout')}[aria-invalid]")
    assert not page.find("[data-do=save]").is_enabled()
    page.check()

    page.click(".save-bar button")
    page.wait_for("!document.querySelector('.save-bar')", "no changes any more")
    assert home.local.read_bytes() == before


def test_who_comes_second_loads_again(page: BrowserPage, home: Home) -> None:
    page.go("/console/settings")
    page.click("details.group summary")
    type_into(page, field(page, "language"), "German")
    page.wait_for_text("This can be saved.")
    home.local.write_text(home.local.read_text(encoding="utf-8") + "# by hand\n", encoding="utf-8")

    press(page, "save")

    page.wait_for_text("Somebody else has changed the file meanwhile.")
    page.expect_fault("409")


def test_a_change_is_undone(page: BrowserPage, home: Home) -> None:
    before = home.local.read_text(encoding="utf-8")
    page.go("/console/settings")
    page.click("details.group summary")
    type_into(page, field(page, "language"), "German")
    press(page, "save")
    page.wait_for_text("keys: language")
    assert "language: German" in home.local.read_text(encoding="utf-8")

    page.click(".checks .button")
    page.click("dialog .danger")
    page.wait_for_text("settings put back")

    assert home.local.read_text(encoding="utf-8") == before


def test_first_steps_lead_to_a_voice_with_one_key(page: BrowserPage, home: Home, other: OpenAiVendor) -> None:
    page.go("/console/start")
    page.click("[data-preset=openai]")
    type_into(page, "[name=address]", other.base_url)
    type_into(page, "[name=key]", WRONG)
    press(page, "check")
    page.wait_for_text("Mend what is said above, then check again.")
    assert page.text.count("It does not work.") == 3
    page.check("wrong-key")

    type_into(page, "[name=key]", KEY)
    press(page, "check")
    page.wait_for_text("All of it works.")
    press(page, "listen")
    page.wait_for("document.querySelector('audio')?.duration > 0.1", "a voice to be heard")
    press(page, "save")
    page.wait_for_text("Talk to it now")
    page.check("done")

    generation = home.server.generation
    assert generation is not None
    assert [generation.loaded.settings.selected(kind) for kind in ("asr", "llm", "tts")] == [
        *("OpenaiASR", "OpenaiLLM", "OpenAITTS"),
    ]
    settle_phrases(home)


def test_every_form_can_be_read_by_everybody(page: BrowserPage) -> None:
    opened = "document.querySelectorAll('details.group:not([open])').forEach((each) => { each.open = true; })"
    page.check_for_everybody(
        "/console/settings", f"({opened}, document.querySelectorAll('details.group .field').length > 100)"
    )


def test_the_first_steps_can_be_read_by_everybody(page: BrowserPage) -> None:
    chosen = "document.querySelector('[data-preset=openai]:not([aria-pressed=true])')?.click()"
    page.check_for_everybody("/console/start", f"({chosen}, document.querySelector('[name=key]') !== null)")


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[Path]:
    """The log of the server, as a start configures it."""
    wanted, take = logs.tap.wanted, logs.tap.take
    logs.configure(directory=tmp_path, level="INFO")
    logs.tap.wanted, logs.tap.take = wanted, take
    yield tmp_path / "server.log"
    logs.shut_down()


def test_log_lines_of_a_turn(log_file: Path, page: BrowserPage, home: Home) -> None:
    device: Any = home.device()
    ask(device, "what is up")
    logs.get_logger("mine").warning("look at this", api_key=KEY)
    page.go("/console/logs")
    page.wait_for_text("look at this")
    assert KEY not in page.text

    page.run(
        "const lines = [...document.querySelectorAll('.log-lines li')];"
        "lines.find((each) => each.textContent.includes('outcome=')).querySelectorAll('button')[1].click()"
    )
    page.wait_for("!document.body.innerText.includes('look at this')", "only lines of one turn")
    page.wait_for_text(device.device_id)
    page.check("one-turn")

    page.go("/console/logs?level=warning")
    page.wait_for_text("look at this")
    logs.get_logger("mine").error("and now this")
    logs.get_logger("mine").info("but not this")
    page.wait_for_text("and now this")
    assert "but not this" not in page.text
    page.check_for_everybody("/console/logs", "document.querySelectorAll('.log-lines li').length > 3")
