"""The existing project's page, a device in the browser, talks to this server.

Its files are not ours to ship: `XIAOZHI_BROWSER_PAGE` names the folder with its index.html (main/digital-human in a
clone of xinnan-tech/xiaozhi-esp32-server). Without it the test is skipped. What the page sends is played without a
browser in tests/e2e/test_clients.py."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.simulator import speech
from loadtest.vendors.sounds import hum, wav
from tests.browser.chromium import BrowserPage
from tests.browser.served import served
from tests.lifecycle.house import TTS, House, Script
from tests.waiting import wait_for

FOLDER = os.environ.get("XIAOZHI_BROWSER_PAGE", "")
ITS_OWN = ("8006/wakeword-ws", "Live2D", "live2d", ".model3.json", "WebGL", "live2dManager")
"""Faults of the page that have nothing to do with a server: its wake-word program and its drawing are not there."""

pytestmark = pytest.mark.skipif(not FOLDER, reason="XIAOZHI_BROWSER_PAGE names no folder with the page")


@pytest.fixture(scope="module")
def house_settings() -> dict[str, Any]:
    return {"server": {"auth": {"enabled": True}}}


@pytest.fixture
def site(house: House) -> Iterator[str]:
    """The page on a port of its own: another origin than the server's."""
    house.reset()
    folder = Path(FOLDER)
    files = {f"/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    with served(files, policy="") as address:
        yield address
    house.close_devices()


def messages(page: BrowserPage, kind: str, *, sent: bool) -> list[dict[str, Any]]:
    """JSON messages of a type that the page has sent or received."""
    page.faults()
    texts = [frame["data"] for frame in page.frames if frame["sent"] is sent and isinstance(frame["data"], str)]
    return [message for message in map(json.loads, texts) if message.get("type") == kind]


def test_it_connects_with_a_token_and_hears_answers(page: BrowserPage, house: House) -> None:
    house.vendor.stand(TTS, Script(answer=wav(hum(1.0, 24_000), 24_000)))
    words = speech.speak("what is up with you").pcm + bytes(2 * 16_000 * 2)
    page.go("/favicon.ico")
    page.run(
        "localStorage.setItem('xz_tester_otaUrl', args[0])", f"http://127.0.0.1:{house.server.http_port}/xiaozhi/ota/"
    )
    page.go("/index.html")
    page.speak_into_microphone(words * 4, after_ms=3000)
    page.click("#dialBtn")

    wait_for(lambda: messages(page, "hello", sent=False), "hello")
    assert "authorization=Bearer" in page.run("return document.getElementById('serverUrl').value")
    wait_for(lambda: [m for m in messages(page, "stt", sent=False) if m["text"] == "what is up"], "the question")
    wait_for(lambda: len([m for m in messages(page, "tts", sent=False) if m["state"] == "stop"]) >= 2, "two answers")
    page.wait_for_text("Fine")
    assert page.heard().audible_ms > 0
    assert any(not frame["sent"] and isinstance(frame["data"], bytes) for frame in page.frames)
    assert any(message["payload"].get("result", {}).get("tools") for message in messages(page, "mcp", sent=True))
    for part in ITS_OWN:
        if any(part in fault for fault in page.faults()):
            page.expect_fault(part)
