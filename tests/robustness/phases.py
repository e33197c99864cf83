"""Every phase of a visit in which something may happen to it: functions that bring a device there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.device_tools import DeviceTools
from loadtest.simulator.speech import Speech
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import ASR, CHAT, TTS
from tests.e2e.stage import LONG, Stage, utter, wait_for_sound
from tests.robustness.logbook import SAID
from tests.robustness.witness import Mirror, calling
from tests.waiting import PATIENCE_S, wait_for

NEVER = Script(stall="before")


def before_hello(stage: Stage, mirror: Mirror, words: Speech) -> SimulatedDevice:
    """Connected."""
    return SimulatedDevice(stage.url, device_id="02:0d:00:00:02:01").connect()


def greeted(stage: Stage, mirror: Mirror, words: Speech) -> SimulatedDevice:
    """Hello said, tools about to be listed."""
    return stage.device(features={"mcp": True})


def listening(stage: Stage, mirror: Mirror, words: Speech) -> SimulatedDevice:
    """In the middle of an utterance."""
    device = stage.device()
    utter(device, words, "auto", silence_ms=0)
    device.ping()
    return device


def button_held(stage: Stage, mirror: Mirror, words: Speech) -> SimulatedDevice:
    """In the middle of an utterance, the button pressed."""
    device = stage.device()
    device.listen_start("manual")
    device.send_frames(words.packets(), realtime=False)
    return device


def recognising(stage: Stage, mirror: Mirror, words: Speech) -> SimulatedDevice:
    """The recogniser does not answer."""
    mirror.when(ASR, "", NEVER)
    met = mirror.met[ASR]
    device = stage.device()
    utter(device, words)
    wait_for(lambda: mirror.met[ASR] > met, "the request")
    return device


def thinking(stage: Stage, mirror: Mirror, words: Speech) -> SimulatedDevice:
    """The language model does not answer."""
    mirror.when(CHAT, "think", NEVER)
    met = mirror.met[CHAT]
    device = stage.device()
    device.detect(f"{SAID} think")
    wait_for(lambda: mirror.met[CHAT] > met, "the request")
    return device


def synthesising(stage: Stage, mirror: Mirror, words: Speech) -> SimulatedDevice:
    """The voice does not come."""
    mirror.when(TTS, "sing", NEVER)
    met = mirror.met[TTS]
    device = stage.device()
    device.detect(f"{SAID} sing")
    wait_for(lambda: mirror.met[TTS] > met, "the request")
    return device


def speaking(stage: Stage, mirror: Mirror, words: Speech) -> SimulatedDevice:
    """In the middle of an answer."""
    mirror.when(TTS, "story.", LONG)
    device = stage.device()
    device.detect(f"{SAID} a story")
    wait_for_sound(device, 4)
    return device


def interrupted(stage: Stage, mirror: Mirror, words: Speech) -> SimulatedDevice:
    """An answer was just cut short by the next question."""
    device = speaking(stage, mirror, words)
    device.detect(f"{SAID} again")
    return device


def calling_a_tool(stage: Stage, mirror: Mirror, words: Speech) -> SimulatedDevice:
    """A tool of the device was called and has not answered."""
    mirror.when_asked(f"{SAID} status", calling("self_get_device_status"))
    tools = SilentTools()
    device = stage.device(tools=tools)
    device.wait_until(lambda: tools.listed, PATIENCE_S, "the tools to be listed")
    device.ping()
    device.detect(f"{SAID} status")
    wait_for(lambda: tools.called, "the call")
    return device


def leaving(stage: Stage, mirror: Mirror, words: Speech) -> SimulatedDevice:
    """It has said goodbye itself."""
    device = stage.device()
    device.tell("goodbye")
    return device


class SilentTools(DeviceTools):
    """Tools that never answer a call."""

    called = 0

    def answer(self, payload: Mapping[str, Any]) -> dict[str, Any] | None:
        """See DeviceTools."""
        if payload.get("method") == "tools/call":
            self.called += 1
            return None
        return super().answer(payload)


PHASES = (
    before_hello,
    greeted,
    listening,
    button_held,
    recognising,
    thinking,
    synthesising,
    speaking,
    interrupted,
    calling_a_tool,
    leaving,
)
