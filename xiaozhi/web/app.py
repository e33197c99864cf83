"""The Flask application: blueprints, who of the browsers may ask, errors as JSON. `wsgi.py` serves it.

Not the pages themselves and not a composition root: blueprints are made by `ota.py`, `vision.py` and `ops.py`, each
with its own config and callables. Every error, wherever it was raised, is answered with `{"success": false, "message":
...}` and a sentence that a person understands.

A script on a web page may ask only if `net/browser_origins.py` lets it, and may read only what `PAGES_READ` names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO, Any

import orjson
from flask import Blueprint, Flask, Request, Response, current_app, jsonify, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, RequestEntityTooLarge

from xiaozhi.errors import AuthError, LockedOut, Overloaded, ProtocolError, TooOften
from xiaozhi.net.browser_origins import BrowserOrigins
from xiaozhi.net.origin import NO_PROXIES, Origin, origin_of
from xiaozhi.net.proxies import TrustedProxies, one_client
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

ALLOWED_HEADERS = "Authorization, Content-Type, Device-Id, Client-Id, Activation-Version, Serial-Number"
ALLOWED_METHODS = "GET, POST, OPTIONS"
PREFLIGHT_SECONDS = 3600
PAGES_READ = ("/xiaozhi/ota", "/ota", "/mcp/vision/")
"""What pages of other origins may read, if they may ask at all: what a device in a browser needs. Operators' pages,
metrics and /admin are read by nobody else's script."""
FORM_MEMORY_BYTES = 256 * 1024
"""For the fields of a form and what its parser holds at once. werkzeug counts the piece it has just read (64 KiB) and
what it held back of the one before (a boundary: at most the size of all headers) against this limit, also within a
file: a limit of one piece refuses files at random."""
_SLASHES = re.compile("//+")
_ORIGIN_SETTINGS = "XIAOZHI_WEB"


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What all blueprints share."""

    fallback_host: str = "127.0.0.1"
    """Used when the Host header is missing: an address by which devices can reach this server."""
    fallback_port: int = 8003
    trusted_proxies: TrustedProxies = NO_PROXIES
    """Peers whose X-Forwarded-* and X-Real-IP headers are believed."""
    max_body_bytes: int = 1024 * 1024
    """Largest request body where a blueprint does not say otherwise."""
    browsers: BrowserOrigins = field(default_factory=BrowserOrigins)
    """Pages that may ask."""


class _InMemory(Request):
    """Keeps uploads in memory: they have at most a few MB, and leave no temporary file behind when a request is
    killed."""

    def _get_file_stream(self, *_: Any, **__: Any) -> IO[bytes]:
        return BytesIO()


class _Json(DefaultJSONProvider):
    sort_keys = False
    ensure_ascii = False
    compact = True


def create_app(blueprints: Sequence[Blueprint], config: WebConfig | None = None) -> Flask:
    """A WSGI application that serves `blueprints`."""
    app = Flask("xiaozhi.web", static_folder=None)
    app.request_class = _InMemory
    app.json = _Json(app)
    app.config[_ORIGIN_SETTINGS] = config = config or WebConfig()
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    app.config["MAX_FORM_MEMORY_SIZE"] = FORM_MEMORY_BYTES
    app.config["MAX_FORM_PARTS"] = 16
    # Devices ask for /xiaozhi/ota, /xiaozhi/ota/ and //xiaozhi/ota/ alike, and do not all follow a redirect of a POST.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.wsgi_app = _single_slashes(app.wsgi_app)  # type: ignore[method-assign]
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    app.before_request(_only_pages_that_may)
    app.after_request(_cross_origin)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(AuthError, _auth_error)
    app.register_error_handler(LockedOut, _too_many)
    app.register_error_handler(TooOften, _too_many)
    app.register_error_handler(Overloaded, _overloaded)
    app.register_error_handler(ProtocolError, _protocol_error)
    app.register_error_handler(Exception, _unexpected)
    return app


def _single_slashes(application: Callable[..., Any]) -> Callable[..., Any]:
    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        path = environ.get("PATH_INFO", "")
        if "//" in path:
            environ["PATH_INFO"] = _SLASHES.sub("/", path)
        return application(environ, start_response)

    return serve


def request_origin() -> Origin:
    """Where the current request comes from, and by which address it reached us."""
    config: WebConfig = current_app.config[_ORIGIN_SETTINGS]
    return origin_of(
        scheme="https" if request.environ.get("wsgi.url_scheme") == "https" else "http",
        peer_ip=request.remote_addr or "",
        headers=request.headers,
        fallback_host=config.fallback_host,
        fallback_port=config.fallback_port,
        trusted=config.trusted_proxies,
    )


def client_key() -> str:
    """What limits count the sender of the current request by; "" for a proxy that does not say for whom it speaks."""
    config: WebConfig = current_app.config[_ORIGIN_SETTINGS]
    client = request_origin().client_ip
    return "" if client in config.trusted_proxies else one_client(client)


def read_body(limit: int) -> bytes:
    """The body of the current request. Raises RequestEntityTooLarge when it is longer than `limit` bytes.

    werkzeug cuts a chunked body off at its limit without an error, so one byte more than the limit is asked for."""
    request.max_content_length = limit + 1
    body = request.get_data(cache=False)
    if len(body) > limit:
        raise RequestEntityTooLarge(f"The request body is too large; at most {limit} bytes are accepted.")
    return body


def read_object(limit: int) -> dict[str, Any]:
    """The body of the current request, a JSON object. Raises BadRequest, and what `read_body` raises."""
    data = read_body(limit)
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BadRequest("The request body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise BadRequest("The request body must be a JSON object.")
    return body


def asked_number(name: str, usual: int, most: int) -> int:
    """A whole number from 0 on in the query of the current request; `most` where it is larger. Raises BadRequest."""
    text = request.args.get(name, "")
    if text and not (text.isascii() and text.isdigit()):
        raise BadRequest(f"{name} must be a whole number.")
    return min(int(text[:10]), most) if text else usual


def failure(status: int, message: str, *, retry_after: float | None = None, **more: Any) -> Response:
    """An error as every part of this server reports it."""
    response = jsonify({"success": False, "message": message, **more})
    response.status_code = status
    if retry_after is not None:
        response.headers["Retry-After"] = str(max(1, round(retry_after)))
    return response


def _only_pages_that_may() -> Response | None:
    """Before every request: the answer to a browser's question whether its page may ask. Raises Forbidden."""
    if request.method == "OPTIONS":
        # Without the headers of `_cross_origin` this is a no.
        response = Response(status=204)
        response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
        return response
    if not _page_may():
        log.info("page of another origin refused", path=request.path, peer=request_origin().client_ip)
        raise Forbidden("Pages of this origin may not use this server; server.allowed_origins lists those that may.")
    return None


def _page_may() -> bool:
    config: WebConfig = current_app.config[_ORIGIN_SETTINGS]
    hosts = [request.headers.get("Host", "")]
    if (request.remote_addr or "") in config.trusted_proxies:
        hosts.append(request.headers.get("X-Forwarded-Host", ""))
    return config.browsers.allows(request.headers.get("Origin", ""), *hosts)


def _cross_origin(response: Response) -> Response:
    if request.path.startswith(PAGES_READ):
        response.headers["Vary"] = "Origin"
        origin = request.headers.get("Origin", "")
        if origin and _page_may():
            # No Allow-Credentials: nothing here works by cookie.
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
            response.headers["Access-Control-Allow-Methods"] = ALLOWED_METHODS
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    reply = failure(status, error.description or error.name)
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After", "WWW-Authenticate"):
            reply.headers[name] = value
    return reply


def _auth_error(error: AuthError) -> Response:
    reply = failure(401, str(error) or "This needs a valid token.")
    reply.headers["WWW-Authenticate"] = "Bearer"
    return reply


def _too_many(error: LockedOut | TooOften) -> Response:
    return failure(429, str(error), retry_after=error.retry_after)


def _overloaded(error: Overloaded) -> Response:
    return failure(503, "The server is busy, please try again.", retry_after=error.retry_after)


def _protocol_error(error: ProtocolError) -> Response:
    return failure(400, str(error))


def _unexpected(error: Exception) -> Response:
    log.exception("request failed", path=request.path, method=request.method)
    return failure(500, "Something went wrong on the server; its log says what.")
