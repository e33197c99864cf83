"""The server speaks first: to a device in a conversation, to one that idles, to one that is away."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import av
import gevent
import pytest
import requests

from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, LONG, TTS, Script, Stage, ask, open_stage, tool_call, wait_for_sound
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.audio.ogg import OggOpusDemuxer
from xiaozhi.devices.enrolment import Asker
from xiaozhi.net.origin import Origin
from xiaozhi.protocol import messages as wire
from xiaozhi.protocol.messages import encode

KITCHEN, HALL, IDLE = "02:ab:00:00:00:01", "02:ab:00:00:00:02", "02:ab:00:00:00:03"
TOKEN = "an admin token of some length"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds) -> Iterator[Stage]:
    settings = {
        "server": {"admin_token": TOKEN},
        "Intent": {"function_call": {"functions": ["tell_device", "call_device"]}},
    }
    with open_stage(tmp_path_factory.mktemp("data"), sounds, settings) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at the screen."""
    monkeypatch.setattr("xiaozhi.app.message_ways.ALERT_S", 0.0)
    monkeypatch.setattr("xiaozhi.app.message_ways.PAUSE_S", 0.0)


class IdleDevice:
    """A `StandingConnection` of a device; `plays`: it fetches what it is told to play."""

    def __init__(self, stage: Stage, device: str, *, plays: bool = True) -> None:
        self.device = device
        self.origin = Origin("http", "127.0.0.1", 1, "127.0.0.1")
        self.plays = plays
        self.received: list[dict[str, Any]] = []
        self.files: list[tuple[int, str, bytes]] = []
        self._standing = stage.server.messaging.standing
        self._standing.join(self)

    def push(self, message: wire.Sendable) -> bool:
        body = json.loads(encode(message))
        self.received.append(body)
        if body["type"] == "notify" and self.plays:
            gevent.spawn(self._fetch, body["audio_url"])
        return True

    def _fetch(self, url: str) -> None:
        reply = requests.get(url, timeout=PATIENCE_S, allow_redirects=False)
        self.files.append((reply.status_code, reply.headers.get("Content-Length", ""), reply.content))

    def leave(self) -> None:
        self._standing.leave(self)


@pytest.fixture
def idle(stage: Stage) -> Iterator[IdleDevice]:
    made = IdleDevice(stage, IDLE)
    yield made
    made.leave()


def post(stage: Stage, path: str, **body: Any) -> list[dict[str, Any]]:
    url = f"http://127.0.0.1:{stage.server.http_port}/admin/{path}"
    reply = requests.post(url, json=body, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE_S)
    assert reply.status_code == 200, reply.text
    told: list[dict[str, Any]] = reply.json()["messages"]
    return told


def known(stage: Stage, device: str, label: str = "") -> None:
    """A device that has been here; a name for it."""
    directory = stage.server.known_devices.directory
    directory.saw(device, {"firmware": "2.5.0"})
    wait_for(lambda: any(record.device == device for record in directory.all()), "the device to be known")
    directory.name_it(device, label)
    stage.server.known_devices.enrolment.vouch(Asker(device, "client"), "a test")


def state(stage: Stage, id: str) -> str:
    kept = stage.server.messaging.queue.of(id)
    return kept.state if kept is not None else ""


def test_said_in_the_conversation(stage: Stage) -> None:
    hall = stage.device(device_id=HALL)
    known(stage, HALL)
    before = stage.count("xiaozhi_messages_total", kind="say", outcome="spoken")

    [told] = post(stage, f"devices/{HALL}/say", text="Dinner is ready.", wait_s=20)

    assert (told["state"], told["settled"]) == ("spoken", True)
    assert hall.collect_answer().sentences == ["Dinner is ready"]
    assert stage.count("xiaozhi_messages_total", kind="say", outcome="spoken") == before + 1
    [shown] = post(stage, f"devices/{HALL}/alert", text="Look here.", title="Hey", wait_s=20)
    assert shown["state"] == "sent"
    alert = hall.next_json("alert").data
    assert (alert["status"], alert["message"], alert["emotion"]) == ("Hey", "Look here.", "neutral")


def test_it_waits_for_a_pause_unless_it_interrupts(stage: Stage) -> None:
    hall = stage.device(device_id=HALL)
    known(stage, HALL)
    stage.vendor.script(TTS, LONG)
    hall.detect("tell me a story")
    wait_for_sound(hall)

    [waits] = post(stage, f"devices/{HALL}/say", text="Not so urgent.")
    wait_for(lambda: stage.server.messaging.queue.of(waits["id"]).reason == "for a pause in the conversation")  # type: ignore[union-attr]
    [urgent] = post(stage, f"devices/{HALL}/say", text="The house is on fire.", interrupt=True, wait_s=20)

    assert urgent["state"] == "spoken"
    wait_for(lambda: state(stage, waits["id"]) == "spoken", "the other one")


def test_an_idle_device_plays_it_in_its_own_voice(stage: Stage, idle: IdleDevice) -> None:
    known(stage, IDLE)
    [told] = post(stage, f"devices/{IDLE}/say", text="Dinner is ready! Wash your hands.", wait_s=20)

    assert told["state"] == "sent"
    [notify] = idle.received
    assert set(notify) == {"type", "audio_url", "subtitles"}, "and no session"
    assert notify["audio_url"].startswith(f"http://127.0.0.1:{stage.server.http_port}/device-sounds/")
    assert [line["text"] for line in notify["subtitles"]] == ["Dinner is ready", "Wash your hands"]
    wait_for(lambda: idle.files, "the file")
    [(status, length, file)] = idle.files
    assert (status, length) == (200, str(len(file)))
    demuxer = OggOpusDemuxer()
    frames = demuxer.feed(file)
    demuxer.finish()
    assert notify["subtitles"][1]["start_ms"] == len(frames) // 2 * 60
    with av.open(io.BytesIO(file)) as opened:
        assert sum(frame.samples for frame in opened.decode(audio=0)) > 0


def test_a_board_that_does_not_fetch_is_shown_an_alert_and_not_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xiaozhi.app.notify_sounds.FETCH_S", 0.3)
    deaf = IdleDevice(stage, "02:ab:00:00:00:04", plays=False)
    known(stage, deaf.device)

    [first] = post(stage, f"devices/{deaf.device}/notify", text="Hello.", wait_s=20)
    assert (first["state"], [each["type"] for each in deaf.received]) == ("sent", ["notify", "alert"])
    directory = stage.server.known_devices.directory
    wait_for(lambda: "plays_messages" in (directory.of(deaf.device).report or {}), "it to be remembered")

    post(stage, f"devices/{deaf.device}/notify", text="Again.")
    wait_for(lambda: len(deaf.received) == 3, "the next one")
    assert deaf.received[-1]["type"] == "alert"
    directory.saw(deaf.device, {"firmware": "2.6.0"})
    wait_for(lambda: (directory.of(deaf.device).report or {})["firmware"] == "2.6.0", "the new firmware")
    post(stage, f"devices/{deaf.device}/notify", text="With new firmware.")
    wait_for(lambda: len(deaf.received) == 5, "another try")
    assert [each["type"] for each in deaf.received[3:]] == ["notify", "alert"]
    deaf.leave()


def test_who_is_away_hears_it_when_it_comes(stage: Stage) -> None:
    known(stage, "02:ab:00:00:00:05")
    [told] = post(stage, "devices/02:ab:00:00:00:05/say", text="You missed a call.")
    assert (told["state"], told["reason"]) == ("waiting", "the device is not connected")

    late = stage.device(device_id="02:ab:00:00:00:05")

    assert late.collect_answer().sentences == ["You missed a call"]
    wait_for(lambda: state(stage, told["id"]) == "spoken", "its end")


def test_reboot_by_its_tool_and_by_a_message(stage: Stage, idle: IdleDevice) -> None:
    known(stage, IDLE)
    [told] = post(stage, f"devices/{IDLE}/reboot", wait_s=20)
    assert told["state"] == "sent"
    assert idle.received == [{"type": "system", "command": "reboot"}]

    hall = stage.device(device_id=HALL)
    known(stage, HALL)
    [told] = post(stage, f"devices/{HALL}/reboot", wait_s=20)
    assert told["state"] == "sent"
    assert hall.next_json("system").data["command"] == "reboot"


def test_by_voice(stage: Stage, idle: IdleDevice) -> None:
    for device, label in ((KITCHEN, "Kitchen"), (HALL, "Hall"), (IDLE, "Bath"), ("02:ab:00:00:00:06", "Attic")):
        known(stage, device, label)
    hall, kitchen = stage.device(device_id=HALL, client_id="client"), stage.device(device_id=KITCHEN)
    wish = tool_call("tell_device", to="the kitchen", message="Dinner is ready.")
    stage.vendor.script(CHAT, Script(answer=[wish]))
    assert ask(hall, "tell the kitchen that dinner is ready").sentences == ["I have told Kitchen"]
    assert kitchen.collect_answer().sentences == ["Hall says: Dinner is ready"]

    stage.vendor.script(CHAT, Script(answer=[tool_call("tell_device", to="Attic", message="Come down.")]))
    answer = ask(hall, "tell the attic to come down")
    assert answer.sentences == ["Attic is away", "I will pass it on later"]

    stage.vendor.script(CHAT, Script(answer=[tool_call("call_device", nickname="bath", message="Hurry up")]))
    hall.replies.forget_answers()
    assert ask(hall, "call the bathroom").sentences == ["I have called bath"]
    assert idle.received[-1]["subtitles"][0]["text"].startswith("Hall calls: Hurry up")


def test_quiet_hours(stage: Stage, idle: IdleDevice) -> None:
    known(stage, IDLE)
    directory = stage.server.known_devices.directory
    directory.change_settings(IDLE, lambda own: {"quiet_hours": "00:00-23:59"})
    [waits] = post(stage, f"devices/{IDLE}/alert", text="Good night.")
    wait_for(lambda: stage.server.messaging.queue.of(waits["id"]).reason == "quiet hours")  # type: ignore[union-attr]
    assert idle.received == []

    [told] = post(stage, f"devices/{IDLE}/alert", text="Fire!", in_quiet_hours=True, wait_s=20)
    assert told["state"] == "sent" and [each["message"] for each in idle.received] == ["Fire!"]
    directory.change_settings(IDLE, lambda own: {})
    assert stage.server.messaging.queue.cancel(waits["id"])


def test_the_console_reaches_an_idle_device(stage: Stage, idle: IdleDevice) -> None:
    known(stage, IDLE)
    base = f"http://127.0.0.1:{stage.server.http_port}/console/api/"
    with requests.Session() as browser:
        browser.headers["X-CSRF-Token"] = browser.get(f"{base}session", timeout=PATIENCE_S).json()["csrf"]
        wait_for(lambda: browser.get(f"{base}devices/{IDLE}", timeout=PATIENCE_S).json()["online"], "it to be shown")
        said = browser.post(f"{base}devices/{IDLE}/say", json={"text": "Hello."}, timeout=PATIENCE_S)
    assert said.json()["state"] == "sent"
    assert [each["type"] for each in idle.received] == ["notify"]
