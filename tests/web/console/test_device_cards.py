"""What the page of a device asks about its messages and about the voices that it knows, and whom it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import opened
from tests.web.console.owners import NotedTrail, OwnersBrowser, open_access
from xiaozhi.devices.directory import DeviceDirectory
from xiaozhi.devices.message_queue import MessageQueue, NobodyHere
from xiaozhi.devices.messages import DeviceMessage, MessageKind
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.speech.voice_likeness import KnownVoice, VoiceSample
from xiaozhi.storage import voices as stored
from xiaozhi.storage.database import Database
from xiaozhi.storage.voices import KeptVoice
from xiaozhi.web.console import messages, voices

ANNA, BERT = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
NOW = 1_000_000.0


class Desk:
    """The pages over a database; no device is connected."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.queue = MessageQueue(database, NobodyHere(), worker="w1", clock=lambda: NOW)
        self.trail = NotedTrail()
        directory = DeviceDirectory(database, DeviceNotes(database))
        access = open_access()
        self.browser = OwnersBrowser(
            access,
            self.trail,
            messages.create_blueprint(self.queue, access, self.trail),  # type: ignore[arg-type]
            voices.create_blueprint(directory, access, self.trail),  # type: ignore[arg-type]
        )

    def send(self, device: str, text: str) -> str:
        """A message waits; its id."""
        message = DeviceMessage(device=device, kind=MessageKind.SAY, text=text, due_at=NOW, expires_at=NOW + 60)
        return self.queue.send(message).id

    def teach(self, owner: str, person: str) -> None:
        """A voice is known."""
        kept = KeptVoice(owner, KnownVoice(person, VoiceSample("model", b"\0" * 8, 3.0)), NOW, "yes")
        self.database.run(lambda connection: stored.keep(connection, kept, 9))

    def noted(self) -> list[tuple[str, object]]:
        """What stands in the audit log."""
        return [(what, details) for what, _, details in self.trail.noted]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path) as database:
        made = Desk(database)
        yield made
        made.queue.close(0)


def test_messages_are_listed_and_one_that_waits_is_cancelled(desk: Desk) -> None:
    mine, other = desk.send(ANNA, "dinner"), desk.send(BERT, "lunch")
    [shown] = desk.browser.get(f"devices/{ANNA.upper()}/messages")["messages"]
    assert (shown["id"], shown["text"], shown["state"], shown["kind"]) == (mine, "dinner", "waiting", "say")

    assert desk.browser.ask("POST", f"devices/{ANNA}/messages/{other}/cancel").status_code == 404
    assert desk.browser.ask("POST", f"devices/{ANNA}/messages/{mine}/cancel").status_code == 200
    assert desk.browser.ask("POST", f"devices/{ANNA}/messages/{mine}/cancel").status_code == 409

    states = [desk.browser.get(f"devices/{device}/messages")["messages"][0]["state"] for device in (ANNA, BERT)]
    assert states == ["cancelled", "waiting"]
    assert desk.noted() == [("message cancelled", {"device": ANNA})]


def test_voices_are_listed_and_one_is_erased(desk: Desk) -> None:
    for owner, person in ((ANNA, "Ann"), (f"{ANNA}@client", "Bob"), (BERT, "Cid")):
        desk.teach(owner, person)
    listed = desk.browser.get(f"devices/{ANNA}/voices")["voices"]
    assert [(each["owner"], each["person"]) for each in listed] == [(ANNA, "Ann"), (f"{ANNA}@client", "Bob")]
    assert "vector" not in listed[0]

    def erase(**body: object) -> int:
        return desk.browser.ask("DELETE", f"devices/{ANNA}/voices", json=body).status_code

    assert erase(owner=BERT, person="Cid") == 404
    assert erase(owner=f"{ANNA}@client", person="Bob") == 200
    assert erase(owner=f"{ANNA}@client", person="Bob") == 404
    assert erase(owner=ANNA) == 400
    assert [each["person"] for each in desk.browser.get(f"devices/{ANNA}/voices")["voices"]] == ["Ann"]
    assert desk.noted() == [("voice erased", {"device": ANNA})]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "messages"), ("POST", "messages/1/cancel"), ("GET", "voices"), ("DELETE", "voices")]
)
def test_nobody_else_gets_in(desk: Desk, method: str, path: str) -> None:
    not_logged_in, public, without_proof, other_origin = desk.browser.refusals(method, f"devices/{ANNA}/{path}")

    assert (not_logged_in, public, other_origin) == (401, 403, 403)
    assert without_proof == (403 if method != "GET" else without_proof)
    assert desk.noted() == []
