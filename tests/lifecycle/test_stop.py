"""The end of a server: answers that were being prepared, the order of the steps for one connection, and what a failing
step may spoil."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.speech import Speech
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import utter, wait_for_sound
from tests.lifecycle.house import CHAT, TTS, House, Script, ask, open_house
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.app.generations import Generations
from xiaozhi.chat import Message
from xiaozhi.devices.quota import OutputQuota
from xiaozhi.providers.contracts.memory import Memory
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.connections import ConnectionRegistry
from xiaozhi.runtime.inference import InferenceClosed
from xiaozhi.session.memory import MemoryWriter
from xiaozhi.transport.websocket import WebSocket

happened: list[str] = []
"""In this order, in this process."""


@provider("memory", "noted", ProviderOptions)
class Noted(Memory):
    """Notes when it saves."""

    def __init__(self, options: ProviderOptions) -> None:
        del options

    def recall(self, device_id: str, query: str) -> str:
        return ""

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        happened.append(f"saved {len(messages)}")


@pytest.fixture(autouse=True)
def _nothing_yet() -> None:
    happened.clear()


def tell_story(house: House, device: SimulatedDevice, seconds: float) -> None:
    """An answer that takes so long has begun."""
    house.vendor.script(CHAT, Script(answer="Once upon a time."))
    house.vendor.script(TTS, Script(answer=("wav", seconds)))
    device.replies.forget_answers()
    device.detect("tell me a story")
    wait_for_sound(device, 3)


def test_what_was_being_prepared_is_still_answered(tmp_path: Path, sounds: Sounds, question: Speech) -> None:
    """The user had paused, the server was told to stop, the user had indeed finished."""
    ears = {"VAD": {"Ears": {"min_silence_duration_ms": 800, "pause_ms": 100}}, "conversation": {"speculative": "llm"}}
    with open_house(tmp_path, sounds, ears) as house:
        device = house.device()
        utter(device, question, silence_ms=300)
        house.wait_for(CHAT)
        stopping = gevent.spawn(house.server.stop)
        wait_for(lambda: house.server.readiness()[1] == ["draining"], "the stop")

        device.send_silence(1_000, realtime=False)

        assert device.collect_answer().sentences == ["Fine"]
        assert device.wait_closed() == (1001, "server stopping")
        stopping.get()


def test_no_new_turn_while_it_stops(tmp_path: Path, sounds: Sounds, question: Speech) -> None:
    with open_house(tmp_path, sounds) as house:
        device, other = house.device(), house.device()
        tell_story(house, device, 0.5)
        stopping = gevent.spawn(house.server.stop)
        wait_for(lambda: other.closed is not None, "the stop")

        utter(device, question)

        assert len(device.collect_answer().frames) >= 8
        assert device.wait_closed() == (1001, "server stopping")
        stopping.get()
        assert sum(house.outcomes().values()) == 1


def test_one_connection_ends_in_the_order_that_loses_nothing(
    tmp_path: Path, sounds: Sounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No new work, current work finished, socket closed, registry left; memory saved before the server has stopped."""
    close, leave = WebSocket.close, ConnectionRegistry.leave

    def noting_close(self: WebSocket, code: int = 1000, reason: str = "") -> None:
        if not self.closed:
            happened.append(f"closed {code}")
        close(self, code, reason)

    def noting_leave(self: ConnectionRegistry, number: int) -> None:
        leave(self, number)
        happened.append("left")

    monkeypatch.setattr(WebSocket, "close", noting_close)
    monkeypatch.setattr(ConnectionRegistry, "leave", noting_leave)
    memory = {"selected_module": {"Memory": "Noted"}, "Memory": {"Noted": {"type": f"{__name__}:Noted"}}}
    with open_house(tmp_path, sounds, memory) as house:
        observe = house.server.services.telemetry.turn_ended
        monkeypatch.setattr(
            house.server.services.telemetry,
            "turn_ended",
            lambda device, record: (happened.append(f"turn {record.outcome}"), observe(device, record)),
        )
        device = house.device()
        tell_story(house, device, 0.5)

        house.server.stop()

        # The visit is handed in before the socket is closed; when its memory is saved depends on store and vendor.
        assert happened.index("saved 2") > 0
        assert [event for event in happened if event != "saved 2"] == ["turn answered", "closed 1001", "left"]
        stop = device.replies.answers[0].messages[-1].data
        assert (stop["type"], stop["state"]) == ("tts", "stop"), "told before the goodbye"


def test_the_last_answer_of_a_cut_visit_is_remembered_as_far_as_it_was_heard(tmp_path: Path, sounds: Sounds) -> None:
    memory = {"selected_module": {"Memory": "Noted"}, "Memory": {"Noted": {"type": f"{__name__}:Noted"}}}
    with open_house(tmp_path, sounds, memory) as house:
        device = house.device()
        ask(device, "hello")
        tell_story(house, device, 10.0)

        house.server.stop(drain_seconds=0.1)

        assert happened == ["saved 4"], "once, and all of it"
        assert house.outcomes() == {"answered": 1, "interrupted": 1}


def test_a_step_that_fails_does_not_keep_the_others_from_being_taken(
    tmp_path: Path, sounds: Sounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_house(tmp_path, sounds) as house:
        server = house.server
        for part, method in (
            (ConnectionRegistry, "drain"),
            (OutputQuota, "close"),
            (MemoryWriter, "flush"),
            (Generations, "close"),
        ):
            monkeypatch.setattr(part, method, and_fail(getattr(part, method)))
        device = house.device()

        server.stop()
        monkeypatch.undo()

        with pytest.raises(InferenceClosed):
            server.inference.run(int, deadline=PATIENCE_S)
        with pytest.raises(OSError):
            house.ask_http("/healthz")
        device.close()


def and_fail(step: Callable[..., object]) -> Callable[..., Any]:
    """A step that does its work, and then shows a bug."""

    def fail(*arguments: object, **options: object) -> Any:
        step(*arguments, **options)
        raise RuntimeError("a bug in the last moment")

    return fail


def test_tools_that_must_not_be_cut_in_half_are_waited_for(tmp_path: Path, sounds: Sounds) -> None:
    with open_house(tmp_path, sounds) as house:
        may_end, done = Event(), Event()

        def work() -> None:
            may_end.wait(PATIENCE_S)
            done.set()

        house.server.services.lasting.spawn("tool", work)
        stopping = gevent.spawn(house.server.stop)
        wait_for(lambda: house.server.connections.sweeper is None, "the stop to come to the tools")
        may_end.set()
        stopping.get()

        assert done.is_set()


def test_stopping_twice_and_before_it_began(tmp_path: Path, sounds: Sounds) -> None:
    with open_house(tmp_path, sounds) as house:
        house.server.stop()
        house.server.stop()
        assert house.server.readiness() == (False, ["draining"])
