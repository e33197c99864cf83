"""What operators' tools ask about devices and decide about them: the addresses under /admin/devices/, which do the same
as the commands `server.py devices ...`.

Not where it is decided (`devices/directory.py`), and not for devices. Whether settings can be used is asked of the
composition root. `GET /admin/devices`, the list of connections by cost, is in `ops.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, jsonify
from werkzeug.exceptions import BadRequest

from xiaozhi.devices.directory import DeviceDirectory
from xiaozhi.devices.lines import Lines
from xiaozhi.protocol.device_id import checked_device_id
from xiaozhi.settings.masking import mask_tree
from xiaozhi.storage.devices import DeviceRecord
from xiaozhi.web.admin_access import AdminAccess
from xiaozhi.web.app import read_object
from xiaozhi.web.device_line import described_line
from xiaozhi.web.faults import tell_faults

MAX_BODY_BYTES = 256 * 1024
SHAPE = 'The body must be {"set": {"tts.voice": "anna"}, "unset": ["prompt"]}; either may be left out.'
WHAT = "administration of devices"


@dataclass(frozen=True, slots=True)
class DeviceHooks:
    """Where the answers come from; all of it may block for the database."""

    directory: DeviceDirectory
    change_settings: Callable[[str, Mapping[str, Any], tuple[str, ...]], Mapping[str, Any]]
    """(device id, values by dotted key, dotted keys to remove) -> the device's own settings now. Raises SettingsError
    with every fault, StorageError."""
    lines: Lines
    look: Callable[[], None] = lambda: None
    """Put what was decided into force at once, in this process."""


def create_blueprint(hooks: DeviceHooks, access: AdminAccess) -> Blueprint:
    """The routes under /admin/devices/."""
    desk = _Desk(hooks, access)
    blueprint = Blueprint("devices", __name__)
    tell_faults(blueprint)
    for path, name, view, method in (
        ("known", "known", desk.known, "GET"),
        ("approve", "approve", desk.approve, "POST"),
        ("<device_id>", "show", desk.show, "GET"),
        ("<device_id>/line", "line", desk.line, "GET"),
        ("<device_id>/settings", "settings", desk.change, "PATCH"),
        ("<device_id>/revoke", "revoke", desk.revoke, "POST"),
        ("<device_id>/forget", "forget", desk.forget, "POST"),
    ):
        blueprint.add_url_rule(f"/admin/devices/{path}", name, view, methods=[method])
    return blueprint


def described(record: DeviceRecord) -> dict[str, Any]:
    """A record for people and their tools, secrets masked."""
    return {
        "device": record.device,
        "online": bool(record.workers or record.reached_by),
        "workers": list(record.workers),
        "reached_by": list(record.reached_by),
        "first_seen": record.first_seen,
        "last_seen": record.last_seen,
        "report": dict(record.report or {}),
        "settings": mask_tree(dict(record.settings or {})),
        "enrolled": {
            "client": record.client,
            "how": record.how,
            "at": record.enrolled_at,
            "from": record.enrolled_from,
        }
        if record.client
        else None,
        "revoked": record.standing.revoked,
        "tokens_from": record.standing.tokens_from or None,
        "waiting": [
            {"code": code, "client": client, "from": address, "since": since}
            for code, client, address, since in record.waiting
        ],
    }


class _Desk:
    """Answers operators' tools."""

    def __init__(self, hooks: DeviceHooks, access: AdminAccess) -> None:
        self._hooks = hooks
        self._access = access

    def known(self) -> Response:
        """Every device that is known."""
        self._access.check(WHAT)
        return jsonify({"devices": [described(record) for record in self._hooks.directory.all()]})

    def show(self, device_id: str) -> Response:
        """One of them."""
        self._access.check(WHAT)
        return jsonify(described(self._hooks.directory.of(checked_device_id(device_id))))

    def line(self, device_id: str) -> Response:
        """How good its line is, and why not."""
        self._access.check(WHAT)
        return jsonify(described_line(self._hooks.lines, self._hooks.directory.of(checked_device_id(device_id))))

    def change(self, device_id: str) -> Response:
        """Set and unset settings of a device."""
        self._access.check(WHAT)
        values, removed = changes_of(read_object(MAX_BODY_BYTES))
        device = checked_device_id(device_id)
        settings = self._hooks.change_settings(device, values, tuple(removed))
        return jsonify({"success": True, "settings": mask_tree(dict(settings))})

    def revoke(self, device_id: str) -> Response:
        """A device may not talk any more."""
        self._access.check(WHAT)
        self._hooks.directory.revoke(checked_device_id(device_id))
        self._hooks.look()
        return jsonify({"success": True})

    def forget(self, device_id: str) -> Response:
        """A device is enrolled anew."""
        self._access.check(WHAT)
        known = self._hooks.directory.forget(checked_device_id(device_id))
        self._hooks.look()
        return jsonify({"success": True, "was_enrolled": known})

    def approve(self) -> Response:
        """Somebody who waits is let in."""
        self._access.check(WHAT)
        given = read_object(MAX_BODY_BYTES).get("code")
        if not isinstance(given, str) or not given.strip():
            raise BadRequest('The body must be {"code": "123456"}; the id of a device does as well.')
        done = self._hooks.directory.approve(given)
        self._hooks.look()
        return jsonify({"success": True, "message": done})


def changes_of(body: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What to set, by dotted key, and what to unset. Raises BadRequest."""
    values, removed = body.get("set", {}), body.get("unset", [])
    if (
        not isinstance(values, dict)
        or not isinstance(removed, list)
        or any(not isinstance(key, str) for key in removed)
    ):
        raise BadRequest(SHAPE)
    return values, removed
