"""A session does not know what carries it: whole conversations over another carrier than the WebSocket, with the
server's own connections, limits, sweeper, registry and sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.simulator.speech import Speech
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, QUARTER, TTS, Script, Stage, ask, open_stage
from tests.fakes.prefixed_tcp import PrefixedDevice, PrefixedPort
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.protocol.messages import Alert
from xiaozhi.runtime.connections import Policy
from xiaozhi.runtime.limits import AdmissionLimits, MessageRates
from xiaozhi.runtime.tasks import spawn
from xiaozhi.session.parts import NO_HELLO

DEVICE = "02:00:00:aa:bb:cc"
AUDIO = {"format": "opus", "sample_rate": 16_000, "channels": 1, "frame_duration": 60}


@contextmanager
def carrier(stage: Stage, **services: Any) -> Iterator[PrefixedPort]:
    """A port for the second carrier, beside the server's own."""
    server = stage.server
    with PrefixedPort(replace(server.connection_services, **services), server.admission) as port:
        yield port
    wait_for(lambda: len(server.connections) == 0, "the connections to end")
    assert server.admission.total == 0


@pytest.fixture
def port(stage: Stage) -> Iterator[PrefixedPort]:
    with carrier(stage) as opened:
        yield opened


@pytest.fixture
def by_hand(stage: Stage) -> Iterator[None]:
    """Nobody sweeps but the test; afterwards everything is as before."""
    registry, admission = stage.server.connections, stage.server.admission
    policy, limits = registry.policy, admission.limits
    registry.stop()
    yield
    registry.policy = policy
    admission.adopt(limits)


def greet(device: PrefixedDevice) -> str:
    """Say hello; the session id."""
    device.tell("hello", version=1, transport="tcp", audio_params=AUDIO)
    (reply,) = device.until("hello")
    assert isinstance(reply, dict)
    return str(reply["session_id"])


def parts(heard: list[dict[str, Any] | bytes]) -> list[str]:
    """What an answer was made of, without its sound."""
    return [str(message.get("state") or message["type"]) for message in heard if isinstance(message, dict)]


def test_a_whole_conversation(stage: Stage, port: PrefixedPort, words: Callable[[str], Speech]) -> None:
    stage.vendor.stand(TTS, QUARTER)
    stage.vendor.stand(CHAT, Script(answer="I am fine. How are you?"))
    with port.device(DEVICE) as device:
        session_id = greet(device)

        device.tell("listen", state="detect", text="how are you")
        typed = device.until("tts", "stop")
        device.tell("listen", state="start", mode="manual")
        device.send_sound(*words("what is up with you").packets(60))
        device.tell("listen", state="stop")
        spoken = device.until("tts", "stop")

        for heard, text in ((typed, "how are you"), (spoken, "what is up")):
            assert parts(heard) == ["stt", "start", "llm", "sentence_start", "sentence_start", "stop"]
            assert len([packet for packet in heard if isinstance(packet, bytes)]) == 10
            first = heard[0]
            assert isinstance(first, dict)
            assert (first["text"], first["session_id"]) == (text, session_id)
        device.close(1000, "done")
        wait_for(lambda: len(stage.server.connections) == 0, "the end")


def test_an_interrupt(stage: Stage, port: PrefixedPort) -> None:
    stage.vendor.stand(TTS, Script(answer=("wav", 10.0)))
    with port.device(DEVICE) as device:
        greet(device)
        device.tell("listen", state="detect", text="a long story")
        device.until("tts", "sentence_start")
        device.tell("abort")
        assert parts(device.until("tts", "stop"))[-1] == "stop"


def test_the_device_may_change_carriers(stage: Stage, port: PrefixedPort) -> None:
    """One connection per device, whatever carries it: the new one replaces the old, in both directions."""
    by_websocket = stage.device(device_id=DEVICE)
    with port.device(DEVICE.upper()) as device:
        greet(device)
        assert by_websocket.wait_closed() == (1000, "replaced")
        device.tell("listen", state="detect", text="are you there")
        assert parts(device.until("tts", "stop"))[0] == "stt"

        back = stage.device(device_id=DEVICE)
        assert device.ending() == (1000, "replaced")
        assert ask(back, "and now").sentences == ["Fine"]
    stage.close_devices()


def test_admission(stage: Stage, port: PrefixedPort, by_hand: None) -> None:
    stage.server.admission.adopt(AdmissionLimits(max_connections=1))
    with port.device(DEVICE) as first:
        greet(first)
        with port.device("02:00:00:aa:bb:dd") as second:
            assert second.ending() == (1013, "server is full")


def test_a_flood(stage: Stage) -> None:
    before = stage.count("xiaozhi_dropped_total", queue="messages")
    with carrier(stage, rates=MessageRates(texts_per_second=1)) as port, port.device(DEVICE) as device:
        for _ in range(20):
            device.tell("ping")
        assert device.ending() == (1008, "too many messages")
    assert stage.count("xiaozhi_dropped_total", queue="messages") > before


def test_the_sweeper(stage: Stage, by_hand: None) -> None:
    registry, now = stage.server.connections, stage.server.connection_services.clock
    off = Policy(0, 0, 0, 0, 0, 0, 0)
    with carrier(stage, pings=lambda identity: True) as port:
        with port.device(DEVICE) as silent:
            wait_for(lambda: len(registry) == 1, "the connection")
            registry.policy = off
            registry.sweep(now() + 11)
            silent.tell("ping")
            silent.until("pong")
            silent.tell("listen", state="start", mode="auto")
            silent.tell("ping")
            silent.until("pong")
            registry.sweep(now() + 11)
            assert silent.ending() == (1008, NO_HELLO)
        with port.device(DEVICE) as device:
            greet(device)
            registry.policy = replace(off, ping_interval=30, ping_timeout=90)
            registry.sweep(now() + 31)
            device.tell("ping")
            device.until("pong")
            assert device.pings == 1
            registry.sweep(now() + 92)
            assert device.ending() is None, "dropped: nobody is there who could be told"


def test_a_message_from_outside(stage: Stage, port: PrefixedPort) -> None:
    registry, alert = stage.server.connections, Alert("Notice", "The kitchen light is on", "happy")
    with port.device(DEVICE) as device:
        wait_for(lambda: len(registry) == 1, "the connection")
        (live,) = registry.of_device(DEVICE)
        assert not live.push(alert), "before hello"
        session_id = greet(device)
        assert live.push(alert)
        assert device.until("alert") == [{**alert.body(), "session_id": session_id}]
        device.close()
        wait_for(lambda: len(registry) == 0, "the end")
        assert not live.push(alert)


def test_draining_lets_the_answer_end(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds) as stage, carrier(stage) as port, port.device(DEVICE) as device:
        stage.vendor.stand(TTS, QUARTER)
        greet(device)
        device.tell("listen", state="detect", text="how are you")
        device.until("tts", "sentence_start")
        drained = spawn("drain", stage.server.connections.drain, 10.0)
        heard = device.until("tts", "stop")
        assert len([packet for packet in heard if isinstance(packet, bytes)]) == 5
        assert device.ending() == (1001, "server stopping")
        assert drained.get(timeout=PATIENCE_S) == 0
