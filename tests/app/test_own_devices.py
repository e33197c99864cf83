"""What one device may ask of the others, and how the command line hands over messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.databases import opened
from xiaozhi.app import device_commands
from xiaozhi.app.household import OwnDevices, household_rules
from xiaozhi.devices.delivery import NOT_CONNECTED, QUIET_HOURS
from xiaozhi.devices.directory import DeviceDirectory
from xiaozhi.devices.household import Household
from xiaozhi.devices.messages import DeviceMessage, MessageResult, MessageState
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.errors import ToolError
from xiaozhi.settings import Settings, load
from xiaozhi.storage import enrolments
from xiaozhi.storage.database import Database, sqlite_url
from xiaozhi.tools.calls import Rung
from xiaozhi.tools.household import AskingDevice, Told, ToldWhen

KITCHEN, HALL, STRANGER = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"


class FakeQueue:
    """Every message has the same fate."""

    def __init__(self) -> None:
        self.fate = MessageResult("1", "", MessageState.SPOKEN)
        self.sent: list[DeviceMessage] = []
        self.cancelled: list[str] = []
        self.waited: list[str] = []

    def send(self, message: DeviceMessage, *, wait_s: float = 0.0) -> MessageResult:
        return self.send_all([message])[0]

    def send_all(self, messages: Sequence[DeviceMessage], *, wait_s: float = 0.0) -> list[MessageResult]:
        self.sent += messages
        return [MessageResult("1", message.device, self.fate.state, self.fate.reason) for message in messages]

    def wait(self, results: Sequence[MessageResult], seconds: float) -> list[MessageResult]:
        self.waited += [result.device for result in results]
        return list(results)

    def cancel(self, id: str) -> bool:
        self.cancelled.append(id)
        return True


class FakeSessions:
    """Nobody talks here."""

    rung = Rung.AWAY

    def ring(self, device_id: str, words: Mapping[str, str]) -> Rung:
        return self.rung


class House:
    """Kitchen and hall are enrolled; a stranger is only known."""

    def __init__(self, database: Database) -> None:
        self.notes = DeviceNotes(database)
        self.directory = DeviceDirectory(database, self.notes)
        for device, name in ((KITCHEN, "Kitchen"), (HALL, "Hall"), (STRANGER, "Spy")):
            self.notes.saw(device, {})
            self.directory.name_it(device, name)
        assert self.notes.flush()
        for device in (KITCHEN, HALL):
            database.run(lambda each, device=device: enrolments.enrol(each, device, "client", 1.0))  # type: ignore[misc]
        self.queue, self.sessions = FakeQueue(), FakeSessions()
        settings = Settings.model_validate({"server": {"auth": {"enabled": "home"}}})
        household = Household(database, lambda: household_rules(settings))
        self.others = OwnDevices(
            household,
            self.queue,  # type: ignore[arg-type]
            self.sessions,  # type: ignore[arg-type]
            current=lambda: settings,
            clock=lambda: 1_000.0,
        )

    def tell(self, to: str = "kitchen", text: str = "Dinner is ready.", **asker: str) -> list[Told]:
        return self.others.tell(AskingDevice(**{"device_id": HALL, "client_id": "client", **asker}), to, text)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with opened(sqlite_url(tmp_path / "db.sqlite")) as database:
        yield House(database)


def test_the_other_one_hears_who_says_it(house: House) -> None:
    assert house.tell() == [Told("Kitchen", ToldWhen.NOW)]
    house.tell(text="饭好了。")
    first, second = house.queue.sent
    assert (first.device, first.text, first.sender, first.title) == (
        KITCHEN,
        "Hall says: Dinner is ready.",
        HALL,
        "Hall",
    )
    assert second.text == "Hall说：饭好了。"
    assert not first.interrupts and not first.in_quiet_hours


@pytest.mark.parametrize(
    ("state", "reason", "when"),
    [
        (MessageState.SENT, "", ToldWhen.NOW),
        (MessageState.WAITING, "for a pause in the conversation", ToldWhen.NOW),
        (MessageState.WAITING, NOT_CONNECTED, ToldWhen.WHEN_BACK),
        (MessageState.WAITING, QUIET_HOURS, ToldWhen.AFTER_QUIET_HOURS),
        (MessageState.FAILED, "no voice", ToldWhen.NEVER),
    ],
)
def test_when_it_is_heard(house: House, state: MessageState, reason: str, when: ToldWhen) -> None:
    house.queue.fate = MessageResult("1", "", state, reason)
    assert house.tell("everyone") == [Told("Kitchen", when)]
    assert house.queue.waited == ([] if reason == NOT_CONNECTED else [KITCHEN]), "nobody waits for who is away"


@pytest.mark.parametrize(
    ("asker", "words"),
    [({"device_id": STRANGER}, "does not belong"), ({"client_id": "another"}, "does not belong")],
)
def test_only_the_household_may_ask(house: House, asker: dict[str, str], words: str) -> None:
    with pytest.raises(ToolError, match=words):
        house.tell(**asker)
    with pytest.raises(ToolError, match="by the name 'spy'"):
        house.tell("spy")
    assert house.others.called(AskingDevice(STRANGER), "kitchen") == ""
    assert house.queue.sent == []


def test_it_is_switched_off_for_one(house: House) -> None:
    house.directory.change_settings(KITCHEN, lambda own: {"intercom": False})
    with pytest.raises(ToolError, match="Names: none"):
        house.tell()
    with pytest.raises(ToolError, match="switched off"):
        house.tell("hall", device_id=KITCHEN)


def test_a_call_over_all_workers(house: House) -> None:
    words = {"zh": "来电", "en": "A call."}
    house.sessions.rung = Rung.BUSY
    assert house.others.ring(KITCHEN, words) is Rung.BUSY and house.queue.sent == []

    house.sessions.rung = Rung.AWAY
    assert house.others.ring(KITCHEN.upper(), words) is Rung.RINGS
    house.queue.fate = MessageResult("1", "", MessageState.WAITING, NOT_CONNECTED)
    assert house.others.ring(KITCHEN, words) is Rung.AWAY
    house.queue.fate = MessageResult("1", "", MessageState.WAITING, "for a pause in the conversation")
    assert house.others.ring(KITCHEN, words) is Rung.BUSY
    assert house.queue.cancelled == ["1", "1"], "who did not answer is not called later"
    assert {message.device for message in house.queue.sent} == {KITCHEN}


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load(environ={}, overrides={"storage": {"url": sqlite_url(tmp_path / "x.sqlite")}})

    def run(*words: str) -> str:
        given: Any = ["devices", *words]
        assert device_commands.is_device_command(given)
        assert device_commands.run(given, loaded) == 0
        return capsys.readouterr().out

    assert "No message waits." in run("messages")
    assert NOT_CONNECTED in run("say", KITCHEN.upper(), "Dinner", "is", "ready.")
    run("reboot", KITCHEN)
    listed = run("messages")
    assert listed.count(KITCHEN) == 2 and "reboot" in listed and "Dinner" not in listed
    assert not device_commands.is_device_command(["devices", "say", KITCHEN])
