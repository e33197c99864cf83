"""The simulated device against a scripted, strict server: it must be believable before it may judge anything."""

from __future__ import annotations

import json
import time

import pytest
from gevent.event import Event
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from loadtest.simulator import speech
from loadtest.simulator.device import MAX_SILENCE_MS, SimulatedDevice
from loadtest.simulator.device_tools import DeviceTools
from loadtest.simulator.framing import unwrap, wrap
from loadtest.simulator.inbox import DeviceClosed, DeviceTimeout
from loadtest.simulator.wire import Closed, UpgradeRefused
from tests.fakes.sound import silence, tone
from tests.loadtest.server import Gone, Peer, serving
from tests.waiting import PATIENCE_S

WORDS = speech.from_pcm(tone(300) + silence(60), text="beep")
PACKETS = tuple(bytes([index]) * (20 + index) for index in range(5))


def answer_with(peer: Peer, packets: tuple[bytes, ...] = PACKETS, framing: str = "v1", text: str = "hello") -> None:
    """A whole answer, as fast as it goes."""
    peer.send({"type": "stt", "text": text})
    peer.send({"type": "tts", "state": "start"})
    peer.send({"type": "llm", "emotion": "happy", "text": "🙂"})
    peer.send({"type": "tts", "state": "sentence_start", "text": "Good day."})
    for index, packet in enumerate(packets):
        data = wrap(framing, packet, index * 60)  # type: ignore[arg-type]
        peer.send(b"\x01" + data[1:] if framing == "gateway" else data)
    peer.send({"type": "tts", "state": "stop"})


def until_gone(peer: Peer) -> None:
    while True:
        peer.receive()


def test_introduces_itself_with_headers_and_hello():
    seen = {}

    def script(peer: Peer) -> None:
        seen.update(peer.headers, target=peer.request.target)
        seen["hello"] = peer.hello(sample_rate=16000, frame_duration=20)
        until_gone(peer)

    with (
        serving(script) as url,
        SimulatedDevice(url, device_id="aa:bb", client_id="c-1", token="t.1", protocol_version=3) as device,
    ):
        reply = device.hello({"aec": True}, {"frame_duration": 20}, text_font="14")

    assert (reply.session_id, reply.sample_rate, reply.frame_ms, reply.audio_format) == ("s-1", 16000, 20, "opus")
    assert {name: seen[name] for name in ("device-id", "client-id", "protocol-version", "authorization", "target")} == {
        "device-id": "aa:bb",
        "client-id": "c-1",
        "protocol-version": "3",
        "authorization": "Bearer t.1",
        "target": "/xiaozhi/v1/",
    }
    assert seen["hello"]["features"] == {"aec": True}
    assert seen["hello"]["audio_params"]["frame_duration"] == 20
    assert (seen["hello"]["version"], seen["hello"]["text_font"]) == (3, "14")


@pytest.mark.parametrize(
    "form,version,gateway", [("v1", 1, False), ("v2", 2, False), ("v3", 3, False), ("gateway", 1, True)]
)
def test_speaks_and_hears_every_framing(form, version, gateway):
    heard, target = [], []

    def script(peer: Peer) -> None:
        target.append(peer.request.target)
        peer.hello()
        while not (isinstance(message := peer.receive(), dict) and message.get("state") == "stop"):
            if isinstance(message, bytes):
                heard.append(message)
        answer_with(peer, framing=form)
        until_gone(peer)

    with serving(script) as url, SimulatedDevice(url, protocol_version=version, gateway=gateway) as device:
        device.hello()
        answer = device.ask(WORDS, "manual")

    # The gateway's header starts with 1 only on the way to the device.
    assert [unwrap(form, b"\x01" + data[1:] if gateway else data) for data in heard] == list(WORDS.packets())
    assert ("from=mqtt_gateway" in target[0]) is gateway
    assert answer.frames == list(PACKETS)
    assert (answer.stt, answer.emotion, answer.text) == ("hello", "happy", "Good day.")
    assert set(answer.timings()) == {"stt", "tts_start", "first_audio", "last_audio", "stop"}
    assert len(answer.gaps_ms) == len(PACKETS) - 1
    assert device.replies.bad_frames == [] and device.replies.stray == [] and list(device.replies.messages) == []


def test_in_auto_mode_it_goes_on_with_silence_until_the_server_speaks():
    heard: list[object] = []

    def script(peer: Peer) -> None:
        peer.hello()
        while len(heard) < len(WORDS.packets()) + 6:
            heard.append(peer.receive())
        answer_with(peer)
        while (message := peer.receive()) != {"session_id": "s-1", "type": "ping"}:
            late.append(message)
        peer.send({"type": "pong"})
        until_gone(peer)

    late: list[object] = []
    with serving(script) as url, SimulatedDevice(url) as device:
        device.hello()
        device.ask(WORDS, "auto")
        device.ping()

    assert heard[0] == {"session_id": "s-1", "type": "listen", "state": "start", "mode": "auto"}
    assert heard[1 : len(WORDS.packets()) + 1] == list(WORDS.packets())
    assert set(heard[len(WORDS.packets()) + 1 :]) == {speech.silence(60)}
    assert len(late) < MAX_SILENCE_MS / 60 / 2, "it went on sending while the server spoke"


def test_in_realtime_mode_the_microphone_stays_open_and_may_interrupt():
    heard: list[object] = []
    quiet, interrupted = Event(), Event()

    def script(peer: Peer) -> None:
        peer.hello()
        peer.send({"type": "tts", "state": "start"})
        while True:
            heard.append(peer.receive())
            if heard[-1] == speech.silence(60):
                quiet.set()
            if heard.count(WORDS.packets()[0]) == 2:
                interrupted.set()

    with serving(script) as url, SimulatedDevice(url) as device:
        device.hello()
        device.say(WORDS, "realtime")
        assert quiet.wait(PATIENCE_S)
        device.say(WORDS, "realtime")
        assert interrupted.wait(PATIENCE_S)
        device.microphone.close()

    audio = heard[1:]
    assert [message for message in heard if isinstance(message, dict)] == [heard[0]]
    first, second = (index for index, message in enumerate(audio) if message == WORDS.packets()[0])
    assert second > first + len(WORDS.packets())
    assert set(audio[first + len(WORDS.packets()) : second]) == {speech.silence(60)}


def test_sends_in_real_time():
    came = []

    def script(peer: Peer) -> None:
        peer.hello()
        while True:
            peer.receive()
            came.append(time.monotonic())

    with serving(script) as url, SimulatedDevice(url, frame_ms=20) as device:
        device.hello()
        began = time.monotonic()
        assert device.send_frames(speech.from_pcm(tone(400)).packets(20)) == 20
        took = time.monotonic() - began
        assert device.send_frames(PACKETS, realtime=False) == 5
        assert device.send_silence(400, until=lambda: True) == 0

    assert took >= 0.019 * 19, "twenty frames of 20 ms are never sent faster than sound"


def test_answers_its_servers_tool_calls():
    tools = DeviceTools(volume=20)
    results = []

    def script(peer: Peer) -> None:
        peer.hello()
        request = {"jsonrpc": "2.0", "id": 7, "method": "tools/call"}
        arguments = {"name": "self.audio_speaker.set_volume", "arguments": {"volume": 80}}
        peer.send({"type": "mcp", "payload": {**request, "params": arguments}})
        results.append(peer.receive_json(type="mcp"))
        peer.send({"type": "mcp", "payload": {"jsonrpc": "2.0", "method": "notifications/initialized"}})
        peer.send({"type": "alert", "message": "done"})
        until_gone(peer)

    with serving(script) as url, SimulatedDevice(url, tools=tools) as device:
        device.hello()
        device.next_json("alert")

    assert results[0]["payload"] == {
        "jsonrpc": "2.0",
        "id": 7,
        "result": {"content": [{"type": "text", "text": "true"}], "isError": False},
    }
    assert results[0]["session_id"] == "s-1"
    assert (tools.volume, tools.initialized) == (80, True)
    assert tools.calls == [("self.audio_speaker.set_volume", {"volume": 80})]


def test_messages_wait_until_they_are_asked_for():
    def script(peer: Peer) -> None:
        peer.hello()
        for number in range(3):
            peer.send({"type": "notify", "number": number})
        peer.send({"type": "alert"})
        peer.send(b"x" * 70_000)  # a long frame, and sound although nobody speaks
        until_gone(peer)

    with serving(script) as url, SimulatedDevice(url) as device:
        device.hello()
        device.wait_until(lambda: device.replies.stray)

        assert device.next_json("alert").type == "alert"
        assert device.next_json("notify", number=1).data["number"] == 1
        assert device.next_json().data["number"] == 0
        with pytest.raises(DeviceTimeout, match='"number": 2'):
            device.next_json("stt", timeout=0.05)


def test_understands_pieces_pings_and_things_that_are_no_json():
    got = []

    def script(peer: Peer) -> None:
        peer.hello()
        peer.send_event(TextMessage(data='{"type":"al', message_finished=False))
        peer.send_event(Ping(payload=b"are you there"))
        peer.send_event(TextMessage(data='ert"}', message_finished=True))
        peer.send_event(TextMessage(data="42"))
        peer.receive_json(type="ping")
        peer.send({"type": "pong"})
        got.extend(event.payload for event in peer.received if isinstance(event, Pong))
        until_gone(peer)

    with serving(script) as url, SimulatedDevice(url) as device:
        device.hello()
        assert device.next_json("alert").type == "alert"
        assert device.next_json("").data == {"type": "", "text": "42"}
        device.ping()

    assert got == [b"are you there"]


def test_tells_how_the_server_ended_it():
    def script(peer: Peer) -> None:
        peer.hello()
        peer.receive_json(type="abort")
        peer.send_event(CloseConnection(code=1013, reason="try later"))
        with pytest.raises(Gone):
            peer.receive()

    with serving(script) as url, SimulatedDevice(url) as device:
        device.hello()
        device.abort()

        assert device.wait_closed() == (1013, "try later")
        with pytest.raises(DeviceClosed) as ended:
            device.next_json("stt")
        assert ended.value.code == 1013


def test_tells_that_the_server_just_went_away():
    with serving(lambda peer: peer.accept()) as url, SimulatedDevice(url) as device:
        assert device.wait_closed()[0] == 1006
        with pytest.raises(Closed):
            for _ in range(1000):
                device.send_text("x" * 10_000)


def test_a_refused_upgrade_is_told_with_status_and_headers():
    with serving(lambda peer: peer.refuse(503, b"full")) as url, pytest.raises(UpgradeRefused) as refused:
        SimulatedDevice(url).connect()

    assert (refused.value.status, refused.value.body, refused.value.headers["retry-after"]) == (503, "full", "7")


def test_no_server_is_an_oserror():
    with serving(lambda peer: None) as url:
        pass

    with pytest.raises(OSError):
        SimulatedDevice(url).connect()


def test_a_clean_close_and_a_drop_look_different_to_the_server():
    ends: list[str] = []
    done = Event()

    def script(peer: Peer) -> None:
        peer.hello()
        try:
            until_gone(peer)
        except Gone:
            ends.append("closed")
        except ConnectionError:
            ends.append("reset")
        done.set()

    with serving(script) as url:
        for leave in ("close", "drop"):
            device = SimulatedDevice(url).connect()
            device.hello()
            getattr(device, leave)()
            done.wait(PATIENCE_S)
            done.clear()
            getattr(device, leave)()  # twice is once

    assert ends == ["closed", "reset"]


def test_pcm_devices_get_pcm(tmp_path):
    sound = tone(60, 16_000)

    def script(peer: Peer) -> None:
        hello = peer.hello(format="pcm", sample_rate=16_000)
        assert hello["audio_params"]["format"] == "pcm"
        peer.receive_json(state="detect")
        answer_with(peer, (sound, sound))
        until_gone(peer)

    with serving(script) as url, SimulatedDevice(url) as device:
        device.hello(audio_params={"format": "pcm"})
        device.detect("hello")
        answer = device.collect_answer()

    assert answer.pcm() == 2 * sound
    assert answer.write_wav(tmp_path / "reply.wav") == pytest.approx(0.12)


def test_opus_answers_can_be_saved(tmp_path):
    def script(peer: Peer) -> None:
        peer.hello(sample_rate=24_000)
        peer.receive_json(state="detect")
        answer_with(peer, WORDS.packets())
        until_gone(peer)

    path = tmp_path / "reply.wav"
    with (
        serving(script) as url,
        SimulatedDevice(url, keep_audio=True) as device,
        SimulatedDevice(url, keep_audio=False) as forgetful,
    ):
        for one in (device, forgetful):
            one.hello()
            one.detect("hello")
        seconds = device.collect_answer().write_wav(path)
        counted = forgetful.collect_answer()

    assert seconds == pytest.approx(0.36)
    assert speech.from_wav(path).voice_until_ms in range(280, 340)
    assert (counted.frames, len(counted.arrivals)) == ([], len(WORDS.packets()))


def test_every_message_can_be_watched_as_it_comes():
    seen = []

    def script(peer: Peer) -> None:
        peer.hello()
        answer_with(peer)
        until_gone(peer)

    with (
        serving(script) as url,
        SimulatedDevice(url, on_message=lambda message: seen.append(json.dumps(message.data))) as device,
    ):
        device.hello()
        device.collect_answer()

    assert [json.loads(text)["type"] for text in seen] == ["hello", "stt", "tts", "llm", "tts", "tts"]
