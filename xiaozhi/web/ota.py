"""What a device asks first after it is switched on: the time, where to connect and with which token, and whether there
is newer firmware.

Not the binding of devices to owners (a management room does that and is asked through `activation`), and not a place
where tokens are checked. Formats: docs/http.md; the firmware's side is main/ota.cc of 78/xiaozhi-esp32, which gives up
on any answer but 200.

Who gets a token, with authentication on: a device that is enrolled with the client id that it sends, which
`devices/enrolment.py` decides; or one that `is_known` vouches for, such as a bound one. Everybody else gets the address
with an empty token, and a code to show if an operator may approve it. A MAC address is no secret, so "asked for it" is
no reason to be given one. The MQTT password is a second door to the same house, and goes to the same devices. With
authentication off no token is needed and none is made. Firmware needs no token: it is no secret."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from flask import Blueprint, Response, jsonify, request, send_file
from werkzeug.exceptions import BadRequest, NotFound

from xiaozhi.devices.enrolment import Asker, Ruling
from xiaozhi.errors import Overloaded, StorageError, VendorError
from xiaozhi.net.origin import Origin
from xiaozhi.net.proxies import is_at_home
from xiaozhi.protocol.device_id import checked_device_id
from xiaozhi.protocol.token import DeviceTokens
from xiaozhi.runtime.limits import Places
from xiaozhi.runtime.logs import get_logger
from xiaozhi.web.addresses import OTA_PATH, ServerAddresses
from xiaozhi.web.app import client_key, failure, read_body, request_origin
from xiaozhi.web.firmware import TO_ALL, FirmwareShelf, Release
from xiaozhi.web.ota_mqtt import MqttAsker, MqttGateway, OwnMqtt, mqtt_block

log = get_logger(__name__)

UNKNOWN_VERSION = "0.0.0"
"""Echoed to a device that did not say what it runs; such a device is offered nothing, as anything would be newer."""
MAX_BODY_BYTES = 64 * 1024
MAX_FIELD_CHARS = 128
DOWNLOADS = 64
"""Firmware files that are being sent at once; one more is told to come again, which the firmware does at its next
start."""
DOWNLOADS_PER_ADDRESS = 16
WAITS = "Waiting for approval 等待批准"
_CHINA_HOURS = 8
# Matched whole (fullmatch): "$" would let a newline pass.
_PRINTABLE = re.compile(r"[\x21-\x7e]{0,128}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class OtaConfig:
    """What the answers are made of."""

    addresses: ServerAddresses = field(default_factory=ServerAddresses)
    zone: datetime.tzinfo = datetime.timezone(datetime.timedelta(hours=8))
    firmware_dir: Path = Path("data/bin")
    auth_enabled: bool = False
    mqtt: MqttGateway | None = None
    own_mqtt: OwnMqtt | None = None


@dataclass(frozen=True, slots=True)
class OtaRequest:
    """What a device said of itself, checked."""

    device_id: str
    client_id: str
    model: str
    board_names: tuple[str, ...]
    """What it calls its board, the model first."""
    version: str
    """"" when it did not say."""
    client_ip: str
    at_home: bool
    """The address is one of a private network, and the device's own."""
    seems_at_home: bool
    """The same, as far as can be told."""
    body: Mapping[str, Any]
    serial_number: str = ""
    activation_version: int = 1
    language: str = ""

    @property
    def asker(self) -> Asker:
        """Who asks."""
        return Asker(self.device_id, self.client_id, self.client_ip, self.at_home, self.seems_at_home)


@dataclass(frozen=True, slots=True)
class Activation:
    """Shown to the owner of a device that nobody has bound yet. With a challenge the device comes back to /activate."""

    code: str
    message: str
    challenge: str = ""
    timeout_ms: int | None = None


@dataclass(frozen=True, slots=True)
class OtaHooks:
    """Decisions made elsewhere. Each may block (it costs its greenlet) and may raise VendorError, StorageError or
    Overloaded: the device is then asked to come again. Device ids are in their normal form."""

    on_board: Callable[[str, Sequence[str]], None] = lambda device_id, names: None
    """Told what a device says of its board: (device id, type, name and User-Agent as far as it gave them)."""
    on_report: Callable[[OtaRequest], None] = lambda asked: None
    """Told what a device says of itself. Does not block."""
    admit: Callable[[str, str], None] = lambda address, device_id: None
    """Counts one request of this address, or, where a device id is given, of this device at this address. Raises
    TooOften."""
    protocol_version: Callable[[Sequence[str]], int | None] = lambda names: None
    """The binary protocol version (1, 2, 3) that a board of these names is to use; None: its own choice."""
    transport: Callable[[Sequence[str]], str] = lambda names: "auto"
    """What a board of these names is told of: "auto", "websocket", "mqtt", "both" or "gateway" (`ota_mqtt.py`)."""
    release: Callable[[str], Release] = lambda file_name: TO_ALL
    """Who is offered a firmware file."""

    is_known: Callable[[str, str], bool] | None = None
    """(device id, client id) -> whether this device may have a token wherever it is and however it is enrolled."""
    enrol: Callable[[Asker], Ruling] = lambda asker: Ruling(False, "nobody is enrolled here")
    """Whether a device may have a token, and how it may come by one (`devices/enrolment.py`)."""
    activation: Callable[[OtaRequest], Activation | None] | None = None
    """What to show on a device that is not bound; None for one that is."""
    activate: Callable[[OtaRequest], bool | None] | None = None
    """A device answers its challenge (`body`: algorithm, serial_number, challenge, hmac; "" for what it left out): True
    when it is bound now, None when its proof is wrong."""


def create_blueprint(
    config: OtaConfig,
    tokens: DeviceTokens | None,
    hooks: OtaHooks | None = None,
    *,
    clock: Callable[[], float] = time.time,
) -> Blueprint:
    """The routes under /xiaozhi/ota. `tokens` may only be None while authentication is off (ValueError)."""
    if config.auth_enabled and tokens is None:
        raise ValueError("authentication is enabled but there is no secret to make tokens with")
    desk = _Desk(config, tokens, hooks or OtaHooks(), clock)
    blueprint = Blueprint("ota", __name__)
    # The second: as it arrives from a proxy that takes the first part of the path away.
    for path in (OTA_PATH, "/ota/"):
        blueprint.add_url_rule(path, "status", desk.status, methods=["GET"])
        blueprint.add_url_rule(path, "check", desk.check, methods=["POST"])
        blueprint.add_url_rule(f"{path}activate", "activate", desk.activate, methods=["POST"])
        blueprint.add_url_rule(f"{path}download/<path:file_name>", "download", desk.download, methods=["GET"])
    return blueprint


class _Desk:
    """Answers devices."""

    def __init__(
        self, config: OtaConfig, tokens: DeviceTokens | None, hooks: OtaHooks, clock: Callable[[], float]
    ) -> None:
        self._config = config
        self._tokens = tokens
        self._hooks = hooks
        self._clock = clock
        self._shelf = FirmwareShelf(config.firmware_dir)
        self._downloads = Places(DOWNLOADS, DOWNLOADS_PER_ADDRESS)

    # --- routes ---

    def status(self) -> Response:
        """For people with a browser; a device that says who it is gets what a POST would get."""
        if request.headers.get("Device-Id", "").strip():
            return self.check()
        url = self._config.addresses.websocket_url(request_origin())
        text = (
            "The OTA service is running. Devices are told to "
            f"connect to {url}\nOTA 接口运行正常，向设备发送的 WebSocket 地址是：{url}\n"
        )
        return Response(text, content_type="text/plain; charset=utf-8")

    def check(self) -> Response:
        """The device's question and our answer. Raises TooOften."""
        asked = self._read()
        origin = request_origin()
        self._hooks.on_board(asked.device_id, asked.board_names)
        self._hooks.on_report(asked)
        try:
            answer = self._answer(asked, origin)
        except (VendorError, StorageError) as error:
            # An answer without what could not be found out would send the device somewhere else, and it would remember.
            log.warning("ota hook failed", device=asked.device_id, error=str(error)[:200])
            return failure(503, "The device could not be looked up, please try again.", retry_after=5)
        log.info(
            "ota",
            peer=origin.client_ip,
            device=asked.device_id,
            model=asked.model,
            version=asked.version,
            offered=answer["firmware"]["version"],
        )
        return jsonify(answer)

    def activate(self) -> Response:
        """200: bound; 202: not yet, ask again (the firmware does, every 3 s)."""
        if self._hooks.activate is None:
            raise NotFound("This server does not bind devices.")
        asked = self._read()
        asked = replace(asked, body=_activation_body(asked))
        try:
            bound = self._hooks.activate(asked)
        except (VendorError, StorageError) as error:
            log.warning("activation failed", device=asked.device_id, error=str(error)[:200])
            return failure(503, "The device could not be looked up, please try again.", retry_after=5)
        if bound is None:
            log.warning("activation refused", device=asked.device_id, peer=asked.client_ip, reason="wrong HMAC")
            return failure(403, "The challenge was not answered with the key of this serial number.")
        if bound:
            return jsonify({"success": True})
        reply = failure(202, "The device is not bound yet.")
        return reply

    def download(self, file_name: str) -> Response:
        """One firmware file."""
        path = self._shelf.path(file_name)
        if path is None:
            raise NotFound("There is no such firmware file.")
        address = client_key()
        if not self._downloads.take(address):
            raise Overloaded("downloads", retry_after=10)
        try:
            # Content-Length is what the firmware sizes its download by.
            reply = send_file(
                path, mimetype="application/octet-stream", as_attachment=True, conditional=True, max_age=0
            )
        except BaseException:
            self._downloads.give_back(address)
            raise
        # Flask would hand the file itself to the server, and nobody would hear of its end.
        reply.direct_passthrough = False
        reply.call_on_close(lambda: self._downloads.give_back(address))
        return reply

    # --- the answer ---

    def _read(self) -> OtaRequest:
        address = client_key()
        self._hooks.admit(address, "")
        asked = read_request()
        self._hooks.admit(address, asked.device_id)
        return asked

    def _answer(self, asked: OtaRequest, origin: Origin) -> dict[str, Any]:
        config = self._config
        answer: dict[str, Any] = {
            "server_time": {
                "timestamp": round(self._clock() * 1000),
                **_time_zone(config.zone, self._clock()),
            },
            "firmware": self._firmware(asked, origin),
        }
        activation = self._hooks.activation(asked) if self._hooks.activation else None
        ruling = self._ruling(asked)
        trusted = ruling.granted
        if activation is None and ruling.code:
            activation = Activation(ruling.code, f"{WAITS}\n{ruling.code}", ruling.challenge)
        if activation is not None:
            answer["activation"] = _activation_block(activation)
        token = self._token(asked) if trusted else ""
        answer["websocket"] = {"url": config.addresses.websocket_url(origin), "token": token}
        version = self._hooks.protocol_version(asked.board_names)
        if version is not None:
            answer["websocket"]["version"] = version
        transport = self._hooks.transport(asked.board_names)
        if trusted and (block := self._mqtt(asked, transport, origin)) is not None:
            answer["mqtt"] = block
            if transport == "mqtt":
                del answer["websocket"]
        return answer

    def _mqtt(self, asked: OtaRequest, transport: str, origin: Origin) -> dict[str, Any] | None:
        config = self._config
        return mqtt_block(
            MqttAsker(asked.device_id, asked.client_id, asked.model, asked.client_ip),
            transport,
            origin,
            own=config.own_mqtt,
            gateway=config.mqtt,
            addresses=config.addresses,
            now=self._clock(),
        )

    def _token(self, asked: OtaRequest) -> str:
        if not self._config.auth_enabled or self._tokens is None:
            return ""
        return self._tokens.issue(asked.client_id, asked.device_id, now=self._clock())

    def _ruling(self, asked: OtaRequest) -> Ruling:
        """Whether the device may have what lets it in. May block."""
        known = self._hooks.is_known
        if not self._config.auth_enabled or (
            known is not None and asked.client_id and known(asked.device_id, asked.client_id)
        ):
            return Ruling(True)
        return self._hooks.enrol(asked.asker)

    def _firmware(self, asked: OtaRequest, origin: Origin) -> dict[str, Any]:
        newest = self._shelf.newest(asked.model, asked.version, asked.device_id, self._hooks.release)
        if newest is None:
            return {"version": asked.version or UNKNOWN_VERSION, "url": ""}
        url = self._config.addresses.firmware_url(origin, newest.file_name)
        return {"version": newest.version, "url": url, **({"force": 1} if newest.force else {})}


def read_request() -> OtaRequest:
    """The current request, checked. Raises BadRequest or ProtocolError with a sentence that says what is wrong,
    RequestEntityTooLarge."""
    device_id = request.headers.get("Device-Id", "").strip()
    if not device_id:
        raise BadRequest("The Device-Id header is missing; it is the device's MAC address, or a name of its own.")
    client_id = request.headers.get("Client-Id", "").strip()
    # "|" would let one pair of ids pass for another in a token.
    if not _PRINTABLE.fullmatch(client_id) or "|" in client_id:
        raise BadRequest("The Client-Id header must be a UUID, or at most 128 plain characters.")
    body = _json_object(read_body(MAX_BODY_BYTES))
    origin = request_origin()
    return OtaRequest(
        device_id=checked_device_id(device_id),
        client_id=client_id,
        model=_model(body),
        board_names=_board_names(body),
        version=_version(body),
        client_ip=origin.client_ip,
        at_home=origin.sure and is_at_home(origin.client_ip),
        seems_at_home=origin.seems_at_home,
        body=body,
        serial_number=_text(request.headers.get("Serial-Number")),
        activation_version=_activation_version(request.headers.get("Activation-Version", "")),
        language=_text(request.headers.get("Accept-Language")),
    )


def _json_object(data: bytes) -> Mapping[str, Any]:
    if not data.strip():
        return {}
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BadRequest("The request body is not valid JSON.") from None
    # Encoders of Lua and PHP write an empty list for an empty object.
    return body if isinstance(body, dict) else {}


def _model(body: Mapping[str, Any]) -> str:
    """The board type; "default" when the device names none, or none that could be part of a file name."""
    board = body.get("board")
    for named in (
        request.headers.get("Device-Model"),
        board.get("type") if isinstance(board, dict) else None,
        body.get("model"),
    ):
        text = _text(named)
        if _MODEL.fullmatch(text):
            return text
    return "default"


def _board_names(body: Mapping[str, Any]) -> tuple[str, ...]:
    """What the device calls its board; the model comes first. Firmware sends "name/version" as its User-Agent."""
    board = body.get("board")
    name = _text(board.get("name")) if isinstance(board, dict) else ""
    product = _text(request.headers.get("User-Agent")).partition("/")[0]
    return tuple(given for given in (_model(body), name, product) if _PRINTABLE.fullmatch(given) and given)


def _activation_version(header: str) -> int:
    """2 for a device that can answer a challenge; some send the version of their program, such as "2.1.1"."""
    major = header.strip().partition(".")[0]
    return 2 if major.isascii() and major.isdigit() and int(major[:9]) >= 2 else 1


def _time_zone(zone: datetime.tzinfo, now: float) -> dict[str, int | str]:
    """Minutes east of UTC, and the name of the time zone, where one is known: api.tenclass.net sends it, and its
    clients read it. The names of whole hours count westwards from Greenwich."""
    offset = datetime.datetime.fromtimestamp(now, zone).utcoffset() or datetime.timedelta()
    hours = offset.total_seconds() / 3600
    told: dict[str, int | str] = {"timezone_offset": round(hours * 60)}
    if isinstance(zone, ZoneInfo):
        return {**told, "timezone": zone.key}
    if hours == _CHINA_HOURS:
        return {**told, "timezone": "Asia/Shanghai"}
    if hours == round(hours):
        return {**told, "timezone": f"Etc/GMT{round(-hours):+d}" if hours else "Etc/UTC"}
    return told


def _version(body: Mapping[str, Any]) -> str:
    """The version the device runs, "" when it names none."""
    application = body.get("application")
    for named in (
        request.headers.get("Device-Version"),
        application.get("version") if isinstance(application, dict) else None,
    ):
        text = _text(named)
        if text and _PRINTABLE.fullmatch(text):
            return text
    return ""


def _text(value: Any) -> str:
    return value.strip()[:MAX_FIELD_CHARS] if isinstance(value, str) else ""


def _activation_body(asked: OtaRequest) -> Mapping[str, str]:
    """The fields of an activation, as clients send them: also within `Payload`, without `algorithm`, or not at all."""
    wrapped = asked.body.get("Payload")
    given = wrapped if isinstance(wrapped, dict) else asked.body
    body = {name: _text(given.get(name)) for name in ("algorithm", "serial_number", "challenge", "hmac")}
    body["algorithm"] = body["algorithm"] or "hmac-sha256"
    body["serial_number"] = body["serial_number"] or asked.serial_number
    return body


def _activation_block(activation: Activation) -> dict[str, Any]:
    block: dict[str, Any] = {"code": activation.code, "message": activation.message}
    if activation.challenge:
        block["challenge"] = activation.challenge
    if activation.timeout_ms is not None:
        block["timeout_ms"] = activation.timeout_ms
    return block
