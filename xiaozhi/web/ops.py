"""What operators and their tools ask: is it alive, is it ready, how is it doing, take the new configuration; and a page
for people.

Not where any of that is decided: readiness, metrics and reloading are callables given by the composition root. Not a
console for users. Alive is not ready: a server that drains, or sheds load, is alive and must not be killed, but must
not be sent anybody new."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flask import Blueprint, Response, jsonify, render_template, request
from werkzeug.exceptions import NotFound

from xiaozhi.errors import Fault
from xiaozhi.runtime.guesses import Guesses
from xiaozhi.web.addresses import ServerAddresses
from xiaozhi.web.admin_access import AdminAccess
from xiaozhi.web.app import failure, request_origin

# The page has no scripts and loads nothing; its style is inline.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What the index page shows besides addresses and readiness."""

    version: str = ""
    providers: Mapping[str, str] = field(default_factory=dict)
    """Kind -> name of what is in use ("ASR" -> "Pocketsphinx")."""
    connections: int | None = None
    """Devices connected to this process; None: not shown."""
    failing: Sequence[str] = ()
    """Sentences about vendors that fail, without secrets."""
    limitations: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Block of a vendor -> what it was found to be unable to do."""
    console: bool = False
    """There are /talk and /console, for whoever is at home."""


@dataclass(frozen=True, slots=True)
class OpsHooks:
    """Where the answers come from. All quick, except `reload`."""

    ready: Callable[[], tuple[bool, Sequence[str]]]
    """(whether new devices may be sent here, reasons why not)."""
    addresses: ServerAddresses
    facts: Callable[[], PageFacts] = PageFacts
    failing: Callable[[], Sequence[str]] = tuple
    """Sentences about vendors that fail, without secrets."""
    metrics: Callable[[], tuple[str, bytes]] | None = None
    """(content type, body) in the Prometheus text format."""
    reload: Callable[[], Sequence[Fault]] | None = None
    """Read the configuration again; the faults for which it was refused, none when it is in force."""
    devices: Callable[[], Sequence[Mapping[str, object]]] | None = None
    """What the connected devices cost, the dearest first."""
    servers: Callable[[], Sequence[Mapping[str, object]]] = tuple
    """The servers that share a store with this one, this one included, as they have described themselves; none where
    there is no such store."""


def create_blueprint(hooks: OpsHooks, *, admin_token: str = "", guesses: Guesses | None = None) -> Blueprint:
    """The routes /, /healthz, /readyz, /metrics, /admin/reload, /admin/devices and /admin/servers. Without an
    `admin_token` those under /admin are closed. `guesses`: where wrong ones are counted."""
    desk = _Desk(hooks, AdminAccess(admin_token, guesses or Guesses()))
    blueprint = Blueprint("ops", __name__, template_folder="templates")
    blueprint.add_url_rule("/", "index", desk.index, methods=["GET"])
    blueprint.add_url_rule("/healthz", "healthz", desk.healthz, methods=["GET"])
    blueprint.add_url_rule("/readyz", "readyz", desk.readyz, methods=["GET"])
    blueprint.add_url_rule("/metrics", "metrics", desk.metrics, methods=["GET"])
    blueprint.add_url_rule("/admin/reload", "reload", desk.reload, methods=["POST"])
    blueprint.add_url_rule("/admin/devices", "devices", desk.devices, methods=["GET"])
    blueprint.add_url_rule("/admin/servers", "servers", desk.servers, methods=["GET"])
    return blueprint


class _Desk:
    """Answers operators."""

    def __init__(self, hooks: OpsHooks, access: AdminAccess) -> None:
        self._hooks = hooks
        self._access = access

    def index(self) -> Response:
        """The page for people, in English or Chinese as their browser prefers."""
        ready, reasons = self._hooks.ready()
        facts = self._hooks.facts()
        addresses, origin = self._hooks.addresses, request_origin()
        chinese = request.accept_languages.best_match(["en", "zh"], default="en") == "zh"
        page = render_template(
            "index.html",
            chinese=chinese,
            ready=ready,
            reasons=reasons,
            websocket=addresses.websocket_url(origin),
            ota=addresses.ota_url(origin),
            vision=addresses.vision_url(origin),
            facts=facts,
            console=facts.console and origin.seems_at_home,
        )
        response = Response(page, content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = _PAGE_POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Vary"] = "Accept-Language"
        return response

    def healthz(self) -> Response:
        """200 as long as the process can answer at all."""
        return jsonify({"status": "ok"})

    def readyz(self) -> Response:
        """200 when new devices may come, else 503 with the reasons. Vendors that fail are named, and are no reason: a
        fallback may serve, and another server would ask the same vendor."""
        ready, reasons = self._hooks.ready()
        answer: dict[str, object] = {"ready": ready, "reasons": list(reasons)}
        failing = self._hooks.failing()
        if failing:
            answer["failing_vendors"] = list(failing)
        response = jsonify(answer)
        response.status_code = 200 if ready else 503
        return response

    def metrics(self) -> Response:
        """Metrics for Prometheus."""
        if self._hooks.metrics is None:
            raise NotFound("This server keeps no metrics.")
        content_type, body = self._hooks.metrics()
        return Response(body, content_type=content_type)

    def reload(self) -> Response:
        """Take the configuration anew. Raises Forbidden, AuthError, LockedOut."""
        self._access.check("reload")
        if self._hooks.reload is None:
            raise NotFound("This server cannot reload its configuration.")
        faults = self._hooks.reload()
        if faults:
            listed = [{"key": fault.key, "value": fault.value, "expected": fault.expected} for fault in faults]
            return failure(422, "The configuration was refused; the old one stays in force.", faults=listed)
        return jsonify({"success": True, "message": "The new configuration is in force."})

    def devices(self) -> Response:
        """The devices that cost most now. Raises Forbidden, AuthError, LockedOut."""
        self._access.check("devices")
        if self._hooks.devices is None:
            raise NotFound("This server keeps no list of devices.")
        return jsonify({"devices": list(self._hooks.devices())})

    def servers(self) -> Response:
        """The servers of this installation. Raises Forbidden, AuthError, LockedOut."""
        self._access.check("servers")
        return jsonify({"servers": list(self._hooks.servers())})
