"""A console for tests of its pages: this machine's browser with its second proof, strangers, and an audit trail."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from xiaozhi.runtime.guesses import Guesses
from xiaozhi.web.app import create_app
from xiaozhi.web.console.access import CSRF_HEADER, ConsoleAccess
from xiaozhi.web.console.session import create_blueprint

LOCAL = "http://localhost:8003"
HERE = {"REMOTE_ADDR": "127.0.0.1"}
HOME = {"REMOTE_ADDR": "192.168.1.7"}
PUBLIC = {"REMOTE_ADDR": "203.0.113.9"}


class NotedTrail:
    """Stands in for the audit trail."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, str, dict[str, Any]]] = []

    def note(self, what: str, *, who: str, **details: Any) -> None:
        self.noted.append((what, who, details))


def open_access() -> ConsoleAccess:
    """Nobody has a password."""
    return ConsoleAccess(key="key", password_hash=lambda: "", matches=lambda *_: False, guesses=Guesses())


class OwnersBrowser:
    """A browser of this machine."""

    def __init__(self, access: ConsoleAccess, trail: Any, *pages: Blueprint) -> None:
        self.app: Flask = create_app([create_blueprint(access, trail, dict), *pages])
        self.client: FlaskClient = self.app.test_client()
        seen = self.client.get("/console/api/session", base_url=LOCAL, environ_base=HERE).json
        assert seen is not None
        self._headers = {CSRF_HEADER: seen["csrf"]}

    def ask(self, method: str, path: str, **options: Any) -> TestResponse:
        """One request of a page."""
        return self.client.open(
            f"/console/api/{path}",
            method=method,
            base_url=LOCAL,
            environ_base=HERE,
            headers={**self._headers, **options.pop("headers", {})},
            **options,
        )

    def get(self, path: str) -> Any:
        """The answer to a reading that succeeds."""
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json

    def refusals(self, method: str, path: str) -> tuple[int, int, int, int]:
        """What it answers: somebody at home who is not logged in, somebody of the internet, this machine without the
        second proof, and a page of another origin."""
        url = f"/console/api/{path}"
        stranger = self.app.test_client()
        other = {**self._headers, "Origin": "http://elsewhere.example"}
        return (
            stranger.open(url, method=method, environ_base=HOME).status_code,
            stranger.open(url, method=method, environ_base=PUBLIC).status_code,
            self.client.open(url, method=method, base_url=LOCAL, environ_base=HERE).status_code,
            self.client.open(url, method=method, base_url=LOCAL, environ_base=HERE, headers=other).status_code,
        )
