"""What the page /talk asks before it is a device: where to connect, and the token for its pair of ids.

The page makes both ids itself and keeps them: a MAC address of its own (locally administered, so no maker's device can
have it) and a UUID. Whoever may use the console may let a browser in, from wherever the console may be used."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from flask import Blueprint, Response, jsonify
from werkzeug.exceptions import BadRequest

from xiaozhi.devices.enrolment import Asker
from xiaozhi.errors import AuthError
from xiaozhi.protocol.device_id import is_mac, normal_device_id
from xiaozhi.web.addresses import VISION_PATH, ServerAddresses
from xiaozhi.web.app import failure, read_body, request_origin
from xiaozhi.web.console.access import ConsoleAccess, current_visitor, guard
from xiaozhi.web.console.audit import AuditTrail

MAX_BODY_BYTES: Final = 4096
CONFLICT: Final = 409


@dataclass(frozen=True, slots=True)
class BrowserPass:
    """What a browser is let in with. `new`: it was not enrolled before."""

    token: str
    new: bool


@dataclass(frozen=True, slots=True)
class TalkHooks:
    """Decisions made elsewhere. `admit` blocks for the database; raises AuthError with the reason, StorageError,
    Overloaded. `about`: what the page may say of the assistant: `basic`, the kinds of providers that are still the
    offline default, and `sees`, whether pictures can be looked at."""

    addresses: ServerAddresses
    admit: Callable[[Asker], BrowserPass]
    about: Callable[[], Mapping[str, Any]]


def create_blueprint(hooks: TalkHooks, access: ConsoleAccess, audit: AuditTrail) -> Blueprint:
    """The route /console/api/talk."""
    blueprint = Blueprint("console_talk", __name__)
    blueprint.before_request(guard(access))

    def admit() -> Response:
        device, client = _ids(read_body(MAX_BODY_BYTES))
        origin = request_origin()
        asker = Asker(device, client, origin.client_ip, at_home=origin.sure, seems_at_home=origin.seems_at_home)
        try:
            granted = hooks.admit(asker)
        except AuthError as error:
            # Not 401, which is about the console: this visitor is logged in.
            return failure(CONFLICT, str(error))
        if granted.new:
            audit.note("let a browser talk", who=current_visitor().who, device=device)
        urls = hooks.addresses.websocket_urls(origin)
        return jsonify({"urls": urls, "token": granted.token, "vision": VISION_PATH, **hooks.about()})

    blueprint.add_url_rule("/console/api/talk", "admit", admit, methods=["POST"])
    return blueprint


def _ids(body: bytes) -> tuple[str, str]:
    """(device id, client id). Raises BadRequest."""
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        asked = None
    device, client = (asked.get("device_id"), asked.get("client_id")) if isinstance(asked, dict) else (None, None)
    if not isinstance(device, str) or not isinstance(client, str):
        raise BadRequest('The body must be {"device_id": "...", "client_id": "..."}.')
    device = normal_device_id(device)
    if not is_mac(device) or int(device[:2], 16) & 3 != 2:
        raise BadRequest("A browser's device id must be a locally administered MAC address, such as 02:00:00:12:34:56.")
    try:
        return device, str(uuid.UUID(client))
    except ValueError:
        raise BadRequest("A browser's client id must be a UUID.") from None
