"""Health, readiness, metrics, reloading, and the page for people."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.fakes.clock import FakeClock
from xiaozhi.errors import Fault
from xiaozhi.runtime.guesses import FREE, Guesses
from xiaozhi.runtime.rates import Rates
from xiaozhi.web.addresses import ServerAddresses
from xiaozhi.web.app import create_app
from xiaozhi.web.ops import OpsHooks, PageFacts, create_blueprint


def client(admin_token: str = "", **hooks: Any) -> FlaskClient:
    hooks.setdefault("ready", lambda: (True, []))
    return create_app(
        [create_blueprint(OpsHooks(addresses=ServerAddresses(), **hooks), admin_token=admin_token)]
    ).test_client()


def test_alive_is_not_ready() -> None:
    server = client(ready=lambda: (False, ["draining", "hub lag 900 ms"]))

    assert server.get("/healthz").status_code == 200
    reply = server.get("/readyz")
    assert reply.status_code == 503
    assert reply.get_json() == {"ready": False, "reasons": ["draining", "hub lag 900 ms"]}


def test_ready() -> None:
    reply = client().get("/readyz")

    assert reply.status_code == 200
    assert reply.get_json() == {"ready": True, "reasons": []}


def test_metrics_are_passed_on_as_they_are() -> None:
    kind = "text/plain; version=0.0.4; charset=utf-8"
    reply = client(metrics=lambda: (kind, b"xiaozhi_turns_total 3\n")).get("/metrics")

    assert reply.content_type == kind
    assert reply.data == b"xiaozhi_turns_total 3\n"
    assert client().get("/metrics").status_code == 404


# --- reload ---


def reload(server: FlaskClient, authorization: str | None = "Bearer admin") -> Any:
    return server.post("/admin/reload", headers={"Authorization": authorization} if authorization else {})


def test_the_admin_may_reload() -> None:
    done: list[int] = []

    def reloaded() -> list[Fault]:
        done.append(1)
        return []

    reply = reload(client("admin", reload=reloaded))

    assert reply.status_code == 200
    assert reply.get_json()["success"] is True
    assert done == [1]


def test_a_refused_configuration_is_reported_fault_by_fault() -> None:
    reply = reload(client("admin", reload=lambda: [Fault("server.port", "'x'", "a number")]))

    assert reply.status_code == 422
    assert reply.get_json()["faults"] == [{"key": "server.port", "value": "'x'", "expected": "a number"}]


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer ", "Bearer wrong", "Bearer admin2", "Basic admin", "Bearer é"]
)
def test_nobody_else_may(authorization: str | None) -> None:
    done: list[int] = []

    reply = reload(client("admin", reload=lambda: done.append(1) or []), authorization)  # type: ignore[func-returns-value]

    assert reply.status_code == 401
    assert done == []


def test_guessing_is_slowed_down_by_address_and_not_for_others() -> None:
    clock = FakeClock()
    guesses = Guesses(Rates(clock=clock))
    hooks = OpsHooks(ready=lambda: (True, []), addresses=ServerAddresses(), reload=lambda: [])
    server = create_app([create_blueprint(hooks, admin_token="admin", guesses=guesses)]).test_client()

    def reply_to(token: str, peer: str) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        return server.post("/admin/reload", headers=headers, environ_overrides={"REMOTE_ADDR": peer})

    assert {reply_to(f"guess {number}", f"2001:db8::{number}").status_code for number in range(FREE)} == {401}
    locked = reply_to("admin", "2001:db8::1")
    assert locked.status_code == 429, "not even the right one is looked at: it might be a guess"
    assert locked.headers["Retry-After"] == "60"
    assert reply_to("admin", "192.0.2.1").status_code == 200
    clock.advance(60)
    assert reply_to("admin", "2001:db8::1").status_code == 200
    assert guesses.wrong["admin"] == FREE


@pytest.mark.parametrize("authorization", [None, "", "Bearer ", "Bearer x"])
def test_without_an_admin_token_nobody_may(authorization: str | None) -> None:
    assert reload(client("", reload=lambda: []), authorization).status_code == 403


def test_reloading_is_no_get() -> None:
    assert (
        client("admin", reload=lambda: []).get("/admin/reload", headers={"Authorization": "Bearer admin"}).status_code
        == 405
    )
    assert reload(client("admin")).status_code == 404


# --- the page ---


@pytest.mark.parametrize(
    "languages,words,lang",
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", ["小智语音服务器", "运行正常", "在线设备"], "zh-CN"),
        ("zh", ["小智语音服务器"], "zh-CN"),
        ("en-US,en;q=0.9,zh;q=0.1", ["Xiaozhi voice server", "ready", "Devices connected"], "en"),
        ("fr", ["Xiaozhi voice server"], "en"),
        ("", ["Xiaozhi voice server"], "en"),
    ],
)
def test_the_page_speaks_the_visitors_language(languages: str, words: list[str], lang: str) -> None:
    server = client(facts=lambda: PageFacts("1.0", {"ASR": "Pocketsphinx"}, 3))

    reply = server.get("/", headers={"Accept-Language": languages, "Host": "box:8003"})

    assert reply.mimetype == "text/html"
    for word in [
        *words,
        f'lang="{lang}"',
        "ws://box:8000/xiaozhi/v1/",
        "http://box:8003/xiaozhi/ota/",
        "Pocketsphinx",
        ">3<",
    ]:
        assert word in reply.text


def test_the_page_says_why_it_is_not_ready() -> None:
    page = client(ready=lambda: (False, ["draining"])).get("/").text

    assert "not ready" in page
    assert "<li>draining</li>" in page


def test_nothing_in_the_page_can_become_code() -> None:
    server = client(
        ready=lambda: (False, ["<script>alert(1)</script>"]), facts=lambda: PageFacts("<b>", {"<i>": "<u>"})
    )

    reply = server.get("/", headers={"Host": 'x"><script>'})

    assert "<script" not in reply.text
    assert "<b>" not in reply.text and "<i>" not in reply.text and "<u>" not in reply.text
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]


# --- devices ---


def test_the_admin_sees_the_servers_of_the_installation() -> None:
    several = client("admin", servers=lambda: [{"worker": "one", "devices": 3}])
    assert several.get("/admin/servers").status_code == 401
    shown = {"Authorization": "Bearer admin"}
    assert several.get("/admin/servers", headers=shown).json == {"servers": [{"worker": "one", "devices": 3}]}
    assert client("admin").get("/admin/servers", headers=shown).json == {"servers": []}


def test_the_admin_sees_which_devices_cost_most() -> None:
    server = client("admin", devices=lambda: [{"device": "aa:bb", "cpu_percent": 12.5}])

    reply = server.get("/admin/devices", headers={"Authorization": "Bearer admin"})

    assert reply.get_json() == {"devices": [{"device": "aa:bb", "cpu_percent": 12.5}]}


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer admi", "Bearer admin2", "Basic admin"])
def test_nobody_else_does(authorization: str) -> None:
    server = client("admin", devices=lambda: [{"device": "aa:bb"}])

    assert server.get("/admin/devices", headers={"Authorization": authorization}).status_code == 401
    assert client("", devices=list).get("/admin/devices", headers={"Authorization": "Bearer "}).status_code == 403


@pytest.mark.parametrize(
    ("there", "address", "shown"),
    [(True, "127.0.0.1", True), (True, "192.168.1.7", True), (True, "203.0.113.9", False), (False, "127.0.0.1", False)],
)
def test_the_console_is_shown_to_whoever_is_at_home(there: bool, address: str, shown: bool) -> None:
    server = client(facts=lambda: PageFacts(console=there))

    page = server.get("/", environ_base={"REMOTE_ADDR": address}).text

    assert ('href="/talk"' in page) is ('href="/console"' in page) is shown
