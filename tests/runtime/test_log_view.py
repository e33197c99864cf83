"""Looking at log lines: the last ones, of older files too, filtered; new ones only while somebody wants them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import orjson
import pytest

from xiaozhi.runtime import logs
from xiaozhi.runtime.log_view import MAX_LINE, LineFilter, LogTap, last_lines


def line(number: int, **fields: Any) -> dict[str, Any]:
    return {"event": f"event {number}", "level": "info", "timestamp": f"2026-01-01T00:00:{number:02d}", **fields}


def write(path: Path, *lines: dict[str, Any] | bytes) -> None:
    path.write_bytes(b"".join((each if isinstance(each, bytes) else orjson.dumps(each)) + b"\n" for each in lines))


def numbers(path: Path, count: int = 100, **wanted: str) -> list[int]:
    return [int(each["event"].split()[1]) for each in last_lines(path, LineFilter(**wanted), count)[0]]


def test_the_last_lines_come_oldest_first_and_go_on_in_older_files(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    write(path, line(3), line(4))
    write(tmp_path / "server.log.1", line(1), line(2))

    assert last_lines(path, LineFilter(), 3) == ([line(2), line(3), line(4)], True)
    assert last_lines(path, LineFilter(), 4) == ([line(1), line(2), line(3), line(4)], False)
    assert numbers(path, before=line(3)["timestamp"]) == [1, 2]


def test_long_files_are_read_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    write(path, *(line(number % 60, text="x" * 700, n=number) for number in range(2_000)))

    found, more = last_lines(path, LineFilter(), 1_500)

    assert [each["n"] for each in found] == list(range(500, 2_000)) and more


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"level": "warning"}, [2, 3]),
        ({"level": "error"}, [3]),
        ({"device": "AA:BB"}, [1, 2]),
        ({"id": "t1"}, [1]),
        ({"id": "s1"}, [2]),
        ({"id": "t"}, []),
        ({"text": "größe"}, [3]),
        ({"text": "GRÖẞE"}, [3]),
        ({"device": "aa", "level": "warning"}, [2]),
    ],
)
def test_filters(tmp_path: Path, wanted: dict[str, str], found: list[int]) -> None:
    path = tmp_path / "server.log"
    write(
        path,
        line(1, device="aa:bb:cc", trace="t1"),
        line(2, device="aa:bb:cc", session="s1", level="warning"),
        line(3, level="error", note="die Größe"),
    )

    assert numbers(path, **wanted) == found


def test_what_is_no_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    write(path, b'{"cut', b"[]", b"", b"\xff\xfe", line(1), b'{"event": "' + b"x" * MAX_LINE + b'"}')

    assert numbers(path) == [1]
    assert last_lines(tmp_path / "none.log", LineFilter(), 5) == ([], False)


def test_nothing_is_formatted_while_nobody_looks() -> None:
    tap = LogTap()
    formatted: list[str] = []

    class Counting(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            formatted.append(record.getMessage())
            return record.getMessage()

    tap.setFormatter(Counting())
    taken: list[str] = []
    tap.take = taken.append
    record = logging.makeLogRecord({"msg": "hello"})

    tap.handle(record)
    assert formatted == []
    tap.wanted = lambda: True
    tap.handle(record)
    assert formatted == taken == ["hello"]


def test_new_lines_are_those_of_the_file(tmp_path: Path) -> None:
    taken: list[str] = []
    logs.configure(directory=tmp_path, file_name="a.log")
    logs.tap.wanted, logs.tap.take = (lambda: True), taken.append
    try:
        logs.get_logger("mine").info("asked", api_key="very-secret-key", text="what was said", n=1)
        logs.flush()
        assert logs.log_file() == tmp_path / "a.log"
        assert taken == (tmp_path / "a.log").read_text(encoding="utf-8").splitlines()
        assert "very-secret-key" not in taken[0] and "what was said" not in taken[0]
    finally:
        logs.tap.wanted, logs.tap.take = (lambda: False), (lambda line: None)
        logs.shut_down()
    assert logs.log_file() is None
