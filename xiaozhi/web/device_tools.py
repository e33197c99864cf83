"""What operators do with the tools of a connected device, those included that its language model is never offered:
system information, reboot, a picture of or to the screen.

Not where the tools come from (`tools/device_mcp.py` asks the device) and not for devices. The device is not trusted:
what it answers is bounded, and so is the time it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import orjson
from flask import Blueprint, Response, jsonify
from werkzeug.exceptions import BadRequest

from xiaozhi.chat import ToolSpec
from xiaozhi.errors import ToolError
from xiaozhi.tools.base import Action, ToolOutcome
from xiaozhi.web.admin_access import AdminAccess
from xiaozhi.web.app import failure, read_body

MAX_BODY_BYTES: Final = 64 * 1024
MAX_NAME_CHARS: Final = 200
MAX_TEXT_CHARS: Final = 256 * 1024
WHAT: Final = "tools of devices"
SHAPE: Final = 'The body must be {"name": "self.get_system_info", "arguments": {}}; arguments may be left out.'


class OperatorTools(Protocol):
    """The tools of one device. Both methods block, and raise ToolError when the device refuses or does not answer."""

    def list_for_operators(self) -> list[ToolSpec]:
        """All of them, asked for anew."""

    def call_for_operators(self, name: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        """Run one of them."""


FindTools = Callable[[str], tuple[bool, OperatorTools | None]]
"""device id -> (whether it is connected to this process, its tools if it has any)."""


def create_blueprint(find: FindTools, access: AdminAccess) -> Blueprint:
    """The routes under /admin/devices/<id>/tools."""
    desk = _Desk(find, access)
    blueprint = Blueprint("device_tools", __name__)
    path = "/admin/devices/<device_id>/tools"
    blueprint.add_url_rule(path, "list", desk.list, methods=["GET"])
    blueprint.add_url_rule(path, "call", desk.call, methods=["POST"])
    return blueprint


class _Desk:
    """Answers operators."""

    def __init__(self, find: FindTools, access: AdminAccess) -> None:
        self._find = find
        self._access = access

    def list(self, device_id: str) -> Response:
        """What the device has. Raises Forbidden, AuthError, LockedOut."""
        self._access.check(WHAT)
        return listed(self._find, device_id)

    def call(self, device_id: str) -> Response:
        """Run one. Raises Forbidden, AuthError, LockedOut, BadRequest."""
        self._access.check(WHAT)
        return called(self._find, device_id, *wish(read_body(MAX_BODY_BYTES)))


def listed(find: FindTools, device_id: str) -> Response:
    """What a device has. Blocks."""
    tools = _tools(find, device_id)
    if isinstance(tools, Response):
        return tools
    try:
        specs = tools.list_for_operators()
    except ToolError as error:
        return failure(502, f"{error}.")
    found = [{"name": spec.name, "description": spec.description, "parameters": spec.parameters} for spec in specs]
    return jsonify({"success": True, "tools": found})


def called(find: FindTools, device_id: str, name: str, arguments: Mapping[str, Any]) -> Response:
    """What a tool of a device has answered. Blocks."""
    tools = _tools(find, device_id)
    if isinstance(tools, Response):
        return tools
    try:
        outcome = tools.call_for_operators(name, arguments)
    except ToolError as error:
        return failure(502, f"{error}.")
    text = outcome.text[:MAX_TEXT_CHARS]
    if outcome.action is Action.ERROR:
        return failure(502, text)
    return jsonify({"success": True, "text": text})


def _tools(find: FindTools, device_id: str) -> OperatorTools | Response:
    connected, tools = find(device_id)
    if not connected:
        return failure(404, "This device is not connected to this server now.")
    if tools is None:
        return failure(404, "This device is connected and has no tools of its own (no MCP).")
    return tools


def wish(body: bytes) -> tuple[str, Mapping[str, Any]]:
    """Name and arguments of a call. Raises BadRequest."""
    try:
        wish = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadRequest(SHAPE) from None
    name, arguments = (wish.get("name"), wish.get("arguments", {})) if isinstance(wish, dict) else (None, None)
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARS or not isinstance(arguments, dict):
        raise BadRequest(SHAPE)
    return name, arguments
