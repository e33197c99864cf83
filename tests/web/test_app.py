"""The frame around all routes: cross-origin headers, and errors that people can read."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Blueprint, abort, request
from flask.testing import FlaskClient

from xiaozhi.errors import AuthError, Overloaded, ProtocolError
from xiaozhi.net.browser_origins import BrowserOrigins
from xiaozhi.net.proxies import TrustedProxies
from xiaozhi.web.app import WebConfig, create_app, request_origin


def client(view: Any = lambda: "fine", **config: Any) -> FlaskClient:
    blueprint = Blueprint("test", __name__)
    blueprint.add_url_rule("/thing", "thing", view, methods=["GET", "POST"])
    return create_app([blueprint], WebConfig(**config)).test_client()


FOREIGN = ["https://evil.example", "null", "http://localhost.evil.example", "file://", "http://192.168.1.66:8003", "x"]
OWN = [
    "http://box:8006",
    "https://BOX",
    "http://localhost:8006",
    "http://127.0.0.1:1",
    "http://[::1]:3",
    "http://a.localhost",
]


@pytest.mark.parametrize("path", ["/xiaozhi/ota/", "/xiaozhi/ota/download/x.bin", "/mcp/vision/explain"])
@pytest.mark.parametrize("origin", [*OWN, "https://listed.example:8443"])
def test_pages_that_may_read_what_a_device_reads(path: str, origin: str) -> None:
    reply = client(browsers=BrowserOrigins(["https://listed.example:8443/"])).options(
        path, headers={"Host": "box:8003", "Origin": origin, "Access-Control-Request-Method": "POST"}
    )

    assert reply.status_code == 204
    assert reply.headers["Access-Control-Allow-Origin"] == origin
    assert "POST" in reply.headers["Access-Control-Allow-Methods"]
    assert {"Device-Id", "Client-Id", "Authorization", "Content-Type"} <= set(
        reply.headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert "Access-Control-Allow-Credentials" not in reply.headers
    assert reply.headers["Vary"] == "Origin"


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/admin/reload", "/thing", "/nothing"])
def test_no_page_may_read_what_operators_read(path: str) -> None:
    for origin in (*OWN, *FOREIGN):
        headers = {"Host": "box:8003", "Origin": origin}
        for reply in (client().options(path, headers=headers), client().get(path, headers=headers)):
            assert not [name for name, _ in reply.headers if name.startswith("Access-Control-Allow")]


@pytest.mark.parametrize("origin", FOREIGN)
def test_pages_from_elsewhere_are_refused_and_nothing_is_done(origin: str) -> None:
    done: list[str] = []
    server = client(lambda: done.append("x") or "fine")  # type: ignore[func-returns-value]
    headers = {"Host": "box:8003", "Origin": origin, "X-Forwarded-Host": "evil.example"}

    for path in ("/thing", "/xiaozhi/ota/"):
        reply = server.post(path, headers=headers)
        assert reply.status_code == 403
        assert reply.get_json()["success"] is False
        asked = server.options(path, headers=headers)
        assert asked.status_code == 204
        assert "Access-Control-Allow-Origin" not in {**reply.headers, **asked.headers}
    assert done == []


def test_devices_and_pages_of_a_trusted_proxys_host_pass() -> None:
    assert client().post("/thing").text == "fine"
    behind = client(trusted_proxies=TrustedProxies(["127.0.0.0/8"]))
    headers = {"Host": "10.0.0.1", "Origin": "https://voice.example.com", "X-Forwarded-Host": "voice.example.com"}
    assert behind.post("/thing", headers=headers).text == "fine"
    assert client().post("/thing", headers=headers).status_code == 403
    assert client(browsers=BrowserOrigins(["*"])).post("/thing", headers=headers).text == "fine"


def raising(error: Exception) -> Any:
    def view() -> str:
        raise error

    return view


@pytest.mark.parametrize(
    "error,status,word",
    [
        (AuthError("the token has expired"), 401, "expired"),
        (Overloaded("vision", retry_after=7), 503, "busy"),
        (ProtocolError("nonsense"), 400, "nonsense"),
        (ZeroDivisionError("secret detail"), 500, "log"),
    ],
)
def test_errors_leave_as_json_with_a_sentence(error: Exception, status: int, word: str) -> None:
    reply = client(raising(error)).get("/thing")

    assert reply.status_code == status
    body = reply.get_json()
    assert body["success"] is False
    assert word in body["message"]
    assert "secret" not in reply.text


def test_errors_keep_the_headers_that_clients_act_on() -> None:
    assert client(raising(Overloaded("x", retry_after=7))).get("/thing").headers["Retry-After"] == "7"
    assert client(raising(AuthError())).get("/thing").headers["WWW-Authenticate"] == "Bearer"
    wrong_method = client().delete("/thing")
    assert wrong_method.status_code == 405
    assert "GET" in wrong_method.headers["Allow"]
    assert wrong_method.get_json()["success"] is False


def test_http_errors_of_werkzeug_are_json_too() -> None:
    assert client(lambda: abort(418, "short and stout")).get("/thing").get_json() == {
        "success": False,
        "message": "short and stout",
    }
    assert client().get("/none").get_json()["success"] is False


def test_bodies_are_bounded() -> None:
    device = client(lambda: str(len(request.get_data())), max_body_bytes=10)

    assert device.post("/thing", data=b"x" * 10).text == "10"
    assert device.post("/thing", data=b"x" * 11).status_code == 413


def test_chinese_is_not_escaped() -> None:
    assert "你好" in client(lambda: {"text": "你好"}).get("/thing").text


def test_views_learn_the_origin() -> None:
    reply = client(lambda: request_origin().base_url, fallback_host="10.0.0.1", fallback_port=1).get(
        "/thing", headers={"Host": "a b"}
    )

    assert reply.text == "http://10.0.0.1:1"
