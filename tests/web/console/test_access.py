"""Who may use the console: this machine, the home network with the password, nobody else; and what a change needs."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Blueprint, Flask, Response, jsonify
from flask.testing import FlaskClient

from xiaozhi.net.proxies import TrustedProxies
from xiaozhi.runtime.guesses import FREE, Guesses
from xiaozhi.runtime.rates import Rates
from xiaozhi.web.app import WebConfig, create_app
from xiaozhi.web.console.access import COOKIE, CSRF_HEADER, SESSION_S, ConsoleAccess, current_visitor, guard
from xiaozhi.web.console.session import create_blueprint

HERE = {"REMOTE_ADDR": "127.0.0.1"}
HOME = {"REMOTE_ADDR": "192.168.1.7"}
PUBLIC = {"REMOTE_ADDR": "203.0.113.9"}
LOCAL = "http://localhost:8003"


class Trail:
    """Stands in for the audit trail."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, str]] = []

    def note(self, what: str, *, who: str, **details: Any) -> None:
        self.noted.append((what, who))


class House:
    """A console with one page of one thing to change."""

    def __init__(self, *, proxies: tuple[str, ...] = ()) -> None:
        self.now = 1_000_000.0
        self.hash = "hash of secret"
        self.trail = Trail()
        self.access = ConsoleAccess(
            key="key",
            password_hash=lambda: self.hash,
            matches=lambda hashed, password: hashed == f"hash of {password}",
            guesses=Guesses(Rates(clock=lambda: self.now)),
            clock=lambda: self.now,
        )
        page = Blueprint("page", __name__)
        page.before_request(guard(self.access))
        page.add_url_rule("/console/api/thing", "thing", self._thing, methods=["GET", "POST"])
        session = create_blueprint(self.access, self.trail, lambda: {"version": "1"})  # type: ignore[arg-type]
        self.app: Flask = create_app([page, session], WebConfig(trusted_proxies=TrustedProxies(proxies)))

    @staticmethod
    def _thing() -> Response:
        return jsonify({"who": current_visitor().who})

    def browser(self) -> FlaskClient:
        return self.app.test_client()


@pytest.fixture
def house() -> House:
    return House()


def log_in(browser: FlaskClient, password: str = "secret", where: dict[str, str] = HOME) -> Any:
    return browser.post("/console/api/session", json={"password": password}, environ_base=where)


def test_this_machine_needs_no_password(house: House) -> None:
    browser = house.browser()

    assert browser.get("/console/api/thing", base_url=LOCAL, environ_base=HERE).json == {"who": "local"}
    seen = browser.get("/console/api/session", base_url=LOCAL, environ_base=HERE).json
    assert seen is not None and seen["logged_in"] and seen["who"] == "local" and seen["version"] == "1"


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("http://evil.example:8003", {}),  # a name that was made to mean 127.0.0.1
        ("http://my-server.lan", {}),
        (LOCAL, {"X-Forwarded-For": "192.168.1.7"}),  # a proxy on this machine that is not known
        (LOCAL, {"X-Real-IP": "192.168.1.7"}),
    ],
)
def test_what_only_seems_to_be_this_machine_needs_it(house: House, host: str, headers: dict[str, str]) -> None:
    answer = house.browser().get("/console/api/thing", base_url=host, headers=headers, environ_base=HERE)

    assert answer.status_code == 401


def test_behind_a_proxy_of_ours_the_visitor_counts() -> None:
    browser = House(proxies=("127.0.0.1",)).browser()

    def seen(address: str) -> int:
        headers = {"X-Forwarded-For": address, "X-Forwarded-Host": "localhost"}
        return browser.get("/console/api/thing", headers=headers, environ_base=HERE).status_code

    assert seen("192.168.1.7") == 401
    assert seen("203.0.113.9") == 403


def test_the_home_network_needs_the_password(house: House) -> None:
    browser = house.browser()
    assert browser.get("/console/api/thing", environ_base=HOME).status_code == 401
    assert browser.get("/console/api/session", environ_base=HOME).json == {"logged_in": False}

    assert log_in(browser, "wrong").status_code == 401
    answer = log_in(browser)

    assert answer.status_code == 200
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/console" in cookie
    assert browser.get("/console/api/thing", environ_base=HOME).json == {"who": "owner"}
    assert house.trail.noted == [("logged in", "owner")]


def test_others_are_refused_even_with_it(house: House) -> None:
    browser = house.browser()
    assert log_in(browser, where=PUBLIC).status_code == 403
    log_in(browser)

    assert browser.get("/console/api/thing", environ_base=PUBLIC).status_code == 403
    assert browser.get("/console/api/session", environ_base=PUBLIC).status_code == 403


def test_a_change_needs_the_second_proof(house: House) -> None:
    browser = house.browser()
    csrf = log_in(browser).json["csrf"]

    def change(**headers: str) -> int:
        return browser.post("/console/api/thing", headers=headers, environ_base=HOME).status_code

    assert change() == 403
    assert change(**{CSRF_HEADER: "0" * 64}) == 403
    assert change(**{CSRF_HEADER: csrf}) == 200
    assert change(**{CSRF_HEADER: csrf, "Origin": "http://elsewhere.example"}) == 403


def test_this_machine_needs_the_second_proof_too(house: House) -> None:
    browser = house.browser()
    assert browser.post("/console/api/thing", base_url=LOCAL, environ_base=HERE).status_code == 403
    seen = browser.get("/console/api/session", base_url=LOCAL, environ_base=HERE).json
    assert seen is not None

    changed = browser.post("/console/api/thing", base_url=LOCAL, environ_base=HERE, headers={CSRF_HEADER: seen["csrf"]})

    assert changed.status_code == 200


def test_a_session_of_this_machine_is_good_for_nothing_elsewhere(house: House) -> None:
    browser = house.browser()
    browser.get("/console/api/session", base_url=LOCAL, environ_base=HERE)
    cookie = browser.get_cookie(COOKIE, path="/console")
    assert cookie is not None

    other = house.browser()
    other.set_cookie(COOKIE, cookie.value, path="/console")

    assert other.get("/console/api/thing", environ_base=HOME).status_code == 401


@pytest.mark.parametrize(
    "spoil", [lambda text: text[:-1] + "0", lambda text: text.replace("owner", "local"), lambda _: "x"]
)
def test_a_forged_session_is_none(house: House, spoil: Any) -> None:
    browser = house.browser()
    log_in(browser)
    cookie = browser.get_cookie(COOKIE, path="/console")
    assert cookie is not None
    spoiled = spoil(cookie.value)
    if spoiled == cookie.value:
        spoiled = cookie.value[:-1] + "1"
    browser.set_cookie(COOKIE, spoiled, path="/console")

    assert browser.get("/console/api/thing", environ_base=HOME).status_code == 401


def test_a_session_ends(house: House) -> None:
    browser = house.browser()
    csrf = log_in(browser).json["csrf"]
    kept = browser.get_cookie(COOKIE, path="/console")
    assert kept is not None

    browser.delete("/console/api/session", headers={CSRF_HEADER: csrf}, environ_base=HOME)
    assert browser.get("/console/api/thing", environ_base=HOME).status_code == 401

    browser.set_cookie(COOKIE, kept.value, path="/console")
    house.now += SESSION_S
    assert browser.get("/console/api/thing", environ_base=HOME).status_code == 401


def test_a_new_password_ends_all_sessions(house: House) -> None:
    browser = house.browser()
    log_in(browser)
    house.hash = "hash of another"

    assert browser.get("/console/api/thing", environ_base=HOME).status_code == 401


def test_guessing_has_to_wait(house: House) -> None:
    browser = house.browser()
    answers = [log_in(browser, f"guess {n}").status_code for n in range(FREE + 3)]

    assert answers[-1] == 429
    assert log_in(browser).status_code == 429, "the right one is not even compared meanwhile"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"password": 5}', b'{"password": ""}', b"x" * 5000])
def test_odd_bodies_are_refused(house: House, body: bytes) -> None:
    answer = house.browser().post("/console/api/session", data=body, environ_base=HOME)

    assert answer.status_code in (400, 401, 413)
