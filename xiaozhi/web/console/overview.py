"""How the server is: the figures of the overview once, for whoever cannot listen to the topic `overview` of the live
events, which carries the same every few seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from flask import Blueprint, Response, jsonify

from xiaozhi.web.console.access import ConsoleAccess, guard

TOPIC: Final = "overview"
EVERY_S: Final = 2.0


def create_blueprint(access: ConsoleAccess, sample: Callable[[], Mapping[str, Any]]) -> Blueprint:
    """The route /console/api/overview. `sample`: quick, gives what JSON can say."""
    blueprint = Blueprint("console_overview", __name__)
    blueprint.before_request(guard(access))

    def overview() -> Response:
        return jsonify(sample())

    blueprint.add_url_rule("/console/api/overview", "overview", overview, methods=["GET"])
    return blueprint
