"""Lines are written by a thread: what stalls there stops nobody, what has no room is counted, nothing else is lost."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from xiaozhi.runtime.log_writer import LogThread, LogWriter, RotatingFile, Stream


def record(text: str) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": text})


class Pipe:
    """A pipe that is full, and which nobody reads until `drain`."""

    def __init__(self) -> None:
        self.read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write_end, b"." * 4096)
        os.set_blocking(write_end, True)
        self.file = os.fdopen(write_end, "w", encoding="utf-8")

    def drain(self, until: str) -> str:
        """Read until `until` has come."""
        os.set_blocking(self.read_end, False)
        text = ""
        while until not in text:
            try:
                text += os.read(self.read_end, 65_536).decode()
            except BlockingIOError:
                gevent.sleep(0.001)  # sleep: another thread is writing
        return text

    def close(self) -> None:
        os.close(self.read_end)  # first: a thread that still writes must not hold up the end of the test
        with contextlib.suppress(BrokenPipeError):
            self.file.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture
def thread() -> Iterator[LogThread]:
    made = LogThread(max_waiting=500)
    yield made
    assert made.close()


def test_a_pipe_that_nobody_reads_stops_nobody(pipe: Pipe, thread: LogThread) -> None:
    writer = LogWriter(Stream(pipe.file), thread)
    line = "x" * 1000

    for _ in range(900):
        writer.emit(record(line))
        gevent.sleep(0)

    assert (thread.waiting, thread.dropped) == (500, 399), "and one is being written"
    writer.emit(record("no room either"))
    text = pipe.drain(until='"log lines dropped"')
    assert text.count(line) + thread.dropped == 901
    assert f'"count":{thread.dropped}' in text
    assert thread.flush()
    writer.emit(record("after it"))
    pipe.drain(until="after it")
    writer.close()


def test_lines_of_a_file_come_in_order_and_close_writes_what_waits(tmp_path: Path, thread: LogThread) -> None:
    writer = LogWriter(RotatingFile(tmp_path / "x.log", 0, 1), thread)
    for number in range(300):
        writer.emit(record(str(number)))

    writer.close()

    assert (tmp_path / "x.log").read_text().splitlines() == [str(number) for number in range(300)]


def test_a_closed_thread_takes_nothing_more(tmp_path: Path) -> None:
    thread = LogThread()
    writer = LogWriter(RotatingFile(tmp_path / "x.log", 0, 1), thread)
    assert thread.close() and thread.close()

    writer.emit(record("late"))
    writer.close()

    assert (tmp_path / "x.log").read_text() == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_told_once_and_counted(capsys: pytest.CaptureFixture[str], thread: LogThread) -> None:
    sink = RotatingFile(Path("/dev/full"), 0, 0)
    writer = LogWriter(sink, thread)

    for number in range(3):
        writer.emit(record(str(number)))
        writer.flush()

    assert sink.failures == 3
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_a_line_that_cannot_be_formatted_harms_nobody(
    tmp_path: Path, thread: LogThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    writer = LogWriter(RotatingFile(tmp_path / "x.log", 0, 1), thread)

    writer.emit(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
    writer.emit(record("next"))
    writer.close()

    assert (tmp_path / "x.log").read_text() == "next\n"


def test_the_thread_has_a_name(thread: LogThread) -> None:
    names = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}

    assert "log-writer" in names


def test_a_file_that_cannot_be_rotated_grows_on_and_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "server.log"
    (tmp_path / "server.log.1").mkdir()  # in the way of the older file
    (tmp_path / "server.log.1" / "x").touch()
    sink = RotatingFile(path, 200, 1)
    for number in range(50):
        sink.handle(record(f"line {number} " + "x" * 20))
    sink.close()

    assert [line.split()[1] for line in path.read_text().splitlines()] == [str(number) for number in range(50)]
    told = capsys.readouterr().err
    assert told.count("cannot be rotated") == 1 and "Logging error" not in told
    assert sink.failures == 0


def test_a_directory_that_is_deleted_while_it_runs_harms_nobody(
    tmp_path: Path, thread: LogThread, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    writer = LogWriter(RotatingFile(directory / "server.log", 400, 2), thread)
    writer.handle(record("one"))
    thread.flush(5.0)
    shutil.rmtree(directory)
    for number in range(50):
        writer.handle(record(f"line {number} " + "." * 40))
    thread.flush(5.0)
    writer.close()
    assert "Logging error" not in capsys.readouterr().err and thread.dropped == 0
