"""Looking through what was said: pages, days, search, one conversation, erasing it; on both databases."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from datetime import UTC
from typing import Any

import pytest

from tests.history.samples import AT, DEVICE, ended, entry, session
from tests.storage.conftest import database, url
from xiaozhi.history.encoding import compressed
from xiaozhi.history.entries import HistoryEntry
from xiaozhi.history.export import Export, zipped
from xiaozhi.history.pages import HistoryPages
from xiaozhi.history.slowness import ENOUGH, SHARES
from xiaozhi.history.store import LocalHistory, Retention
from xiaozhi.storage.database import Database
from xiaozhi.storage.turn_pages import WantedConversations

__all__ = ["database", "url"]
OTHER = "02:00:00:00:00:02"


class Shelf:
    """A store, and the pages over it."""

    def __init__(self, database: Database) -> None:
        self.store = LocalHistory(database, lambda: Retention(30, 7), clock=lambda: AT + 1_000)
        self.pages = HistoryPages(database, clock=lambda: AT + 1_000)

    def say(self, number: int, began_at: float, *turns: tuple[str, str], device: str = DEVICE, **more: Any) -> None:
        """A conversation: what was said and answered."""
        info = session(number, device)
        info = type(info)(info.id, info.device_id, info.client_id, began_at)
        self.store.deliver(
            [
                HistoryEntry(info, count, began_at + count, said=said, spoken=(answered,), **more)
                for count, (said, answered) in enumerate(turns, 1)
            ]
        )

    def found(self, **wanted: Any) -> list[int]:
        """Numbers of the conversations."""
        return [int(each.session.id, 16) for each in self.pages.conversations(WantedConversations(**wanted), 100)]


@pytest.fixture
def shelf(database: Database) -> Shelf:
    return Shelf(database)


def test_the_newest_come_first_page_by_page(shelf: Shelf) -> None:
    for number in range(1, 8):
        shelf.say(number, AT + number // 2, ("a", "b"), ("c", "d"))  # pairs begin at the same moment

    seen: list[int] = []
    before = None
    while page := shelf.pages.conversations(WantedConversations(before=before), 3):
        seen += [int(each.session.id, 16) for each in page]
        before = page[-1].session.began_at, page[-1].session.id

    assert seen == [7, 6, 5, 4, 3, 2, 1]
    (first, *_) = shelf.pages.conversations(WantedConversations(), 1)
    assert (first.turns, first.shown and first.shown.said) == (2, "a")


def test_by_device_and_day(shelf: Shelf) -> None:
    shelf.say(1, AT, ("a", "b"))
    shelf.say(2, AT + 86_400, ("a", "b"))
    shelf.say(3, AT + 10, ("a", "b"), device=OTHER)

    assert shelf.found(device=DEVICE) == [2, 1]
    assert shelf.found(since=AT, until=AT + 86_400) == [3, 1]
    assert shelf.found(since=AT + 1_000) == [2]
    assert shelf.pages.devices(10) == [DEVICE, OTHER]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("rain", [1]),
        ("RAIN", [1]),
        ("umbrella", [1]),
        ("明天", [2]),
        ("会下雨", [2]),
        ("100%", [3]),
        ("0_x", [3]),
        ("%", [3]),
        ("_", [3]),
        ('"quoted"', [3]),
        ("back\\slash", [3]),
        ("/", [3]),
        ("snow", []),
        ("'; DROP TABLE history_turn; --", []),
    ],
)
def test_search_finds_what_was_said_and_answered_letter_by_letter(shelf: Shelf, text: str, found: list[int]) -> None:
    shelf.say(1, AT, ("hello", "Hi."), ("will it rain", "Take an umbrella."))
    shelf.say(2, AT + 1, ("明天天气怎么样", "明天会下雨。"))
    shelf.say(3, AT + 2, ("are you 100% sure of 50_x", 'It is "quoted", a back\\slash and a / too.'))

    assert shelf.found(search=text) == found


def test_a_search_shows_what_it_found(shelf: Shelf) -> None:
    shelf.say(1, AT, ("hello", "Hi."), ("will it rain", "Take an umbrella."))

    (conversation,) = shelf.pages.conversations(WantedConversations(search="umbrella"), 10)

    assert conversation.turns == 2
    assert conversation.shown is not None and conversation.shown.said == "will it rain"


def test_one_conversation_in_pieces(shelf: Shelf) -> None:
    shelf.say(1, AT, *((f"question {number}", "Answer.") for number in range(1, 6)))

    kept = shelf.pages.session(session(1).id)
    assert kept is not None and kept.device == DEVICE
    first, sounds = shelf.pages.turns(kept.id, 0, 3)
    rest, _ = shelf.pages.turns(kept.id, first[-1].turn, 3)

    assert [turn.turn for turn in first + rest] == [1, 2, 3, 4, 5]
    assert sounds == []
    assert shelf.pages.session("0" * 32) is None


def test_usual_is_what_this_device_took_before(shelf: Shelf) -> None:
    slow, quick = dict.fromkeys(SHARES, 500), dict.fromkeys(SHARES, 10)
    for number in range(ENOUGH):
        shelf.say(number + 1, AT + number, ("a", "b"), timings=quick)
        shelf.say(number + 50, AT + number, ("a", "b"), timings=slow, device=OTHER)
    shelf.say(99, AT + 100, ("a", "b"), timings=slow)
    asked = shelf.pages.session(session(99).id)
    assert asked is not None

    usual = shelf.pages.usual(asked)

    assert (usual.basis, usual.total) == ("device", 10 * len(SHARES))


def test_of_a_new_device_what_others_took_counts(shelf: Shelf) -> None:
    for number in range(ENOUGH):
        shelf.say(number + 50, AT + number, ("a", "b"), timings=dict.fromkeys(SHARES, 20), device=OTHER)
    shelf.say(99, AT + 100, ("a", "b"))
    asked = shelf.pages.session(session(99).id)
    assert asked is not None

    assert shelf.pages.usual(asked).basis == "server"


def test_one_conversation_is_erased_and_does_not_come_back(shelf: Shelf) -> None:
    sound = compressed(bytes(32_000))
    entries = [entry(1), entry(2)]
    shelf.store.deliver(
        [HistoryEntry(each.session, each.turn, each.at, said="secret", sound=sound) for each in entries]
    )
    shelf.say(2, AT, ("kept", "Yes."))

    assert shelf.store.erase_session(session(1).id) == (2, 2)
    shelf.store.deliver([entry(3)])  # it waited in a journal
    shelf.store.session_ended(ended(1))

    assert shelf.found() == [2]
    assert shelf.store.sound(session(1).id, 1) is None
    late = HistoryEntry(session(1), 4, AT + 2_000, said="after it was erased")
    shelf.store.deliver([late])
    assert shelf.found() == [2, 1]


def test_an_export_is_a_zip_that_can_be_opened(shelf: Shelf) -> None:
    sound = compressed(bytes(32_000))
    shelf.store.deliver([HistoryEntry(session(1), 1, AT, said="=1+1", spoken=("Two.",), sound=sound)])
    shelf.say(2, AT + 5, ("明天", "好。"))
    export = Export(shelf.store, shelf.store.sessions(DEVICE), UTC)

    archive = zipfile.ZipFile(io.BytesIO(b"".join(zipped(export.files()))))

    wav = f"sound/{session(1).id[:8]}-1.wav"
    assert archive.namelist() == ["history.json", "turns.csv", wav]
    assert archive.testzip() is None
    assert [each["turns"][0]["said"] for each in json.loads(archive.read("history.json"))] == ["=1+1", "明天"]
    rows = list(csv.DictReader(io.StringIO(archive.read("turns.csv").decode("utf-8-sig"))))
    assert [(row["said"], row["sound"]) for row in rows] == [("'=1+1", wav), ("明天", "")]
    assert archive.read(wav).startswith(b"RIFF")
    assert (export.counts.sessions, export.counts.turns, export.counts.sounds) == (2, 2, 1)
