"""What the page /talk asks: only who may use the console is answered, only a browser's own ids are let in."""

from __future__ import annotations

from typing import Any

import pytest

from xiaozhi.devices.enrolment import Asker
from xiaozhi.errors import AuthError
from xiaozhi.runtime.guesses import Guesses
from xiaozhi.web.addresses import VISION_PATH, Ports, ServerAddresses
from xiaozhi.web.app import WebConfig, create_app
from xiaozhi.web.console import session, talk
from xiaozhi.web.console.access import CSRF_HEADER, ConsoleAccess
from xiaozhi.web.console.talk import BrowserPass, TalkHooks

HERE = {"REMOTE_ADDR": "127.0.0.1"}
HOME = {"REMOTE_ADDR": "192.168.1.7"}
PUBLIC = {"REMOTE_ADDR": "203.0.113.9"}
LOCAL = "http://localhost:8003"
DEVICE = "02:00:00:12:34:56"
CLIENT = "7b5e4c1a-0d7f-4c0e-9a53-1f6d2b8c9e10"
IDS = {"device_id": DEVICE, "client_id": CLIENT}


class House:
    """A console that lets browsers in."""

    def __init__(self) -> None:
        self.refusal = ""
        self.new = True
        self.askers: list[Asker] = []
        self.noted: list[dict[str, Any]] = []
        access = ConsoleAccess(
            key="key",
            password_hash=lambda: "hash",
            matches=lambda hashed, password: password == "secret",
            guesses=Guesses(),
        )
        hooks = TalkHooks(
            ServerAddresses(ports=lambda: Ports(8000, 8003), websocket="wss://voice.example.com/xiaozhi/v1/"),
            self._admit,
            lambda: {"basic": ["asr"], "sees": False},
        )
        blueprints = [
            session.create_blueprint(access, self, dict),  # type: ignore[arg-type]
            talk.create_blueprint(hooks, access, self),  # type: ignore[arg-type]
        ]
        self.browser = create_app(blueprints, WebConfig()).test_client()

    def note(self, what: str, *, who: str, **details: Any) -> None:
        self.noted.append({"what": what, "who": who, **details})

    def _admit(self, asker: Asker) -> BrowserPass:
        if self.refusal:
            raise AuthError(self.refusal)
        self.askers.append(asker)
        return BrowserPass("the token", self.new)

    def csrf(self) -> str:
        seen = self.browser.get("/console/api/session", base_url=LOCAL, environ_base=HERE).json
        assert seen is not None
        return str(seen["csrf"])

    def ask(self, body: Any, csrf: str | None = None) -> Any:
        headers = {CSRF_HEADER: self.csrf() if csrf is None else csrf}
        return self.browser.post("/console/api/talk", json=body, base_url=LOCAL, environ_base=HERE, headers=headers)


@pytest.fixture
def house() -> House:
    return House()


def test_a_browser_is_told_all_that_a_device_needs(house: House) -> None:
    answer = house.ask({"device_id": DEVICE.upper().replace(":", "-"), "client_id": CLIENT.upper()})

    assert answer.status_code == 200
    assert answer.json == {
        "urls": ["ws://localhost:8000/xiaozhi/v1/", "wss://voice.example.com/xiaozhi/v1/"],
        "token": "the token",
        "vision": VISION_PATH,
        "basic": ["asr"],
        "sees": False,
    }
    assert [(one.device_id, one.client_id, one.address) for one in house.askers] == [(DEVICE, CLIENT, "127.0.0.1")]


def test_who_is_let_in_for_the_first_time_is_written_down(house: House) -> None:
    house.ask(IDS)
    house.new = False
    house.ask(IDS)

    assert house.noted == [{"what": "let a browser talk", "who": "local", "device": DEVICE}]


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"device_id": DEVICE},
        {"device_id": 5, "client_id": CLIENT},
        {"device_id": "00:11:22:33:44:55", "client_id": CLIENT},  # a maker's: it could be a real device
        {"device_id": "03:11:22:33:44:55", "client_id": CLIENT},  # a group's
        {"device_id": "kitchen", "client_id": CLIENT},
        {"device_id": DEVICE, "client_id": "me|you"},
        {"device_id": DEVICE, "client_id": ""},
    ],
)
def test_other_ids_are_refused(house: House, body: Any) -> None:
    answer = house.ask(body)

    assert answer.status_code == 400 and answer.json["message"]
    assert not house.askers and not house.noted


def test_a_refusal_is_not_taken_for_being_logged_out(house: House) -> None:
    house.refusal = "An operator has revoked this device."

    answer = house.ask(IDS)

    assert answer.status_code == 409
    assert answer.json["message"] == house.refusal


@pytest.mark.parametrize(
    ("where", "headers", "status"),
    [
        (HOME, {}, 401),
        (PUBLIC, {}, 403),
        (HERE, {}, 403),  # no proof that the page is ours
        (HERE, {CSRF_HEADER: "guessed"}, 403),
        (HERE, {"Origin": "http://evil.example"}, 403),
    ],
)
def test_nobody_else_is_answered(house: House, where: dict[str, str], headers: dict[str, str], status: int) -> None:
    house.csrf()

    answer = house.browser.post("/console/api/talk", json=IDS, base_url=LOCAL, environ_base=where, headers=headers)

    assert answer.status_code == status
    assert not house.askers


def test_a_long_body_is_not_read(house: House) -> None:
    assert house.ask({**IDS, "more": "x" * 5000}).status_code == 413
