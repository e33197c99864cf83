"""Other people's clients, as far as they do what the firmware does not: each was seen in a client that people use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.device_tools import DeviceTools
from loadtest.simulator.speech import Speech
from loadtest.simulator.wire import TEXT, UpgradeRefused, masked
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, TTS, Script, Stage, ask, open_stage, speak_to, wait_for_sound
from tests.waiting import PATIENCE_S, wait_for

Words = Callable[[str], Speech]
QUESTION = "what is up with you"
CERTIFICATES = Path(__file__).parents[1] / "web" / "tls"
JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffd9")


def stranger(stage: Stage, url: str = "", **options: Any) -> SimulatedDevice:
    """A connected device that has said nothing yet."""
    device = SimulatedDevice(url or stage.url, **options)
    stage.devices.append(device)
    device.connect()
    return device


def ota(stage: Stage, method: str = "post", path: str = "/xiaozhi/ota/", **headers: str) -> Any:
    """What OTA tells a device."""
    body = {"application": {"version": "2.0.0"}, "board": {"type": "bread-compact-wifi", "name": "bread"}}
    reply = requests.request(
        method,
        f"http://127.0.0.1:{stage.server.http_port}{path}",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        json=body if method == "post" else None,
        timeout=PATIENCE_S,
    )
    assert reply.status_code == 200, reply.text
    return reply.json()


# --- framing and turns ---


@pytest.mark.parametrize("version", [3, 2, "3", None])
def test_sound_is_framed_as_the_header_says_whatever_the_hello_says(stage: Stage, words: Words, version: Any) -> None:
    """SiFli boards and others: header 1 and plain packets, `version: 3` in the hello."""
    device = stranger(stage, protocol_version=1)
    device.hello(**{} if version is None else {"version": version})
    assert speak_to(device, words(QUESTION), "manual").stt == "what is up"
    assert device.replies.bad_frames == []


def test_header_three_and_hello_one(stage: Stage, words: Words) -> None:
    device = stranger(stage, protocol_version=3)
    device.hello(version=1)
    assert speak_to(device, words(QUESTION)).stt == "what is up"
    assert device.replies.bad_frames == []


@pytest.mark.parametrize("mode", ["auto", "realtime"])
def test_a_client_that_listens_anew_with_every_sentence_hears_all_of_them(
    stage: Stage, words: Words, mode: Any
) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer="One thing. And another. And a third."))
    stage.vendor.stand(TTS, Script(answer=("wav", 0.25)))
    device.listen_start(mode)
    device.detect("tell me three things")
    for _ in range(3):
        device.next_json("tts", state="sentence_start")
        device.listen_start(mode)

    answer = device.collect_answer()

    assert answer.sentences == ["One thing", "And another", "And a third"]
    assert len(answer.frames) >= 3 * 4
    assert stage.outcomes().get("interrupted", 0) == 0


def test_abort_still_cuts(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.stand(TTS, Script(answer=("wav", 10.0)))
    device.detect("tell me a story")
    wait_for_sound(device)
    device.listen_start("auto")
    device.abort()
    assert len(device.collect_answer().frames) < 100


# --- odd fields ---


@pytest.mark.parametrize(
    "odd",
    [
        {"features": []},
        {"audio_params": []},
        {"version": "1"},
        {"audio_params": {"sample_rate": "16000", "format": "OPUS", "channels": 1.0}},
        {"audio_params": {"format": "mp3", "frame_duration": -1}},
        {"session_id": 5},
        {"transport": ["websocket"], "text_font": 3, "features": {"mcp": "no", "emoji": None}},
    ],
)
def test_hello_is_answered_whatever_else_stands_in_it(stage: Stage, words: Words, odd: dict[str, Any]) -> None:
    device = stranger(stage)
    device.send_json({"type": "hello", "version": 1, "transport": "websocket", **odd})
    device.next_json("hello")
    device.send_json({"type": "listen", "state": "detect", "mode": "loud", "text": "are you there", "session_id": 7})
    device.next_json("tts", state="stop")
    device.send_json({"type": "abort", "reason": {"a": 1}, "session_id": []})
    device.next_json("tts", state="stop")


def test_what_the_existing_page_in_a_browser_sends(stage: Stage, words: Words) -> None:
    """main/digital-human of the existing project: a hello with its own fields and no audio_params, a greeting and
    `listen start` at once, packets of 60 ms, text after an abort, and an empty packet when the microphone is off.

    tests/browser/test_existing_page.py runs the page itself."""
    device = stranger(stage)
    own = {"device_id": device.device_id, "device_name": "Web", "device_mac": device.device_id, "token": None}
    device.send_json({"type": "hello", **own, "features": {"mcp": False, "emoji": False}})
    session = device.next_json("hello").data["session_id"]
    device.send_json({"session_id": session, "type": "listen", "state": "detect", "text": "嘿，你好呀"})
    device.send_json({"session_id": session, "type": "listen", "state": "start", "mode": "auto"})
    device.next_json("tts", state="stop")

    device.send_frames(words(QUESTION).packets(60), realtime=False)
    device.send_silence(1_000, realtime=False)
    assert device.next_json("stt", text="what is up")
    device.next_json("tts", state="stop")

    device.send_binary(b"")
    device.send_json({"session_id": session, "type": "abort", "reason": "wake_word_detected"})
    device.next_json("tts", state="stop")
    assert ask(device, "tell me more").sentences == ["Fine"]
    assert device.replies.bad_frames == []


# --- ways in ---


@pytest.mark.parametrize("path", ["/", "//xiaozhi/v1/", "/xiaozhi/v1//", "/v1/", "/xiaozhi", "/voice/xiaozhi/v1"])
def test_addresses_as_people_type_them(stage: Stage, path: str) -> None:
    device = stranger(stage, f"ws://127.0.0.1:{stage.server.port}{path}")
    device.hello()
    device.ping()


def test_addresses_of_something_else(stage: Stage) -> None:
    with pytest.raises(UpgradeRefused, match="404"):
        stranger(stage, f"ws://127.0.0.1:{stage.server.port}/other/")


def test_a_device_by_any_name_and_its_ota_request_without_a_body(stage: Stage) -> None:
    told = ota(stage, "get", "//xiaozhi/ota", Device_Id="Auto-Test-Device", Client_Id="c")
    assert told["websocket"]["url"] == stage.url
    device = stranger(stage, told["websocket"]["url"], device_id="Auto-Test-Device")
    device.hello()
    assert stage.server.connections.of_device("auto-test-DEVICE") != []


def test_a_checker_that_hangs_up_right_behind_its_text_gets_its_echo(stage: Stage) -> None:
    device = stranger(stage)
    device.send_raw(masked(TEXT, b"are you there?") + masked(8, b"\x03\xe8"))
    device.wait_closed()
    assert [message.data["text"] for message in device.replies.messages] == ["are you there?"]


# --- boards ---


@pytest.fixture(scope="module")
def stage_settings() -> dict[str, Any]:
    return {"boards": {"bread-compact-wifi": {"prebuffer_frames": 40}, "simulated-device": {"prebuffer_frames": 40}}}


def comes_at_once(device: SimulatedDevice) -> bool:
    """Whether a second of speech comes in much less than a second: all of it is sent ahead of time."""
    arrivals = ask(device, "how are you").arrivals
    assert len(arrivals) >= 16
    return arrivals[-1] - arrivals[0] < 0.5


def test_a_board_that_ota_knows(stage: Stage) -> None:
    stage.vendor.stand(TTS, Script(answer=("wav", 1.0)))
    ota(stage, Device_Id="02:AA:00:00:00:01", Client_Id="c")

    assert comes_at_once(stage.device(device_id="02:aa:00:00:00:01"))
    assert not comes_at_once(stage.device(device_id="02:aa:00:00:00:02"))


def test_a_board_that_says_so_by_mcp_only(stage: Stage) -> None:
    stage.vendor.stand(TTS, Script(answer=("wav", 1.0)))
    tools = DeviceTools()
    device = stage.device(tools=tools)
    wait_for(lambda: tools.listed, "the tools")

    assert comes_at_once(device)


# --- vision and tools ---


@pytest.mark.parametrize("secure", [False, True])
def test_the_vision_address_is_one_that_the_device_can_use(tmp_path: Path, sounds: Sounds, secure: bool) -> None:
    """Of the host that the device used, https where the port speaks TLS, and also without a vision model."""
    files = {"certfile": str(CERTIFICATES / "cert.pem"), "keyfile": str(CERTIFICATES / "key.pem")}
    with open_stage(tmp_path, sounds, {"server": {"tls": files}} if secure else {}) as stage:
        tools = DeviceTools()
        url = f"{'wss' if secure else 'ws'}://localhost:{stage.server.port}/"
        stranger(stage, url, tools=tools, verify_tls=False).hello()
        wait_for(lambda: tools.vision is not None, "the address")

        assert tools.vision is not None
        address = tools.vision["url"]
        assert address == f"http{'s' if secure else ''}://localhost:{stage.server.http_port}/mcp/vision/explain"
        reply = requests.post(
            address,
            headers={"Authorization": f"Bearer {tools.vision['token']}"},
            data={"question": "what is this?"},
            files={"file": ("camera.jpg", JPEG, "image/jpeg")},
            timeout=PATIENCE_S,
            verify=False,
        )
        assert reply.status_code == 200
        assert "No vision model" in reply.json()["message"]


class Failing(DeviceTools):
    """Answers initialize with an error, as a client whose code failed at it does."""

    def answer(self, payload: Any) -> dict[str, Any] | None:
        if payload.get("method") == "initialize":
            return {"jsonrpc": "2.0", "id": payload["id"], "error": {"message": "'vision'"}}
        return super().answer(payload)


def test_tools_of_a_client_that_fails_at_initialize(stage: Stage) -> None:
    tools = Failing()
    device = stage.device(tools=tools)
    wait_for(lambda: tools.listed, "the tools")

    ask(device, "what can you do")

    offered = {tool["function"]["name"] for tool in stage.questions()[-1]["tools"]}
    assert "self_audio_speaker_set_volume" in offered


class Filling(DeviceTools):
    """Behind a gateway that learns the tools only now."""

    def __init__(self) -> None:
        super().__init__(page_size=100)
        self.lists = 0

    def _page(self, cursor: str, with_user_tools: object) -> dict[str, Any]:
        self.lists += 1
        page = super()._page(cursor, with_user_tools)
        return {"tools": page["tools"][: max(0, self.lists - 1)]}


def test_tools_behind_a_gateway_that_still_learns_them(stage: Stage) -> None:
    tools = Filling()
    device = stage.device(tools=tools, gateway=True)
    wait_for(lambda: tools.lists >= 4, "the listings")

    ask(device, "what can you do")

    assert len([tool for tool in stage.questions()[-1]["tools"] if "self" in tool["function"]["name"]]) == 3


# --- one device, however its id is written ---


SPELLINGS = ("02:AA:BB:CC:DD:EE", "02-aa-bb-cc-dd-ee", "02:aa:bb:cc:dd:ee")


def test_one_device_has_one_dialogue_one_allowance_and_one_connection(tmp_path: Path, sounds: Sounds) -> None:
    own = {SPELLINGS[2]: {"prompt": "You are its own."}}
    with open_stage(tmp_path, sounds, {"device_max_output_size": 1000}, overlays=own) as stage:
        for number, spelling in enumerate(SPELLINGS):
            device = stage.device(device_id=spelling, client_id="c")
            ask(device, f"question {number}")
            messages = stage.messages()
            assert "You are its own." in messages[0]["content"]
            assert [message["content"] for message in messages if message["role"] == "user"] == [
                f"question {before}" for before in range(number + 1)
            ]
            if number < 2:
                device.close()
                wait_for(lambda: len(stage.server.connections) == 0, "the end")
        assert stage.server.services.quota.left(SPELLINGS[2]) == 1000 - 3 * len("Fine.")
        again = stage.device(device_id=SPELLINGS[0], client_id="c")
        assert device.wait_closed() == (1000, "replaced")
        again.ping()


def test_a_device_is_enrolled_and_let_in_by_one_token_however_its_id_is_written(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, {"server": {"auth": {"enabled": True}}}) as stage:
        for spelling in SPELLINGS:
            token = ota(stage, Device_Id=spelling, Client_Id="c")["websocket"]["token"]
            assert ota(stage, Device_Id=spelling, Client_Id="another")["websocket"]["token"] == ""
            for written in SPELLINGS:
                stranger(stage, device_id=written, client_id="c", token=token).hello()
        with pytest.raises(UpgradeRefused, match="401"):
            stranger(stage, device_id="02:aa:bb:cc:dd:ef", client_id="c", token=token)
