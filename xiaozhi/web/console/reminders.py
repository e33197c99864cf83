"""What the page "Device" asks about a device's reminders: which there are, and that one be cancelled."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify
from werkzeug.exceptions import NotFound

from xiaozhi.protocol.device_id import checked_device_id
from xiaozhi.reminders.book import ReminderBook
from xiaozhi.web.console.access import ConsoleAccess, current_visitor, guard
from xiaozhi.web.console.audit import AuditTrail
from xiaozhi.web.faults import tell_faults
from xiaozhi.web.reminders import reminders_of


def create_blueprint(book: ReminderBook, access: ConsoleAccess, audit: AuditTrail) -> Blueprint:
    """The routes under /console/api/devices/<id>/reminders."""
    blueprint = Blueprint("console_reminders", __name__)
    blueprint.before_request(guard(access))
    tell_faults(blueprint)

    def show(device: str) -> Response:
        return jsonify({"reminders": reminders_of(book, checked_device_id(device))})

    def cancel(device: str, reminder: str) -> Response:
        name = checked_device_id(device)
        if not book.cancel(name, [reminder]):
            raise NotFound("This device has no such reminder.")
        audit.note("reminder cancelled", who=current_visitor().who, device=name)
        return jsonify({"success": True})

    path = "/console/api/devices/<device>/reminders"
    blueprint.add_url_rule(path, "show", show, methods=["GET"])
    blueprint.add_url_rule(f"{path}/<reminder>/cancel", "cancel", cancel, methods=["POST"])
    return blueprint
