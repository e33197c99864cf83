"""Timers, alarms and reminders through a whole server: by voice with a language model, without one, across a restart,
for a device that is away."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path
from typing import Any

import pytest

from loadtest.simulator.answer import HeardAnswer
from loadtest.simulator.device import SimulatedDevice
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, LONG, TTS, Script, Stage, ask, open_stage, tool_call, wait_for_sound
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.reminders.ringing import ReminderKind
from xiaozhi.reminders.understanding import When, understand
from xiaozhi.storage.reminders import ReminderRow

ANNA, BEN = "02:aa:00:00:00:01", "02:aa:00:00:00:02"
TOKEN = "the-admin-token-of-tests"
SETTINGS: dict[str, Any] = {
    "server": {"admin_token": TOKEN},
    "Intent": {"function_call": {"functions": ["reminders"]}},
    "LLM": {"Offline": {"type": "offline"}},
}


@pytest.fixture(scope="module")
def stage_settings() -> dict[str, Any]:
    return SETTINGS


def set_now(stage: Stage, words: str, text: str = "", *, ago: float = 0.0) -> ReminderRow:
    """As if somebody had set one; `ago`: it has been due for so many seconds."""
    book = stage.server.reminders.book
    found = understand(words, book.now())
    assert isinstance(found, When)
    at = found.at.fromtimestamp(found.at.timestamp() - ago, found.at.tzinfo)
    kind = ReminderKind.REMINDER if text else ReminderKind.TIMER
    row = book.set(ANNA, ANNA, kind, When(at, span=found.span), text=text)
    assert row is not None
    return row


def plain(answer: HeardAnswer) -> str:
    """What was heard, without the commas and full stops that divide it."""
    return re.sub(r"[,.。，：:]? ", " ", " ".join(answer.sentences)).strip()


def asked(device: SimulatedDevice, text: str) -> str:
    """The answer to a typed question."""
    return plain(ask(device, text))


def unasked(device: SimulatedDevice) -> str:
    """The next thing that is said without having been asked."""
    return plain(device.collect_answer(PATIENCE_S))


def test_a_timer_set_by_voice_is_heard_in_the_conversation(stage: Stage) -> None:
    anna = stage.device(device_id=ANNA)
    stage.vendor.script(CHAT, Script(answer=[tool_call("set_reminder", when="in 1 second", text="the eggs")]))

    assert asked(anna, "set a timer of one second for the eggs").startswith("I will remind you in 1 second today at ")
    assert unasked(anna) == "A reminder the eggs"
    wait_for(lambda: stage.count("xiaozhi_reminders_due_total", how="on_time") == 1, "the count")

    asked(anna, "what was that")
    assert ("assistant", "A reminder: the eggs.") in stage.said(), "the model knows what was said"


def test_an_alarm_interrupts_and_is_stopped_by_voice(stage: Stage) -> None:
    anna = stage.device(device_id=ANNA)
    stage.vendor.script(TTS, LONG)
    anna.detect("tell me a story")
    wait_for_sound(anna)
    set_now(stage, "in 1 second")
    assert anna.collect_answer(PATIENCE_S).sentences == ["Fine"]

    assert plain(anna.collect_answer(PATIENCE_S)) == "Time is up your timer has ended"
    stage.vendor.script(CHAT, Script(answer=[tool_call("cancel_reminder")]))
    assert asked(anna, "stop") == "All right it is off"
    assert stage.server.reminders.book.coming(ANNA) == []


def test_what_is_not_clear_is_asked_and_then_set(stage: Stage) -> None:
    anna = stage.device(device_id=ANNA)
    stage.vendor.script(CHAT, Script(answer=[tool_call("set_reminder", when="tomorrow", text="call mum")]))
    assert asked(anna, "remind me tomorrow to call mum") == "At what time?"
    stage.vendor.script(CHAT, Script(answer=[tool_call("set_reminder", when="tomorrow at 9 am", text="call mum")]))
    assert asked(anna, "at nine") == "I will remind you tomorrow at 9:00 AM call mum"
    assert ("assistant", "At what time?") in stage.said()

    [listed] = _http(stage, "GET")["reminders"]
    assert (listed["kind"], listed["text"], listed["repeats"]) == ("reminder", "call mum", {"en": "", "zh": ""})
    assert _http(stage, "DELETE", f"/{listed['id']}") == {"success": True, "cancelled": 1}
    assert _http(stage, "DELETE", f"/{listed['id']}", status=404)["success"] is False
    assert _http(stage, "GET")["reminders"] == []


def test_who_is_away_is_told_late_at_the_next_visit(stage: Stage) -> None:
    set_now(stage, "in 1 second", "water the flowers", ago=3_600)
    wait_for(lambda: stage.count("xiaozhi_reminders_due_total", how="late"), "the reminder to be due")
    anna = stage.device(device_id=ANNA)

    said = unasked(anna)
    assert said.startswith("Sorry this is late You had a reminder on ") and said.endswith(" water the flowers")


def test_a_forgotten_device_has_no_reminders(stage: Stage) -> None:
    set_now(stage, "in 10 minutes", "tea")
    stage.server.known_devices.directory.forget(ANNA)

    assert _http(stage, "GET")["reminders"] == []
    assert _http(stage, "GET", token="wrong", status=401)["success"] is False


def test_over_a_restart_of_the_server(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, SETTINGS) as before:
        set_now(before, "in 1 second", "the oven", ago=600)
        wait_for(lambda: before.count("xiaozhi_reminders_due_total", how="late"), "one to be handed over before")
        anna = before.device(device_id=BEN)
        before.vendor.script(CHAT, Script(answer=[tool_call("set_reminder", when="in 3 seconds", kind="alarm")]))
        assert asked(anna, "wake me in three seconds").startswith("Your alarm rings in 3 seconds ")
    with open_stage(tmp_path, sounds, SETTINGS) as after:
        anna, ben = after.device(device_id=ANNA), after.device(device_id=BEN)
        assert unasked(anna).startswith("Sorry this is late You had a reminder on ")
        assert unasked(ben).endswith("this is your alarm")


def test_without_a_language_model(tmp_path: Path, sounds: Sounds) -> None:
    settings = {**SETTINGS, "selected_module": {"LLM": "Offline"}}
    with open_stage(tmp_path, sounds, settings) as offline:
        anna = offline.device(device_id=ANNA)
        assert asked(anna, "please set a timer for five minutes").startswith("Your timer ends in 5 minutes today at ")
        assert asked(anna, "十分钟后提醒我").startswith("好的，10分钟后")
        assert "计时器" in asked(anna, "有哪些计时器")
        assert asked(anna, "list my timers").startswith("1 timer today at ")
        row = offline.server.reminders.book.coming(ANNA)[0]
        offline.server.reminders.book.change(row, when=When(offline.server.reminders.book.now()))
        assert unasked(anna) == "Time is up your timer has ended"
        assert asked(anna, "snooze").startswith("I will come back to it today at ")


def _http(stage: Stage, method: str, path: str = "", *, token: str = TOKEN, status: int = 200) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", stage.server.http_port, timeout=PATIENCE_S)
    try:
        address = f"/admin/devices/{ANNA}/reminders{path}"
        connection.request(method, address, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        assert answer.status == status
        return json.loads(answer.read())
    finally:
        connection.close()
