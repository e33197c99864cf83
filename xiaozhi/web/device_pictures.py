"""Where a device sends a picture of its screen that its owner has asked for (`self.screen.snapshot`).

The device gets an address with a token of its own in it, good for a minute: the firmware uploads without headers of
ours (main/mcp_server.cc of 78/xiaozhi-esp32: multipart/form-data, `file`, JPEG; any answer but 200 is an error). The
picture is kept in the database, as the upload may come to another worker than the one that asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from xiaozhi.errors import AuthError, StorageError
from xiaozhi.protocol.token import VisionTokens
from xiaozhi.runtime.guesses import Guesses
from xiaozhi.web.addresses import PICTURE_PATH
from xiaozhi.web.app import client_key, failure
from xiaozhi.web.vision import sniff_image

MAX_PICTURE_BYTES: Final = 2 * 1024 * 1024
GOOD_FOR_S: Final = 60
_FORM_BYTES: Final = 64 * 1024


def picture_tokens(secret: str) -> VisionTokens:
    """Tokens for these addresses: of a key of their own, so that no other token of a device is good for this."""
    return VisionTokens(f"{secret} pictures", expire_seconds=GOOD_FOR_S)


def create_blueprint(
    tokens: VisionTokens,
    keep: Callable[[str, bytes], None],
    guesses: Guesses,
    *,
    clock: Callable[[], float] = time.time,
) -> Blueprint:
    """The route /device-pictures/<token>. `keep(device, picture)` blocks and raises StorageError."""
    blueprint = Blueprint("device_pictures", __name__)

    def upload(token: str) -> Response:
        address = client_key()
        try:
            device = tokens.check(token, now=clock())
        except AuthError:
            guesses.refuse_guesser("picture_token", address)
            guesses.add("picture_token", address)
            raise
        request.max_content_length = MAX_PICTURE_BYTES + _FORM_BYTES
        file = request.files.get("file")
        picture = file.read(MAX_PICTURE_BYTES + 1) if file is not None else b""
        if len(picture) > MAX_PICTURE_BYTES:
            raise RequestEntityTooLarge(f"The picture is too large; at most {MAX_PICTURE_BYTES} bytes are accepted.")
        if sniff_image(picture) not in ("image/jpeg", "image/png"):
            raise BadRequest('The form must have a "file" that is a JPEG or a PNG.')
        try:
            keep(device, picture)
        except StorageError:
            return failure(503, "The database cannot be reached, please try again.", retry_after=5)
        return jsonify({"success": True})

    blueprint.add_url_rule(f"{PICTURE_PATH}<token>", "upload", upload, methods=["POST"])
    return blueprint
