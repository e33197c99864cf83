"""Tencent Cloud's speech while text comes in (TextToStreamAudioWSv2): one connection per answer.

Source: cloud.tencent.com/document/api/1073/108595. The voices and keys are those of `tts/tencent.py`, and `appid` of
the same block is needed. The vendor speaks what it has up to a mark such as 。；？！ or the end of a line, and does not
tell where our sentences begin: they are found in the sound (`families/spoken_sentences.py`). It waits ten minutes for
more text."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Mapping
from typing import Any, Final

import orjson
from pydantic import Field

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorBusy, VendorError, VendorGarbage, VendorRejected, VendorUnavailable
from xiaozhi.net.http_errors import MAX_DETAILS, redact
from xiaozhi.net.websocket_client import VendorSocket
from xiaozhi.providers.contracts.tts import SpeechEvent, TtsTraits
from xiaozhi.providers.families.spoken_sentences import SpokenSentences
from xiaozhi.providers.families.tencent import TencentKeys, TencentVoiceOptions, signed_url
from xiaozhi.providers.registry import provider
from xiaozhi.providers.tts_session import WAIT_S, SessionTts, TtsSession

SIGNED_FOR_S = 86_400
_AUTHENTICATION: Final = 10_003
# Messages are in Chinese or English and change; the codes are not all documented.
_SIGNS: Final[tuple[tuple[type[VendorError], tuple[str, ...]], ...]] = (
    (VendorBusy, ("并发", "频率", "concurren", "too many", "limit exceeded")),
    (
        VendorRejected,
        ("鉴权", "欠费", "余额", "资源包", "参数", "未开通", "auth", "sign", "arrear", "param", "invalid", "not open"),
    ),
)


class TencentStreamTtsOptions(TencentKeys, TencentVoiceOptions):
    """See `TencentVoiceOptions`."""

    appid: str = Field(pattern=r"^\d+$")
    ws_url: str = Field("wss://tts.cloud.tencent.com/stream_wsv2", pattern=r"^wss?://[^?]+$")
    connect_timeout: float = Field(5.0, gt=0)
    timeout: float = Field(10.0, gt=0)
    """Seconds without a sign of life while the vendor owes sound."""


@provider("tts", "tencent_stream", TencentStreamTtsOptions)
class TencentStreamTts(SessionTts):
    """One connection per answer."""

    def __init__(self, options: TencentStreamTtsOptions) -> None:
        super().__init__(timeout=options.timeout, marks_sentences=False)
        self.options = options
        self.traits = TtsTraits(sample_rate=options.sample_rate)
        self.secret_key = options.secret_key.get_secret_value()
        self.request: dict[str, Any] = {
            "Action": "TextToStreamAudioWSv2",
            "AppId": int(options.appid),
            "SecretId": options.secret_id.get_secret_value(),
            "Codec": "pcm",
            **options.manner(),
        }
        # Speed 0 is 1, -2 is 0.6, 6 is 2.5.
        speed = self.request["Speed"]
        self.speed = 1 + speed * (0.2 if speed < 0 else 0.25)

    def connect(self, context: CallContext) -> TtsSession:
        """Connect, and wait until the vendor is ready."""
        return _Session(self)


class _Session(TtsSession):
    def __init__(self, owner: TencentStreamTts) -> None:
        options = owner.options
        self._vendor = owner.vendor
        self._id = uuid.uuid4().hex
        self._spoken = SpokenSentences("pcm", options.sample_rate, marked=False, speed=owner.speed)
        self._finished = False
        now = int(time.time())
        parameters = {**owner.request, "SessionId": self._id, "Timestamp": now, "Expired": now + SIGNED_FOR_S}
        url = signed_url(options.ws_url, parameters, owner.secret_key)
        self._secrets = (owner.secret_key, options.secret_id.get_secret_value(), url.partition("Signature=")[2])
        self._socket = VendorSocket(self._vendor, url, connect=options.connect_timeout, secrets=self._secrets)
        end = time.monotonic() + options.connect_timeout
        try:
            while not self._event(self._socket.receive(max(0.001, end - time.monotonic()))).get("ready"):
                pass
        except BaseException:
            self._socket.close()
            raise

    def send_sentence(self, sentence: str) -> None:
        self._spoken.said(sentence)
        self._send("ACTION_SYNTHESIS", f"{sentence}\n")  # a full stop of Latin script does not make it begin

    def send_end(self) -> None:
        self._finished = True
        self._send("ACTION_COMPLETE", "")

    def read(self) -> Generator[SpeechEvent | None]:
        with self._socket:
            while True:
                message = self._socket.receive(WAIT_S)
                if isinstance(message, bytes):
                    yield from self._spoken.feed(message)
                    continue
                if self._event(message).get("final"):
                    if not self._finished:
                        raise VendorUnavailable(self._vendor, "the vendor ended the session")
                    return
                yield None

    def hang_up(self) -> None:
        self._socket.close()

    def _send(self, action: str, data: str) -> None:
        message = {"session_id": self._id, "message_id": uuid.uuid4().hex, "action": action, "data": data}
        self._socket.send_json(message)

    def _event(self, message: str | bytes) -> Mapping[str, Any]:
        """A message of the vendor's; the error that it stands for is raised."""
        try:
            event = orjson.loads(message)
        except orjson.JSONDecodeError:
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("code"), int):
            shown = message if isinstance(message, str) else "sound before the session began"
            raise VendorGarbage(self._vendor, f"no event: {redact(shown, self._secrets)}")
        if event["code"]:
            raise self._failure(event["code"], str(event.get("message") or ""))
        return event

    def _failure(self, code: int, message: str) -> VendorError:
        said = f"{code} {message}"
        words = message.lower()
        made = next((kind for kind, signs in _SIGNS if any(sign in words for sign in signs)), VendorUnavailable)
        details = redact(said, self._secrets, MAX_DETAILS)
        if code == _AUTHENTICATION:
            return VendorRejected(self._vendor, redact(said, self._secrets), details=details, status=401)
        return made(self._vendor, redact(said, self._secrets), details=details)
