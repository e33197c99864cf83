"""Logging in and out, and what every page asks first: who am I, and what is this server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from flask import Blueprint, Response, jsonify
from werkzeug.exceptions import BadRequest

from xiaozhi.errors import AuthError
from xiaozhi.web.app import read_body
from xiaozhi.web.console.access import ConsoleAccess
from xiaozhi.web.console.audit import AuditTrail

MAX_BODY_BYTES: Final = 4096


def create_blueprint(access: ConsoleAccess, audit: AuditTrail, about: Callable[[], Mapping[str, Any]]) -> Blueprint:
    """The routes under /console/api/session. `about`: what a page shows of the server before anything else."""
    desk = _Desk(access, audit, about)
    blueprint = Blueprint("console_session", __name__)
    blueprint.add_url_rule("/console/api/session", "look", desk.look, methods=["GET"])
    blueprint.add_url_rule("/console/api/session", "log_in", desk.log_in, methods=["POST"])
    blueprint.add_url_rule("/console/api/session", "log_out", desk.log_out, methods=["DELETE"])
    return blueprint


class _Desk:
    def __init__(self, access: ConsoleAccess, audit: AuditTrail, about: Callable[[], Mapping[str, Any]]) -> None:
        self._access = access
        self._audit = audit
        self._about = about

    def look(self) -> Response:
        """Who the visitor is; whoever needs no password gets a session."""
        try:
            visitor = self._access.visitor()
        except AuthError:
            return jsonify({"logged_in": False})
        response = jsonify({})
        csrf = visitor.csrf or self._access.begin(response, visitor.who)
        response.set_data(orjson.dumps({"logged_in": True, "who": visitor.who, "csrf": csrf, **self._about()}))
        return response

    def log_in(self) -> Response:
        """Raises AuthError, LockedOut, Forbidden, BadRequest."""
        try:
            asked = orjson.loads(read_body(MAX_BODY_BYTES))
        except orjson.JSONDecodeError:
            asked = None
        password = asked.get("password") if isinstance(asked, dict) else None
        if not isinstance(password, str):
            raise BadRequest('The body must be {"password": "..."}.')
        who = self._access.log_in(password)
        self._audit.note("logged in", who=who)
        response = jsonify({})
        csrf = self._access.begin(response, who)
        response.set_data(orjson.dumps({"logged_in": True, "who": who, "csrf": csrf, **self._about()}))
        return response

    def log_out(self) -> Response:
        """End the session of this browser. Raises AuthError, Forbidden."""
        self._access.visitor()
        response = jsonify({"logged_in": False})
        self._access.end(response)
        return response
