"""What the pages of the history ask, over a real database."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.databases import opened
from tests.history.samples import AT, DEVICE, session
from tests.web.console.owners import NotedTrail, OwnersBrowser, open_access
from xiaozhi.history.encoding import compressed
from xiaozhi.history.entries import HistoryEntry, KeptSound, SessionInfo, ToolUse
from xiaozhi.history.pages import HistoryPages
from xiaozhi.history.slowness import SHARES
from xiaozhi.history.store import LocalHistory, Retention
from xiaozhi.storage.database import Database
from xiaozhi.web.console.history import MAX_TURNS, HistoryPageHooks, create_blueprint

OTHER = "02:00:00:00:00:02"
ID = session(1).id
TIMINGS = {**dict.fromkeys(SHARES, 10), "model": 4_000, "ended": 6_000}


class Desk:
    """The pages over a database."""

    def __init__(self, database: Database) -> None:
        self.store = LocalHistory(database, lambda: Retention(30, 7), clock=lambda: AT + 10_000)
        self.trail = NotedTrail()
        self.zone: Any = UTC
        self.state = {"mode": "text", "days": 30, "sound_days": 7, "console": ""}
        hooks = HistoryPageHooks(
            pages=HistoryPages(database, clock=lambda: AT + 10_000),
            store=self.store,
            labels=lambda devices: {DEVICE: "Kitchen"} if DEVICE in devices else {},
            wav=KeptSound.wav,
            zone=lambda: self.zone,
            state=lambda: self.state,
        )
        access = open_access()
        self.browser = OwnersBrowser(access, self.trail, create_blueprint(hooks, access, self.trail))  # type: ignore[arg-type]

    def say(self, number: int, *said: str, began_at: float = AT, device: str = DEVICE, **more: Any) -> None:
        """A conversation."""
        info = SessionInfo(session(number).id, device, "client", began_at)
        more = {"timings": TIMINGS, "spoken": ("Fine.",), **more}
        self.store.deliver(
            [HistoryEntry(info, turn, began_at + turn, said=text, **more) for turn, text in enumerate(said, 1)]
        )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path) as database:
        yield Desk(database)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "history"),
        ("GET", f"history/{ID}"),
        ("GET", f"history/{ID}/1/sound"),
        ("GET", f"history/export?session={ID}"),
        ("DELETE", f"history/{ID}"),
        ("DELETE", f"history?device={DEVICE}"),
    ],
)
def test_nobody_else_gets_in(desk: Desk, method: str, path: str) -> None:
    desk.say(1, "secret", sound=compressed(bytes(3_200)))

    not_logged_in, public, without_proof, other_origin = desk.browser.refusals(method, path)

    assert (not_logged_in, public, other_origin) == (401, 403, 403)
    assert without_proof == (403 if method == "DELETE" else 200)
    assert desk.store.turns(ID)


def test_conversations_come_page_by_page(desk: Desk) -> None:
    for number in range(1, 6):
        desk.say(number, "hello", "again", began_at=AT + number)

    first = desk.browser.get("history?limit=2")
    second = desk.browser.get(f"history?limit=2&before={first['next']}")
    last = desk.browser.get(f"history?limit=2&before={second['next']}")

    numbers = [int(each["session"], 16) for page in (first, second, last) for each in page["conversations"]]
    assert numbers == [5, 4, 3, 2, 1]
    assert last["next"] is None
    assert len(desk.browser.get("history?limit=0")["conversations"]) == 1
    assert first["devices"] == [{"device": DEVICE, "label": "Kitchen"}]
    assert first["state"]["mode"] == "text"
    (shown, *_) = first["conversations"]
    assert (shown["turns"], shown["said"], shown["spoken"], shown["label"]) == (2, "hello", "Fine.", "Kitchen")


def test_by_device_day_and_words(desk: Desk) -> None:
    desk.say(1, "hello", began_at=AT)
    desk.say(2, "good night", began_at=AT + 86_400, device=OTHER)

    def found(query: str) -> list[int]:
        return [int(each["session"], 16) for each in desk.browser.get(f"history?{query}")["conversations"]]

    day = "2026-09-21"  # AT is 13:33 UTC
    assert found(f"day={day}") == [1]
    assert found("day=2026-09-22") == [2]
    desk.zone = timezone(timedelta(hours=12))
    assert found("day=2026-09-22") == [1], "days are those of the server's time zone"
    assert found(f"device={OTHER.upper()}") == [2]
    assert found("search=NIGHT") == [2]
    assert found(f"search=night&device={DEVICE}") == []


@pytest.mark.parametrize("query", ["day=yesterday", "day=99999-01-01", "before=x", "limit=x", "limit=-1", "limit=1e3"])
def test_odd_questions_are_refused(desk: Desk, query: str) -> None:
    assert desk.browser.ask("GET", f"history?{query}").status_code == 400


def test_one_conversation_with_all_that_is_known(desk: Desk) -> None:
    tool = ToolUse("get_weather", {"city": "Ulm"}, "done", "rain", 1_800)
    desk.say(1, "will it rain", tools=(tool,), speaker="Anna", outcome="interrupted", reason="abort")

    shown = desk.browser.get(f"history/{ID}")

    assert (shown["device"], shown["label"], shown["next"], shown["shares"]) == (DEVICE, "Kitchen", None, list(SHARES))
    (turn,) = shown["turns"]
    assert (turn["said"], turn["spoken"], turn["speaker"], turn["outcome"]) == (
        "will it rain",
        ["Fine."],
        "Anna",
        "interrupted",
    )
    assert turn["tools"][0]["result"] == "rain"
    assert turn["timings"]["ended"] == 6_000
    assert (turn["why"]["verdict"], turn["why"]["causes"][0]["what"], turn["sound"]) == ("slow", "model", False)
    assert desk.browser.ask("GET", f"history/{'0' * 32}").status_code == 404


def test_a_long_conversation_comes_in_pieces(desk: Desk) -> None:
    desk.say(1, *(f"question {number}" for number in range(MAX_TURNS + 3)))

    first = desk.browser.get(f"history/{ID}")
    rest = desk.browser.get(f"history/{ID}?after={first['next']}")

    assert (len(first["turns"]), len(rest["turns"]), rest["next"]) == (MAX_TURNS, 3, None)


def test_the_sound_of_a_turn(desk: Desk) -> None:
    desk.say(1, "hello", sound=compressed(bytes(32_000)))

    whole = desk.browser.ask("GET", f"history/{ID}/1/sound")
    part = desk.browser.ask("GET", f"history/{ID}/1/sound", headers={"Range": "bytes=0-3"})

    assert (whole.status_code, whole.content_type) == (200, "audio/wav")
    assert (part.status_code, part.data) == (206, b"RIFF")
    assert desk.browser.get(f"history/{ID}")["turns"][0]["sound"] is True
    assert desk.browser.ask("GET", f"history/{ID}/2/sound").status_code == 404


def test_what_was_said_is_taken_along(desk: Desk) -> None:
    desk.say(1, "hello", sound=compressed(bytes(32_000)))
    desk.say(2, "again", began_at=AT + 100)
    desk.say(3, "another", device=OTHER)

    everything = desk.browser.ask("GET", f"history/export?device={DEVICE}")
    one = desk.browser.ask("GET", f"history/export?session={ID}&format=json")
    table = desk.browser.ask("GET", f"history/export?session={ID}&format=csv")

    archive = zipfile.ZipFile(io.BytesIO(everything.data))
    assert [each["turns"][0]["said"] for each in json.loads(archive.read("history.json"))] == ["hello", "again"]
    assert f"sound/{ID[:8]}-1.wav" in archive.namelist()
    assert 'filename="xiaozhi-02-00-00-00-00-01.zip"' in everything.headers["Content-Disposition"]
    assert [each["turns"][0]["said"] for each in json.loads(one.data)] == ["hello"]
    assert "hello" in table.data.decode("utf-8-sig") and table.content_type.startswith("text/csv")
    assert [what for what, _, _ in desk.trail.noted] == ["exported history"] * 3
    for query, status in (("", 400), (f"device={DEVICE}&format=exe", 400), (f"session={'0' * 32}", 404)):
        assert desk.browser.ask("GET", f"history/export?{query}").status_code == status


def test_a_conversation_is_erased_and_all_of_a_device(desk: Desk) -> None:
    desk.say(1, "hello", sound=compressed(bytes(3_200)))
    desk.say(2, "again", began_at=AT + 100)
    desk.say(3, "another", device=OTHER)

    assert desk.browser.ask("DELETE", f"history/{ID}").json == {"success": True, "turns": 1, "sounds": 1}
    assert desk.browser.ask("DELETE", f"history/{ID}").status_code == 404
    assert desk.browser.ask("DELETE", f"history?device={DEVICE}").json == {"success": True, "turns": 1, "sounds": 0}

    assert [each["device"] for each in desk.browser.get("history")["conversations"]] == [OTHER]
    assert [(what, details["device"]) for what, _, details in desk.trail.noted] == [("erased history", DEVICE)] * 2
    assert desk.browser.ask("DELETE", "history").status_code == 400
