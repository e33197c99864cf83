"""The reminders of a device, for operators' tools: the addresses under /admin/devices/<id>/reminders.

They are set by voice (`tools/plugins/reminders.py`); here they are listed and cancelled."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Blueprint, Response, jsonify
from werkzeug.exceptions import NotFound

from xiaozhi.protocol.device_id import checked_device_id
from xiaozhi.reminders.book import ReminderBook
from xiaozhi.reminders.wording import rule_words
from xiaozhi.web.admin_access import AdminAccess
from xiaozhi.web.faults import tell_faults

WHAT = "reminders of devices"


def create_blueprint(book: ReminderBook, access: AdminAccess) -> Blueprint:
    """The routes; both kinds block for the database."""
    blueprint = Blueprint("reminders", __name__)
    tell_faults(blueprint)

    def show(device_id: str) -> Response:
        access.check(WHAT)
        return jsonify({"reminders": reminders_of(book, checked_device_id(device_id))})

    def cancel(device_id: str, reminder: str = "") -> Response:
        access.check(WHAT)
        count = book.cancel(checked_device_id(device_id), [reminder] if reminder else None)
        if reminder and not count:
            raise NotFound("This device has no such reminder.")
        return jsonify({"success": True, "cancelled": count})

    path = "/admin/devices/<device_id>/reminders"
    blueprint.add_url_rule(path, "show", show, methods=["GET"])
    blueprint.add_url_rule(path, "cancel_all", cancel, methods=["DELETE"])
    blueprint.add_url_rule(f"{path}/<reminder>", "cancel", cancel, methods=["DELETE"])
    return blueprint


def reminders_of(book: ReminderBook, device: str) -> list[dict[str, Any]]:
    """Those that are still to come, the next one first. `due_at`, `set_at`: seconds since 1970; `repeats`: in words by
    language, "" for once. Blocks for the database."""
    zone = book.now().tzinfo
    told = []
    for row in book.coming(device):
        at = datetime.fromtimestamp(row.due_at, zone)
        repeats = {"en": "", "zh": ""}
        if row.rule:
            repeats = {language: rule_words(row.rule, at, chinese=language == "zh") for language in repeats}
        told.append(
            {
                "id": row.id,
                "kind": row.kind,
                "text": row.text,
                "due_at": row.due_at,
                "repeats": repeats,
                "set_at": row.created_at,
            }
        )
    return told
