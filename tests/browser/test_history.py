"""The pages of what was said, in a browser: a real conversation appears, is found, explained, played, erased."""

from __future__ import annotations

import time
from typing import Any

import pytest

from loadtest.simulator import speech
from tests.browser.chromium import VIEWERS, BrowserPage, Viewer
from tests.browser.owners import hear
from tests.e2e.stage import a_tool, speak_to, tool_call
from tests.lifecycle.house import CHAT, House, Script, ask
from tests.waiting import wait_for
from xiaozhi.history.encoding import compressed
from xiaozhi.history.entries import HistoryEntry, SessionInfo, ToolUse
from xiaozhi.history.slowness import SHARES
from xiaozhi.history.store import LocalHistory
from xiaozhi.tools.base import Action, ToolOutcome

ANNA, BERT = "02:00:00:00:0e:01", "02:00:00:00:0e:02"
QUESTION = "what is up with you"


@pytest.fixture(scope="module")
def house_settings() -> dict[str, Any]:
    return {"history": {"mode": "sound"}}


@pytest.fixture
def store(house: House) -> LocalHistory:
    """What is kept."""
    return house.server.history.store


def talk(store: LocalHistory, *turns: HistoryEntry) -> None:
    """A conversation that has taken place."""
    store.deliver(turns)


def turns_of_a_slow_day(device: str = ANNA) -> list[HistoryEntry]:
    """One of each kind, with sound, tools, timings."""
    now = time.time()
    info = SessionInfo(f"{int(now * 1000):032x}", device, "client", now - 60)
    usual = {**dict.fromkeys(SHARES, 20), "silence": 500, "model": 400, "voice": 250, "ended": 3_000}
    weather = ToolUse("get_weather", {"city": "Ulm"}, "done", "Rain until the evening.", 1_900)
    return [
        HistoryEntry(info, 1, now - 59, said="Tell me a story", spoken=("Once upon a time.",), timings=usual),
        HistoryEntry(
            info,
            2,
            now - 40,
            said="Will it rain today?",
            spoken=("It rains until the evening.", "Take an umbrella."),
            tools=(weather,),
            timings={**usual, "model": 2_400, "first_sentence": 2_000, "ended": 9_000},
            speaker="Anna",
            sound=compressed(speech.speak(QUESTION).pcm),
        ),
        HistoryEntry(
            info,
            3,
            now - 20,
            said="你好小智",
            spoken=("我在呢。",),
            outcome="interrupted",
            reason="abort",
            timings=usual,
        ),
        HistoryEntry(info, 4, now - 10, said="And now?", outcome="failed", reason="VendorRejected"),
        HistoryEntry(info, 5, now - 5, spoken=("Dinner is ready.",), announcement=True, timings={"ended": 900}),
    ]


@pytest.mark.parametrize("viewer", VIEWERS, ids=str)
def test_they_fit_and_read_well(page: BrowserPage, store: LocalHistory, viewer: Viewer) -> None:
    entries = turns_of_a_slow_day()
    talk(store, *entries)

    page.go("/console/history")
    page.wait_for_text("Tell me a story")
    page.assert_light()
    page.check("list")

    page.go(f"/console/history/{entries[0].session.id}")
    page.wait_for_text("Will it rain today?")
    page.find(".waterfall")
    page.find(".why.slow")
    page.check("conversation")


def test_a_conversation_appears_by_itself_with_where_its_time_went(page: BrowserPage, house: House) -> None:
    tool = a_tool("look_up", lambda arguments, context: ToolOutcome(Action.ASK_LLM, "it is noon"))
    house.vendor.script(CHAT, Script(answer=[tool_call("look_up", what="time")]), Script(answer="It is noon."))
    page.go("/console/history")
    page.find(".empty, .conversations")

    with house.tools(tool):
        speak_to(house.device(device_id=BERT), speech.speak(QUESTION))
    page.wait_for_text("It is noon.")
    page.click(".conversation")

    page.wait_for_text("look_up")
    assert page.find(".bubble.asked").text.endswith("what is up")
    rows = page.run("return [...document.querySelectorAll('.waterfall tbody th')].map((each) => each.textContent)")
    assert {"voice detector", "recognition", "language model"} & set(rows)
    page.click(".used summary")
    page.wait_for_text("it is noon")
    page.run("await document.querySelector('audio').play()")
    hear(page, 500)


def test_it_is_searched_and_says_why_it_was_slow(page: BrowserPage, store: LocalHistory) -> None:
    talk(store, *turns_of_a_slow_day())
    page.go("/console/history")

    page.find("input[name=search]").send_keys("UMBRELLA")
    page.wait_for("document.querySelector('mark')?.textContent === 'umbrella'")
    page.click(".conversation")

    page.wait_for("document.querySelector('.bubble mark')?.textContent === 'umbrella'")
    why = page.find(".why.slow").text
    assert "Why was it slow?" in why
    assert "The language model took 2.4 s" in why and "get_weather took 1.9 s" in why
    assert "It failed before the first sound: VendorRejected." in page.text
    assert "said by the server" in page.text

    page.go("/console/history?search=nothing+like+this")
    page.wait_for_text("Nothing was found.")


def test_one_conversation_is_erased_when_that_was_meant(page: BrowserPage, store: LocalHistory) -> None:
    entries = turns_of_a_slow_day()
    talk(store, *entries)
    page.go(f"/console/history/{entries[0].session.id}")

    page.click(".page-head .danger")
    page.click("dialog button[value=no]")
    assert store.turns(entries[0].session.id)
    page.click(".page-head .danger")
    page.click("dialog button[value=yes]")

    page.wait_for("location.pathname === '/console/history'")
    assert store.turns(entries[0].session.id) == []


def test_all_of_a_device_is_taken_along_and_erased(page: BrowserPage, house: House, store: LocalHistory) -> None:
    device = house.device(device_id="02:00:00:00:0e:07")
    ask(device, "remember this")
    wait_for(lambda: store.newest(device.device_id, 1), "the turn")
    page.go(f"/console/history?device={device.device_id}")
    page.wait_for_text("remember this")

    size = page.run(
        """const link = document.querySelector("a[download]");
        const answer = await fetch(link.href);
        const bytes = new Uint8Array(await answer.arrayBuffer());
        return [answer.headers.get("content-type"), String.fromCharCode(bytes[0], bytes[1])]"""
    )
    assert size == ["application/zip", "PK"]

    page.click(".danger")
    page.click("dialog button[value=yes]")
    page.wait_for_text("1 turns and")
    assert store.newest(device.device_id, 1) == []


def test_it_says_when_nothing_is_kept(page: BrowserPage, house: House) -> None:
    house.change({"history": {"mode": "off"}})
    assert house.server.reload() == ()
    try:
        page.go("/console/history")
        page.wait_for_text("Nothing is kept: history.mode is off.")
        page.check()
    finally:
        house.change({"history": {"mode": "sound"}})
        assert house.server.reload() == ()
