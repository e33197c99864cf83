"""Operators' messages over HTTP: to whom, with what, what is refused, what is told of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.databases import opened
from xiaozhi.devices.delivery import NOT_CONNECTED
from xiaozhi.devices.directory import DeviceDirectory
from xiaozhi.devices.message_queue import MAX_PER_DEVICE, MessageQueue, NobodyHere
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.errors import ProtocolError
from xiaozhi.protocol.device_id import checked_device_id
from xiaozhi.runtime.guesses import Guesses
from xiaozhi.storage.database import Database, sqlite_url
from xiaozhi.web import device_sounds
from xiaozhi.web.admin_access import AdminAccess
from xiaozhi.web.app import create_app
from xiaozhi.web.messages import MessageHooks, create_blueprint

ANNA, BEN = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
ADMIN = {"Authorization": "Bearer admin"}
NOW = 1_000_000.0


class Operator:
    """Asks, with the token."""

    def __init__(self, database: Database) -> None:
        notes = DeviceNotes(database)
        for device in (ANNA, BEN):
            notes.saw(device, {})
        assert notes.flush()
        self.queue = MessageQueue(database, NobodyHere(), worker="w", clock=lambda: NOW)
        hooks = MessageHooks(
            self.queue, DeviceDirectory(database, notes), lambda: {"Upstairs": [ANNA, BEN]}, lambda: [ANNA, BEN]
        )
        self._client = create_app([create_blueprint(hooks, AdminAccess("admin", Guesses()), lambda: NOW)]).test_client()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        return self._client.open(f"/admin/{path}", method=method, json=body, headers={**ADMIN, **headers})

    def post(self, path: str, body: Any = None, **headers: str) -> TestResponse:
        return self.ask("POST", path, body, **headers)


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    with opened(sqlite_url(tmp_path / "db.sqlite")) as database:
        yield Operator(database)


def test_to_a_device(operator: Operator) -> None:
    reply = operator.post(f"devices/{ANNA.upper()}/say", {"text": " Dinner is ready. ", "deadline_s": 60})

    assert reply.status_code == 200 and reply.json is not None
    [told] = reply.json["messages"]
    assert {**told, "id": ""} == {
        "id": "",
        "device": ANNA,
        "state": "waiting",
        "settled": False,
        "reason": NOT_CONNECTED,
    }
    shown = operator.ask("GET", f"messages/{told['id']}").json
    assert shown is not None
    assert (shown["text"], shown["sender"], shown["kind"]) == ("Dinner is ready.", "operator", "say")
    assert (shown["due_at"], shown["expires_at"]) == (NOW, NOW + 60)


@pytest.mark.parametrize("path", ["groups/upstairs", "groups/Upstairs", "devices/all"])
def test_to_several(operator: Operator, path: str) -> None:
    reply = operator.post(f"{path}/alert", {"text": "Fire drill."})
    assert reply.json is not None
    assert [told["device"] for told in reply.json["messages"]] == [ANNA, BEN]


def test_a_reboot_needs_no_body_and_takes_no_text(operator: Operator) -> None:
    assert operator.post(f"devices/{ANNA}/reboot").status_code == 200
    assert operator.post(f"devices/{ANNA}/reboot", {"deadline_s": 60}).status_code == 200
    refused = operator.post(f"devices/{ANNA}/reboot", {"text": "Bye."})
    assert refused.status_code == 400 and "says nothing" in refused.text


def test_what_is_listed_and_taken_back(operator: Operator) -> None:
    sent = operator.post("devices/all/notify", {"text": "Hello."}).json
    assert sent is not None
    first = sent["messages"][0]["id"]

    assert operator.post(f"messages/{first}/cancel").json == {"success": True}
    again = operator.post(f"messages/{first}/cancel")
    assert again.status_code == 409 and "cancelled already" in again.text
    listed = operator.ask("GET", "messages").json
    everything = operator.ask("GET", f"messages?all=1&device={ANNA}").json
    assert listed is not None and everything is not None
    assert [each["device"] for each in listed["messages"]] == [BEN]
    assert [(each["device"], each["state"]) for each in everything["messages"]] == [(ANNA, "cancelled")]
    assert operator.ask("GET", "groups").json == {"groups": {"Upstairs": [ANNA, BEN]}}


def test_the_same_request_twice_is_one_message(operator: Operator) -> None:
    by_header = operator.post(f"devices/{ANNA}/say", {"text": "Hello."}, **{"Idempotency-Key": "1"}).json
    by_body = operator.post(f"devices/{ANNA}/say", {"text": "Hello.", "key": "1"}).json
    assert by_header == by_body
    both = operator.post(f"devices/{ANNA}/say", {"text": "Hello.", "key": "2"}, **{"Idempotency-Key": "1"})
    assert both.status_code == 400 and "different things" in both.text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (None, "not valid JSON"),
        ({}, '{"text": "Dinner is ready."}'),
        ({"text": "  "}, "what is to be said"),
        ({"text": "x" * 1001}, "at most 1000"),
        ({"text": 5}, "must be a text"),
        ({"text": "x", "wait": 5}, "no field 'wait'"),
        ({"text": "x", "deadline_s": 0}, "from 1 to"),
        ({"text": "x", "deadline_s": True}, "number of seconds"),
        ({"text": "x", "wait_s": 51}, "from 0 to 50"),
        ({"text": "x", "interrupt": "yes"}, "true or false"),
        ({"text": "x", "key": "k" * 201}, "at most 200"),
    ],
)
def test_what_is_refused(operator: Operator, body: Any, words: str) -> None:
    reply = operator.post(f"devices/{ANNA}/say", body)
    assert reply.status_code == 400 and reply.json is not None
    assert words in reply.json["message"]
    assert operator.queue.page() == []


def test_who_is_not_there(operator: Operator) -> None:
    assert operator.post("devices/02:00:00:00:00:ff/say", {"text": "x"}).status_code == 404
    unknown = operator.post("groups/cellar/say", {"text": "x"})
    assert unknown.status_code == 404 and "Groups: Upstairs" in unknown.text
    assert operator.post(f"devices/{ANNA}/sing", {"text": "x"}).status_code in (404, 405)
    assert operator.ask("GET", "messages/1f").status_code == 404
    assert operator.ask("GET", "messages?device=a/b").status_code == 400


def test_no_device_is_called_as_all_of_them_are() -> None:
    with pytest.raises(ProtocolError, match="all devices"):
        checked_device_id("ALL")


def test_full(operator: Operator) -> None:
    for _ in range(MAX_PER_DEVICE):
        assert operator.post(f"devices/{ANNA}/say", {"text": "x"}).status_code == 200
    full = operator.post(f"devices/{ANNA}/say", {"text": "x"})
    assert full.status_code == 503 and "Retry-After" in full.headers
    several = operator.post("devices/all/say", {"text": "x"}).json
    assert several is not None
    assert [told["state"] for told in several["messages"]] == ["failed", "waiting"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"devices/{ANNA}/say"),
        ("POST", "devices/all/reboot"),
        ("POST", "groups/Upstairs/say"),
        ("GET", "groups"),
        ("GET", "messages"),
        ("GET", "messages/1f"),
        ("POST", "messages/1f/cancel"),
    ],
)
def test_nobody_else_gets_in(operator: Operator, method: str, path: str) -> None:
    assert operator.ask(method, path, {"text": "x"}, Authorization="Bearer guess").status_code == 401
    assert operator.queue.page() == []


def test_a_sound_is_served_to_whoever_knows_its_name() -> None:
    asked: list[tuple[str, bool]] = []

    def fetch(name: str, whole: bool) -> bytes | None:
        asked.append((name, whole))
        return b"OggS" * 100 if name == "right" else None

    client = create_app([device_sounds.create_blueprint(fetch)]).test_client()
    got, head = client.get("/device-sounds/right.ogg"), client.head("/device-sounds/right.ogg")
    for reply in (got, head):
        assert (reply.status_code, reply.headers["Content-Length"]) == (200, "400")
        assert reply.headers["Content-Type"] == "audio/ogg"
    assert (got.data, head.data) == (b"OggS" * 100, b"")
    assert asked == [("right", True), ("right", False)], "who only asks has not fetched it"
    for wrong in ("/device-sounds/wrong.ogg", "/device-sounds/right", f"/device-sounds/{'x' * 65}.ogg"):
        assert client.get(wrong).status_code == 404
