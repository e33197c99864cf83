"""The password of the console: made once, told once, kept as a hash, replaced by a command."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from xiaozhi.app.main import main
from xiaozhi.app.owner_console import ConsolePassword
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.storage import console_store
from xiaozhi.storage.database import Database, sqlite_url

FORM = r"[a-z2-9]{4}-[a-z2-9]{4}-[a-z2-9]{4}"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(sqlite_url(tmp_path / "xiaozhi.sqlite"))
    opened.start()
    yield opened
    opened.close()


@pytest.fixture
def inference() -> Iterator[InferencePool]:
    pool = InferencePool(1)
    pool.start()
    yield pool
    pool.close()


def test_the_first_one_is_made_once_and_only_its_hash_is_kept(database: Database, inference: InferencePool) -> None:
    first, second = ConsolePassword(database, inference), ConsolePassword(database, inference)

    password = first.make_first()

    assert re.fullmatch(FORM, password)
    assert second.make_first() == first.make_first() == ""
    kept = database.read(console_store.password_hash)
    assert password not in kept
    assert second.hash == kept
    assert second.matches(kept, password)
    assert not second.matches(kept, "wrong")
    assert not second.matches("", "")


def test_a_change_by_somebody_else_is_noticed(database: Database, inference: InferencePool) -> None:
    now = 0.0
    password = ConsolePassword(database, inference, clock=lambda: now)
    password.make_first()
    before = password.hash

    database.run(lambda each: console_store.change_password(each, "another", 1.0))
    assert password.hash == before
    now = 60.0

    assert password.hash == "another"


def test_the_command_makes_a_new_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(json.dumps({"log": {"data_dir": str(tmp_path)}}), encoding="utf-8")

    def made() -> str:
        assert main(["console", "password", "--config", str(file)]) == 0
        found = re.search(FORM, capsys.readouterr().out)
        assert found is not None
        return found.group()

    assert made() != made()


def test_changes_are_kept_newest_first_and_bounded(database: Database) -> None:
    for number in range(5):
        entry = console_store.AuditEntry(float(number), "owner", "192.168.1.7", f"change {number}", {"n": number})
        database.run(lambda each, entry=entry: console_store.note(each, entry, 3))  # type: ignore[misc]

    latest = database.read(lambda each: console_store.latest(each, 10))

    assert [entry.what for entry in latest] == ["change 4", "change 3", "change 2"]
    assert latest[0].details == {"n": 4}
