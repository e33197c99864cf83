"""What the existing server is known to get wrong (PROTOCOL.md, section 7), as far as one conversation can show it; the
rest stands where it belongs: interrupts in test_interrupts.py, remembered answers in test_dialogue.py, vendors that
fail in test_faults.py."""

from __future__ import annotations

import os
from pathlib import Path

import gevent
import pytest
import requests

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.device_tools import DeviceTools
from loadtest.vendors.openai_vendor import OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, TTS, Script, Stage, ask, base_settings, merged, open_stage, wait_for_sound
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.app.process import NAME_THREADS
from xiaozhi.app.server import Server
from xiaozhi.settings import load

JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffd9")


def threads() -> int:
    """Native threads of this process."""
    return len(os.listdir("/proc/self/task"))


def test_hello_is_answered_though_every_vendor_is_stuck(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds) as stage:
        for kind in (CHAT, TTS):
            stage.vendor.stand(kind, Script(stall="before"))
        device = SimulatedDevice(stage.url)
        stage.devices.append(device)
        device.connect()

        # What comes behind the hello, before anything could be ready, is not lost.
        device.send_json({"type": "hello", "version": 1, "transport": "websocket", "audio_params": {"format": "opus"}})
        device.detect("are you there")

        device.next_json("hello")
        device.next_json("stt", text="are you there")
        stage.wait_for(CHAT)
        device.ping(2)


def test_devices_cost_no_threads(stage: Stage) -> None:
    ask(stage.device(), "hello")
    before = threads()
    devices = [stage.device() for _ in range(20)]

    answers = [gevent.spawn(ask, device, f"question {number}") for number, device in enumerate(devices)]
    gevent.joinall(answers, timeout=PATIENCE_S, raise_error=True)

    assert all(answer.value.sentences == ["Fine"] for answer in answers)
    # Names are looked up, also for the devices simulated here, on a few threads that come and go.
    assert threads() <= before + 2 * NAME_THREADS < before + len(devices)


def test_a_look_at_a_picture_stalls_nobody(tmp_path: Path, sounds: Sounds) -> None:
    endpoint = {"type": "openai", "api_key": "k", "model_name": "m"}
    with OpenAiVendor(sounds=sounds, keep_alive=False) as eyes:
        assert isinstance(eyes, OpenAiVendor)
        settings = {"selected_module": {"VLLM": "Eyes"}, "VLLM": {"Eyes": {**endpoint, "base_url": eyes.base_url}}}
        with open_stage(tmp_path, sounds, settings) as stage:
            tools = DeviceTools()
            photographer, talker = stage.device(tools=tools), stage.device()
            wait_for(lambda: tools.vision, "the address for pictures")
            assert tools.vision is not None
            eyes.script(CHAT, Script(delay=1.0, answer="A cat."))

            looking = gevent.spawn(
                requests.post,
                f"http://127.0.0.1:{stage.server.http_port}/mcp/vision/explain",
                headers={
                    "Device-Id": photographer.device_id,
                    "Client-Id": photographer.client_id,
                    "Authorization": f"Bearer {tools.vision['token']}",
                },
                data={"question": "what is it"},
                files={"file": ("photo.jpg", JPEG, "image/jpeg")},
                timeout=10,
            )
            wait_for(lambda: eyes.active, "the picture to be looked at")

            assert ask(talker, "hello").sentences == ["Fine"]
            assert not looking.ready(), "the answer came while the picture was still being looked at"

            reply = looking.get(timeout=PATIENCE_S)
            reply.close()
            assert reply.json()["success"] is True
            assert reply.json()["response"] == "A cat."


@pytest.mark.leaks("connections to the vendor are kept on purpose")
def test_connections_to_vendors_are_kept_and_used_again(tmp_path: Path, sounds: Sounds) -> None:
    with OpenAiVendor(sounds=sounds) as vendor:
        assert isinstance(vendor, OpenAiVendor)
        loaded = load(
            environ={}, overrides=merged(base_settings(vendor, tmp_path), {"conversation": {"reply_cache_bytes": 0}})
        )
        server = Server(loaded, reload=lambda: loaded)
        server.start()
        stage = Stage(vendor, server, loaded)
        stage.calm()
        try:
            device = stage.device()
            for number in range(8):
                ask(device, f"question {number}")
            assert sum(vendor.counts[kind] for kind in (CHAT, TTS)) >= 16
            assert vendor.connections <= 6
        finally:
            stage.close_devices()
            server.stop()
        wait_for(lambda: vendor.open == 0, "the connections to be given back")


def test_a_failing_voice_is_not_asked_again_and_again(tmp_path: Path, sounds: Sounds) -> None:
    """Three attempts with pauses between them, and one sentence ahead; not five at once, one after the other."""
    with open_stage(tmp_path, sounds) as stage:
        stage.vendor.stand(TTS, Script(status=500))
        stage.vendor.script(CHAT, Script(answer="One. Two. Three. Four."))

        ask(stage.device(), "hello", timeout=PATIENCE_S)

        assert 3 <= stage.vendor.counts[TTS] <= 6


def test_the_last_turn_is_not_lost_when_the_device_vanishes(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, {"selected_module": {"Memory": "mem_local_short"}}) as stage:
        device = stage.device()
        stage.vendor.script(CHAT, Script(answer="The answer is forty-two."), Script(answer="It was about a number."))
        stage.vendor.script(TTS, Script(answer=("wav", 10.0)))
        device.detect("what is the answer")
        wait_for_sound(device)

        device.drop()

        stage.wait_for(CHAT, 2)
        saved = stage.messages()[-1]["content"]
        assert "User: what is the answer" in saved
        assert "Assistant: The answer is forty-two." in saved
        wait_for(lambda: not stage.server.services.memories.waiting, "the memory")


@pytest.mark.parametrize("restart, code", [(False, 1001), (True, 1012)])
def test_stopping_lets_the_answer_end(tmp_path: Path, sounds: Sounds, restart: bool, code: int) -> None:
    with open_stage(tmp_path, sounds) as stage:
        speaking, idle = stage.device(), stage.device()
        stage.vendor.script(TTS, Script(answer=("wav", 0.5)))
        stage.vendor.script(CHAT, Script(answer="This must be heard."))
        speaking.detect("tell me")
        wait_for_sound(speaking)
        if restart:
            stage.server.request_restart()
        stopping = gevent.spawn(stage.server.stop)

        answer = speaking.collect_answer()

        assert len(answer.frames) == 9
        assert answer.sentences == ["This must be heard"]
        assert speaking.wait_closed()[0] == code
        assert idle.wait_closed()[0] == code
        stopping.get(timeout=PATIENCE_S)


def test_nonsense_never_ends_a_conversation(stage: Stage) -> None:
    device = stage.device()
    for text in (
        "{",
        "[]",
        "null",
        '{"type": 5}',
        '{"type": "listen"}',
        '{"type": "listen", "state": "fly"}',
        '{"type": "mcp", "payload": 1}',
    ):
        device.send_text(text)
    device.send_text("12345")
    device.send_binary(b"")
    device.send_binary(b"\xff" * 500)
    device.tell("iot", descriptors="no", states={"x": 1})
    device.tell("listen", state="stop")
    device.tell("abort", reason={"not": "text"})
    device.collect_answer()

    assert ask(device, "still there").sentences == ["Fine"]
