"""What the logs page asks: the last lines of this worker's log file, filtered; new ones come by the live topic `logs`.
All as on disk, redaction included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest

from xiaozhi.runtime.log_view import LEVELS, LineFilter
from xiaozhi.web.console.access import ConsoleAccess, guard

TOPIC: Final = "logs"
MAX_LINES: Final = 500
MAX_FILTER_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class LogHooks:
    """`lines(filter, count)` gives the lines, oldest first, and whether there are more. `about`: which file, how much
    is written, where traces go."""

    lines: Callable[[LineFilter, int], tuple[list[dict[str, Any]], bool]]
    about: Callable[[], Mapping[str, Any]]


def create_blueprint(hooks: LogHooks, access: ConsoleAccess) -> Blueprint:
    """The route /console/api/logs."""
    blueprint = Blueprint("console_logs", __name__)
    blueprint.before_request(guard(access))

    def logs() -> Response:
        asked = {name: request.args.get(name, "") for name in ("level", "device", "id", "text", "before")}
        if any(len(value) > MAX_FILTER_CHARS for value in asked.values()):
            raise BadRequest(f"Filters have at most {MAX_FILTER_CHARS} characters.")
        if asked["level"] not in ("", *LEVELS):
            raise BadRequest(f"level must be one of {', '.join(LEVELS)}.")
        count = min(MAX_LINES, max(1, request.args.get("count", 200, int)))
        lines, more = hooks.lines(LineFilter(**asked), count)
        return jsonify({"lines": lines, "more": more, **hooks.about()})

    blueprint.add_url_rule("/console/api/logs", "logs", logs, methods=["GET"])
    return blueprint
