"""Structured logging: one logger per module, key=value context in every greenlet, nothing secret and nothing said.

Events have short constant names; everything else is a field. On a terminal they are lines for people, in the file they
are JSON lines. Context (session, device, turn, trace) is bound once with `bind_context` and follows into every greenlet
that `runtime/tasks.py` spawns.

Not a metrics sink, and never called from pool threads: the handlers hold patched locks. Several processes must not
share a log file: whoever rotates it takes it away from the others.

What comes from outside can neither act on a terminal nor fill the disk (`log_bounds.py`). Redaction (`redaction.py`)
happens last and by key, so that no caller can forget it: secrets always, speech and texts
unless `log.content`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import structlog

from xiaozhi.runtime.log_bounds import LineRates, printable_fields, printable_json
from xiaozhi.runtime.log_view import LogTap
from xiaozhi.runtime.log_writer import FLUSH_S, LogThread, LogWriter, RotatingFile, Stream
from xiaozhi.runtime.redaction import HIDDEN, Redaction

MAX_BYTES = 10_485_760
BACKUPS = 5
NOISY = ("urllib3", "geventwebsocket", "werkzeug")
"""Libraries that tell every step they take."""

redaction = Redaction()
tap = LogTap()
"""For whoever looks at new lines; as on disk."""
_processors: list[Any] = []
"""One list for good: a logger that has been used holds it, and is to follow what is configured later."""
_handlers: list[logging.Handler] = []
_levels: list[str] = []
_threads: list[LogThread] = []
"""The one in force, or none."""
_files: list[Path] = []
"""Likewise."""


def get_logger(name: str) -> Any:
    """The logger of a module: `get_logger(__name__).info("event", key=value)`."""
    return structlog.get_logger(name)


def bind_context(**fields: object) -> None:
    """Add fields to every line this greenlet (and those it spawns from now on) writes."""
    structlog.contextvars.bind_contextvars(**fields)


def configure(
    *,
    level: str = "INFO",
    levels: Mapping[str, str] | None = None,
    directory: Path | None = None,
    file_name: str = "server.log",
    max_bytes: int = MAX_BYTES,
    backups: int = BACKUPS,
    show_content: bool = False,
    json_console: bool = False,
) -> None:
    """Set up, by the composition root; again on a reload, which takes back what was set before. `levels` maps module
    names to levels. `directory` None: no file; otherwise one of at most `max_bytes` bytes (0: never rotated) and
    `backups` older ones beside it.

    Raises OSError when the directory or the file cannot be written; what was set before then stays."""
    rotating = _rotating(directory / file_name, max_bytes, backups) if directory is not None else None
    redaction.show_content = show_content
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%S.%f%z", utc=False),
    ]
    _processors[:] = [
        structlog.stdlib.filter_by_level,
        *shared,
        LineRates(),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redaction,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ]
    structlog.configure(
        processors=_processors,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    thread = LogThread()
    # A terminal is read; a pipe may not be, and would stop the hub when it is full.
    console: logging.Handler = (
        logging.StreamHandler(sys.stderr) if sys.stderr.isatty() else LogWriter(Stream(sys.stderr), thread)
    )
    for_people = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0, sort_keys=False)
    shown = (_for_machines(),) if json_console else (_shortened, printable_fields, for_people)
    console.setFormatter(_formatter(shared, *shown))
    file = LogWriter(rotating, thread) if rotating is not None else None
    if file is not None:
        file.setFormatter(_formatter(shared, _for_machines()))
    root = logging.getLogger()
    _forget()
    _threads.append(thread)
    for handler in (console, file):
        if handler is not None:
            _handlers.append(handler)
            root.addHandler(handler)
    tap.setFormatter(_formatter(shared, _for_machines()))
    root.addHandler(tap)
    if directory is not None:
        _files.append(directory / file_name)
    root.setLevel(level.upper())
    for name, own in (dict.fromkeys(NOISY, "WARNING") | dict(levels or {})).items():
        logging.getLogger(name).setLevel(own.upper())
        _levels.append(name)


def flush(seconds: float = FLUSH_S) -> None:
    """Wait until the lines so far have been written; at most `seconds`."""
    for thread in _threads:
        thread.flush(seconds)


def log_file() -> Path | None:
    """The file that lines go into, None for none."""
    return _files[-1] if _files else None


def dropped() -> int:
    """Lines for which the writing thread had no room, since logging was configured."""
    return sum(thread.dropped for thread in _threads)


def shut_down() -> None:
    """Take back what `configure` did and close the file. Idempotent."""
    _forget()
    redaction.show_content = False
    structlog.reset_defaults()
    _processors[:] = structlog.get_config()["processors"]
    structlog.configure(processors=_processors)


def _forget() -> None:
    root = logging.getLogger()
    while _handlers:
        handler = _handlers.pop()
        root.removeHandler(handler)
        handler.close()
    root.removeHandler(tap)
    _files.clear()
    while _threads:
        _threads.pop().close()
    while _levels:
        logging.getLogger(_levels.pop()).setLevel(logging.NOTSET)


def _rotating(path: Path, max_bytes: int, backups: int) -> RotatingFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    return RotatingFile(path, max_bytes, backups)


def _formatter(shared: list[Any], *last: Any) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), structlog.processors.format_exc_info, redaction],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def _shortened(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """For a terminal: the time without the date, the module without its room, whose line it is at the end, nothing of
    hidden texts, no parts that are zero. The file has everything."""
    event["timestamp"] = event["timestamp"][11:23]
    event["logger"] = event["logger"].rpartition(".")[2]
    for name, value in list(event.items()):
        if isinstance(value, dict) and all(type(amount) is int for amount in value.values()):
            event[name] = ", ".join(f"{part} {amount}" for part, amount in value.items() if amount)
        elif isinstance(value, str) and HIDDEN.fullmatch(value):
            del event[name]
    if "device" in event:
        event.pop("session", None)
        event.pop("trace", None)
        for name in ("device", "turn"):
            if name in event:
                event[name] = event.pop(name)
    return event


def _for_machines() -> Any:
    return structlog.processors.JSONRenderer(serializer=_json)


def _json(event: Any, default: Any = None, **_: Any) -> str:
    try:
        return printable_json(orjson.dumps(event, default=default, option=orjson.OPT_NON_STR_KEYS).decode())
    except (orjson.JSONEncodeError, UnicodeEncodeError):
        # Half a surrogate pair, or a number beyond 64 bits: a line that looks odd is better than no line.
        return printable_json(orjson.dumps({key: _mended(value) for key, value in event.items()}).decode())


def _mended(value: Any) -> str:
    return (value if isinstance(value, str) else repr(value)).encode("utf-8", "replace").decode()
