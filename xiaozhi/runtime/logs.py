"""Structured logging: one logger per module, key=value context in every greenlet, nothing secret and nothing said.

Events have short constant names; everything else is a field. On a terminal they are lines for people, in the file they are JSON lines.
Context (session, device, turn, trace) is bound once with `bind_context` and follows into every greenlet that `runtime/tasks.py` spawns.

Not a metrics sink, and never called from pool threads: the handlers hold patched locks.

Redaction happens last and by key, so that no caller can forget it: secrets always, speech and texts unless `log.content` is true.
"""

from __future__ import annotations

import logging
import logging.handlers
import re
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import structlog

_SECRET = re.compile(r"(secret|token|password|passwd|api_?key|authorization|cookie|credential|signature)", re.IGNORECASE)
_CONTENT = frozenset(
    {"text", "said", "content", "question", "answer", "transcript", "prompt", "sentence", "messages", "arguments", "payload"}
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}|\bsk-[A-Za-z0-9_-]{8,}")
MASK = "***"
FILE_BYTES = 20 * 1024 * 1024
FILES_KEPT = 5

_show_content = False


def get_logger(name: str) -> Any:
    """The logger of a module: `get_logger(__name__).info("event", key=value)`."""
    return structlog.get_logger(name)


def bind_context(**fields: object) -> None:
    """Add fields to every line this greenlet (and those it spawns from now on) writes."""
    structlog.contextvars.bind_contextvars(**fields)


def unbind_context(*names: str) -> None:
    """Remove fields from this greenlet's lines."""
    structlog.contextvars.unbind_contextvars(*names)


def configure(
    *,
    level: str = "INFO",
    levels: Mapping[str, str] | None = None,
    directory: Path | None = None,
    file_name: str = "server.log",
    show_content: bool = False,
    json_console: bool = False,
) -> None:
    """Set up once, by the composition root (and again on a reload). `levels` maps module names to levels."""
    global _show_content
    _show_content = show_content
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=False),
        structlog.stdlib.ExtraAdder(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared[:-1],
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            redact,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    colors = sys.stderr.isatty()
    for_people = structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=24)
    for_machines = structlog.processors.JSONRenderer(ensure_ascii=False)
    root = logging.getLogger()
    for handler in list(root.handlers):
        if getattr(handler, "_xiaozhi", False):
            root.removeHandler(handler)
            handler.close()
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(_formatter(shared, for_machines if json_console else for_people))
    _install(root, console)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        file = logging.handlers.RotatingFileHandler(
            directory / file_name, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8", delay=True
        )
        file.setFormatter(_formatter(shared, for_machines))
        _install(root, file)
    root.setLevel(level.upper())
    for noisy in ("urllib3", "geventwebsocket", "werkzeug"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for name, own in (levels or {}).items():
        logging.getLogger(name).setLevel(own.upper())


def _formatter(shared: list[Any], renderer: Any) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.processors.format_exc_info, redact],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


def _install(root: logging.Logger, handler: logging.Handler) -> None:
    handler._xiaozhi = True  # type: ignore[attr-defined]
    root.addHandler(handler)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """structlog processor: mask secrets by key and by shape, and replace what was said by its length."""
    for key, value in event.items():
        if key in ("event", "level", "logger", "timestamp", "session", "device", "turn", "trace"):
            continue
        if _SECRET.search(key):
            event[key] = MASK
        elif key in _CONTENT and not _show_content:
            event[key] = f"<{len(value)} chars>" if isinstance(value, str) else f"<{type(value).__name__}>"
        elif isinstance(value, str):
            event[key] = _BEARER.sub(MASK, value)
        elif isinstance(value, dict):
            event[key] = {inner: MASK if _SECRET.search(str(inner)) else item for inner, item in value.items()}
    if isinstance(event.get("event"), str):
        event["event"] = _BEARER.sub(MASK, event["event"])
    return event
