"""Where an idle device fetches the sound of a message (`notify`): an address that nobody can guess, good for some
minutes, without a token, as the firmware sends none (main/ of 78/xiaozhi-esp32). Any worker behind the port serves it,
from the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from xiaozhi.errors import StorageError
from xiaozhi.web.addresses import SOUND_PATH
from xiaozhi.web.app import failure

MAX_NAME_CHARS: Final = 64


def create_blueprint(fetch: Callable[[str, bool], bytes | None]) -> Blueprint:
    """The route /device-sounds/<name>.ogg. `fetch(name, whole)`: the file, None when there is none; `whole` False: only
    its length is asked for. Blocks; raises StorageError."""
    blueprint = Blueprint("device_sounds", __name__)

    def serve(name: str) -> Response:
        try:
            sound = fetch(name, request.method == "GET") if len(name) <= MAX_NAME_CHARS else None
        except StorageError:
            return failure(503, "The database cannot be reached, please try again.", retry_after=5)
        if sound is None:
            raise NotFound("There is no such sound (any more).")
        return Response(sound, content_type="audio/ogg")

    blueprint.add_url_rule(f"{SOUND_PATH}<name>.ogg", "serve", serve, methods=["GET"])
    return blueprint
