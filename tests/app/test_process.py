"""Switches of the whole process: what other users of the machine may read, and its allocator."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import opened
from xiaozhi.app.process import keep_private
from xiaozhi.settings import Settings, token_secret

ROOT = Path(__file__).resolve().parents[2]


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


def test_threads_share_one_arena() -> None:
    """In a process of its own: an arena that was made stays."""
    code = (
        "import ctypes, sys, threading\n"
        "from xiaozhi.app import process\n"
        "process.prepare()\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p\n"
        "threads = [threading.Thread(target=libc.malloc, args=(1 << 16,)) for _ in range(4)]\n"
        "[thread.start() for thread in threads], [thread.join() for thread in threads]\n"
        "out = ctypes.c_void_p(libc.fdopen(1, b'w'))\n"
        "libc.malloc_info(0, out), libc.fflush(out)\n"
    )
    if not hasattr(ctypes.CDLL(None), "malloc_info"):
        pytest.skip("the C library is not glibc")
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert told.count("<heap nr=") == 1
