"""What the settings page and the first-run guide ask: forms, a preview, saving, undoing, trying a vendor, hearing a
voice. Secrets go in and never come out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest

from xiaozhi.errors import Fault, SettingsError
from xiaozhi.settings.local_file import FileChanged, FileUnusable
from xiaozhi.settings.yaml_edit import Change
from xiaozhi.settings.yaml_reader import read_value
from xiaozhi.web.app import failure, read_body
from xiaozhi.web.console.access import ConsoleAccess, current_visitor, guard
from xiaozhi.web.console.audit import AuditTrail

MAX_BODY_BYTES: Final = 262_144
MAX_CHANGES: Final = 300
MAX_PATH: Final = 12
MAX_KEY_CHARS: Final = 200
MAX_AUDIT: Final = 200
_KINDS: Final = ("vad", "asr", "llm", "vllm", "tts", "memory", "intent")


@dataclass(frozen=True, slots=True)
class SettingsHooks:
    """`save(changes, digest of the file as it was shown)`, `undo(number of the copy, digest)`; `check(kind, block,
    changes that are not saved)`; `voice(block, text, changes)` gives a WAV file, or what `check` says."""

    overview: Callable[[], Mapping[str, Any]]
    block: Callable[[str, str, str], Mapping[str, Any]]
    group: Callable[[str], Mapping[str, Any]]
    preview: Callable[[Sequence[Change]], Mapping[str, Any]]
    save: Callable[[Sequence[Change], str], Mapping[str, Any]]
    undo: Callable[[int, str], Mapping[str, Any]]
    check: Callable[[str, str, Sequence[Change]], Mapping[str, Any]]
    voice: Callable[[str, str, Sequence[Change]], bytes | Mapping[str, Any]]


def create_blueprint(hooks: SettingsHooks, access: ConsoleAccess, audit: AuditTrail) -> Blueprint:
    """The routes under /console/api/settings."""
    desk = _Desk(hooks, audit)
    blueprint = Blueprint("console_settings", __name__)
    blueprint.before_request(guard(access))
    blueprint.register_error_handler(SettingsError, _refused)
    blueprint.register_error_handler(FileChanged, _changed)
    blueprint.register_error_handler(FileUnusable, _unusable)
    for address, method, view in (
        ("", "GET", desk.overview),
        ("/block/<kind>", "GET", desk.block),
        ("/group/<group>", "GET", desk.group),
        ("/audit", "GET", desk.audit),
        ("/preview", "POST", desk.preview),
        ("", "POST", desk.save),
        ("/undo", "POST", desk.undo),
        ("/check", "POST", desk.check),
        ("/voice", "POST", desk.voice),
    ):
        name = view.__name__
        blueprint.add_url_rule(f"/console/api/settings{address}", name, view, methods=[method])
    return blueprint


class _Desk:
    def __init__(self, hooks: SettingsHooks, audit: AuditTrail) -> None:
        self._hooks = hooks
        self._audit = audit

    def overview(self) -> Response:
        """Everything but the forms."""
        return jsonify(self._hooks.overview())

    def block(self, kind: str) -> Response:
        """The form of a block; with `type`: of a new one. Raises NotFound."""
        return jsonify(self._hooks.block(kind, request.args.get("name", ""), request.args.get("type", "")))

    def group(self, group: str) -> Response:
        """The form of a group of general keys. Raises NotFound."""
        return jsonify(self._hooks.group(group))

    def audit(self) -> Response:
        """The latest changes by the console, newest first."""
        entries = self._audit.latest(min(MAX_AUDIT, max(1, request.args.get("count", 20, int))))
        return jsonify({"entries": [dataclasses.asdict(entry) for entry in entries]})

    def preview(self) -> Response:
        """What would come of changes; nothing is written."""
        return jsonify(self._hooks.preview(_changes(_asked())))

    def save(self) -> Response:
        """Write changes and put them into force: 200, or 422 with faults."""
        asked = _asked()
        changes = _changes(asked)
        if not changes:
            raise BadRequest("There is nothing to be saved.")
        answer = self._hooks.save(changes, _text(asked, "digest"))
        if not answer["saved"]:
            return _not_saved(answer)
        self._audit.note("settings changed", who=current_visitor().who, keys=_keys(changes))
        return jsonify(answer)

    def undo(self) -> Response:
        """Put an earlier text of the file into force."""
        asked = _asked()
        number = asked.get("number")
        if not isinstance(number, int) or isinstance(number, bool):
            raise BadRequest("number must be that of an earlier version.")
        answer = self._hooks.undo(number, _text(asked, "digest"))
        if not answer["saved"]:
            return _not_saved(answer)
        self._audit.note("settings put back", who=current_visitor().who, version=number)
        return jsonify(answer)

    def check(self) -> Response:
        """Try one block, with changes that are not saved."""
        asked = _asked()
        kind = _text(asked, "kind")
        if kind not in _KINDS:
            raise BadRequest(f"kind must be one of {', '.join(_KINDS)}.")
        return jsonify(self._hooks.check(kind, _text(asked, "name"), _changes(asked)))

    def voice(self) -> Response:
        """A sentence as a WAV file, or what is wrong as JSON."""
        asked = _asked()
        text = _text(asked, "text").strip()
        if not text:
            raise BadRequest("text must be what is to be said.")
        spoken = self._hooks.voice(_text(asked, "name"), text, _changes(asked))
        if isinstance(spoken, bytes):
            return Response(spoken, content_type="audio/wav")
        return jsonify(spoken)


def _asked() -> Mapping[str, Any]:
    try:
        asked = orjson.loads(read_body(MAX_BODY_BYTES))
    except orjson.JSONDecodeError:
        asked = None
    if not isinstance(asked, dict):
        raise BadRequest("The body must be a JSON object.")
    return asked


def _text(asked: Mapping[str, Any], key: str) -> str:
    value = asked.get(key)
    if not isinstance(value, str):
        raise BadRequest(f"{key} must be a text.")
    return value


def _changes(asked: Mapping[str, Any]) -> list[Change]:
    """Each {"path": [...], "value": ...}, {"path": [...], "yaml": "text"} or {"path": [...], "unset": true}. Raises
    BadRequest, SettingsError for YAML with faults."""
    listed = asked.get("changes", [])
    if not isinstance(listed, list) or len(listed) > MAX_CHANGES:
        raise BadRequest(f"changes must be a list of at most {MAX_CHANGES}.")
    return [_change(item) for item in listed]


def _change(item: Any) -> Change:
    path = item.get("path") if isinstance(item, dict) else None
    if not isinstance(path, list) or not 0 < len(path) <= MAX_PATH or not all(map(_is_key, path)):
        raise BadRequest("Each change must have a path: keys from the root.")
    if item.get("unset") is True:
        return Change(tuple(path))
    value = item.get("value")
    if "yaml" in item:
        value = _of_yaml(".".join(path), _text(item, "yaml"))
    if value is None:
        raise BadRequest("Each change must have a value, yaml, or unset.")
    return Change(tuple(path), value)


def _is_key(key: Any) -> bool:
    return isinstance(key, str) and 0 < len(key) <= MAX_KEY_CHARS and key.isprintable() and key == key.strip()


def _of_yaml(where: str, text: str) -> Any:
    try:
        value = read_value(text)
    except SettingsError as error:
        raise SettingsError([Fault(where, fault.value, fault.expected) for fault in error.faults]) from error
    return {} if value is None else value


def _keys(changes: Sequence[Change]) -> list[str]:
    return [".".join(change.path) for change in changes][:50]


def _not_saved(answer: Mapping[str, Any]) -> Response:
    return failure(422, "Nothing was changed.", faults=answer["faults"], warnings=answer["warnings"])


def _refused(error: SettingsError) -> Response:
    faults = [{"key": fault.key, "value": fault.value, "expected": fault.expected} for fault in error.faults]
    return failure(422, "Nothing was changed.", faults=faults, warnings=[])


def _changed(error: FileChanged) -> Response:
    return failure(409, "Somebody else has changed the file meanwhile. Load this page again, then make your changes.")


def _unusable(error: FileUnusable) -> Response:
    return failure(503, str(error))
