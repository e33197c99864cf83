"""Chromium as tests use it: one browser per test, with a profile of its own, driven by Selenium.

Not a test and not the server. `conftest.py` makes a `BrowserPage` for each test and asserts at its end that the page
had no faults: no error in the console, no request that failed, none to another host.

Started without a window and without a sandbox (CI is root). Its microphone is a WAV file, read anew by each
getUserMedia; its camera is Chromium's test picture. Both are granted without a question. Sound needs a click first, as
for everybody."""

from __future__ import annotations

import base64
import json
import re
import shutil
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser.played import PlayedSound
from tests.ops.programs import ROOT, need
from tests.waiting import PATIENCE_S

HERE = Path(__file__).parent
SCREENSHOTS = ROOT / "tmp" / "screenshots"
LAN_HOST = "xiaozhi.lan"
"""Leads to 127.0.0.1, but is no secure context: browsers give it no microphone."""
FIRST_LOAD_BYTES = 300 * 1024
MICROPHONE_RATE = 16_000
_POLL_S = 0.05
_OWN_HOSTS = {"127.0.0.1", "localhost", LAN_HOST}
_GRAVE = ("serious", "critical")
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--mute-audio",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    f"--host-resolver-rules=MAP {LAN_HOST} 127.0.0.1",
)


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at a page: the screen in CSS pixels, the preferred colours, the language of the browser."""

    width: int = 1280
    height: int = 800
    phone: bool = False
    dark: bool = False
    language: str = "en"

    def __str__(self) -> str:
        device = "phone" if self.phone else "desktop"
        return f"{device}-{self.language}-{'dark' if self.dark else 'light'}"


DESKTOP = Viewer()
PHONE = Viewer(width=390, height=844, phone=True)
VIEWERS = (
    DESKTOP,
    replace(DESKTOP, dark=True, language="zh-CN"),
    replace(PHONE, dark=True),
    replace(PHONE, language="zh-CN"),
)
"""Every pair of screen, colours and language."""


class BrowserPage:
    """One tab. `driver` is Selenium's, for what is not here: clicks, keys, elements. Use `open_page`."""

    def __init__(self, driver: webdriver.Chrome, site: str, viewer: Viewer, microphone: Path, name: str) -> None:
        self.driver = driver
        self.site = site
        self.viewer = viewer
        self.loaded_bytes = 0
        """What came over the network since `go`, headers included."""
        self.frames: list[dict[str, Any]] = []
        """WebSocket frames since the start of the test: {"sent": bool, "data": str or bytes}."""
        self._microphone = microphone
        self._name = name
        self._faults: list[str] = []
        self._expected: list[str] = []
        self.speak_into_microphone(b"")
        self.run_before_scripts((HERE / "ear.js").read_text(encoding="utf-8"))
        self.become(viewer)

    # --- what a person does -------------------------------------------------------------------------------------------

    def become(self, viewer: Viewer) -> None:
        """Another screen, other colours, another language; the language counts from the next `go`."""
        self.viewer = viewer
        screen = {"width": viewer.width, "height": viewer.height, "deviceScaleFactor": 1, "mobile": viewer.phone}
        colours = {"name": "prefers-color-scheme", "value": "dark" if viewer.dark else "light"}
        agent = self.run("return navigator.userAgent")
        self._tell("Emulation.setDeviceMetricsOverride", **screen)
        self._tell("Emulation.setTouchEmulationEnabled", enabled=viewer.phone)
        self._tell("Emulation.setEmulatedMedia", features=[colours])
        self._tell("Emulation.setLocaleOverride", locale=viewer.language)
        self._tell("Network.setUserAgentOverride", userAgent=agent, acceptLanguage=viewer.language)

    def go(self, path: str, *, host: str = "") -> None:
        """Load a path of the site, until the `load` event. `host`: by this name instead, such as LAN_HOST."""
        site = self.site if not host else f"http://{host}:{urlsplit(self.site).port}"
        self._read_logs()
        self.loaded_bytes = 0
        self.driver.get(site + path)
        self._read_logs()

    def find(self, selector: str) -> WebElement:
        """The element of a CSS selector; waits until it is there and shown."""
        return self._wait(lambda: next(filter(WebElement.is_displayed, self._all(selector)), None), f"{selector} shown")

    def click(self, selector: str) -> None:
        """Click the element of a CSS selector, as soon as it can be."""
        self._wait(lambda: self.find(selector).is_enabled(), f"{selector} enabled")
        self.find(selector).click()

    def speak_into_microphone(self, pcm: bytes, *, after_ms: int = 300) -> None:
        """What the next getUserMedia hears, once: s16le mono of 16 kHz, `after_ms` after the call; then silence."""
        with wave.open(str(self._microphone), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(MICROPHONE_RATE)
            file.writeframes(bytes(2 * MICROPHONE_RATE * after_ms // 1000) + pcm)

    # --- what the page is ---------------------------------------------------------------------------------------------

    def run(self, body: str, *args: Any) -> Any:
        """The body of an async function in the page, its parameters are called `args`; gives what it returns.

        Raises AssertionError with the stack of what it throws."""
        script = f"""const args = [...arguments], done = args.pop();
            const run = async () => {{ {body} }};
            run().then((value) => done([value]), (error) => done([null, error?.stack || `${{error}}`]))"""
        value, *error = self.driver.execute_async_script(script, *args)
        assert not error, error[0]
        return value

    def run_before_scripts(self, script: str) -> None:
        """From the next `go`, each page runs this before its own scripts: for an API that is missing, or refuses."""
        self._tell("Page.addScriptToEvaluateOnNewDocument", source=script)

    def wait_for(self, condition: str, what: str = "") -> Any:
        """Until a JavaScript expression is true; gives its value. Raises selenium's TimeoutException."""
        return self._wait(lambda: self.run(f"return {condition}"), what or condition)

    def wait_for_text(self, text: str) -> None:
        """Until the page shows it."""
        self._wait(lambda: text in self.text, f"{text!r} in the page")

    @property
    def text(self) -> str:
        """What the page shows."""
        return str(self.run("return document.body.innerText"))

    def heard(self) -> PlayedSound:
        """What the page has played since it was loaded, or since the last call."""
        parts = self.run("return takeHeard()")
        return PlayedSound.joined([(part["rate"], base64.b64decode(part["samples"])) for part in parts])

    # --- what it must be ----------------------------------------------------------------------------------------------

    def check(self, screenshot: str = "") -> None:
        """All that every page has to be: it fits the screen and is accessible; a picture is kept."""
        self.screenshot(screenshot)
        self.assert_fits()
        self.assert_accessible()

    def check_for_everybody(self, path: str, ready: str = "true") -> None:
        """Load a path once for each of VIEWERS, wait until `ready` (JavaScript) is true, and check it."""
        for viewer in VIEWERS:
            self.become(viewer)
            self.go(path)
            self.wait_for(ready)
            self.check(str(viewer))

    def assert_fits(self) -> None:
        """No sideways scrolling. A phone without a viewport in the page's head lays it out for a desktop, and fails."""
        width = self.viewer.width
        found = self.run(
            """const isWide = (one) => one.getBoundingClientRect().right > args[0] + 1;
            const wide = [...document.body.querySelectorAll("*")].filter(isWide).slice(-5);
            return [document.scrollingElement.scrollWidth, wide.map((one) => one.cloneNode(false).outerHTML)]""",
            width,
        )
        assert found[0] <= width, f"{found[0]} px wide on a screen of {width}; too far right: {found[1]}"

    def assert_accessible(self) -> None:
        """No serious or critical finding of axe-core."""
        self.driver.execute_script((HERE / "axe.min.js").read_text(encoding="utf-8"))
        findings = self.run("return (await axe.run(document, {resultTypes: ['violations']})).violations")
        lines = [
            f"{finding['id']} ({finding['impact']}): {finding['help']}: {node['html']}: {node['failureSummary']}"
            for finding in findings
            if finding["impact"] in _GRAVE
            for node in finding["nodes"]
        ]
        assert not lines, "\n".join(lines)

    def assert_light(self) -> None:
        """What was loaded since `go` is less than a first load may be. The second `go` of a test finds things in the
        cache."""
        self._read_logs()
        assert 0 < self.loaded_bytes < FIRST_LOAD_BYTES, f"{self.loaded_bytes} bytes"

    def screenshot(self, name: str = "") -> Path:
        """The whole page, also what is below the screen, in tmp/screenshots/<test>[-name].png."""
        picture = self._tell("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{'-'.join(filter(None, [self._name, name]))}.png"
        path.write_bytes(base64.b64decode(picture))
        return path

    def expect_fault(self, part: str) -> None:
        """A fault whose text contains `part` is what the test is about: it must come, and is none."""
        self._expected.append(part)

    def faults(self) -> list[str]:
        """What went wrong so far and was not expected, and what was expected and did not come."""
        self._read_logs()
        unexpected = [fault for fault in self._faults if not any(part in fault for part in self._expected)]
        absent = [part for part in self._expected if not any(part in fault for fault in self._faults)]
        return unexpected + [f"expected, and did not come: {part}" for part in absent]

    # --- inside -------------------------------------------------------------------------------------------------------

    def _tell(self, command: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, parameters)

    def _all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements("css selector", selector)

    def _wait(self, condition: Any, what: str) -> Any:
        return WebDriverWait(self.driver, PATIENCE_S, _POLL_S).until(lambda _: condition(), f"waited for {what}")

    def _read_logs(self) -> None:
        """Both logs of the driver are empty after they were read."""
        for entry in self.driver.get_log("browser"):
            if entry["level"] == "SEVERE":
                self._faults.append(f"console: {entry['message']}")
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            self._note(message["method"], message["params"])

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Network.loadingFinished":
            self.loaded_bytes += int(params["encodedDataLength"])
        elif event in ("Network.requestWillBeSent", "Network.webSocketCreated"):
            url = urlsplit(params["request"]["url"] if "request" in params else params["url"])
            if url.hostname and url.scheme in ("http", "https", "ws", "wss") and url.hostname not in _OWN_HOSTS:
                self._faults.append(f"asks another host: {url.geturl()}")
        elif event in ("Network.webSocketFrameSent", "Network.webSocketFrameReceived"):
            frame = params["response"]
            text = str(frame["payloadData"])
            data = text if frame["opcode"] == 1 else base64.b64decode(text)
            self.frames.append({"sent": event.endswith("Sent"), "data": data})


@contextmanager
def open_page(site: str, viewer: Viewer, folder: Path, name: str) -> Iterator[BrowserPage]:
    """A browser with one empty tab. `site`: "http://127.0.0.1:8003"; `folder`: for the microphone's file; `name`: of
    the test, for its pictures. Skips the test where there is no Chromium; in CI fails it."""
    browser, driver_program = _programs()
    microphone = folder / "microphone.wav"
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for argument in (*_ARGUMENTS, f"--use-file-for-fake-audio-capture={microphone}%noloop"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(driver_program))
    try:
        driver.set_script_timeout(PATIENCE_S)
        driver.set_page_load_timeout(PATIENCE_S)
        yield BrowserPage(driver, site, viewer, microphone, re.sub(r"[^\w.-]+", "-", name).strip("-"))
    finally:
        driver.quit()


def _programs() -> tuple[str, str]:
    """Browser and driver, of one version: both from .tools (`make tools`), or both from the system."""
    unpacked = ROOT / ".tools" / "bin"
    if (unpacked / "chromedriver").exists():
        return str(unpacked / "chromium-headless-shell"), str(unpacked / "chromedriver")
    driver = need("chromedriver")
    browsers = map(shutil.which, ("chromium", "google-chrome", "chromium-headless-shell"))
    return next(filter(None, browsers), None) or need("chromium"), driver
