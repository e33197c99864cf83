"""What the pages of devices ask: over a real database, with stand-ins for what only a running server has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.databases import opened
from tests.web.console.owners import NotedTrail, OwnersBrowser, open_access
from xiaozhi.app.device_settings import change_own, restore_own
from xiaozhi.chat import ToolSpec
from xiaozhi.devices.directory import KEPT_VERSIONS, DeviceDirectory
from xiaozhi.devices.enrolment import Asker, Enrolment, EnrolmentRules
from xiaozhi.devices.messages import DeviceMessage, MessageResult, MessageState
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.errors import ToolError, VendorUnavailable
from xiaozhi.settings import load
from xiaozhi.settings.device_form import changed_keys, form_of, other_keys
from xiaozhi.storage import presences
from xiaozhi.storage.database import Database
from xiaozhi.storage.presences import Visit
from xiaozhi.tools.base import Action, ToolOutcome
from xiaozhi.web.console.devices import DeviceForm, DevicePageHooks, EarlierSettings, VoiceField, create_blueprint
from xiaozhi.web.device_tools import OperatorTools

ANNA, BERT = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


class Tools:
    """The tools of a connected device."""

    def list_for_operators(self) -> list[ToolSpec]:
        return [ToolSpec("self.reboot", "Reboot.", {"type": "object"})]

    def call_for_operators(self, name: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        if name == "self.nothing":
            raise ToolError("the device does not answer")
        return ToolOutcome(Action.ASK_LLM, f"{name} {dict(arguments)}")


class Desk:
    """The pages over a database; `here`: devices connected to this process."""

    def __init__(self, database: Database) -> None:
        self.now = 1_000_000.0
        self.database = database
        self.notes = DeviceNotes(database, clock=lambda: self.now)
        self.directory = DeviceDirectory(database, self.notes, clock=lambda: self.now)
        self.enrolment = Enrolment(database, EnrolmentRules(enroll="approve"), clock=lambda: self.now)
        self.loaded = load(environ={})
        self.trail = NotedTrail()
        self.here: dict[str, OperatorTools | None] = {}
        self.fate = MessageState.SPOKEN
        self.sent: list[DeviceMessage] = []
        self.heard: list[tuple[str, Any, Any, str]] = []
        self.looks = 0
        hooks = DevicePageHooks(
            directory=self.directory,
            form=self._form,
            earlier=self._earlier,
            change=lambda device, values, removed, who: change_own(
                self.directory, self.loaded, device, values, removed, who=who
            ),
            restore=lambda device, version, who: restore_own(self.directory, self.loaded, device, version, who=who),
            hear=self._hear,
            messages=self,
            tools=lambda device: (device in self.here, self.here.get(device)),
            photograph=self._photograph,
            firmware=lambda device, board, version: {"version": "9", "file": f"{board}_9.bin", "force": False},
            quota=lambda device: {"used": 7, "limit": 100},
            under_console=lambda: False,
            ota_url=lambda origin: f"http://{origin.host}/ota/",
            look=self._look,
        )
        access = open_access()
        self.browser = OwnersBrowser(access, self.trail, create_blueprint(hooks, access, self.trail))  # type: ignore[arg-type]

    def _form(self, device: str) -> DeviceForm:
        own = self.directory.settings_of(device)
        return DeviceForm(
            form_of(self.loaded, own), VoiceField("TTS.Espeak.voice", "en", False, "Espeak"), other_keys(own)
        )

    def _earlier(self, device: str) -> Sequence[EarlierSettings]:
        after = self.directory.settings_of(device)
        return [
            EarlierSettings(each.id, each.at, each.who, changed_keys(each.settings, after))
            for each in self.directory.versions_of(device)[:1]
        ]

    def _hear(self, device: str, values: Mapping[str, Any], removed: Sequence[str], text: str) -> bytes:
        self.heard.append((device, dict(values), list(removed), text))
        if text == "fail":
            raise VendorUnavailable("TTS.Acme", "does not answer")
        return b"RIFF"

    def send(self, message: DeviceMessage, *, wait_s: float = 0.0) -> MessageResult:
        """A `MessageSender`."""
        self.sent.append(message)
        return MessageResult(
            "1f", message.device, self.fate, "for a pause" if self.fate is MessageState.WAITING else ""
        )

    def _photograph(self, device: str) -> str:
        self.directory.keep_picture(device, PNG)
        return ""

    def _look(self) -> None:
        self.looks += 1

    def seen(self, *devices: str, **report: Any) -> None:
        """Devices have asked."""
        for device in devices:
            self.now += 1
            self.notes.saw(device, report)
            assert self.notes.flush()

    def waits(self, device: str, client: str) -> str:
        """Somebody asks to be let in; the code."""
        return self.enrolment.ask(Asker(device, client, "203.0.113.4")).code


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path) as database:
        yield Desk(database)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "devices"),
        ("GET", f"devices/{ANNA}"),
        ("GET", f"devices/{ANNA}/settings"),
        ("GET", f"devices/{ANNA}/screen"),
        ("GET", f"devices/{ANNA}/tools"),
        ("PATCH", f"devices/{ANNA}/settings"),
        ("PUT", f"devices/{ANNA}/label"),
        ("POST", f"devices/{ANNA}/settings/1/restore"),
        ("POST", f"devices/{ANNA}/voice"),
        ("POST", f"devices/{ANNA}/approve"),
        ("POST", f"devices/{ANNA}/revoke"),
        ("POST", f"devices/{ANNA}/forget"),
        ("DELETE", f"devices/{ANNA}"),
        ("POST", f"devices/{ANNA}/say"),
        ("POST", f"devices/{ANNA}/reboot"),
        ("POST", f"devices/{ANNA}/tools"),
        ("POST", f"devices/{ANNA}/screen"),
        ("POST", "devices/waiting/123456/approve"),
        ("POST", "devices/waiting/123456/refuse"),
    ],
)
def test_nobody_else_gets_in(desk: Desk, method: str, path: str) -> None:
    desk.seen(ANNA)

    not_logged_in, public, without_proof, other_origin = desk.browser.refusals(method, path)

    assert (not_logged_in, public, other_origin) == (401, 403, 403)
    assert without_proof == (403 if method != "GET" else without_proof)
    assert desk.trail.noted == []
    assert not desk.directory.of(ANNA).standing.revoked


def test_devices_come_page_by_page_and_are_found(desk: Desk) -> None:
    names = [f"02:00:00:00:01:{number:02x}" for number in range(7)]
    desk.seen(*names, board="bread", firmware="1.0", rssi=-50)
    desk.seen(ANNA, board="atom_s3")
    desk.browser.ask("PUT", f"devices/{ANNA}/label", json={"label": "  客厅 100% "})

    first = desk.browser.get("devices?limit=3")
    rest = desk.browser.get("devices?limit=200&offset=3")

    listed = [each["device"] for each in first["devices"] + rest["devices"]]
    assert listed == [ANNA, *reversed(names)]
    assert (first["total"], first["devices"][0]["label"]) == (8, "客厅 100%")
    for search, found in (
        ("客厅", [ANNA]),
        ("0%", [ANNA]),
        ("ATOM", [ANNA]),
        ("01:03", [names[3]]),
        ("%", [ANNA]),
        ("x", []),
    ):
        assert [each["device"] for each in desk.browser.get(f"devices?search={search}")["devices"]] == found, search


def test_of_one_state_in_another_order(desk: Desk) -> None:
    desk.seen(ANNA, BERT)
    desk.browser.ask("POST", f"devices/{BERT}/revoke")

    assert [each["device"] for each in desk.browser.get("devices?state=revoked")["devices"]] == [BERT]
    assert [each["device"] for each in desk.browser.get("devices?order=name")["devices"]] == [ANNA, BERT]
    assert desk.browser.get("devices")["ota_url"] == "http://localhost/ota/"


@pytest.mark.parametrize("query", ["limit=x", "offset=-1", "limit=1e9", "state=odd", "order=odd", "order="])
def test_odd_pages_are_refused(desk: Desk, query: str) -> None:
    assert desk.browser.ask("GET", f"devices?{query}").status_code == 400


def test_one_device(desk: Desk) -> None:
    desk.seen(ANNA, board="bread", firmware="1.0")

    shown = desk.browser.get(f"devices/{ANNA.upper()}")

    assert (shown["device"], shown["online"], shown["here"], shown["revoked"]) == (ANNA, False, False, False)
    assert shown["firmware_offered"]["file"] == "bread_9.bin"
    assert shown["quota"] == {"used": 7, "limit": 100}
    desk.database.run(lambda each: presences.heartbeat(each, "w1", "", 1, desk.now))
    desk.database.run(lambda each: presences.keep_standing(each, {(ANNA, "w1"): desk.now}))
    shown = desk.browser.get(f"devices/{ANNA}")
    assert (shown["online"], shown["talking"]) == (True, False), "it can be told something, and nobody talks with it"
    assert desk.browser.ask("GET", f"devices/{BERT}").status_code == 404
    assert desk.browser.ask("GET", "devices/%00").status_code == 400


def test_who_waits_is_let_in_or_refused(desk: Desk) -> None:
    good, bad = desk.waits(ANNA, "client-a"), desk.waits(BERT, "client-b")
    waiting = desk.browser.get("devices")["waiting"]
    assert [(each["device"], each["code"], each["from"]) for each in waiting] == [
        (ANNA, good, "203.0.113.4"),
        (BERT, bad, "203.0.113.4"),
    ]

    assert desk.browser.ask("POST", f"devices/waiting/{good}/approve").status_code == 200
    assert desk.browser.ask("POST", f"devices/waiting/{bad}/refuse").status_code == 200

    assert desk.directory.of(ANNA).client == "client-a"
    assert desk.directory.of(BERT).standing.revoked
    assert desk.waits(BERT, "client-b") == "", "it gets no further code"
    assert desk.browser.get("devices")["waiting"] == []
    assert desk.browser.ask("POST", f"devices/waiting/{bad}/approve").status_code == 404
    assert desk.looks == 2
    assert [what for what, _, _ in desk.trail.noted] == ["device approved", "device refused"]


def test_an_impostor_is_refused_without_harm_to_the_device(desk: Desk) -> None:
    desk.browser.ask("POST", f"devices/waiting/{desk.waits(ANNA, 'client-a')}/approve")

    desk.browser.ask("POST", f"devices/waiting/{desk.waits(ANNA, 'impostor')}/refuse")

    record = desk.directory.of(ANNA)
    assert (record.client, record.standing.revoked, record.waiting) == ("client-a", False, ())


def test_of_two_that_wait_as_one_device_the_other_goes_on_waiting(desk: Desk) -> None:
    first, second = desk.waits(ANNA, "client-a"), desk.waits(ANNA, "client-b")

    desk.browser.ask("POST", f"devices/waiting/{first}/refuse")

    record = desk.directory.of(ANNA)
    assert [code for code, *_ in record.waiting] == [second]
    assert not record.standing.revoked


def test_a_device_that_is_gone_is_removed(desk: Desk) -> None:
    desk.seen(ANNA, BERT)
    visit = {"v1": Visit("v1", ANNA, "w1", desk.now)}
    desk.database.run(lambda each: presences.heartbeat(each, "w1", "", 1, desk.now))
    desk.database.run(lambda each: presences.keep(each, visit))
    assert desk.browser.ask("DELETE", f"devices/{ANNA}").status_code == 409, "it is connected"
    desk.database.run(lambda each: presences.keep(each, {"v1": None}))

    assert desk.browser.ask("DELETE", f"devices/{ANNA}").status_code == 200

    assert [each["device"] for each in desk.browser.get("devices")["devices"]] == [BERT]
    assert desk.browser.ask("DELETE", f"devices/{ANNA}").status_code == 404
    assert [what for what, *_ in desk.trail.noted] == ["device removed"]
    assert desk.looks == 1


def test_revoked_let_in_again_forgotten(desk: Desk) -> None:
    desk.seen(ANNA)
    desk.browser.ask("POST", f"devices/waiting/{desk.waits(ANNA, 'client-a')}/approve")
    for verb, revoked in (("forget", False), ("revoke", True), ("approve", False)):
        assert desk.browser.ask("POST", f"devices/{ANNA}/{verb}").status_code == 200
        assert desk.directory.of(ANNA).standing.revoked is revoked
    assert desk.browser.ask("POST", f"devices/{ANNA}/forget").json["was_enrolled"] is False  # type: ignore[index]


def fields(desk: Desk) -> dict[str, Any]:
    return {field["key"]: field for field in desk.browser.get(f"devices/{ANNA}/settings")["fields"]}


def test_settings_are_changed_kept_and_put_back(desk: Desk) -> None:
    change = {"prompt": "You are a pirate.", "history.mode": "off", "wakeup_words": ["ahoy"], "enable_greeting": False}
    assert desk.browser.ask("PATCH", f"devices/{ANNA}/settings", json={"set": change}).status_code == 200
    desk.now += 10
    assert desk.browser.ask("PATCH", f"devices/{ANNA}/settings", json={"unset": ["prompt"]}).status_code == 200

    now = fields(desk)
    assert (now["prompt"]["own"], now["history.mode"]["own"], now["enable_greeting"]["own"]) == (None, "off", False)
    assert now["wakeup_words"]["own"] == ["ahoy"]
    assert now["history.mode"]["choices"] == ["off", "text", "sound"]
    assert now["prompt"]["usual"].startswith("You are Xiaozhi")
    (latest, first) = desk.directory.versions_of(ANNA)
    assert (first.settings, first.who, latest.who) == ({}, "local", "local")
    (shown, *_) = desk.browser.get(f"devices/{ANNA}/settings")["earlier"]
    assert (shown["id"], shown["changed"]) == (latest.id, ["prompt"])

    assert desk.browser.ask("POST", f"devices/{ANNA}/settings/{latest.id}/restore").status_code == 200
    assert fields(desk)["prompt"]["own"] == "You are a pirate."
    assert desk.browser.ask("POST", f"devices/{ANNA}/settings/{first.id}/restore").status_code == 200
    assert desk.directory.settings_of(ANNA) == {}
    assert len(desk.directory.versions_of(ANNA)) == 4, "what was undone can be undone"
    assert desk.browser.ask("POST", f"devices/{ANNA}/settings/999/restore").status_code == 404


def test_earlier_settings_are_bounded(desk: Desk) -> None:
    for number in range(KEPT_VERSIONS + 5):
        change_own(desk.directory, desk.loaded, ANNA, {"prompt": f"You are {number}."}, who="command line")
    change_own(desk.directory, desk.loaded, BERT, {"prompt": "x"}, who="command line")

    kept = desk.directory.versions_of(ANNA)

    assert len(kept) == KEPT_VERSIONS
    assert kept[0].settings == {"prompt": f"You are {KEPT_VERSIONS + 3}."}
    change_own(desk.directory, desk.loaded, ANNA, {"prompt": f"You are {KEPT_VERSIONS + 4}."}, who="command line")
    assert desk.directory.versions_of(ANNA) == kept, "nothing has changed"
    assert len(desk.directory.versions_of(BERT)) == 1


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"history.mode": "loud"}, "history.mode"),
        ({"history.days": 1}, "history.days"),
        ({"server.port": 1}, "server"),
        ({"device_max_output_size": -1}, "device_max_output_size"),
        ({"LLM.Own.type": "os:system"}, "LLM.Own.type"),
    ],
)
def test_what_cannot_be_used_changes_nothing(desk: Desk, change: dict[str, Any], key: str) -> None:
    answer = desk.browser.ask("PATCH", f"devices/{ANNA}/settings", json={"set": change})

    assert answer.status_code == 422
    assert answer.json is not None and key in {fault["key"] for fault in answer.json["faults"]}
    assert desk.directory.settings_of(ANNA) == {}
    assert desk.directory.versions_of(ANNA) == []
    assert desk.trail.noted == []


def test_secrets_go_in_and_do_not_come_out(desk: Desk) -> None:
    secret = "ws://127.0.0.1:9/mcp?token=abcdefgh12345"
    desk.browser.ask("PATCH", f"devices/{ANNA}/settings", json={"set": {"mcp_endpoint": secret}})

    text = desk.browser.ask("GET", f"devices/{ANNA}/settings").text

    assert "abcdefgh12345" not in text
    assert fields(desk)["mcp_endpoint"]["hidden"] is True
    assert "abcdefgh12345" not in str(desk.trail.noted)
    assert desk.directory.settings_of(ANNA) == {"mcp_endpoint": secret}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"set": []}', b'{"unset": {}}', b'{"unset": [1]}'])
def test_odd_changes_are_refused(desk: Desk, body: bytes) -> None:
    assert desk.browser.ask("PATCH", f"devices/{ANNA}/settings", data=body).status_code == 400


def test_a_voice_is_heard_with_settings_that_are_not_kept(desk: Desk) -> None:
    body = {"set": {"tts.voice": "nova"}, "text": " hello "}
    answer = desk.browser.ask("POST", f"devices/{ANNA}/voice", json=body)

    assert (answer.status_code, answer.content_type, answer.data) == (200, "audio/wav", b"RIFF")
    assert desk.heard == [(ANNA, {"tts.voice": "nova"}, [], "hello")]
    failed = desk.browser.ask("POST", f"devices/{ANNA}/voice", json={"text": "fail"})
    assert failed.status_code == 502 and "does not answer" in failed.text
    for text in ("", "   ", "x" * 501, 5):
        assert desk.browser.ask("POST", f"devices/{ANNA}/voice", json={"text": text}).status_code == 400


def test_a_device_says_something_wherever_it_is(desk: Desk) -> None:
    assert desk.browser.ask("POST", f"devices/{ANNA}/say", json={"text": "x"}).status_code == 404, "nobody knows it"
    desk.seen(ANNA)

    said = desk.browser.ask("POST", f"devices/{ANNA}/say", json={"text": "dinner"})
    desk.fate = MessageState.WAITING
    waits = desk.browser.ask("POST", f"devices/{ANNA}/say", json={"text": "dinner"})

    told = {"success": True, "id": "1f", "device": ANNA}
    assert said.json == {**told, "state": "spoken", "settled": True}
    assert waits.json == {**told, "state": "waiting", "settled": False, "reason": "for a pause"}
    assert [(message.device, message.kind, message.text) for message in desk.sent] == [(ANNA, "say", "dinner")] * 2
    assert "dinner" not in str(desk.trail.noted), "speech is not written down"
    assert [what for what, _, _ in desk.trail.noted] == ["had a device say something"] * 2


def test_a_device_reboots(desk: Desk) -> None:
    desk.seen(ANNA)
    desk.fate = MessageState.SENT
    rebooted = desk.browser.ask("POST", f"devices/{ANNA}/reboot")
    assert rebooted.json is not None and rebooted.json["state"] == "sent"
    assert [(message.kind, message.text) for message in desk.sent] == [("reboot", "")]
    assert [what for what, _, _ in desk.trail.noted] == ["rebooted a device"]


def test_tools_of_a_connected_device(desk: Desk) -> None:
    desk.seen(ANNA)
    assert desk.browser.ask("GET", f"devices/{ANNA}/tools").status_code == 409
    desk.here[ANNA] = None
    assert desk.browser.ask("GET", f"devices/{ANNA}/tools").status_code == 404
    desk.here[ANNA] = Tools()

    assert [tool["name"] for tool in desk.browser.get(f"devices/{ANNA}/tools")["tools"]] == ["self.reboot"]
    called = desk.browser.ask("POST", f"devices/{ANNA}/tools", json={"name": "self.reboot", "arguments": {"a": 1}})
    assert called.json == {"success": True, "text": "self.reboot {'a': 1}"}
    assert desk.browser.ask("POST", f"devices/{ANNA}/tools", json={"name": "self.nothing"}).status_code == 502
    assert desk.browser.ask("POST", f"devices/{ANNA}/tools", json={"name": ""}).status_code == 400
    assert desk.trail.noted[0] == ("used a tool of a device", "local", {"device": ANNA, "tool": "self.reboot"})


def test_a_picture_of_the_screen(desk: Desk) -> None:
    desk.seen(ANNA)
    desk.here[ANNA] = Tools()
    assert desk.browser.ask("GET", f"devices/{ANNA}/screen").status_code == 404

    assert desk.browser.ask("POST", f"devices/{ANNA}/screen").status_code == 200

    picture = desk.browser.ask("GET", f"devices/{ANNA}/screen")
    assert (picture.content_type, picture.data) == ("image/png", PNG)
    assert desk.browser.get(f"devices/{ANNA}")["screen_at"] == desk.now
