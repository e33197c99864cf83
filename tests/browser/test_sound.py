"""A page hears the microphone's file and plays it back through Opus, as a device in the browser does; the test hears
what it plays. Not the project's own page: it shows what Chromium and the listening can do."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from loadtest.simulator import opus, speech
from loadtest.vendors.sounds import hum, wav
from tests.browser.chromium import BrowserPage
from tests.browser.played import SAMPLE_RATE, PlayedSound
from tests.browser.served import served
from tests.fakes.sound import tone

QUESTION = "what is up with you"
ANOTHER = "and one more thing please"

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Echo</title>
<main><h1>Echo</h1><button id="listen">Listen</button><button id="element">Play</button>
<button id="quiet">Play nothing</button></main><script type="module" src="echo.js"></script>"""

COLLECTOR = """registerProcessor("collector", class extends AudioWorkletProcessor {
    process([[samples]]) { if (samples) this.port.postMessage(samples.slice()); return true; }
});"""

ECHO = """
    const SECONDS = 2.4;
    window.packets = [];

    async function listen() {
        const context = new AudioContext({ sampleRate: 16000 });
        await context.audioWorklet.addModule("collector.js");
        const microphone = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true } });
        const collector = new AudioWorkletNode(context, "collector", { numberOfOutputs: 0 });
        const decoder = new AudioDecoder({ output: (data) => play(context, data), error: console.error });
        decoder.configure({ codec: "opus", sampleRate: 24000, numberOfChannels: 1 });
        const encoder = new AudioEncoder({
            output: (chunk) => {
                const bytes = new Uint8Array(chunk.byteLength);
                chunk.copyTo(bytes);
                packets.push(btoa(String.fromCharCode(...bytes)));
                decoder.decode(chunk);
            },
            error: console.error,
        });
        encoder.configure({ codec: "opus", sampleRate: 16000, numberOfChannels: 1, bitrate: 24000,
                            opus: { frameDuration: 60000, application: "voip" } });
        let sent = 0;
        collector.port.onmessage = ({ data }) => {
            if (sent >= SECONDS * 16000) return;
            encoder.encode(new AudioData({ format: "f32-planar", sampleRate: 16000, numberOfChannels: 1,
                                           numberOfFrames: data.length, timestamp: sent / 0.016, data }));
            sent += data.length;
            if (sent >= SECONDS * 16000) {
                microphone.getTracks().forEach((track) => track.stop());
                encoder.flush().then(() => decoder.flush()).then(() => { document.title = "Done"; });
            }
        };
        context.createMediaStreamSource(microphone).connect(collector);
    }

    let free = 0;
    function play(context, data) {
        const samples = new Float32Array(data.numberOfFrames);
        data.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
        const buffer = context.createBuffer(1, samples.length, data.sampleRate);
        buffer.copyToChannel(samples, 0);
        data.close();
        const source = context.createBufferSource();
        source.buffer = buffer;
        source.connect(context.destination);
        free = Math.max(free, context.currentTime + 0.1);
        source.start(free);
        free += buffer.duration;
        window.playedUntil = () => context.currentTime > free + 0.2;
    }

    const on = (id, act) => document.getElementById(id).addEventListener("click", act);
    on("listen", listen);
    on("quiet", () => { new OscillatorNode(new AudioContext()).start(); });
    on("element", () => {
        const audio = new Audio("sound.wav");
        audio.onended = () => { document.title = "Done"; };
        audio.play();
    });
"""


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """The page."""
    speech.speak_all([QUESTION, ANOTHER])
    sound = wav(hum(1.0, 24_000), 24_000)
    with served({"/": PAGE, "/echo.js": ECHO, "/collector.js": COLLECTOR, "/sound.wav": sound}) as address:
        yield address


@pytest.fixture
def site(echo: str) -> str:
    return echo


def test_speech_goes_from_the_microphone_through_opus_to_the_loudspeaker(page: BrowserPage) -> None:
    for question in (QUESTION, ANOTHER):
        said = speech.speak(question)
        spoken_ms = said.voice_until_ms - said.voice_from_ms
        page.go("/")
        page.speak_into_microphone(said.pcm)
        page.click("#listen")
        page.wait_for("document.title === 'Done' && playedUntil()", "the echo")

        packets = [base64.b64decode(packet) for packet in page.run("return packets")]
        assert len(packets) == pytest.approx(2400 / 60, abs=2)
        sent = PlayedSound(opus.decode(packets, SAMPLE_RATE))
        assert sent.speech_ms > spoken_ms / 2
        heard = page.heard()
        assert heard.speech_ms == pytest.approx(sent.speech_ms, rel=0.25)
        assert page.heard().audible_ms == 0, "what was taken is gone"


def test_a_media_element_is_heard(page: BrowserPage) -> None:
    page.go("/")
    page.click("#element")
    page.wait_for("document.title === 'Done'", "the end of the sound")
    assert page.heard().audible_ms == pytest.approx(800, abs=250)


def test_what_reaches_no_loudspeaker_is_not_heard(page: BrowserPage) -> None:
    page.go("/")
    page.click("#quiet")
    assert page.heard() == PlayedSound(b"")


def test_speech_is_told_from_other_sound() -> None:
    said = speech.speak(QUESTION)
    assert PlayedSound(said.pcm).speech_ms > (said.voice_until_ms - said.voice_from_ms) / 2
    beep = PlayedSound(tone(1000, SAMPLE_RATE))
    assert (beep.audible_ms, beep.speech_ms) == (1000, 0)
    assert PlayedSound(b"").speech_ms == PlayedSound(b"").audible_ms == 0
