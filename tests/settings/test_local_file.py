"""The owner's file: replaced whole, by whoever has seen what stands there, with copies of what it was."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from xiaozhi.settings.local_file import KEPT, FileChanged, FileUnusable, LocalFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "local.yaml"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_that_is_not_there_is_made_for_its_owner_only(path: Path) -> None:
    file = LocalFile(path)
    seen = file.read()
    assert seen.text == ""

    digest = file.replace("api_key: x\n", seen.digest)

    assert path.read_text(encoding="utf-8") == "api_key: x\n" and mode(path) == 0o600
    assert file.read().digest == digest != seen.digest


def test_what_somebody_else_wrote_meanwhile_is_not_lost(path: Path) -> None:
    file = LocalFile(path)
    seen = file.read().digest
    path.write_text("by: hand\n", encoding="utf-8")

    with pytest.raises(FileChanged, match="load it again"):
        file.replace("mine: 1\n", seen)

    assert path.read_text(encoding="utf-8") == "by: hand\n" and file.earlier() == []


def test_who_is_just_replacing_it_is_not_disturbed(path: Path) -> None:
    file = LocalFile(path)
    seen = file.read().digest
    descriptor = os.open(path.with_name(".local.yaml.lock"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(FileChanged):
            file.replace("mine: 1\n", seen)
    finally:
        os.close(descriptor)
    file.replace("mine: 1\n", seen)


def test_the_latest_texts_are_kept_for_the_owner_only(path: Path) -> None:
    file = LocalFile(path)
    digest = file.read().digest
    for number in range(KEPT + 3):
        digest = file.replace(f"n: {number}\n", digest)

    earlier = file.earlier()

    assert [each.number for each in earlier] == list(range(KEPT + 3, 3, -1))
    assert file.earlier_text(earlier[0].number) == f"n: {KEPT + 1}\n"
    assert all(mode(copy) == 0o600 for copy in path.parent.glob("*.backup-*"))
    with pytest.raises(FileUnusable, match="no copy 1 "):
        file.earlier_text(1)


def test_nothing_takes_the_file_away_and_keeps_a_copy(path: Path) -> None:
    path.write_text("a: 1\n", encoding="utf-8")
    file = LocalFile(path)

    file.replace("", file.read().digest)

    assert not path.exists() and file.earlier_text(1) == "a: 1\n"


def test_the_same_text_is_no_change(path: Path) -> None:
    file = LocalFile(path)
    digest = file.replace("a: 1\n", file.read().digest)

    assert file.replace("a: 1\n", digest) == digest and len(file.earlier()) == 1


def test_a_link_stays_one(tmp_path: Path, path: Path) -> None:
    real = tmp_path / "elsewhere"
    real.mkdir()
    (real / "mine.yaml").write_text("a: 1\n", encoding="utf-8")
    path.symlink_to(real / "mine.yaml")
    file = LocalFile(path)

    file.replace("a: 2\n", file.read().digest)

    assert path.is_symlink() and (real / "mine.yaml").read_text(encoding="utf-8") == "a: 2\n"


def test_what_cannot_be_used_says_why(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(FileUnusable, match="UTF-8"):
        LocalFile(path).read()
    assert "cannot be written" in LocalFile(Path("/proc/nowhere/local.yaml")).refusal()
    assert LocalFile(path).refusal() == ""
