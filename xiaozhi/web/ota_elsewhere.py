"""The OTA addresses of a server under a management console: devices ask the console, and this says so.

A device that comes here all the same was set up with the wrong address. An answer that looks like OTA's would send it
past the console, where it could not be bound, so there is none."""

from __future__ import annotations

from flask import Blueprint, Response
from werkzeug.exceptions import NotFound

from xiaozhi.web.addresses import OTA_PATH


def create_blueprint(ota_url: str) -> Blueprint:
    """GET: where OTA is, for people; everything else is not found. `ota_url`: the console's."""
    blueprint = Blueprint("ota", __name__)

    def status() -> Response:
        text = (
            f"OTA is served by the management console: {ota_url}\nGive devices that address.\n"
            f"OTA 由控制台提供，请在设备里填写：{ota_url}\n"
        )
        return Response(text, content_type="text/plain; charset=utf-8")

    def elsewhere(path: str = "") -> Response:
        raise NotFound(f"OTA is served by the management console: {ota_url}")

    for base in (OTA_PATH, "/ota/"):
        blueprint.add_url_rule(base, "status", status, methods=["GET"])
        blueprint.add_url_rule(base, "elsewhere", elsewhere, methods=["POST"])
        blueprint.add_url_rule(f"{base}<path:path>", "elsewhere", elsewhere, methods=["GET", "POST"])
    return blueprint
