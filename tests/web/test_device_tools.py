"""Operators and the tools of a connected device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from xiaozhi.chat import ToolSpec
from xiaozhi.errors import ToolError
from xiaozhi.runtime.guesses import FREE, Guesses
from xiaozhi.tools.base import Action, ToolOutcome
from xiaozhi.web.admin_access import AdminAccess
from xiaozhi.web.app import create_app
from xiaozhi.web.device_tools import MAX_TEXT_CHARS, create_blueprint

PATH = "/admin/devices/02:00:00:00:00:01/tools"
ADMIN = {"Authorization": "Bearer admin"}


class FakeTools:
    """The tools of one device; `answer` is given, or raised."""

    def __init__(self, answer: ToolOutcome | Exception | None = None) -> None:
        self.answer = answer or ToolOutcome(Action.ASK_LLM, '{"version": "2.0"}')
        self.calls: list[tuple[str, Mapping[str, Any]]] = []

    def list_for_operators(self) -> list[ToolSpec]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return [ToolSpec("self.reboot", "Reboot.")]

    def call_for_operators(self, name: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        self.calls.append((name, arguments))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def client(tools: FakeTools | None, *, connected: bool = True, token: str = "admin") -> FlaskClient:
    def find(device_id: str) -> tuple[bool, FakeTools | None]:
        assert device_id == "02:00:00:00:00:01"
        return connected, tools

    return create_app([create_blueprint(find, AdminAccess(token, Guesses()))]).test_client()


def call(server: FlaskClient, body: Any, headers: Mapping[str, str] = ADMIN) -> TestResponse:
    return server.post(PATH, json=body, headers=headers)


def test_the_tools_are_listed() -> None:
    reply = client(FakeTools()).get(PATH, headers=ADMIN)

    assert reply.status_code == 200
    assert reply.get_json() == {
        "success": True,
        "tools": [{"name": "self.reboot", "description": "Reboot.", "parameters": ToolSpec("", "").parameters}],
    }


def test_one_is_called() -> None:
    tools = FakeTools()

    reply = call(client(tools), {"name": "self.screen.snapshot", "arguments": {"url": "http://x", "quality": 80}})

    assert (reply.status_code, reply.get_json()) == (200, {"success": True, "text": '{"version": "2.0"}'})
    assert call(client(tools), {"name": "self.reboot"}).status_code == 200
    assert tools.calls == [("self.screen.snapshot", {"url": "http://x", "quality": 80}), ("self.reboot", {})]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"name": 5}', b'{"name": ""}', b'{"name": "x", "arguments": []}'])
def test_what_cannot_be_understood_never_reaches_the_device(body: bytes) -> None:
    tools = FakeTools()

    reply = client(tools).post(PATH, data=body, headers=ADMIN)

    assert reply.status_code == 400
    assert "self.get_system_info" in reply.get_json()["message"]
    assert tools.calls == []
    assert client(tools).post(PATH, data=b"x" * 70_000, headers=ADMIN).status_code == 413


@pytest.mark.parametrize(
    ("connected", "tools", "status", "word"),
    [
        (False, None, 404, "not connected"),
        (True, None, 404, "no tools of its own"),
        (True, FakeTools(ToolError("the device did not answer within 10 seconds")), 502, "did not answer"),
    ],
)
def test_what_is_not_there_is_said_in_words(connected: bool, tools: FakeTools | None, status: int, word: str) -> None:
    server = client(tools, connected=connected)

    for reply in (server.get(PATH, headers=ADMIN), call(server, {"name": "self.reboot"})):
        assert reply.status_code == status
        assert reply.get_json()["success"] is False
        assert word in reply.get_json()["message"]


def test_a_call_that_went_wrong_and_a_result_without_end() -> None:
    failed = call(client(FakeTools(ToolOutcome(Action.ERROR, "no screen"))), {"name": "self.screen.snapshot"})
    endless = call(client(FakeTools(ToolOutcome(Action.ASK_LLM, "x" * 5_000_000))), {"name": "self.get_system_info"})

    assert (failed.status_code, failed.get_json()["message"]) == (502, "no screen")
    assert len(endless.get_json()["text"]) == MAX_TEXT_CHARS


def test_only_the_admin_may_and_guesses_are_counted() -> None:
    tools = FakeTools()
    server = client(tools)

    for _ in range(FREE):
        assert call(server, {"name": "self.reboot"}, {"Authorization": "Bearer guess"}).status_code == 401
    assert call(server, {"name": "self.reboot"}).status_code == 429
    assert client(tools).get(PATH).status_code == 401
    assert call(client(tools, token=""), {"name": "self.reboot"}).status_code == 403
    assert tools.calls == []
