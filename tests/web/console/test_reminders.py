"""What the page of a device asks about its reminders, and whom it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.databases import opened
from tests.web.console.owners import NotedTrail, OwnersBrowser, open_access
from xiaozhi.reminders.book import ReminderBook
from xiaozhi.reminders.ringing import ReminderKind
from xiaozhi.reminders.understanding import When, understand
from xiaozhi.web.console.reminders import create_blueprint

ANNA = "02:00:00:00:00:0a"


class Desk:
    """The pages over a database."""

    def __init__(self, book: ReminderBook) -> None:
        self.book = book
        self.trail = NotedTrail()
        access = open_access()
        self.browser = OwnersBrowser(access, self.trail, create_blueprint(book, access, self.trail))  # type: ignore[arg-type]

    def set(self, words: str, kind: ReminderKind, text: str = "") -> None:
        when = understand(words, self.book.now())
        assert isinstance(when, When)
        self.book.set(ANNA, ANNA, kind, when, text=text)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path) as database:
        yield Desk(ReminderBook(database, zone=lambda: ZoneInfo("Europe/Berlin")))


def test_they_are_listed_with_what_repeats_in_words(desk: Desk) -> None:
    assert desk.browser.get(f"devices/{ANNA}/reminders") == {"reminders": []}
    desk.set("every weekday at 7:30", ReminderKind.ALARM)
    desk.set("in 1 minute", ReminderKind.REMINDER, "tea")

    listed = desk.browser.get(f"devices/{ANNA}/reminders")["reminders"]
    tea, alarm = sorted(listed, key=lambda each: each["kind"], reverse=True)
    assert (tea["kind"], tea["text"], tea["repeats"]) == ("reminder", "tea", {"en": "", "zh": ""})
    assert alarm["repeats"] == {"en": "every weekday at 7:30 AM", "zh": "每个工作日早上7点半"}
    assert tea["due_at"] - tea["set_at"] == pytest.approx(60, abs=1)


def test_one_is_cancelled_and_that_is_noted_without_its_text(desk: Desk) -> None:
    desk.set("in 10 minutes", ReminderKind.REMINDER, "a surprise")
    desk.set("in 20 minutes", ReminderKind.TIMER)
    first, second = desk.browser.get(f"devices/{ANNA}/reminders")["reminders"]

    assert desk.browser.ask("POST", f"devices/{ANNA}/reminders/{first['id']}/cancel").status_code == 200
    assert desk.browser.ask("POST", f"devices/{ANNA}/reminders/{first['id']}/cancel").status_code == 404
    assert desk.browser.ask("POST", f"devices/02:00:00:00:00:0b/reminders/{second['id']}/cancel").status_code == 404
    assert [row.id for row in desk.book.coming(ANNA)] == [second["id"]]
    assert [(what, details) for what, _, details in desk.trail.noted] == [("reminder cancelled", {"device": ANNA})]


@pytest.mark.parametrize(("method", "path"), [("GET", "reminders"), ("POST", "reminders/1/cancel")])
def test_nobody_else_gets_in(desk: Desk, method: str, path: str) -> None:
    desk.set("in 10 minutes", ReminderKind.TIMER)

    not_logged_in, public, without_proof, other_origin = desk.browser.refusals(method, f"devices/{ANNA}/{path}")

    assert (not_logged_in, public, other_origin) == (401, 403, 403)
    assert without_proof == (403 if method != "GET" else without_proof)
    assert len(desk.book.coming(ANNA)) == 1
