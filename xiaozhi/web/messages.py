"""Messages for devices, for operators' tools: say, notify, alert, reboot; to one device, a group or all; and what has
become of them.

    POST /admin/devices/<id>/<verb>    POST /admin/groups/<name>/<verb>    POST /admin/devices/all/<verb>
    GET /admin/messages    GET /admin/messages/<id>    POST /admin/messages/<id>/cancel    GET /admin/groups

No device is called "all" (`protocol/device_id.py`). Not the queue (`devices/message_queue.py`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest, Conflict, NotFound

from xiaozhi.devices.directory import DeviceDirectory
from xiaozhi.devices.message_queue import MessageQueue
from xiaozhi.devices.messages import MAX_TEXT_CHARS, DeviceMessage, MessageKind, MessageResult, MessageState
from xiaozhi.protocol.device_id import EVERYONE, checked_device_id
from xiaozhi.storage.device_messages import StoredMessage
from xiaozhi.web.admin_access import AdminAccess
from xiaozhi.web.app import asked_number, read_object
from xiaozhi.web.faults import tell_faults

WHAT: Final = "messages for devices"
MAX_BODY_BYTES: Final = 64 * 1024
MAX_KEY_CHARS: Final = 200
MAX_TITLE_CHARS: Final = 80
MAX_EMOTION_CHARS: Final = 32
DEADLINE_S: Final = 3600.0
"""How long a message waits for its device unless the sender says otherwise."""
LONGEST_S: Final = 30 * 24 * 3600.0
LONGEST_WAIT_S: Final = 50.0
"""An answer has to begin within 60 s."""
MAX_LISTED: Final = 500
KEY_HEADER: Final = "Idempotency-Key"
_KNOWN: Final = ("text", "title", "emotion", "deadline_s", "wait_s", "interrupt", "in_quiet_hours", "late_text", "key")


@dataclass(frozen=True, slots=True)
class MessageHooks:
    """Where messages go; all of it blocks for the database."""

    queue: MessageQueue
    directory: DeviceDirectory
    groups: Callable[[], Mapping[str, Sequence[str]]]
    """Devices (ids in their normal form) by group."""
    everyone: Callable[[], Sequence[str]]
    """All devices of this household."""


def create_blueprint(hooks: MessageHooks, access: AdminAccess, clock: Callable[[], float] = time.time) -> Blueprint:
    """The routes."""
    desk = _MessageDesk(hooks, access, clock)
    blueprint = Blueprint("messages", __name__)
    tell_faults(blueprint)
    verb = f"<any({','.join(MessageKind)}):verb>"
    for path, name, view, method in (
        (f"/admin/devices/{EVERYONE}/{verb}", "all", desk.to_all, "POST"),
        (f"/admin/devices/<device_id>/{verb}", "one", desk.to_one, "POST"),
        (f"/admin/groups/<group>/{verb}", "group", desk.to_group, "POST"),
        ("/admin/groups", "groups", desk.groups, "GET"),
        ("/admin/messages", "list", desk.list, "GET"),
        ("/admin/messages/<id>", "show", desk.show, "GET"),
        ("/admin/messages/<id>/cancel", "cancel", desk.cancel, "POST"),
    ):
        blueprint.add_url_rule(path, name, view, methods=[method])
    return blueprint


def outcome_of(result: MessageResult) -> dict[str, Any]:
    """A result for people and their tools."""
    told = {"id": result.id, "device": result.device, "state": result.state.value, "settled": result.settled}
    return {**told, "reason": result.reason} if result.reason else told


def described(kept: StoredMessage) -> dict[str, Any]:
    """A message and what has become of it."""
    return {
        "id": kept.id,
        "device": kept.device,
        "kind": kept.kind,
        "state": kept.state,
        "settled": MessageState(kept.state).final,
        "reason": kept.reason,
        "text": kept.body.get("text", ""),
        "sender": kept.body.get("sender", ""),
        "created_at": kept.created_at,
        "due_at": kept.due_at,
        "expires_at": kept.expires_at,
    }


class _MessageDesk:
    """Answers operators."""

    def __init__(self, hooks: MessageHooks, access: AdminAccess, clock: Callable[[], float]) -> None:
        self._hooks = hooks
        self._access = access
        self._clock = clock

    def to_one(self, device_id: str, verb: str) -> Response:
        """To a device that is known. Raises UnknownDevice."""
        self._access.check(WHAT)
        return self._send([self._hooks.directory.of(checked_device_id(device_id)).device], verb)

    def to_group(self, group: str, verb: str) -> Response:
        """To all of a group."""
        self._access.check(WHAT)
        groups = self._hooks.groups()
        found = next((name for name in groups if name.casefold() == group.strip().casefold()), None)
        if found is None:
            known = ", ".join(sorted(groups)) or "none: the setting `groups` of a device says which it belongs to"
            raise NotFound(f"There is no group {group!r}. Groups: {known}.")
        return self._send(groups[found], verb)

    def to_all(self, verb: str) -> Response:
        """To every device of the household."""
        self._access.check(WHAT)
        devices = self._hooks.everyone()
        if not devices:
            raise NotFound("No device belongs to this household: with authentication on, those that are enrolled do.")
        return self._send(devices, verb)

    def groups(self) -> Response:
        """Who belongs to which."""
        self._access.check(WHAT)
        return jsonify({"groups": {name: list(members) for name, members in sorted(self._hooks.groups().items())}})

    def list(self) -> Response:
        """Those that wait; with `all=1` also those that have settled lately."""
        self._access.check(WHAT)
        device = request.args.get("device", "")
        found = self._hooks.queue.page(
            device=checked_device_id(device) if device else "",
            only_open=request.args.get("all", "") not in ("1", "true"),
            limit=asked_number("limit", 100, MAX_LISTED),
        )
        return jsonify({"messages": [described(kept) for kept in found]})

    def show(self, id: str) -> Response:
        """One of them."""
        self._access.check(WHAT)
        return jsonify(described(self._kept(id)))

    def cancel(self, id: str) -> Response:
        """Take one back."""
        self._access.check(WHAT)
        kept = self._kept(id)
        if not self._hooks.queue.cancel(id):
            raise Conflict(f"This message is {kept.state} already; only one that waits can be taken back.")
        return jsonify({"success": True})

    def _kept(self, id: str) -> StoredMessage:
        kept = self._hooks.queue.of(id)
        if kept is None:
            raise NotFound("There is no such message (any more): what became of one is kept for a day.")
        return kept

    def _send(self, devices: Sequence[str], verb: str) -> Response:
        body = read_object(MAX_BODY_BYTES) if request.content_length or verb != MessageKind.REBOOT else {}
        wishes = wishes_of(body, MessageKind(verb), request.headers.get(KEY_HEADER, ""))
        now = self._clock()
        messages = [wishes.message_for(device, now) for device in devices]
        results = self._hooks.queue.send_all(messages, wait_s=wishes.wait_s)
        return jsonify({"success": True, "messages": [outcome_of(result) for result in results]})


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the body of a request says."""

    kind: MessageKind
    text: str
    late_text: str
    title: str
    emotion: str
    key: str
    deadline_s: float
    wait_s: float
    interrupts: bool
    in_quiet_hours: bool

    def message_for(self, device: str, now: float) -> DeviceMessage:
        """The message for one device."""
        return DeviceMessage(
            device=device,
            kind=self.kind,
            text=self.text,
            late_text=self.late_text,
            title=self.title,
            emotion=self.emotion,
            due_at=now,
            expires_at=now + self.deadline_s,
            interrupts=self.interrupts,
            in_quiet_hours=self.in_quiet_hours,
            key=self.key,
        )


def wishes_of(body: Mapping[str, Any], kind: MessageKind, key: str) -> Wishes:
    """`key`: of the header; the body may have it instead. Raises BadRequest with a sentence for what is wrong."""
    unknown = sorted(set(body) - set(_KNOWN))
    if unknown:
        raise BadRequest(f"The body has no field {unknown[0]!r}; it may have {', '.join(_KNOWN)}.")
    text = _words(body, "text", MAX_TEXT_CHARS)
    if not text and kind is not MessageKind.REBOOT:
        raise BadRequest('The body must be {"text": "Dinner is ready."}: what is to be said or shown.')
    if text and kind is MessageKind.REBOOT:
        raise BadRequest("A reboot says nothing: leave out the text.")
    in_body = _words(body, "key", MAX_KEY_CHARS)
    if key and in_body and key != in_body:
        raise BadRequest(f"{KEY_HEADER} and the field key say different things.")
    if len(key) > MAX_KEY_CHARS:
        raise BadRequest(f"{KEY_HEADER} may have at most {MAX_KEY_CHARS} characters.")
    return Wishes(
        kind=kind,
        text=text,
        late_text=_words(body, "late_text", MAX_TEXT_CHARS),
        title=_words(body, "title", MAX_TITLE_CHARS),
        emotion=_words(body, "emotion", MAX_EMOTION_CHARS) or "neutral",
        key=key or in_body,
        deadline_s=_seconds(body, "deadline_s", DEADLINE_S, 1.0, LONGEST_S),
        wait_s=_seconds(body, "wait_s", 0.0, 0.0, LONGEST_WAIT_S),
        interrupts=_flag(body, "interrupt"),
        in_quiet_hours=_flag(body, "in_quiet_hours"),
    )


def _words(body: Mapping[str, Any], name: str, most: int) -> str:
    value = body.get(name, "")
    if not isinstance(value, str) or len(value) > most:
        raise BadRequest(f"{name} must be a text of at most {most} characters.")
    return value.strip()


def _seconds(body: Mapping[str, Any], name: str, usual: float, least: float, most: float) -> float:
    value = body.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise BadRequest(f"{name} must be a number of seconds from {least:g} to {most:g}.")
    return float(value)


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest(f"{name} must be true or false.")
    return value
