"""The pages "Devices" and "Device": who is there, what owners decide about a device, its own settings and their earlier
versions, and what can be done with one that is connected.

What all devices of all workers are stands in the database, and what a device is to say or do reaches it wherever it is.
What is asked of a connected device (its tools, a picture of its screen) is asked by the worker that it is connected to,
and refused by the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest, NotFound

from xiaozhi.devices.directory import DeviceDirectory
from xiaozhi.devices.lines import Lines
from xiaozhi.devices.messages import DeviceMessage, MessageKind, MessageSender
from xiaozhi.devices.report import INTERNAL
from xiaozhi.net.origin import Origin
from xiaozhi.protocol.device_id import checked_device_id
from xiaozhi.settings.device_form import DeviceField
from xiaozhi.storage.devices import ORDERS, STATES, DeviceRecord
from xiaozhi.web.app import asked_number, failure, read_body, read_object, request_origin
from xiaozhi.web.console.access import ConsoleAccess, current_visitor, guard
from xiaozhi.web.console.audit import AuditTrail
from xiaozhi.web.device_line import described_line
from xiaozhi.web.device_tools import FindTools, called, listed, wish
from xiaozhi.web.devices import changes_of
from xiaozhi.web.faults import tell_faults
from xiaozhi.web.messages import outcome_of
from xiaozhi.web.vision import sniff_image

MAX_BODY_BYTES: Final = 256 * 1024
MAX_SHOWN: Final = 200
MAX_OFFSET: Final = 1_000_000
MAX_LABEL_CHARS: Final = 80
MAX_SAID_CHARS: Final = 500
MAX_SEARCH_CHARS: Final = 200
GOOD_FOR_S: Final = 600.0
"""How long what an owner has a device say waits for it."""
PATIENCE_S: Final = 5.0
"""How long a page waits to be told what has become of it."""
ELSEWHERE: Final = "This device is connected to another worker of this server, which alone can do this. Try again."
AWAY: Final = "This device is not connected now."


@dataclass(frozen=True, slots=True)
class VoiceField:
    """The voice in the TTS block in use: its dotted key, the voice now, whether that is the device's own, and the
    block."""

    key: str
    now: str
    own: bool
    block: str


@dataclass(frozen=True, slots=True)
class DeviceForm:
    """A device's own settings, as a form. `voice`: None where the block in use has no voices. `others`: keys it has of
    its own that no field shows."""

    fields: Sequence[DeviceField]
    voice: VoiceField | None
    others: Sequence[str]


@dataclass(frozen=True, slots=True)
class EarlierSettings:
    """Settings as they were until `who` changed them at `at`; `changed`: the keys that this change touched."""

    id: int
    at: float
    who: str
    changed: Sequence[str]


@dataclass(frozen=True, slots=True)
class DevicePageHooks:
    """Where the answers come from; all of it may block for the database."""

    directory: DeviceDirectory
    form: Callable[[str], DeviceForm]
    earlier: Callable[[str], Sequence[EarlierSettings]]
    change: Callable[[str, Mapping[str, Any], Sequence[str], str], object]
    """(device, values by dotted key, keys to remove, who). Raises SettingsError with every fault."""
    restore: Callable[[str, int, str], object]
    """(device, number of the earlier settings, who). Raises SettingsError, UnknownDevice."""
    hear: Callable[[str, Mapping[str, Any], Sequence[str], str], bytes]
    """(device, values, keys to remove, text) -> how the text sounds with these settings, as WAV. Raises SettingsError,
    VendorError, Overloaded."""
    messages: MessageSender
    """Takes what a device is to say or do."""
    tools: FindTools
    photograph: Callable[[str], str]
    """Have a device send a picture of its screen; "" or why not. Blocks until it has come."""
    firmware: Callable[[str, str, str], Mapping[str, Any] | None]
    """(device, board, version) -> what it is offered when it asks next; None: nothing."""
    quota: Callable[[str], Mapping[str, int | None]]
    """"used": characters today, None: not counted; "limit": 0: none."""
    under_console: Callable[[], bool]
    """Whether a management console keeps the devices."""
    ota_url: Callable[[Origin], str]
    """Where devices ask at their start, for an owner whose page reached this server so."""
    lines: Lines = field(default_factory=Lines)
    """How good their lines are."""
    look: Callable[[], None] = lambda: None
    """Put what was decided into force at once, in this process."""


def create_blueprint(hooks: DevicePageHooks, access: ConsoleAccess, audit: AuditTrail) -> Blueprint:
    """The routes under /console/api/devices."""
    desk = _Desk(hooks, audit)
    blueprint = Blueprint("console_devices", __name__)
    blueprint.before_request(guard(access))
    tell_faults(blueprint)
    for path, view, method in (
        ("", desk.page, "GET"),
        ("/waiting/<code>/approve", desk.approve, "POST"),
        ("/waiting/<code>/refuse", desk.refuse, "POST"),
        ("/<device>", desk.show, "GET"),
        ("/<device>", desk.remove, "DELETE"),
        ("/<device>/label", desk.label, "PUT"),
        ("/<device>/settings", desk.form, "GET"),
        ("/<device>/settings", desk.change, "PATCH"),
        ("/<device>/settings/<int:version>/restore", desk.restore, "POST"),
        ("/<device>/voice", desk.hear, "POST"),
        ("/<device>/approve", desk.let_in, "POST"),
        ("/<device>/revoke", desk.revoke, "POST"),
        ("/<device>/forget", desk.forget, "POST"),
        ("/<device>/say", desk.say, "POST"),
        ("/<device>/reboot", desk.reboot, "POST"),
        ("/<device>/tools", desk.list_tools, "GET"),
        ("/<device>/tools", desk.call_tool, "POST"),
        ("/<device>/screen", desk.take_screen, "POST"),
        ("/<device>/screen", desk.screen, "GET"),
    ):
        blueprint.add_url_rule(f"/console/api/devices{path}", view.__name__, view, methods=[method])
    return blueprint


def _described(record: DeviceRecord) -> dict[str, Any]:
    report = {key: value for key, value in (record.report or {}).items() if key not in INTERNAL}
    return {
        "device": record.device,
        "label": record.label,
        "online": bool(record.workers or record.reached_by),
        "talking": bool(record.workers),
        "first_seen": record.first_seen,
        "last_seen": record.last_seen,
        "report": report,
        "own": sorted(record.settings or {}),
        "revoked": record.standing.revoked,
        "enrolled": {"client": record.client, "how": record.how, "at": record.enrolled_at, "from": record.enrolled_from}
        if record.client
        else None,
        "waiting": [
            {"code": code, "client": client, "from": address, "since": since}
            for code, client, address, since in record.waiting
        ],
    }


class _Desk:
    """Answers the pages."""

    def __init__(self, hooks: DevicePageHooks, audit: AuditTrail, clock: Callable[[], float] = time.time) -> None:
        self._hooks = hooks
        self._clock = clock
        self._directory = hooks.directory
        self._audit = audit

    # --- the list -----------------------------------------------------------------------------------------------------

    def page(self) -> Response:
        """Some of the devices, and who waits."""
        limit, offset = asked_number("limit", 50, MAX_SHOWN), asked_number("offset", 0, MAX_OFFSET)
        search = request.args.get("search", "")[:MAX_SEARCH_CHARS].strip()
        state, order = _one_of("state", ("", *STATES)), _one_of("order", ORDERS)
        records, total = self._directory.page(search, limit, offset, state=state, order=order)
        return jsonify(
            {
                "devices": [_described(record) for record in records],
                "total": total,
                "waiting": [
                    {"device": record.device, "label": record.label, **waiting}
                    for record in self._directory.waiting()
                    for waiting in _described(record)["waiting"]
                ],
                "under_console": self._hooks.under_console(),
                "ota_url": self._hooks.ota_url(request_origin()),
            }
        )

    def approve(self, code: str) -> Response:
        """Let in who waits under a code."""
        done = self._directory.approve(code)
        return self._decided("device approved", {"message": done}, code=code)

    def refuse(self, code: str) -> Response:
        """Do not let in who waits under a code."""
        device = self._directory.refuse(code)
        return self._decided("device refused", {"device": device}, device=device)

    # --- one device ---------------------------------------------------------------------------------------------------

    def show(self, device: str) -> Response:
        """Everything about one device but its settings."""
        record = self._directory.of(checked_device_id(device))
        report = record.report or {}
        board, version = str(report.get("board", "")), str(report.get("firmware", ""))
        connected, tools = self._hooks.tools(record.device)
        picture = self._directory.picture_of(record.device)
        return jsonify(
            {
                **_described(record),
                "here": connected,
                "has_tools": tools is not None,
                "firmware_offered": self._hooks.firmware(record.device, board, version),
                "quota": self._hooks.quota(record.device),
                "screen_at": picture[1] if picture is not None else None,
                "under_console": self._hooks.under_console(),
                "line": described_line(self._hooks.lines, record),
            }
        )

    def label(self, device: str) -> Response:
        """What its owner calls it."""
        label = _text(read_object(MAX_BODY_BYTES), "label", MAX_LABEL_CHARS)
        name = checked_device_id(device)
        self._directory.name_it(name, label)
        return self._done("device named", device=name, label=label)

    def let_in(self, device: str) -> Response:
        """A device that was revoked may ask again."""
        name = checked_device_id(device)
        done = self._directory.approve(name)
        return self._decided("device approved", {"message": done}, device=name)

    def revoke(self, device: str) -> Response:
        """It may not talk any more."""
        name = checked_device_id(device)
        self._directory.revoke(name)
        return self._decided("device revoked", {}, device=name)

    def forget(self, device: str) -> Response:
        """It is enrolled anew."""
        name = checked_device_id(device)
        known = self._directory.forget(name)
        return self._decided("device forgotten", {"was_enrolled": known}, device=name)

    def remove(self, device: str) -> Response:
        """Nothing is kept of it any more but what was said."""
        record = self._directory.of(checked_device_id(device))
        if record.workers or record.reached_by:
            return failure(409, "This device is connected. Switch it off or revoke it first.")
        self._directory.remove(record.device)
        return self._decided("device removed", {}, device=record.device)

    # --- its settings -------------------------------------------------------------------------------------------------

    def form(self, device: str) -> Response:
        """Its own settings, with what is usual, and their earlier versions."""
        name = checked_device_id(device)
        form = self._hooks.form(name)
        return jsonify(
            {
                "fields": [asdict(field) for field in form.fields],
                "voice": asdict(form.voice) if form.voice is not None else None,
                "others": list(form.others),
                "earlier": [asdict(version) for version in self._hooks.earlier(name)],
            }
        )

    def change(self, device: str) -> Response:
        """Set and unset some of them."""
        name, (values, removed) = checked_device_id(device), changes_of(read_object(MAX_BODY_BYTES))
        self._hooks.change(name, values, removed, current_visitor().who)
        return self._done("settings of a device changed", device=name, keys=sorted({*values, *removed}))

    def restore(self, device: str, version: int) -> Response:
        """Put them back to what they were."""
        name = checked_device_id(device)
        self._hooks.restore(name, version, current_visitor().who)
        return self._done("settings of a device put back", device=name, version=version)

    def hear(self, device: str) -> Response:
        """How a sentence sounds with these settings; nothing is changed."""
        body = read_object(MAX_BODY_BYTES)
        values, removed = changes_of(body)
        text = _text(body, "text", MAX_SAID_CHARS)
        if not text:
            raise BadRequest('The body must have a "text".')
        sound = self._hooks.hear(checked_device_id(device), values, removed, text)
        return Response(sound, content_type="audio/wav")

    # --- while it is connected ----------------------------------------------------------------------------------------

    def say(self, device: str) -> Response:
        """Say a text, as soon as nobody speaks; when the device comes, if it is away."""
        name, text = checked_device_id(device), _text(read_object(MAX_BODY_BYTES), "text", MAX_SAID_CHARS)
        if not text:
            raise BadRequest('The body must have a "text".')
        return self._send("had a device say something", name, MessageKind.SAY, text)

    def reboot(self, device: str) -> Response:
        """Have it start anew."""
        return self._send("rebooted a device", checked_device_id(device), MessageKind.REBOOT, "")

    def _send(self, what: str, device: str, kind: MessageKind, text: str) -> Response:
        self._directory.of(device)
        now = self._clock()
        message = DeviceMessage(
            device=device, kind=kind, text=text, due_at=now, expires_at=now + GOOD_FOR_S, in_quiet_hours=True
        )
        result = self._hooks.messages.send(message, wait_s=PATIENCE_S)
        self._audit.note(what, who=current_visitor().who, device=device)
        return jsonify({"success": True, **outcome_of(result)})

    def list_tools(self, device: str) -> Response:
        """What it has."""
        name = checked_device_id(device)
        return self._elsewhere(name) or listed(self._hooks.tools, name)

    def call_tool(self, device: str) -> Response:
        """Run one of them."""
        name, (tool, arguments) = checked_device_id(device), wish(read_body(MAX_BODY_BYTES))
        away = self._elsewhere(name)
        if away is not None:
            return away
        self._audit.note("used a tool of a device", who=current_visitor().who, device=name, tool=tool)
        return called(self._hooks.tools, name, tool, arguments)

    def take_screen(self, device: str) -> Response:
        """Ask for a picture of its screen, and wait for it."""
        name = checked_device_id(device)
        away = self._elsewhere(name)
        if away is not None:
            return away
        self._audit.note("took a picture of a device's screen", who=current_visitor().who, device=name)
        reason = self._hooks.photograph(name)
        return failure(502, reason) if reason else jsonify({"success": True})

    def screen(self, device: str) -> Response:
        """The last picture of its screen."""
        found = self._directory.picture_of(checked_device_id(device))
        kind = sniff_image(found[0]) if found is not None else None
        if found is None or kind is None:
            raise NotFound("There is no picture of this device's screen.")
        return Response(found[0], content_type=kind)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _done(self, what: str, **details: Any) -> Response:
        self._audit.note(what, who=current_visitor().who, **details)
        return jsonify({"success": True})

    def _decided(self, what: str, told: Mapping[str, Any], **details: Any) -> Response:
        self._hooks.look()
        self._audit.note(what, who=current_visitor().who, **details)
        return jsonify({"success": True, **told})

    def _elsewhere(self, device: str) -> Response | None:
        """None when it is connected here; else why it is not."""
        return None if self._hooks.tools(device)[0] else self._away(device)

    def _away(self, device: str) -> Response:
        connected, _ = self._hooks.tools(device)
        if not connected and self._directory.of(device).workers:
            # Connections to the port are shared out to the workers: a new one may come to the right one.
            response = failure(409, ELSEWHERE, elsewhere=True)
            response.headers["Connection"] = "close"
            return response
        return failure(409, AWAY if not connected else "This device is not ready: it has not said hello yet.")


def _one_of(name: str, known: Sequence[str]) -> str:
    asked = request.args.get(name, known[0])
    if asked not in known:
        raise BadRequest(f"{name} must be one of {', '.join(filter(None, known))}.")
    return asked


def _text(body: Mapping[str, Any], key: str, most: int) -> str:
    text = body.get(key)
    if not isinstance(text, str) or len(text) > most:
        raise BadRequest(f'The body must have a text "{key}" of at most {most} characters.')
    return text.strip()
