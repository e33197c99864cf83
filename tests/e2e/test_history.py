"""What was said, heard and done in a conversation is kept, as the device's settings say; and it can be read, exported
and erased."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.simulator.speech import Speech
from loadtest.simulator.speech import silence as silent_packet
from loadtest.vendors.sounds import Sounds
from tests.databases import opened
from tests.e2e.stage import CHAT, LONG, TTS, Script, Stage, a_tool, ask, open_stage, speak_to, tool_call, wait_for_sound
from tests.waiting import wait_for
from xiaozhi.history.store import KeptTurn, LocalHistory, Retention
from xiaozhi.storage.database import Database
from xiaozhi.tools.base import Action, ToolOutcome

Words = Callable[[str], Speech]
QUESTION = "what is up with you"
QUIET, LOUD, DEVICE = "02:00:00:00:0a:01", "02:00:00:00:0a:02", "02:00:00:00:0a:03"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("history")


@pytest.fixture(scope="module")
def stage(data: Path, sounds: Sounds) -> Iterator[Stage]:
    overlays: dict[str, dict[str, Any]] = {
        QUIET: {"history": {"mode": "off"}},
        LOUD: {"history": {"mode": 2}},  # as the console writes it
    }
    with open_stage(data, sounds, overlays=overlays) as made:
        yield made


@pytest.fixture(scope="module")
def database(data: Path, stage: Stage) -> Iterator[Database]:
    with opened(data) as made:
        yield made


@pytest.fixture
def store(database: Database) -> LocalHistory:
    return LocalHistory(database, lambda: Retention(30, 7))


def kept(store: LocalHistory, device: str, count: int = 1) -> list[KeptTurn]:
    wait_for(lambda: len(store.newest(device, 100)) >= count, f"{count} turns in the store")
    return store.newest(device, 100)


def test_a_typed_question_with_a_tool_is_kept_with_its_answer_and_outcome(stage: Stage, store: LocalHistory) -> None:
    device_id = "02:00:00:00:0b:01"
    tool = a_tool("look_up", lambda arguments, context: ToolOutcome(Action.ASK_LLM, "it is noon"))
    stage.vendor.script(
        CHAT, Script(answer=[tool_call("look_up", what="time")]), Script(answer="It is noon. Time to eat.")
    )
    with stage.tools(tool):
        device = stage.device(device_id=device_id)
        ask(device, "what time is it")

    (turn,) = kept(store, device_id)
    assert (turn.said, turn.spoken, turn.outcome) == ("what time is it", ("It is noon.", "Time to eat."), "answered")
    (use,) = turn.tools
    assert (use.name, dict(use.arguments), use.outcome, use.result) == (
        "look_up",
        {"what": "time"},
        "done",
        "it is noon",
    )
    assert use.ms is not None
    assert {"model", "voice", "ended"} <= turn.timings.keys()
    device.close()
    wait_for(lambda: store.sessions(device_id)[0].ended_at, "the session to be over")


def test_a_spoken_question_is_kept_as_it_was_recognised(stage: Stage, store: LocalHistory, words: Words) -> None:
    device = stage.device(device_id=DEVICE)
    speak_to(device, words(QUESTION))

    (turn,) = kept(store, DEVICE)
    assert (turn.said, turn.spoken) == ("what is up", ("Fine.",))
    assert store.sound_turns(turn.session) == []


def test_of_an_interrupted_answer_only_what_was_heard_is_kept(stage: Stage, store: LocalHistory) -> None:
    device_id = "02:00:00:00:0b:02"
    stage.vendor.stand(TTS, LONG)
    stage.vendor.script(CHAT, Script(answer="This is one. This is two. This is three."))
    device = stage.device(device_id=device_id)
    device.detect("tell me")
    wait_for_sound(device, 3)
    device.abort()

    (turn,) = kept(store, device_id)
    assert (turn.outcome, turn.spoken) == ("interrupted", ("This is one.",))
    assert turn.reason.startswith("abort")


def test_a_failed_answer_is_kept_with_the_apology_that_was_spoken(stage: Stage, store: LocalHistory) -> None:
    device_id = "02:00:00:00:0b:03"
    stage.vendor.stand(CHAT, Script(status=400))
    device = stage.device(device_id=device_id)
    ask(device, "what time is it")

    (turn,) = kept(store, device_id)
    assert (turn.said, turn.outcome, turn.reason) == ("what time is it", "failed", "VendorRejected")
    assert turn.spoken


def test_turns_of_a_session_are_in_order(stage: Stage, store: LocalHistory) -> None:
    device_id = "02:00:00:00:0b:04"
    device = stage.device(device_id=device_id)
    for number in range(3):
        ask(device, f"question {number}")

    assert [turn.said for turn in kept(store, device_id, 3)] == ["question 0", "question 1", "question 2"]


def test_of_a_device_whose_history_is_off_nothing_is_kept(stage: Stage, store: LocalHistory, data: Path) -> None:
    device = stage.device(device_id=QUIET)
    ask(device, "a very private question")
    other = stage.device(device_id="02:00:00:00:0b:05")
    ask(other, "and another one")

    kept(store, "02:00:00:00:0b:05")
    assert store.newest(QUIET, 10) == []
    # The database holds the dialogue that is to be resumed, for `conversation.resume_seconds`.
    files = [path for path in data.rglob("*") if path.is_file() and "sqlite" not in path.name]
    assert not any(b"a very private question" in path.read_bytes() for path in files)


def test_the_voice_is_kept_where_the_device_says_so(stage: Stage, store: LocalHistory, words: Words) -> None:
    device = stage.device(device_id=LOUD)
    speak_to(device, words(QUESTION))
    ask(device, "typed")

    first, second = kept(store, LOUD, 2)
    assert (first.said, second.said) == ("what is up", "typed")
    assert store.sound_turns(first.session) == [first.turn]
    sound = store.sound(first.session, first.turn)
    assert sound is not None
    assert len(sound.wav()) > 16_000
    sent = {*words(QUESTION).packets(device.frame_ms), silent_packet(device.frame_ms)}
    assert set(sound.packets) <= sent, "as the device sent them"
