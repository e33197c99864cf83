"""A device in the page, against the server as it comes out of the box: what is said into the microphone is understood,
answered, shown and heard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Keys

from loadtest.simulator import speech
from loadtest.simulator.device import SimulatedDevice
from tests.browser.chromium import LAN_HOST, VIEWERS, BrowserPage, Viewer
from tests.e2e.stage import unshakable
from tests.subtitles import shown
from tests.waiting import wait_for
from xiaozhi.app.server import Server
from xiaozhi.protocol import close_codes
from xiaozhi.settings import load

pytestmark = pytest.mark.leaks("the server learns at its next word to it that a page with live events is gone")

TIME = "what time is it"
VOLUME = "turn up the volume"
JOKE = "tell me a joke"
ABILITIES = "what can you do"
NOW = datetime(2031, 5, 7, 15, 5)
ANSWER = shown("It is 3:05 PM.")
SETTINGS: dict[str, Any] = {
    "server": {"ip": "127.0.0.1", "port": 0, "http_port": 0, "drain_seconds": 1},
    "monitoring": {"sample_interval": 0},
}
IDS = "JSON.parse(localStorage.getItem('xiaozhi.device'))"
NO_OPUS = "delete window.AudioEncoder"
REFUSE = "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', 'NotAllowedError'))"
NO_MICROPHONE = "Object.defineProperty(Navigator.prototype, 'mediaDevices', {get: () => undefined})"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server; only the clock is set."""
    speech.speak_all([TIME, VOLUME, ABILITIES])
    data = str(tmp_path_factory.mktemp("data"))
    loaded = load(environ={}, overrides={**SETTINGS, "log": {"log_dir": "", "data_dir": data}})
    running = Server(loaded, reload=lambda: loaded, shed_policy=unshakable())
    try:
        running.start()
        generation = running.generation
        assert generation is not None
        wait_for(lambda: not generation.agent.phrases.preparing, "the phrases")
        generation.agent.providers.llm.now = lambda: NOW
        yield running
    finally:
        running.stop(drain_seconds=0)


@pytest.fixture
def site(server: Server) -> Iterator[str]:
    yield f"http://127.0.0.1:{server.http_port}"
    wait_for(lambda: len(server.connections) == 0, "the server to be empty")


def pcm(*parts: str | int) -> bytes:
    """Sentences, and silences in ms."""
    return b"".join(bytes(32 * part) if isinstance(part, int) else speech.speak(part).pcm for part in parts)


def opened(page: BrowserPage) -> None:
    page.go("/talk")
    page.find(".big")


def state(page: BrowserPage, name: str) -> None:
    page.wait_for(f"document.querySelector('.state.{name}') !== null", f"the page to be {name}")


def choose(page: BrowserPage, mode: str) -> None:
    page.run(f"document.querySelector('input[value={mode}]').click()")


def lines(page: BrowserPage, kind: str) -> list[str]:
    return list(
        page.run("return [...document.querySelectorAll(args[0])].map((one) => one.innerText)", f".lines .{kind}")
    )


def wait_for_answer(page: BrowserPage, number: int = 1) -> None:
    """Until so many answers were given and the last is told of in full."""
    page.wait_for(f"document.querySelectorAll('.lines .answer .bar').length >= {number}", "the answer")


def type_text(page: BrowserPage, text: str) -> None:
    page.find(".type input").send_keys(text + Keys.ENTER)


def hold(page: BrowserPage, said: bytes) -> None:
    """Hold the button while something is said."""
    page.speak_into_microphone(said)
    ActionChains(page.driver).click_and_hold(page.find(".big")).perform()
    page.wait_for("document.querySelector('.state.listening') !== null")
    page.run("await new Promise((resolve) => setTimeout(resolve, args[0]))", len(said) // 32 + 600)
    ActionChains(page.driver).release().perform()


def messages(page: BrowserPage, *, sent: bool) -> list[dict[str, Any]]:
    page.faults()  # reads the browser's log
    return [json.loads(one["data"]) for one in page.frames if one["sent"] is sent and isinstance(one["data"], str)]


def test_nothing_begins_before_a_press(page: BrowserPage) -> None:
    page.run_before_scripts(
        """window.begun = [];
        for (const name of ["AudioContext", "WebSocket"])
            window[name] = new Proxy(window[name], {
                construct(made, given) { begun.push(name); return new made(...given); },
            });
        const ask = navigator.mediaDevices.getUserMedia;
        navigator.mediaDevices.getUserMedia = function (...given) {
            begun.push("microphone");
            return ask.apply(this, given);
        };"""
    )
    opened(page)
    page.assert_light()
    page.wait_for_text("Not connected")
    assert page.run("return begun") == []

    type_text(page, TIME)
    wait_for_answer(page)
    assert page.run("return begun.sort()") == ["AudioContext", "WebSocket"]


@pytest.mark.parametrize("viewer", VIEWERS, ids=str)
def test_a_question_by_button_is_shown_answered_and_heard(page: BrowserPage, viewer: Viewer) -> None:
    opened(page)
    page.check("before")

    hold(page, pcm(TIME))
    wait_for_answer(page)
    state(page, "ready")

    assert lines(page, "you")[0].endswith(TIME)
    answer = lines(page, "answer")[0]
    assert ANSWER in answer
    assert page.run("return document.querySelectorAll('.answer > .times li').length") == 3, "three stages"
    assert page.heard().speech_ms > 600
    sent = messages(page, sent=True)
    hello = next(one for one in sent if one["type"] == "hello")
    assert hello["audio_params"] == {"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": 60}
    assert [(one["state"], one.get("mode")) for one in sent if one["type"] == "listen"] == [
        ("start", "manual"),
        ("stop", None),
    ]
    page.check("after")


@pytest.mark.parametrize("way", ["space", "screen reader"])
def test_a_tap_holds_the_button_until_the_next(page: BrowserPage, way: str) -> None:
    def tap() -> None:
        if way == "space":
            ActionChains(page.driver).send_keys(Keys.SPACE).perform()
        else:
            page.run("document.querySelector('.big').click()")

    opened(page)
    page.speak_into_microphone(pcm(TIME))
    page.find("h1").click()

    tap()
    page.wait_for_text("Tap to send")
    state(page, "listening")
    page.run("await new Promise((resolve) => setTimeout(resolve, args[0]))", len(pcm(TIME)) // 32 + 600)
    page.check("listening")
    tap()

    wait_for_answer(page)
    assert ANSWER in lines(page, "answer")[0]


@pytest.mark.parametrize("mode", ["auto", "realtime"])
def test_a_conversation_goes_on_by_itself(page: BrowserPage, mode: str) -> None:
    opened(page)
    page.speak_into_microphone(pcm(TIME, 6000, VOLUME, 1000))
    choose(page, mode)

    page.click(".big")
    wait_for_answer(page, 2)
    state(page, "listening")

    assert [line.splitlines()[-1] for line in lines(page, "you")] == [TIME, VOLUME]
    assert ANSWER in lines(page, "answer")[0]
    assert page.heard().speech_ms > 1000
    page.wait_for("document.querySelector('.knobs input').value === '80'", "the volume to be up")
    assert "self.audio_speaker.set_volume volume=80" in " ".join(lines(page, "tool"))
    page.click(".lines .answer:last-of-type summary")
    page.wait_for_text("silence awaited")

    page.click(".big")
    state(page, "ready")
    assert page.run("return document.querySelector('.big').innerText") == "Start talking"
    page.go("/talk")
    page.wait_for("document.querySelector('.knobs input')?.value === '80'", "the volume of the last visit")
    assert page.run("return document.querySelector('[name=mode]:checked').value") == mode


def test_speaking_up_interrupts_an_answer(page: BrowserPage) -> None:
    opened(page)
    page.speak_into_microphone(pcm(ABILITIES, 2500, TIME, 1000))
    choose(page, "realtime")

    page.click(".big")
    page.wait_for("document.querySelectorAll('.lines .answer .bar').length >= 2", "both answers")
    state(page, "listening")

    assert [line.splitlines()[-1] for line in lines(page, "you")] == [ABILITIES, TIME]
    interrupted, answered = lines(page, "answer")
    assert "(interrupted)" in interrupted and "(interrupted)" not in answered
    assert ANSWER in answered


@pytest.mark.parametrize("way", ["escape", "button"])
def test_an_answer_is_silent_at_once_when_it_is_stopped(page: BrowserPage, way: str) -> None:
    opened(page)
    type_text(page, JOKE)
    state(page, "speaking")
    page.wait_for("document.querySelector('.answer .times li:nth-child(3)') !== null", "the first sound")

    if way == "escape":
        ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
    else:
        page.click(".beside button")
    state(page, "ready")
    page.heard()
    page.run("await new Promise((resolve) => setTimeout(resolve, 700))")

    assert page.heard().audible_ms <= 50
    assert any(one["type"] == "abort" for one in messages(page, sent=True))
    type_text(page, TIME)
    page.wait_for_text(ANSWER)


def test_without_webcodecs_it_speaks_pcm(page: BrowserPage) -> None:
    page.run_before_scripts(NO_OPUS)
    opened(page)

    hold(page, pcm(TIME))
    wait_for_answer(page)
    state(page, "ready")

    assert next(one for one in messages(page, sent=True) if one["type"] == "hello")["audio_params"]["format"] == "pcm"
    assert ANSWER in lines(page, "answer")[0]
    assert page.heard().speech_ms > 600


def test_over_plain_http_it_says_why_there_is_no_microphone(page: BrowserPage, server: Server) -> None:
    page.go("/talk", host=LAN_HOST)
    page.find("input[type=password]").send_keys(server.facts().password + Keys.ENTER)
    page.find(".big")

    page.wait_for_text("plain http")
    for way in (f"http://127.0.0.1:{server.http_port}/talk", "server.tls.certfile", "unsafely-treat-insecure-origin"):
        assert way in page.text
    assert not page.find(".big").is_enabled()
    page.check("advice")
    type_text(page, TIME)
    wait_for_answer(page)
    state(page, "ready")
    assert ANSWER in lines(page, "answer")[0]
    assert page.heard().speech_ms > 600, "the answer to typed text is heard all the same"


@pytest.mark.parametrize(("script", "words"), [(REFUSE, "was not allowed"), (NO_MICROPHONE, "cannot hand over")])
def test_a_microphone_that_cannot_be_had_is_said(page: BrowserPage, script: str, words: str) -> None:
    page.run_before_scripts(script)
    opened(page)
    if script == REFUSE:
        page.click(".big")

    page.wait_for_text(words)
    type_text(page, TIME)
    wait_for_answer(page)


def test_the_connection_is_made_again(page: BrowserPage, server: Server) -> None:
    opened(page)
    choose(page, "auto")
    page.click(".big")
    state(page, "listening")

    for live in server.connections.of_device(page.run(f"return {IDS}.device_id")):
        live.close(close_codes.SERVICE_RESTART, "restarting")

    state(page, "reconnecting")
    state(page, "listening")
    type_text(page, TIME)
    wait_for_answer(page)


def test_another_tab_takes_over(page: BrowserPage, server: Server) -> None:
    opened(page)
    type_text(page, TIME)
    wait_for_answer(page)
    device = page.run(f"return {IDS}")

    other = SimulatedDevice(f"ws://127.0.0.1:{server.port}/xiaozhi/v1/", device_id=device["device_id"])
    try:
        other.connect()
        page.wait_for_text("another tab")
        state(page, "off")
    finally:
        other.close()


def test_a_picture_is_taken_when_it_may_be(page: BrowserPage, server: Server) -> None:
    opened(page)
    type_text(page, TIME)
    wait_for_answer(page)
    session = server.services.sessions.of_device(page.run(f"return {IDS}.device_id"))
    assert session is not None and session.mcp is not None
    offered = session.mcp.list_for_operators()
    assert "self.camera.take_photo" not in [spec.name for spec in offered]

    page.click(".knobs input[type=checkbox]")
    wait_for(lambda: any("take_photo" in tool.spec.name for tool in session.mcp.tools()), "the tool to be offered")
    looked = session.mcp.call_for_operators("self.camera.take_photo", {"question": "what is this"})

    assert "vision model" in str(looked), "the server's own words came back"
    page.wait_for("document.querySelector('.picture img')?.naturalWidth > 0", "the picture")
    page.check()


def test_ids_of_somebody_else_are_given_up(page: BrowserPage, server: Server) -> None:
    opened(page)
    type_text(page, TIME)
    wait_for_answer(page)
    page.run(
        f"""const kept = {IDS}; kept.client_id = crypto.randomUUID();
        localStorage.setItem("xiaozhi.device", JSON.stringify(kept))"""
    )
    opened(page)
    page.expect_fault("409")

    type_text(page, TIME)
    page.wait_for_text("another client id")
    page.click(".notice button")
    type_text(page, TIME)
    wait_for_answer(page)


def test_samples_keep_their_pitch_at_another_rate(page: BrowserPage) -> None:
    page.go("/talk")
    measured = page.run(
        """const { Resampler } = await import("/console/static/talk/resampler.js");
        const sine = (hertz, rate) => (_, at) => Math.sin((2 * Math.PI * hertz * at) / rate);
        const measure = (hertz, from, to) => {
            const resampler = new Resampler(from, to);
            const out = [];
            const samples = Float32Array.from({ length: from }, sine(hertz, from));
            for (let at = 0; at < samples.length; at += 128)
                out.push(...resampler.push(samples.subarray(at, at + 128)));
            const middle = out.slice(to / 4, to / 2);
            let crossings = 0;
            for (let at = 1; at < middle.length; at++) crossings += middle[at - 1] < 0 && middle[at] >= 0;
            return [out.length, crossings * 4, Math.max(...middle)];
        };
        return [[1000, 48000, 16000], [1000, 44100, 16000], [10000, 48000, 16000], [1000, 24000, 48000]]
            .map((each) => measure(...each))"""
    )
    for (length, hertz, peak), rate in zip(
        (measured[0], measured[1], measured[3]), (16_000, 16_000, 48_000), strict=True
    ):
        assert length == pytest.approx(rate, abs=60)
        assert hertz == pytest.approx(1000, abs=8)
        assert peak == pytest.approx(1.0, abs=0.02)
    assert measured[2][2] < 0.02, "what the lower rate cannot hold is gone"
