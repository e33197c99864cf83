"""What is in the picture: a device sends a photograph and a question, a vision model answers.

Not the tool (that is the device's own `take_photo`, which calls this while the language model waits for it) and not
the model (a Vllm provider, looked up at each request, so that a reload takes effect). One request costs one greenlet
for as long as the model takes; how many may wait is bounded.

Facts of the firmware (main/boards/common/esp32_camera.cc of 78/xiaozhi-esp32): the upload is chunked
multipart/form-data with `question` before `file`; only the body of a 200 is read, and it is handed to the language
model as the result of the tool. Hence: what is wrong with a request is a 4xx, but a model that fails is a 200 with
`success: false` and a sentence, so that the user hears why instead of "failed to upload"."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from xiaozhi.chat import CallContext
from xiaozhi.errors import AuthError, Overloaded, VendorBusy, VendorError, VendorTimeout
from xiaozhi.protocol.token import VisionTokens, bearer
from xiaozhi.providers.contracts.vllm import Vllm
from xiaozhi.runtime.deadlines import at_most
from xiaozhi.runtime.guesses import Guesses
from xiaozhi.runtime.limits import Places
from xiaozhi.runtime.logs import get_logger
from xiaozhi.web.addresses import VISION_PATH, ServerAddresses
from xiaozhi.web.app import client_key, failure, request_origin

log = get_logger(__name__)

MAX_IMAGE_BYTES = 5 * 1024 * 1024
MAX_QUESTION_CHARS = 4000
_FORM_OVERHEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """How pictures are answered."""

    addresses: ServerAddresses = field(default_factory=ServerAddresses)
    """For people who ask this route with a browser."""
    deadline_seconds: float = 25.0
    """For the model; less than the 30 s that the tool call which waits for it has."""
    concurrent: int = 16
    """Pictures held in memory at once; one more is told to come again."""
    per_device: int = 2
    """Of these, those of one device: it may upload slowly, for as long as a request may take."""
    per_address: int = 8
    """And of all devices behind one address."""


def create_blueprint(
    config: VisionConfig,
    tokens: VisionTokens,
    provider: Callable[[str], Vllm | None],
    *,
    guesses: Guesses | None = None,
    admit: Callable[[str], None] = lambda device_id: None,
    clock: Callable[[], float] = time.time,
) -> Blueprint:
    """The routes under /mcp/vision. `provider(device id)` is the model of the moment for that device, "" for
    any; None when none is configured. `guesses`: where wrong tokens are counted. `admit`: counts one picture of a
    device, raises TooOften."""
    desk = _Desk(config, tokens, provider, guesses or Guesses(), admit, clock)
    blueprint = Blueprint("vision", __name__)
    blueprint.add_url_rule(VISION_PATH, "status", desk.status, methods=["GET"])
    blueprint.add_url_rule(VISION_PATH, "explain", desk.explain, methods=["POST"])
    return blueprint


def sniff_image(data: bytes) -> str | None:
    """The MIME type that the content itself shows (JPEG, PNG, GIF, BMP, TIFF, WEBP), None for anything else."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"BM") and len(data) >= 26 and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"
    if data.startswith((b"II*\x00", b"MM\x00*")):
        return "image/tiff"
    # RIFF alone would also be a WAV file.
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return None


# Sizes of the information header in the versions of BMP; two letters alone are no proof.
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})


class _Desk:
    """Answers questions about pictures."""

    def __init__(
        self,
        config: VisionConfig,
        tokens: VisionTokens,
        provider: Callable[[str], Vllm | None],
        guesses: Guesses,
        admit: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._tokens = tokens
        self._provider = provider
        self._guesses = guesses
        self._admit = admit
        self._clock = clock
        self._devices = Places(config.concurrent, config.per_device)
        self._addresses = Places(config.concurrent, config.per_address)

    def status(self) -> Response:
        """For people with a browser."""
        url = self._config.addresses.vision_url(request_origin())
        if self._provider("") is None:
            text = (
                "No vision model is configured (selected_module.VLLM); "
                f"the address would be {url}\n没有配置视觉模型。\n"
            )
        else:
            text = (
                "The vision service is running. Devices send their "
                f"pictures to {url}\nMCP Vision 接口运行正常，视觉解释接口地址是：{url}\n"
            )
        return Response(text, content_type="text/plain; charset=utf-8")

    def explain(self) -> Response:
        """A picture and a question in, words out. Raises AuthError, TooOften, Overloaded and HTTP errors."""
        # First of all: a stranger's upload is not even read. The token names the device, so the header may be missing.
        token, claimed = bearer(request.headers.get("Authorization", "")), request.headers.get("Device-Id", "").strip()
        address = client_key()
        try:
            device = self._tokens.check(token, claimed, now=self._clock())
        except AuthError:
            self._guesses.refuse_guesser("vision_token", address)
            self._guesses.add("vision_token", address)
            raise
        self._admit(device)
        if not self._addresses.take(address):
            raise Overloaded("vision", retry_after=2)
        try:
            if not self._devices.take(device):
                raise Overloaded("vision", retry_after=2)
            try:
                return self._explained(device)
            finally:
                self._devices.give_back(device)
        finally:
            self._addresses.give_back(address)

    def _explained(self, device_id: str) -> Response:
        question, image, mime = read_upload()
        context = CallContext(device_id=device_id, client_id=request.headers.get("Client-Id", "").strip())
        return self._ask(question, image, mime, context)

    def _ask(self, question: str, image: bytes, mime: str, context: CallContext) -> Response:
        vllm = self._provider(context.device_id)
        if vllm is None:
            return _unanswered("No vision model is configured on the server. 服务器没有配置视觉模型。")
        seconds = self._config.deadline_seconds
        began = time.monotonic()
        try:
            with at_most(seconds, VendorTimeout(vllm.name or "vllm", f"no answer within {seconds:g} s")):
                text = vllm.describe(question, image, mime, context)
        except VendorTimeout as error:
            log.warning("vision timed out", device=context.device_id, error=str(error)[:200])
            return _unanswered("The vision model took too long. 视觉模型响应超时。")
        except VendorBusy as error:
            log.warning("vision vendor busy", device=context.device_id, error=str(error)[:200])
            return _unanswered("The vision model is busy, try again later. 视觉模型繁忙，请稍后再试。")
        except VendorError as error:
            log.warning("vision failed", device=context.device_id, error=str(error)[:200])
            return _unanswered("The vision model failed. 视觉模型调用失败。")
        log.info(
            "vision", device=context.device_id, bytes=len(image), type=mime, ms=round((time.monotonic() - began) * 1000)
        )
        return jsonify({"success": True, "action": "RESPONSE", "response": text})


def read_upload() -> tuple[str, bytes, str]:
    """Question, picture and its type, of the current request. Raises BadRequest, RequestEntityTooLarge,
    UnsupportedMediaType."""
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("The request must be multipart/form-data with the field 'question' and a picture.")
    request.max_content_length = MAX_IMAGE_BYTES + _FORM_OVERHEAD_BYTES
    too_large = RequestEntityTooLarge(
        f"The picture is too large; at most {MAX_IMAGE_BYTES // (1024 * 1024)} MB are accepted."
    )
    try:
        question = request.form.get("question", "").strip()
        # Firmware calls it "file", browser pages "image".
        uploaded = request.files.get("file") or next(iter(request.files.values()), None)
    except RequestEntityTooLarge:
        raise too_large from None
    if not question:
        raise BadRequest("The field 'question' is missing or empty.")
    if len(question) > MAX_QUESTION_CHARS:
        raise BadRequest(f"The question is too long; at most {MAX_QUESTION_CHARS} characters are accepted.")
    if uploaded is None:
        raise BadRequest("There is no file part with the picture.")
    image = uploaded.read(MAX_IMAGE_BYTES + 1)
    if len(image) > MAX_IMAGE_BYTES:
        raise too_large
    if not image:
        raise BadRequest("The picture is empty.")
    mime = sniff_image(image)
    if mime is None:
        raise UnsupportedMediaType("The file is no picture of a known kind (JPEG, PNG, GIF, BMP, TIFF, WEBP).")
    return question, image, mime


def _unanswered(message: str) -> Response:
    return failure(200, message)
