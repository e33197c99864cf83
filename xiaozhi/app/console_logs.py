"""What the logs page is given: the end of this worker's log file, new lines while somebody looks, where traces go."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from xiaozhi.runtime import logs
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.log_view import LineFilter, last_lines
from xiaozhi.runtime.tracing import ENDPOINTS
from xiaozhi.settings import Settings
from xiaozhi.settings.masking import mask_text
from xiaozhi.web.console.live import LiveFeed
from xiaozhi.web.console.logs import TOPIC, LogHooks

READ_S: Final = 20.0


def log_hooks(inference: InferencePool, current: Callable[[], Settings]) -> LogHooks:
    """`current`: the settings in force."""

    def lines(wanted: LineFilter, count: int) -> tuple[list[dict[str, Any]], bool]:
        path = logs.log_file()
        if path is None:
            return [], False
        logs.flush()
        found: tuple[list[dict[str, Any]], bool] = inference.run(
            last_lines, path, wanted, count, kind="other", deadline=READ_S
        )
        return found

    def about() -> Mapping[str, Any]:
        path, settings = logs.log_file(), current().log
        endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "")
        return {
            "file": str(path) if path is not None else "",
            "level": settings.log_level,
            "content": settings.content,
            "traces_to": mask_text(endpoint),
        }

    return LogHooks(lines, about)


def tell_lines(feed: LiveFeed) -> None:
    """New lines become events of `feed` while a page wants them."""
    feed.topic(TOPIC)
    logs.tap.wanted = lambda: feed.wanted(TOPIC)
    logs.tap.take = lambda line: feed.publish(TOPIC, orjson.loads(line))
