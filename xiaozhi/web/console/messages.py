"""What the page "Device" asks about a device's messages: which there are and what has become of them, and that one be
cancelled."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, jsonify
from werkzeug.exceptions import Conflict, NotFound

from xiaozhi.devices.message_queue import MessageQueue
from xiaozhi.protocol.device_id import checked_device_id
from xiaozhi.web.console.access import ConsoleAccess, current_visitor, guard
from xiaozhi.web.console.audit import AuditTrail
from xiaozhi.web.faults import tell_faults
from xiaozhi.web.messages import described

MAX_SHOWN: Final = 50


def create_blueprint(queue: MessageQueue, access: ConsoleAccess, audit: AuditTrail) -> Blueprint:
    """The routes under /console/api/devices/<id>/messages."""
    blueprint = Blueprint("console_messages", __name__)
    blueprint.before_request(guard(access))
    tell_faults(blueprint)

    def show(device: str) -> Response:
        kept = queue.page(device=checked_device_id(device), only_open=False, limit=MAX_SHOWN)
        return jsonify({"messages": [described(message) for message in kept]})

    def cancel(device: str, message: str) -> Response:
        name, kept = checked_device_id(device), queue.of(message)
        if kept is None or kept.device != name:
            raise NotFound("This device has no such message.")
        if not queue.cancel(message):
            raise Conflict("This message does not wait any more.")
        audit.note("message cancelled", who=current_visitor().who, device=name)
        return jsonify({"success": True})

    path = "/console/api/devices/<device>/messages"
    blueprint.add_url_rule(path, "show", show, methods=["GET"])
    blueprint.add_url_rule(f"{path}/<message>/cancel", "cancel", cancel, methods=["POST"])
    return blueprint
