"""Who may ask how the server is."""

from __future__ import annotations

import pytest
from flask import Flask

from xiaozhi.runtime.guesses import Guesses
from xiaozhi.web.app import create_app
from xiaozhi.web.console.access import ConsoleAccess
from xiaozhi.web.console.overview import create_blueprint

ADDRESS = "/console/api/overview"
LOCAL = "http://localhost:8003"


@pytest.fixture
def app() -> Flask:
    access = ConsoleAccess(
        key="key", password_hash=lambda: "hash", matches=lambda hashed, password: False, guesses=Guesses()
    )
    return create_app([create_blueprint(access, lambda: {"devices": {"here": 3}})])


def test_this_machine_sees_it(app: Flask) -> None:
    answer = app.test_client().get(ADDRESS, base_url=LOCAL, environ_base={"REMOTE_ADDR": "127.0.0.1"})

    assert answer.status_code == 200
    assert answer.json == {"devices": {"here": 3}}


@pytest.mark.parametrize(("address", "status"), [("192.168.1.7", 401), ("203.0.113.9", 403)])
def test_others_do_not(app: Flask, address: str, status: int) -> None:
    answer = app.test_client().get(ADDRESS, base_url=LOCAL, environ_base={"REMOTE_ADDR": address})

    assert answer.status_code == status
    assert b"here" not in answer.data


def test_there_is_nothing_to_change(app: Flask) -> None:
    client = app.test_client()

    assert client.post(ADDRESS, base_url=LOCAL, environ_base={"REMOTE_ADDR": "127.0.0.1"}).status_code in (403, 405)
