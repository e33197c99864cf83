"""What the settings and logs pages may ask: who is let in, which bodies are understood, how failures are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from flask.testing import FlaskClient

from xiaozhi.errors import Fault, SettingsError
from xiaozhi.runtime.guesses import Guesses
from xiaozhi.runtime.log_view import LineFilter
from xiaozhi.settings.local_file import FileChanged, FileUnusable
from xiaozhi.settings.yaml_edit import Change
from xiaozhi.storage.console_store import AuditEntry
from xiaozhi.web.app import create_app
from xiaozhi.web.console import logs, settings
from xiaozhi.web.console.access import CSRF_HEADER, ConsoleAccess
from xiaozhi.web.console.logs import LogHooks
from xiaozhi.web.console.session import create_blueprint
from xiaozhi.web.console.settings import SettingsHooks

HOME = {"REMOTE_ADDR": "192.168.1.7"}
PUBLIC = {"REMOTE_ADDR": "203.0.113.9"}
ADDRESSES = [
    ("GET", "settings"),
    ("GET", "settings/block/tts"),
    ("GET", "settings/group/server"),
    ("GET", "settings/audit"),
    ("GET", "logs"),
    ("POST", "settings"),
    ("POST", "settings/preview"),
    ("POST", "settings/undo"),
    ("POST", "settings/check"),
    ("POST", "settings/voice"),
]
SAVED = {"saved": True, "digest": "new", "faults": [], "warnings": [], "restart": []}


class Trail:
    """Stands in for the audit trail."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, str, dict[str, Any]]] = []

    def note(self, what: str, *, who: str, **details: Any) -> None:
        self.noted.append((what, who, details))

    def latest(self, count: int) -> list[AuditEntry]:
        return [AuditEntry(1.0, "owner", "192.168.1.7", "settings changed", {"keys": ["a.b"]})] * min(count, 3)


class Desk:
    """Stands in for what changes settings. `fails`: raised by whatever is asked."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.asked: list[Any] = []
        self.answer: Mapping[str, Any] = SAVED
        self.fails: Exception | None = None

    def hooks(self) -> SettingsHooks:
        return SettingsHooks(
            overview=lambda: {"file": "config/local.yaml"},
            block=lambda *block: {"block": list(block)},
            group=lambda group: {"group": group},
            preview=lambda changes: self._take(changes),
            save=self._take,
            undo=self._take,
            check=lambda kind, name, changes: self._take(changes, kind, name),
            voice=lambda name, text, changes: b"RIFF" if text == "speak" else self._take(changes),
        )

    def _take(self, changes: Any, *others: Any) -> Mapping[str, Any]:
        if self.fails is not None:
            raise self.fails
        self.changes = changes if isinstance(changes, Sequence) else []
        self.asked = [changes, *others]
        return self.answer


class Page:
    """A logged-in browser of the home network."""

    def __init__(self) -> None:
        self.desk, self.trail = Desk(), Trail()
        self.filters: list[tuple[LineFilter, int]] = []
        access = ConsoleAccess(
            key="key",
            password_hash=lambda: "hash of secret",
            matches=lambda hashed, password: hashed == f"hash of {password}",
            guesses=Guesses(),
        )
        trail: Any = self.trail
        self.app = create_app(
            [
                create_blueprint(access, trail, lambda: {}),
                settings.create_blueprint(self.desk.hooks(), access, trail),
                logs.create_blueprint(LogHooks(self._lines, lambda: {"file": "server.log"}), access),
            ]
        )
        self.browser = self.app.test_client()
        logged_in = self.browser.post("/console/api/session", json={"password": "secret"}, environ_base=HOME)
        assert logged_in.json is not None
        self.csrf = logged_in.json["csrf"]
        self.trail.noted.clear()

    def _lines(self, wanted: LineFilter, count: int) -> tuple[list[dict[str, Any]], bool]:
        self.filters.append((wanted, count))
        return [{"event": "x"}], True

    def get(self, path: str) -> Any:
        return self.browser.get(f"/console/api/{path}", environ_base=HOME)

    def post(self, path: str, body: Any) -> Any:
        return self.browser.post(f"/console/api/{path}", json=body, environ_base=HOME, headers={CSRF_HEADER: self.csrf})


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_strangers_are_refused(page: Page, method: str, path: str) -> None:
    def status(browser: FlaskClient, where: dict[str, str], **headers: str) -> int:
        answer = browser.open(f"/console/api/{path}", method=method, json={}, environ_base=where, headers=headers)
        return int(answer.status_code)

    assert status(page.app.test_client(), HOME) == 401
    assert status(page.app.test_client(), PUBLIC) == 403
    assert status(page.browser, HOME, Origin="http://elsewhere.example") == 403
    if method == "POST":
        assert status(page.browser, HOME) == 403, "without the second proof"


def test_changes_are_understood(page: Page) -> None:
    changes = [
        {"path": ["TTS", "A.b", "voice"], "value": "x"},
        {"path": ["a"], "value": [1, "b"]},
        {"path": ["b"], "yaml": "c: [1]\n"},
        {"path": ["d"], "yaml": " "},
        {"path": ["e"], "unset": True},
        {"path": ["f"], "value": False},
    ]

    answer = page.post("settings", {"digest": "old", "changes": changes})

    assert answer.status_code == 200 and answer.json == SAVED
    assert page.desk.changes == [
        Change(("TTS", "A.b", "voice"), "x"),
        Change(("a",), [1, "b"]),
        Change(("b",), {"c": [1]}),
        Change(("d",), {}),
        Change(("e",)),
        Change(("f",), False),
    ]
    assert page.trail.noted == [
        ("settings changed", "owner", {"keys": ["TTS.A.b.voice", "a", "b", "d", "e", "f"]}),
    ]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"changes": []},
        {"digest": "x", "changes": {}},
        {"digest": "x", "changes": [{}]},
        {"digest": "x", "changes": [{"path": "a", "value": 1}]},
        {"digest": "x", "changes": [{"path": [], "value": 1}]},
        {"digest": "x", "changes": [{"path": ["a\n"], "value": 1}]},
        {"digest": "x", "changes": [{"path": [" a"], "value": 1}]},
        {"digest": "x", "changes": [{"path": [1], "value": 1}]},
        {"digest": "x", "changes": [{"path": ["a"] * 13, "value": 1}]},
        {"digest": "x", "changes": [{"path": ["a" * 201], "value": 1}]},
        {"digest": "x", "changes": [{"path": ["a"]}]},
        {"digest": "x", "changes": [{"path": ["a"], "yaml": 1}]},
        {"digest": "x", "changes": [{"path": ["a"], "value": 1}] * 301},
        {"digest": 5, "changes": [{"path": ["a"], "value": 1}]},
    ],
)
def test_odd_bodies_are_refused(page: Page, body: Any) -> None:
    assert page.post("settings", body).status_code == 400
    assert page.desk.changes == [] and page.trail.noted == []


def test_failures_are_told(page: Page) -> None:
    body = {"digest": "x", "changes": [{"path": ["a"], "value": 1}]}
    fault = {"key": "a", "value": "1", "expected": "2"}
    for error, status in (
        (SettingsError([Fault("a", "1", "2")]), 422),
        (FileChanged("config/local.yaml"), 409),  # type: ignore[arg-type]
        (FileUnusable("the disk is full"), 503),
    ):
        page.desk.fails = error
        assert page.post("settings", body).status_code == status
    page.desk.fails = None
    page.desk.answer = {"saved": False, "faults": [fault], "warnings": []}
    refused = page.post("settings", body)

    assert (refused.status_code, refused.json["faults"]) == (422, [fault])
    assert page.post("settings/undo", {"digest": "x", "number": 1}).status_code == 422
    assert page.trail.noted == [], "nothing was changed"


def test_the_other_questions(page: Page) -> None:
    assert page.get("settings/block/tts?name=A&type=openai").json == {"block": ["tts", "A", "openai"]}
    assert page.get("settings/group/server").json == {"group": "server"}
    assert len(page.get("settings/audit?count=2").json["entries"]) == 2
    assert page.post("settings/check", {"kind": "tts", "name": "A"}).status_code == 200
    assert page.desk.asked == [[], "tts", "A"]
    assert page.post("settings/check", {"kind": "cat", "name": "A"}).status_code == 400
    assert page.post("settings/voice", {"name": "A", "text": "speak"}).data == b"RIFF"
    assert page.post("settings/voice", {"name": "A", "text": " "}).status_code == 400
    assert page.post("settings/undo", {"digest": "x", "number": 3}).status_code == 200
    assert page.post("settings/undo", {"digest": "x", "number": True}).status_code == 400
    assert page.trail.noted == [("settings put back", "owner", {"version": 3})]


def test_log_lines_are_asked_for_with_bounds(page: Page) -> None:
    answer = page.get("logs?level=warning&device=aa&id=t1&text=x&before=2026&count=100000").json

    assert answer == {"lines": [{"event": "x"}], "more": True, "file": "server.log"}
    assert page.filters == [(LineFilter("warning", "aa", "t1", "x", "2026"), 500)]
    assert page.get("logs?level=loud").status_code == 400
    assert page.get(f"logs?text={'x' * 201}").status_code == 400
