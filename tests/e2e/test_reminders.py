"""Timers, alarms and reminders through a whole server: by voice with a language model, without one, across a restart, for
a device that is away."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, Script, Stage, ask, open_stage, tool_call
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.reminders.ringing import ReminderKind
from xiaozhi.reminders.understanding import When, understand
from xiaozhi.storage.reminders import ReminderRow

ANNA = "02:aa:00:00:00:01"
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


def heard_in(stage: Stage, device: Any) -> list[str]:
    """Sentences of the next answer that nobody has asked for."""
    answer = device.collect_answer(PATIENCE_S)
    return [sentence for sentence in answer.sentences]


def test_a_timer_set_by_voice_is_heard_in_the_conversation(stage: Stage) -> None:
    anna = stage.device(device_id=ANNA)
    stage.vendor.script(
        CHAT, Script(answer=[tool_call("set_reminder", when="in 1 second", text="the eggs", kind="timer")])
    )

    said = " ".join(ask(anna, "set a timer of one second for the eggs").sentences)
    assert said.startswith("Your timer for the eggs ends in 1 second, today at ")
    anna.replies.forget_answers()
    assert heard_in(stage, anna) == ["Time is up: the eggs"]
    wait_for(lambda: stage.count("xiaozhi_reminders_due_total", how="on_time") == 1, "the count")

    # The model knows what was said, and stops it.
    stage.vendor.script(CHAT, Script(answer=[tool_call("cancel_reminder")]))
    assert ask(anna, "all right, stop").sentences == ["All right", "it is off"]
    assert ("assistant", "Time is up: the eggs.") in stage.said()


def test_what_is_not_clear_is_asked_and_then_set(stage: Stage) -> None:
    anna = stage.device(device_id=ANNA)
    stage.vendor.script(CHAT, Script(answer=[tool_call("set_reminder", when="tomorrow", text="call mum")]))
    assert ask(anna, "remind me tomorrow to call mum").sentences == ["At what time?"]
    stage.vendor.script(CHAT, Script(answer=[tool_call("set_reminder", when="tomorrow at 9 am", text="call mum")]))
    assert ask(anna, "at nine").sentences == ["I will remind you tomorrow at 9:00 AM: call mum"]
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

    said = " ".join(heard_in(stage, anna))
    assert said.startswith("Sorry, this is late. You had a reminder on ") or said.startswith("Sorry this is late")
    assert said.endswith(": water the flowers")


def test_a_forgotten_device_has_no_reminders(stage: Stage) -> None:
    set_now(stage, "in 10 minutes", "tea")
    stage.server.known_devices.directory.forget(ANNA)

    assert _http(stage, "GET")["reminders"] == []


def _http(stage: Stage, method: str, path: str = "", *, status: int = 200) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", stage.server.http_port, timeout=PATIENCE_S)
    try:
        address = f"/admin/devices/{ANNA}/reminders{path}"
        connection.request(method, address, headers={"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        assert answer.status == status
        return json.loads(answer.read())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def offline_stage(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds) -> Iterator[Stage]:
    with open_stage(
        tmp_path_factory.mktemp("offline"), sounds, {**SETTINGS, "selected_module": {"LLM": "Offline"}}
    ) as opened:
        yield opened
