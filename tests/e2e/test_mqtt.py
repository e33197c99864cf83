"""Devices that speak MQTT + UDP, played with an MQTT client of others: whole conversations with a real server."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from loadtest.simulator.speech import Speech
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, LONG, QUARTER, TTS, Script, Stage, ask, open_stage, tool_call
from tests.fakes.mqtt_device import MqttDevice
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.devices.messages import DeviceMessage, MessageKind, MessageResult, MessageState
from xiaozhi.protocol.messages import Alert
from xiaozhi.protocol.mqtt_login import Username, client_id_for, username_for
from xiaozhi.runtime.tasks import spawn

MAC = "02:00:00:aa:bb:cc"
CLIENT = "7b94d69a-9808-4c59-9c9b-704333b38aff"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def stage_settings() -> dict[str, Any]:
    return {"mqtt": {"port": free_port(), "udp_port": 0}, "server": {"auth": {"enabled": True}}}


def told(stage: Stage, mac: str = MAC, client: str = CLIENT) -> dict[str, Any]:
    """What OTA tells a device of MQTT."""
    answer = requests.post(
        f"http://127.0.0.1:{stage.server.http_port}/xiaozhi/ota/",
        json={"application": {"version": "2.0.0"}, "board": {"type": "bread-compact-wifi"}},
        headers={"Device-Id": mac, "Client-Id": client},
        timeout=PATIENCE_S,
    ).json()
    block: dict[str, Any] = answer["mqtt"]
    return block


def device_of(block: dict[str, Any]) -> MqttDevice:
    host, _, port = block["endpoint"].rpartition(":")
    return MqttDevice(
        int(port), block["client_id"], username=block["username"], password=block["password"], host=host
    ).connect()


@pytest.fixture
def device(stage: Stage) -> Iterator[MqttDevice]:
    with device_of(told(stage)) as connected:
        yield connected
    wait_for(
        lambda: len(stage.server.connections) == 0 and len(stage.server.messaging.standing) == 0,
        "the device to be gone",
    )


def question(stage: Stage, device: MqttDevice, said: Speech) -> None:
    """Push to talk. A real device speaks in real time, so that its messages are there before and after its sound."""
    before = stage.count("xiaozhi_frames_received_total")
    device.tell("listen", state="start", mode="manual")
    device.settle()
    packets = said.packets(60)
    device.send_sound(*packets)
    heard = before + len(packets)
    wait_for(lambda: stage.count("xiaozhi_frames_received_total") >= heard, "the sound to arrive")
    device.tell("listen", state="stop")


def kinds(heard: list[dict[str, Any]]) -> list[str]:
    return [str(message.get("state") or message["type"]) for message in heard]


def test_whole_conversations(stage: Stage, device: MqttDevice, words: Callable[[str], Speech]) -> None:
    stage.vendor.stand(TTS, QUARTER)
    stage.vendor.stand(CHAT, Script(answer="I am fine. How are you?"))
    sessions = set()
    for _ in range(2):
        answer = device.hello()
        assert answer["audio_params"]["sample_rate"] == 24_000
        sessions.add(answer["session_id"])
        since = len(device.messages)
        question(stage, device, words("what is up with you"))
        heard = device.until("tts", "stop", since=since)
        assert kinds(heard) == ["pong", "stt", "start", "llm", "sentence_start", "sentence_start", "stop"]
        assert heard[1]["text"] == "what is up"
        wait_for(lambda: len(device.packets) == 10, "the sound of two sentences")
        device.packets.clear()
        device.goodbye()
        wait_for(lambda: len(stage.server.connections) == 0, "the end of the conversation")
        assert device.connected
        assert device.messages[-1]["type"] == "tts", "no goodbye is answered"
    assert len(sessions) == 2


def test_an_interrupt(stage: Stage, device: MqttDevice, words: Callable[[str], Speech]) -> None:
    stage.vendor.stand(TTS, LONG)
    device.hello()
    device.send_sound(words("what is up with you").packets(60)[0])  # tells where to send to
    device.tell("listen", state="detect", text="a long story")
    device.until("tts", "sentence_start")
    wait_for(lambda: device.packets, "sound")
    since = len(device.messages)
    device.tell("abort")
    assert kinds(device.until("tts", "stop", since=since)) == ["stop"]


def test_the_devices_own_tools(stage: Stage, device: MqttDevice) -> None:
    device.hello(mcp=True)

    def answered(method: str, result: dict[str, Any]) -> None:
        asked = wait_for(
            lambda: next((m for m in device.messages if m.get("payload", {}).get("method") == method), None), method
        )
        assert asked is not None
        device.tell("mcp", payload={"jsonrpc": "2.0", "id": asked["payload"]["id"], "result": result})

    answered("initialize", {"protocolVersion": "2024-11-05", "serverInfo": {"name": "b", "version": "1"}})
    tool = {"name": "self.lamp.on", "description": "Lamp.", "inputSchema": {"type": "object", "properties": {}}}
    answered("tools/list", {"tools": [tool]})
    stage.vendor.script(CHAT, Script(answer=[tool_call("self_lamp_on")]), Script(answer="Done."))
    device.tell("listen", state="detect", text="light please")
    answered("tools/call", {"content": [{"type": "text", "text": "true"}], "isError": False})
    device.until("tts", "stop")


def test_the_server_ends_a_conversation(stage: Stage, device: MqttDevice) -> None:
    """Also the one that the WebSocket of the same device takes the place of."""
    session_id = device.hello()["session_id"]
    since = len(device.messages)
    by_websocket = stage.device(device_id=MAC, client_id=CLIENT, token=websocket_token(stage))
    assert device.until("goodbye", since=since)[-1]["session_id"] == session_id
    assert ask(by_websocket, "and now").sentences == ["Fine"]
    device.hello()
    assert by_websocket.wait_closed() == (1000, "replaced")
    assert device.connected


def test_a_device_that_idles_is_told_something(stage: Stage, device: MqttDevice) -> None:
    standing = stage.server.messaging.standing.of_device(MAC.upper())
    assert standing is not None
    alert = Alert("Notice", "The kitchen light is on", "happy")
    assert standing.push(alert)
    assert device.until("alert") == [alert.body()]
    assert stage.count("xiaozhi_mqtt_connections") == 1
    device.leave()
    wait_for(lambda: stage.server.messaging.standing.of_device(MAC) is None, "the device to leave")
    assert not standing.push(alert)


def test_a_message_wakes_a_device_that_idles_and_is_said_to_one_that_talks(stage: Stage, device: MqttDevice) -> None:
    def send(text: str, wait_s: float = 0.0) -> MessageResult:
        now = time.time()
        message = DeviceMessage(device=MAC, kind=MessageKind.SAY, text=text, due_at=now, expires_at=now + 60)
        return stage.server.messaging.queue.send(message, wait_s=wait_s)

    kept = send("Dinner is ready.")
    [notify] = device.until("notify")
    fetched = requests.get(notify["audio_url"], timeout=PATIENCE_S)
    assert fetched.content.startswith(b"OggS") and notify["subtitles"] == [{"start_ms": 0, "text": "Dinner is ready"}]
    wait_for(lambda: stage.server.messaging.queue.of(kept.id).state == "sent", "it to be known")  # type: ignore[union-attr]

    device.hello()
    assert send("Wash your hands.", PATIENCE_S).state is MessageState.SPOKEN
    said = device.until("tts", "stop")
    assert "Wash your hands" in str(said)


def test_a_device_that_comes_again_takes_its_own_place(stage: Stage, device: MqttDevice) -> None:
    device.hello()
    with device_of(told(stage)) as again:
        wait_for(lambda: not device.connected, "the first connection to be closed")
        wait_for(lambda: len(stage.server.connections) == 0, "its conversation to end")
        again.hello()
        assert len(stage.server.messaging.standing) == 1


def test_a_reload_and_a_stop(tmp_path: Path, sounds: Sounds, words: Callable[[str], Speech]) -> None:
    """A reload leaves connections alone. At a stop the answer under way is heard to its end; then the device is told
    goodbye; then its connection ends."""
    with open_stage(tmp_path, sounds, {"mqtt": {"port": free_port(), "udp_port": 0}}) as stage:
        stage.vendor.stand(TTS, QUARTER)
        with device_of(told(stage)) as idle, device_of(told(stage, "02:00:00:aa:bb:01")) as talking:
            talking.hello()
            talking.send_sound(words("what is up with you").packets(60)[0])
            assert stage.server.reload() == ()
            talking.tell("listen", state="detect", text="how are you")
            talking.until("tts", "sentence_start")
            stopping = spawn("stop", stage.server.stop, 10.0)
            heard = talking.until("goodbye")
            assert kinds(heard)[-2:] == ["stop", "goodbye"]
            assert len(talking.packets) == 5
            wait_for(lambda: not idle.connected and not talking.connected, "the connections to end")
            stopping.get(timeout=PATIENCE_S)


@pytest.mark.parametrize("changed", ["username", "password", "client_id"])
def test_credentials_are_checked(stage: Stage, changed: str) -> None:
    block = told(stage)
    spoilt = {**block, changed: block[changed][:-2] + "xx"}
    with device_of(spoilt) as device:
        assert device.refused == ["Not authorized"]
    assert len(stage.server.messaging.standing) == 0


def test_an_operator_revokes_a_device(stage: Stage) -> None:
    mac, known = "02:00:00:aa:bb:02", stage.server.known_devices
    with device_of(told(stage, mac)) as device:
        known.directory.revoke(mac)
        known.presence.look()
        wait_for(lambda: not device.connected, "the connection to be closed")
    with device_of({**told(stage), **block_of(stage, mac)}) as device:
        assert device.refused == ["Not authorized"]


def websocket_token(stage: Stage) -> str:
    return stage.server.known_devices.tokens.issue(CLIENT, MAC, now=time.time())


def block_of(stage: Stage, mac: str) -> dict[str, Any]:
    """Credentials that were good for a device once."""
    client_id = client_id_for("default", mac, CLIENT)
    username = username_for("127.0.0.1", Username(int(time.time())))
    password = stage.server.known_devices.mqtt_passwords.issue(client_id, username)
    return {"client_id": client_id, "username": username, "password": password}
