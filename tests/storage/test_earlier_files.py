"""Files of earlier versions and of the existing server: taken over once, and whatever stands in them."""

from __future__ import annotations

import contextlib
import datetime
import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from xiaozhi.storage import output_counts, pending_memories, summaries
from xiaozhi.storage.database import Database
from xiaozhi.storage.earlier_files import import_earlier_files
from xiaozhi.storage.pending_memories import PendingVisit
from xiaozhi.storage.tables import memory_summary

TODAY = datetime.date.today()


def old_file(path: Path, schema: str, insert: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """A SQLite file as the earlier version left it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(schema)
        database.executemany(insert, rows)


def old_quota(path: Path, rows: Iterable[tuple[str, str, int]]) -> None:
    """quota.sqlite."""
    schema = "CREATE TABLE output (day TEXT, device TEXT, characters INTEGER, PRIMARY KEY (day, device))"
    old_file(path, schema, "INSERT INTO output VALUES (?, ?, ?)", rows)


def old_memory(path: Path, rows: Iterable[tuple[str, str, float]]) -> None:
    """memory.sqlite."""
    schema = "CREATE TABLE memory (device TEXT PRIMARY KEY, summary TEXT NOT NULL, updated REAL NOT NULL)"
    old_file(path, schema, "INSERT INTO memory VALUES (?, ?, ?)", rows)


def summary(database: Database, device: str) -> str:
    """What is known of a device."""
    return database.read(lambda connection: summaries.of(connection, device))


def pending(database: Database) -> list[PendingVisit]:
    """All visits that wait, taken."""
    return database.run(
        lambda connection: pending_memories.claim(connection, "test", 1e12, 2e12, limit=1_000, kept_since=0.0)
    )[0]


def test_todays_counts_are_taken_over_once_and_never_lowered(database: Database, tmp_path: Path) -> None:
    old_quota(tmp_path / "quota.sqlite", [(TODAY.isoformat(), "a", 60), (TODAY.isoformat(), "b", 5)])
    database.run(lambda connection: output_counts.add(connection, {(TODAY, "b"): 50}, 1.0, 7))
    for _ in range(2):
        import_earlier_files(database, tmp_path)
        counts = database.read(lambda connection: output_counts.changed_since(connection, TODAY, 0.0))
        assert counts == {"a": 60, "b": 50}
    assert (tmp_path / "quota.sqlite").exists()


def test_summaries_are_taken_over_once_and_give_way_to_newer_ones(database: Database, tmp_path: Path) -> None:
    old_memory(tmp_path / "memory.sqlite", [("a", "old a", 1.0), ("b", "old b", 1.0)])
    (tmp_path / ".memory.yaml").write_text("b: older b\nc: likes tea\nd: 5\n", encoding="utf-8")
    database.run(lambda connection: summaries.keep(connection, "a", "new a", 2.0))
    import_earlier_files(database, tmp_path)
    assert [summary(database, device) for device in "abcd"] == ["new a", "old b", "likes tea", "5"]

    database.run(lambda connection: connection.execute(memory_summary.delete()))
    import_earlier_files(database, tmp_path)
    assert database.read(lambda connection: connection.execute(select(memory_summary.c.device)).all()) == []


@pytest.mark.parametrize("name", ["quota.sqlite", "memory.sqlite", ".memory.yaml"])
@pytest.mark.parametrize("content", [b"[unclosed", b"- a list\n", b"\x00\xff" * 600, b""])
def test_what_cannot_be_read_is_left_alone(database: Database, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    import_earlier_files(database, tmp_path)
    assert (tmp_path / name).read_bytes() == content
    database.run(lambda connection: summaries.keep(connection, "a", "it goes on", 2.0))


def test_ids_are_taken_over_in_their_normal_form(database: Database, tmp_path: Path) -> None:
    (tmp_path / ".memory.yaml").write_text('"24-0A-C4-1D-3B-F0": likes tea\n', encoding="utf-8")
    import_earlier_files(database, tmp_path)
    assert summary(database, "24:0a:c4:1d:3b:f0") == "likes tea"


def test_pending_visits_become_rows_and_their_files_go(database: Database, tmp_path: Path) -> None:
    odd = "one\u2028two\u0085three\x0bfour\rfive"
    entries = [
        {"device": "a", "session": "s1", "said": [["user", odd], ["assistant", "ho"]]},
        {"device": "b", "session": "s2", "said": [["user", "hi"]]},
    ]
    lines = [json.dumps(entry, ensure_ascii=False) for entry in entries]
    (tmp_path / "pending-memories.jsonl").write_text("\n".join(["nonsense", '{"device": 1}', *lines]), encoding="utf-8")
    other = json.dumps({"device": "c", "session": "s3", "said": [["user", "hi"]]})
    (tmp_path / "pending-memories.4711.jsonl").write_text(other + "\r\n" + '{"device": "half', encoding="utf-8")

    import_earlier_files(database, tmp_path)

    assert list(tmp_path.glob("pending-memories*")) == []
    visits = {visit.device: (visit.session, visit.said) for visit in pending(database)}
    assert visits == {
        "a": ("s1", (("user", odd), ("assistant", "ho"))),
        "b": ("s2", (("user", "hi"),)),
        "c": ("s3", (("user", "hi"),)),
    }


def test_a_crash_between_the_rows_and_the_removal_of_the_file_takes_nothing_over_twice(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pending-memories.jsonl"
    path.write_text(json.dumps({"device": "a", "session": "s", "said": [["user", "hi"]]}), encoding="utf-8")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            import_earlier_files(database, tmp_path)
    assert [visit.device for visit in pending(database)] == ["a"]
    database.run(lambda connection: pending_memories.let_go(connection, "test", (), (), 0.0))
    saved = pending(database)
    database.run(lambda connection: pending_memories.remove(connection, "test", [visit.id for visit in saved]))

    import_earlier_files(database, tmp_path)
    assert pending(database) == [] and not path.exists()
