"""What others send reaches the log as text that does nothing, and not without end."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import FakeClock
from xiaozhi.runtime import logs
from xiaozhi.runtime.log_bounds import (
    KIND_LINES,
    KIND_LINES_PER_SECOND,
    SOURCE_LINES,
    SOURCE_LINES_PER_SECOND,
    LineRates,
    printable_fields,
    printable_json,
)

EVIL = {
    "clear screen": "\x1b[2J",
    "bell": "\x07",
    "C1 control sequence": "\x9b31m",
    "delete": "\x7f",
    "line separator": "a\u2028b",
    "next line": "a\x85b",
    "another line": "a\n2026-01-01 [info] all is well",
    "carriage return": "a\rb",
    "right to left": "\u202eb\u2066c",
    "invisible": "a\u200bb\ufeff",
    "half a pair": "\ud83d",
    "with spaces": "a \x1b[2J b",
    "quoted": "'\x1b]0;title\x07'",
}


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    level = logging.getLogger().level
    structlog.contextvars.clear_contextvars()
    yield
    logs.shut_down()
    structlog.contextvars.clear_contextvars()
    logging.getLogger().setLevel(level)


def harmless(line: str) -> bool:
    """Nothing in it but what is seen."""
    return line.isprintable()


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
def test_no_field_and_no_event_acts_on_a_terminal(
    evil: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    logs.configure(directory=tmp_path)
    log = logs.get_logger("xiaozhi.here")
    log.warning("told", error=evil, action=evil, nested={"a": [evil], evil: 1}, device=evil, odd=Path(evil))
    log.warning(f"event {evil}")
    logging.getLogger("some.library").warning("library %s", evil.encode("utf-8", "replace").decode())
    try:
        raise ValueError(evil.encode("utf-8", "replace").decode())
    except ValueError:
        log.exception("failed", key=evil)
    logs.flush()

    shown = capsys.readouterr().err.splitlines()
    assert all(harmless(line) for line in shown)
    assert sum(not line.startswith("|") for line in shown) == 4
    written = (tmp_path / "server.log").read_bytes().decode().split("\n")
    assert len(written) == 5 and written[-1] == ""
    assert all(harmless(line) for line in written)
    if evil != EVIL["half a pair"]:
        assert orjson.loads(written[0])["error"] == evil


@given(st.text())
def test_json_stays_the_same_json(text: str) -> None:
    line = printable_json(orjson.dumps({"a": text}, option=orjson.OPT_NON_STR_KEYS).decode()) if valid(text) else "{}"

    assert harmless(line)
    assert not valid(text) or orjson.loads(line)["a"] == text


def valid(text: str) -> bool:
    return text.encode("utf-8", "replace").decode() == text


def test_what_can_be_seen_is_left_alone() -> None:
    fields: dict[str, Any] = {"event": "connected", "device": "aa:bb", "说": "好 😀", "ms": 5, "ok": True, "none": None}

    assert printable_fields(None, "info", dict(fields)) == fields


def written(rates: LineRates, kind: str, level: str = "warning", **fields: Any) -> dict[str, Any] | None:
    try:
        return dict(rates(None, level, {"event": kind, **fields}))
    except structlog.DropEvent:
        return None


def test_one_device_makes_few_lines_however_many_messages_it_sends() -> None:
    clock = FakeClock()
    rates = LineRates(clock=clock)
    lines = []
    for _ in range(60 * 50):
        if line := written(rates, "server command refused", peer="192.0.2.1", device="a"):
            lines.append(line)
        clock.advance(0.02)

    assert len(lines) <= SOURCE_LINES + 60 * SOURCE_LINES_PER_SECOND + 1
    other = written(rates, "server command refused", peer="192.0.2.2")
    assert other is not None
    assert len(lines) + sum(line.get("suppressed", 0) for line in [*lines, other]) == 3000
    assert written(rates, "another kind", device="a") is not None


def test_who_calls_itself_something_else_each_time_makes_no_more_than_all_devices_may() -> None:
    clock = FakeClock()
    rates = LineRates(clock=clock)
    kinds = Counter(written(rates, "refused", device=f"d{number}") is not None for number in range(5 * KIND_LINES))

    assert kinds[True] == KIND_LINES
    clock.advance(10.0)
    assert sum(written(rates, "refused") is not None for _ in range(5000)) == 10 * KIND_LINES_PER_SECOND


def test_lines_that_were_asked_for_are_all_written() -> None:
    rates = LineRates(clock=FakeClock())

    assert all(written(rates, "vendor call", "debug", device="a") for _ in range(5 * KIND_LINES))


def test_the_log_has_such_a_bound(tmp_path: Path) -> None:
    logs.configure(directory=tmp_path)
    for _ in range(500):
        logs.get_logger("xiaozhi.here").warning("server command refused", device="a")
    logs.flush()

    lines = (tmp_path / "server.log").read_text(encoding="utf-8").splitlines()
    assert SOURCE_LINES <= len(lines) <= SOURCE_LINES + 5
