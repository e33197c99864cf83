"""What the page "Device" asks about the voices of people: whose it knows, and that one be erased."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, jsonify
from werkzeug.exceptions import BadRequest, NotFound

from xiaozhi.devices.directory import DeviceDirectory
from xiaozhi.protocol.device_id import checked_device_id
from xiaozhi.web.app import read_object
from xiaozhi.web.console.access import ConsoleAccess, current_visitor, guard
from xiaozhi.web.console.audit import AuditTrail
from xiaozhi.web.faults import tell_faults

MAX_BODY_BYTES: Final = 4096


def create_blueprint(directory: DeviceDirectory, access: ConsoleAccess, audit: AuditTrail) -> Blueprint:
    """The routes under /console/api/devices/<id>/voices."""
    blueprint = Blueprint("console_voices", __name__)
    blueprint.before_request(guard(access))
    tell_faults(blueprint)

    def show(device: str) -> Response:
        kept = directory.voices_of(checked_device_id(device))
        return jsonify(
            {
                "voices": [
                    {
                        "owner": each.owner,
                        "person": each.known.name,
                        "seconds": each.known.sample.seconds,
                        "made_at": each.made_at,
                    }
                    for each in kept
                ]
            }
        )

    def forget(device: str) -> Response:
        name, asked = checked_device_id(device), read_object(MAX_BODY_BYTES)
        owner, person = asked.get("owner"), asked.get("person")
        if not isinstance(owner, str) or not isinstance(person, str):
            raise BadRequest('The body must be {"owner": "...", "person": "..."}.')
        if not directory.forget_voice(name, owner, person):
            raise NotFound("The voice of this person is not kept (any more).")
        audit.note("voice erased", who=current_visitor().who, device=name)
        return jsonify({"success": True})

    path = "/console/api/devices/<device>/voices"
    blueprint.add_url_rule(path, "show", show, methods=["GET"])
    blueprint.add_url_rule(path, "forget", forget, methods=["DELETE"])
    return blueprint
