"""The frame around all routes: cross-origin headers, and errors that people can read."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Blueprint, abort, request
from flask.testing import FlaskClient

from xiaozhi.errors import AuthError, Overloaded, ProtocolError
from xiaozhi.web.app import WebConfig, create_app, request_origin


def client(view: Any = lambda: "fine", **config: Any) -> FlaskClient:
    blueprint = Blueprint("test", __name__)
    blueprint.add_url_rule("/thing", "thing", view, methods=["GET", "POST"])
    return create_app([blueprint], WebConfig(**config)).test_client()


@pytest.mark.parametrize("path", ["/thing", "/nothing", "/"])
def test_options_is_answered_everywhere(path: str) -> None:
    reply = client().options(path, headers={"Origin": "http://x", "Access-Control-Request-Method": "POST"})

    assert reply.status_code == 204
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in reply.headers["Access-Control-Allow-Methods"]
    assert {"Device-Id", "Client-Id", "Authorization", "Content-Type"} <= set(
        reply.headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert "Access-Control-Allow-Credentials" not in reply.headers


def test_every_answer_may_be_read_from_other_origins() -> None:
    assert client().get("/thing").headers["Access-Control-Allow-Origin"] == "*"
    assert client().get("/nothing").headers["Access-Control-Allow-Origin"] == "*"


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
