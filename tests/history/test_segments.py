"""The journal's files: what is on the disk survives, what was cut off is skipped, what does not fit goes."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from xiaozhi.history.segments import MIN_SEGMENT, Segments

ROOT = Path(__file__).resolve().parent.parent.parent
ROOM = 1 << 20


@contextmanager
def opened(root: Path, max_bytes: int = ROOM) -> Iterator[Segments]:
    made = Segments(root, max_bytes=max_bytes)
    made.claim()
    try:
        yield made
    finally:
        made.close()


def texts(files: Segments, after: int = 0) -> list[str]:
    return [stored.body["text"] for stored in files.read(after, 1_000, ROOM)]


def put(files: Segments, *names: str, sound: bytes | None = None) -> list[int]:
    return files.write([({"text": name}, sound) for name in names])


def abandon(root: Path, *names: str, sound: bytes | None = None) -> None:
    """A process writes and is killed."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from xiaozhi.history.segments import Segments\n"
        "files = Segments(Path(sys.argv[1]), max_bytes=1 << 20)\n"
        "files.claim()\n"
        "sound = sys.argv[2].encode() or None\n"
        "files.write([({'text': name}, sound) for name in sys.argv[3:]])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(root), (sound or b"").decode(), *names], cwd=ROOT, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL


def test_records_are_read_in_order_with_rising_numbers_and_their_sounds(tmp_path: Path) -> None:
    with opened(tmp_path) as files:
        assert put(files, "a", "b", sound=b"loud") == [1, 2]
        assert put(files, "c") == [3]

        assert [(one.number, one.body["text"], one.sound) for one in files.read(0, 10, ROOM)] == [
            (1, "a", b"loud"),
            (2, "b", b"loud"),
            (3, "c", None),
        ]
        assert texts(files, after=2) == ["c"]
        assert [one.number for one in files.read(0, 2, ROOM)] == [1, 2]


def test_what_a_killed_process_wrote_is_there(tmp_path: Path) -> None:
    abandon(tmp_path, "a", "b", sound=b"loud")

    with opened(tmp_path) as files:
        assert [(one.body["text"], one.sound) for one in files.read(0, 10, ROOM)] == [("a", b"loud"), ("b", b"loud")]
        assert put(files, "c") == [3]
        assert texts(files) == ["a", "b", "c"]


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_record_that_was_cut_off_is_skipped(tmp_path: Path, cut: int) -> None:
    abandon(tmp_path, "a", "b")
    (file,) = tmp_path.glob("*/*.text")
    os.truncate(file, file.stat().st_size - cut)

    with opened(tmp_path) as files:
        assert texts(files) == ["a"]
        assert files.cut_off == 1
        put(files, "c")
        assert texts(files) == ["a", "c"]


def test_a_damaged_record_is_skipped_and_a_damaged_sound_left_out(tmp_path: Path) -> None:
    abandon(tmp_path, "a", "b", sound=b"loud")
    (text,), (sound,) = tmp_path.glob("*/*.text"), tmp_path.glob("*/*.sound")
    text.write_bytes(text.read_bytes().replace(b'"b"', b'"x"'))
    sound.write_bytes(b"l0ud" + sound.read_bytes()[4:])

    with opened(tmp_path) as files:
        assert [(one.body["text"], one.sound) for one in files.read(0, 10, ROOM)] == [("a", None)]


def test_two_processes_have_directories_of_their_own_and_the_dead_ones_is_taken_over(tmp_path: Path) -> None:
    with opened(tmp_path) as first:
        put(first, "alive")
        abandon(tmp_path, "left", sound=b"loud")

        with opened(tmp_path) as second:
            put(second, "new")
            assert texts(first) == ["alive"]
            assert texts(second) == ["left", "new"]

        with opened(tmp_path) as third:
            assert [(one.body["text"], one.sound) for one in third.read(0, 9, ROOM)] == [
                ("left", b"loud"),
                ("new", None),
            ]


def test_a_journal_that_nobody_continues_is_taken_over(tmp_path: Path) -> None:
    with opened(tmp_path) as first:
        abandon(tmp_path, "second")
        put(first, "first")
        first.forget({}, first.last)
    assert not (tmp_path / "journal-0").exists()
    (tmp_path / "journal-1").rename(tmp_path / "journal-7")

    with opened(tmp_path) as files:
        assert texts(files) == ["second"]
        assert files.taken_over == 1
        assert [path.name for path in tmp_path.iterdir()] == ["journal-0"]


def test_what_was_taken_is_known_after_a_kill_and_removed(tmp_path: Path) -> None:
    with opened(tmp_path, 16 * MIN_SEGMENT) as files:
        for name in "abc":
            put(files, name, sound=bytes(MIN_SEGMENT))
        assert len(list(tmp_path.glob("*/*.text"))) == 3
        files.forget({"sink": 2}, 2)
        files.note_taken()
        assert len(list(tmp_path.glob("*/*.text"))) == 1

    with opened(tmp_path) as files:
        assert files.taken == {"sink": 2}
        assert texts(files) == ["c"]


def test_nothing_that_everybody_has_stays_after_a_renewal_or_a_close(tmp_path: Path) -> None:
    with opened(tmp_path) as files:
        put(files, "secret words")
        files.renew()
        assert texts(files) == ["secret words"]
        files.forget({"sink": 1}, 1)
        files.renew()
        assert texts(files) == []
        assert b"secret words" not in b"".join(path.read_bytes() for path in tmp_path.glob("*/*"))
        assert put(files, "more") == [2]
        files.forget({"sink": 2}, 2)

    assert list(tmp_path.iterdir()) == []


def test_the_oldest_sound_goes_first_then_the_oldest_texts(tmp_path: Path) -> None:
    with opened(tmp_path, 4 * MIN_SEGMENT) as files:
        for name in ("a", "b", "c", "d", "e"):
            put(files, name, sound=bytes(MIN_SEGMENT))

        found = files.read(0, 10, 10 * ROOM)
        assert [one.body["text"] for one in found] == ["a", "b", "c", "d", "e"]
        assert [one.sound is not None for one in found] == [False, False, True, True, True]
        assert (files.dropped_sounds, files.dropped_records) == (2, 0)
        assert files.size <= 4 * MIN_SEGMENT

        long = "x" * MIN_SEGMENT
        for _ in range(6):
            put(files, long)
        assert files.size <= 4 * MIN_SEGMENT
        assert files.dropped_sounds == 5
        assert files.dropped_records == 8
        assert texts(files) == [long] * 3


def test_what_everybody_has_is_not_counted_as_dropped(tmp_path: Path) -> None:
    with opened(tmp_path, 4 * MIN_SEGMENT) as files:
        put(files, "a", sound=bytes(MIN_SEGMENT))
        files.forget({"sink": 1}, 1)
        for name in ("b", "c", "d"):
            put(files, name, sound=bytes(MIN_SEGMENT))

        assert (files.dropped_sounds, files.dropped_records) == (0, 0)


def test_a_full_disk_costs_the_oldest_sound_and_then_is_an_error_that_leaves_nothing_behind(tmp_path: Path) -> None:
    with opened(tmp_path) as files:
        put(files, "a", sound=bytes(3 * MIN_SEGMENT))
        with file_limit(files.size):
            put(files, "b")
            with pytest.raises(OSError) as caught:
                put(files, "x" * 4 * MIN_SEGMENT)
            assert caught.value.errno == errno.EFBIG

        assert files.dropped_sounds == 1
        put(files, "c")
        assert texts(files) == ["a", "b", "c"]

    with opened(tmp_path) as files:
        assert texts(files) == ["a", "b", "c"]


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    with opened(tmp_path / "history") as files:
        put(files, "a", sound=b"loud")

        assert (tmp_path / "history").stat().st_mode & 0o077 == 0
        assert [path.stat().st_mode & 0o077 for path in tmp_path.glob("history/*/*.*")] == [0, 0]
