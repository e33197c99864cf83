"""What is written, where, and what is never written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import gevent
import orjson
import pytest
import structlog

from xiaozhi.runtime import logs, tasks
from xiaozhi.runtime.redaction import MASK, Redaction, scrub

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    logs.shut_down()
    structlog.contextvars.clear_contextvars()
    root.setLevel(level)
    assert root.handlers == handlers


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    """Configures; returns a function that reads what stands in the file."""
    logs.configure(directory=tmp_path)
    return lambda: read(tmp_path / "server.log")


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a log file."""
    logs.flush()
    return [orjson.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_used_logger_follows_what_is_configured_later(tmp_path: Path) -> None:
    logger = logs.get_logger("xiaozhi.here")
    for number in range(2):
        logs.configure(directory=tmp_path / str(number))
        logger.info("heard")
    logs.shut_down()

    with structlog.testing.capture_logs() as seen:
        logger.warning("after", device="aa:bb")

    assert seen == [{"event": "after", "device": "aa:bb", "log_level": "warning"}]
    assert [len((tmp_path / name / "server.log").read_text().splitlines()) for name in "01"] == [1, 1]


def test_the_file_has_one_json_object_per_line(lines: Lines) -> None:
    logs.get_logger("xiaozhi.here").info("connected", device="aa:bb", seconds=0.25, 说="好")

    [line] = lines()

    assert datetime.strptime(line.pop("timestamp"), "%Y-%m-%dT%H:%M:%S.%f%z").tzinfo is not None
    assert line == {
        "event": "connected",
        "level": "info",
        "logger": "xiaozhi.here",
        "device": "aa:bb",
        "seconds": 0.25,
        "说": "好",
    }


def test_the_terminal_has_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logs.get_logger("xiaozhi.here").warning("breaker", vendor="llm:acme", state="open")

    logs.flush()
    written = capsys.readouterr().err

    assert "breaker" in written
    assert "vendor=llm:acme" in written
    assert not written.startswith("{")


def test_the_terminal_has_json_where_containers_want_it(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json_console=True)
    logs.get_logger("xiaozhi.here").warning("breaker", vendor="llm:acme")

    logs.flush()
    assert orjson.loads(capsys.readouterr().err)["vendor"] == "llm:acme"


def test_lines_of_libraries_look_the_same(lines: Lines) -> None:
    logging.getLogger("some.library").error("%d of %s", 3, "sorts", extra={"api_key": "x", "vendor": "acme"})

    [line] = lines()

    assert line["event"] == "3 of sorts"
    assert line["logger"] == "some.library"
    assert line["vendor"] == "acme"
    assert line["api_key"] == MASK


def test_an_exception_is_written_with_its_traceback(lines: Lines) -> None:
    try:
        raise ValueError("bad Authorization: Bearer abcdef123456789")
    except ValueError:
        logs.get_logger("xiaozhi.here").exception("failed")

    [line] = lines()

    assert "Traceback" in line["exception"]
    assert "ValueError" in line["exception"]
    assert "abcdef123456789" not in line["exception"]


@pytest.mark.parametrize("odd", [object(), {1: 2}, b"\x00\x01", 2**80, float("nan"), "\ud83d", Path("/x"), {3, 1}])
def test_no_field_is_too_odd_to_be_written(lines: Lines, odd: object) -> None:
    logs.get_logger("xiaozhi.here").info("odd", value=odd)

    assert lines()[0]["event"] == "odd"


def test_levels_by_module(tmp_path: Path) -> None:
    logs.configure(
        directory=tmp_path,
        level="warning",
        levels={"xiaozhi.session": "debug", "xiaozhi.session.speaking.outbox": "error"},
    )
    for name in ("xiaozhi.web.ota", "xiaozhi.session.turns.turn", "xiaozhi.session.speaking.outbox"):
        logs.get_logger(name).info("hello")
        logs.get_logger(name).error("trouble")

    written = [(line["logger"], line["event"]) for line in read(tmp_path / "server.log")]

    assert written == [
        ("xiaozhi.web.ota", "trouble"),
        ("xiaozhi.session.turns.turn", "hello"),
        ("xiaozhi.session.turns.turn", "trouble"),
        ("xiaozhi.session.speaking.outbox", "trouble"),
    ]


def test_talkative_libraries_are_kept_quiet_unless_asked(tmp_path: Path) -> None:
    logs.configure(directory=tmp_path, level="DEBUG")
    logging.getLogger("urllib3.connectionpool").info("Starting new HTTPS connection")
    logs.configure(directory=tmp_path, level="DEBUG", levels={"urllib3": "DEBUG"})
    logging.getLogger("urllib3.connectionpool").info("Resetting dropped connection")

    assert [line["event"] for line in read(tmp_path / "server.log")] == ["Resetting dropped connection"]


def test_a_reload_takes_back_what_was_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(directory=tmp_path, levels={"xiaozhi.session": "DEBUG"}, show_content=True)
    log = logs.get_logger("xiaozhi.session.turns.turn")
    log.debug("first", text="hello")

    logs.configure(directory=tmp_path)
    log.debug("second")
    log.info("third", text="hello")

    assert [(line["event"], line.get("text")) for line in read(tmp_path / "server.log")] == [
        ("first", "hello"),
        ("third", "<5 chars>"),
    ]
    logs.flush()
    assert capsys.readouterr().err.count("third") == 1


def test_the_file_is_rotated_at_its_size(tmp_path: Path) -> None:
    logs.configure(directory=tmp_path, file_name="worker-1.log", max_bytes=2000, backups=2)
    log = logs.get_logger("xiaozhi.here")
    for number in range(100):
        log.info("line", number=number)

    logs.flush()
    files = sorted(tmp_path.iterdir())

    assert [path.name for path in files] == ["worker-1.log", "worker-1.log.1", "worker-1.log.2"]
    assert all(path.stat().st_size <= 2000 for path in files)
    assert read(tmp_path / "worker-1.log")[-1]["number"] == 99


def test_a_directory_that_cannot_be_written_is_told_and_changes_nothing(tmp_path: Path) -> None:
    logs.configure(directory=tmp_path)
    (tmp_path / "file").touch()

    with pytest.raises(OSError, match="file"):
        logs.configure(directory=tmp_path / "file" / "logs", level="CRITICAL")
    logs.get_logger("xiaozhi.here").info("still here")

    assert [line["event"] for line in read(tmp_path / "server.log")] == ["still here"]


def test_context_follows_into_greenlets_and_not_into_others(lines: Lines) -> None:
    log = logs.get_logger("xiaozhi.here")

    def visit(session: str) -> None:
        logs.bind_context(session=session, device="d" + session)
        logs.bind_context(turn=1, trace="ab" * 16)
        tasks.spawn("speaker", log.info, "spoken").join()

    gevent.joinall([tasks.spawn("visit", visit, name) for name in ("1", "2")])
    log.info("outside")

    written = [(line["event"], line.get("session"), line.get("turn"), line.get("trace")) for line in lines()]
    assert sorted(written, key=str) == sorted(
        [
            ("spoken", "1", 1, "ab" * 16),
            ("spoken", "2", 1, "ab" * 16),
            ("outside", None, None, None),
        ],
        key=str,
    )


# --- redaction ------------------------------------------------------------------------------------------------------


def cleaned(redaction: Redaction | None = None, **fields: Any) -> dict[str, Any]:
    """The fields as they would be written."""
    return dict((redaction or Redaction())(None, "info", {"event": "x", **fields}))


@pytest.mark.parametrize(
    "key",
    [
        "api_key",
        "apikey",
        "API-Key",
        "secret",
        "client_secret",
        "token",
        "access_token",
        "password",
        "Authorization",
        "cookie",
        "auth_key",
    ],
)
def test_secrets_by_key(key: str) -> None:
    assert cleaned(**{key: "abc"})[key] == MASK
    assert cleaned(headers={key: "abc"})["headers"] == {key: MASK}
    assert cleaned(faults=[{"block": {key: 17}}])["faults"] == [{"block": {key: MASK}}]


def test_numbers_of_tokens_are_no_secret() -> None:
    assert cleaned(prompt_tokens=312, tokens=3, token="3") == {
        "event": "x",
        "prompt_tokens": 312,
        "tokens": 3,
        "token": MASK,
    }


@pytest.mark.parametrize(
    "key", ["text", "question", "answer", "transcript", "prompt", "arguments", "payload", "content"]
)
def test_what_is_said_by_key(key: str) -> None:
    assert cleaned(**{key: "你好"})[key] == "<2 chars>"
    assert cleaned(**{key: {"a": 1}})[key] == "<dict>"
    assert cleaned(call={key: "hello"})["call"] == {key: "<5 chars>"}


def test_what_is_said_may_be_shown_but_secrets_never() -> None:
    shown = cleaned(Redaction(show_content=True), text="hello", token="abc", arguments={"city": "Bonn", "api_key": "k"})

    assert shown == {"event": "x", "text": "hello", "token": MASK, "arguments": {"city": "Bonn", "api_key": MASK}}


@pytest.mark.parametrize(
    "text,secret",
    [
        ("Authorization: Bearer eyJhbGciOi.abc-123", "eyJhbGciOi"),
        ("refused key sk-abcdefgh12345678", "abcdefgh"),
        ("GET https://a.example/x?token=s3cret&v=1", "s3cret"),
        ("ws://a.example/mcp/?authorization=s3cret", "s3cret"),
        ("see https://me:s3cret@a.example/", "s3cret"),
        ("https://a.example/?x=1&api_key=s3cret'", "s3cret"),
    ],
)
def test_secrets_by_shape(text: str, secret: str) -> None:
    assert secret not in scrub(text)
    assert MASK in scrub(text)
    assert secret not in cleaned(reason=text)["reason"]
    assert secret not in cleaned(errors=[ValueError(text)])["errors"][0]
    assert secret not in Redaction()(None, "info", {"event": text})["event"]


@pytest.mark.parametrize(
    "text", ["GET https://a.example/x?v=1", "basic idea", "device 02:00:00:00:00:01", "tokens: 3", "sky-blue"]
)
def test_harmless_text_stays(text: str) -> None:
    assert scrub(text) == text


def test_sound_is_never_written() -> None:
    assert cleaned(frame=b"\x00" * 120, frames=[bytearray(3)]) == {
        "event": "x",
        "frame": "<120 bytes>",
        "frames": ["<3 bytes>"],
    }


def test_a_structure_that_contains_itself_ends() -> None:
    circle: list[Any] = []
    circle.append(circle)

    assert "<list>" in str(cleaned(circle=circle)["circle"])
