"""The files of the console's pages, and the policy that they are shown under: everything from this server, no inline
script, no frame around it.

They are read once, compressed once, and small; whoever has one asks only whether it has changed. Every address that is
a page of the application gets the same file, which then shows the page of its address."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from xiaozhi.web.app import request_origin

STATIC: Final = Path(__file__).with_name("static")
SHELL: Final = "index.html"
PAGE_ADDRESSES: Final = ("/talk", "/console", "/console/<path:page>")
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "connect-src 'self' ws: wss:",
        "worker-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""`ws:`: devices, and so the page that is one, connect to another port."""
_TYPES: Final = {".js": "text/javascript", ".mjs": "text/javascript", ".webmanifest": "application/manifest+json"}
_COMPRESSED: Final = (".html", ".js", ".mjs", ".css", ".svg", ".json", ".webmanifest", ".txt")


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file, as it is sent."""

    content: bytes
    compressed: bytes | None
    content_type: str
    etag: str


def read_files(directory: Path = STATIC) -> Mapping[str, StaticFile]:
    """Every file below a directory, by its path there."""
    return {
        path.relative_to(directory).as_posix(): _read(path) for path in sorted(directory.rglob("*")) if path.is_file()
    }


def create_blueprint(files: Mapping[str, StaticFile] | None = None) -> Blueprint:
    """The routes of the pages and of their files."""
    shelf = _Shelf(files if files is not None else read_files())
    blueprint = Blueprint("console_pages", __name__)
    for number, address in enumerate(PAGE_ADDRESSES):
        blueprint.add_url_rule(address, f"page_{number}", shelf.page, methods=["GET"])
    blueprint.add_url_rule("/console/static/<path:name>", "file", shelf.file, methods=["GET"])
    return blueprint


class _Shelf:
    def __init__(self, files: Mapping[str, StaticFile]) -> None:
        self._files = files

    def page(self, page: str = "") -> Response:
        """The application. What is under /console/api or /console/static and not known is not a page."""
        if page.split("/")[0] in ("api", "static"):
            raise NotFound("There is nothing at this address.")
        return self._answer(SHELL)

    def file(self, name: str) -> Response:
        """One file."""
        return self._answer(name)

    def _answer(self, name: str) -> Response:
        found = self._files.get(name)
        if found is None:
            raise NotFound("There is no such file.")
        packed = found.compressed is not None and request.accept_encodings.quality("gzip") > 0
        response = Response(found.compressed if packed else found.content, content_type=found.content_type)
        response.set_etag(found.etag + ("-gzip" if packed else ""))
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Vary"] = "Accept-Encoding"
        if packed:
            response.headers["Content-Encoding"] = "gzip"
        if found.content_type.startswith("text/html"):
            response.headers["Content-Security-Policy"] = POLICY
            response.headers["Referrer-Policy"] = "no-referrer"
            response.headers["Permissions-Policy"] = "microphone=(self), camera=(self), geolocation=()"
            if request_origin().scheme == "https":  # browsers complain of it over plain http
                response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.make_conditional(request)
        return response


def _read(path: Path) -> StaticFile:
    content = path.read_bytes()
    suffix = path.suffix
    kind = _TYPES.get(suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    packed = gzip.compress(content, 9, mtime=0) if suffix in _COMPRESSED else None
    if kind.startswith("text/") or suffix in (".json", ".svg"):
        kind += "; charset=utf-8"
    return StaticFile(content, packed, kind, hashlib.sha256(content).hexdigest()[:20])
