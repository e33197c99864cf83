"""What other users of the machine may read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import opened
from xiaozhi.app.process import keep_private
from xiaozhi.settings import Settings, token_secret


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def _everybody_reads() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_everybody_reads")
def test_a_new_data_directory_and_what_is_in_it(tmp_path: Path) -> None:
    token_secret(Settings.model_validate({"log": {"data_dir": str(tmp_path / "key")}}))
    with opened(tmp_path / "database"):
        for directory in (tmp_path / "key", tmp_path / "database"):
            assert mode(directory) == 0o700
            assert {mode(path) for path in directory.iterdir()} == {0o600}


@pytest.mark.usefixtures("_everybody_reads")
def test_what_is_there_already_is_taken_away_from_others(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    (data / "bin").mkdir()
    for name in ("memory.sqlite", "xiaozhi.sqlite", "xiaozhi.sqlite-wal"):
        (data / name).write_bytes(b"")
    keep_private(data)
    assert mode(data) == 0o750
    assert {mode(path) for path in data.glob("*.sqlite*")} == {0o600}
    assert mode(data / "bin") == 0o755
    keep_private(tmp_path / "missing")
