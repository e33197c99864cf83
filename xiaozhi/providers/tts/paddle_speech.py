"""PaddleSpeech's servers: streaming over a WebSocket, or a whole WAV over HTTP. One request per sentence.

Source: github.com/PaddlePaddle/PaddleSpeech/wiki/PaddleSpeech-Server-WebSocket-API (streaming: a session begins and
ends in JSON, the sound is base64 of s16le at 24 kHz) and demos/speech_server (HTTP). Only HTTP knows `speed` and
`volume`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any, Literal

import orjson
from pydantic import AliasChoices, Field, model_validator

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError, VendorGarbage, VendorRejected, VendorUnavailable
from xiaozhi.net.websocket_client import VendorSocket
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import SentenceTts, Sound, TtsTraits
from xiaozhi.providers.families.http_options import KeyedOptions
from xiaozhi.providers.families.voice_scales import RateScale, VolumeScale, scaled
from xiaozhi.providers.registry import provider
from xiaozhi.providers.sound import sounds
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

_BAD_REQUEST = range(400, 500)


class PaddleSpeechTtsOptions(RateScale, VolumeScale, KeyedOptions):
    """`protocol` decides what `url` is; both have the server's usual address. `api_key` is for a gateway."""

    protocol: Literal["websocket", "http"] = "websocket"
    url: str = Field("", pattern=r"^((ws|http)s?://.+)?$")
    spk_id: int = Field(0, ge=0, validation_alias=AliasChoices("private_voice", "spk_id"))
    speed: float = Field(1.0, gt=0, le=3)
    volume: float = Field(1.0, gt=0, le=3)
    sample_rate: int = Field(24_000, ge=8_000, le=48_000)
    """Hz of what the WebSocket sends; a WAV says so itself."""

    @model_validator(mode="after")
    def _proxied_by_the_environment(self) -> PaddleSpeechTtsOptions:
        if self.proxy and self.protocol == "websocket":
            raise ValueError("a WebSocket goes through the proxy of the environment (https_proxy) only: remove proxy")
        return self

    @property
    def address(self) -> str:
        """Where the server is asked."""
        usual = {
            "websocket": "ws://127.0.0.1:8092/paddlespeech/tts/streaming",
            "http": "http://127.0.0.1:8090/paddlespeech/tts",
        }
        return self.url or usual[self.protocol]


@provider("tts", "paddle_speech", PaddleSpeechTtsOptions)
class PaddleSpeechTts(SentenceTts):
    """One connection, or one request, per sentence."""

    needs_services = True

    def __init__(self, options: PaddleSpeechTtsOptions, services: Services) -> None:
        self._options = options
        self._inference = services.inference
        self._speed = scaled(options.rate_percent, 0.5, 1.0, 2.0, otherwise=options.speed)
        self._volume = scaled(options.volume_percent, 0.1, 1.0, 3.0, otherwise=options.volume)
        self._http = options.client(options.address)
        self._open: set[VendorSocket] = set()
        self._closed = False
        self.traits = TtsTraits(streaming=False, sample_rate=options.sample_rate)
        if options.protocol == "websocket" and (self._speed, self._volume) != (1.0, 1.0):
            log.warning("PaddleSpeech knows speed and volume over http only", protocol=options.protocol)

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of one sentence, as it comes."""
        streamed = self._options.protocol == "websocket"
        yield from sounds(
            self._streamed(sentence) if streamed else self._whole(sentence),
            vendor=self._http.vendor,
            expected="pcm" if streamed else "wav",
            sample_rate=self.traits.sample_rate,
            inference=self._inference,
        )

    def close(self) -> None:
        """Break off what runs."""
        self._closed = True
        self._http.close()
        for socket in list(self._open):
            socket.close()

    def _whole(self, sentence: str) -> Iterator[bytes]:
        body = {
            "text": sentence,
            "spk_id": self._options.spk_id,
            "speed": self._speed,
            "volume": self._volume,
            "sample_rate": 0,
            "save_path": None,
        }
        answer = self._http.json("POST", self._options.address, json=body)
        result = answer.get("result") if isinstance(answer, dict) else None
        if not isinstance(result, dict) or answer.get("success") is False:
            raise self._refusal(answer)
        yield self._sound(result.get("audio"))

    def _streamed(self, sentence: str) -> Iterator[bytes]:
        options = self._options
        if self._closed:
            raise VendorUnavailable(self._http.vendor, "closed")
        with VendorSocket(
            self._http.vendor,
            options.address,
            headers={**options.credentials(), **options.headers},
            connect=options.timeout.connect,
            verify=options.verify_tls,
            secrets=options.secrets(),
        ) as socket:
            self._open.add(socket)
            try:
                socket.send_text('{"task":"tts","signal":"start"}')
                begun = self._answer(socket, options.timeout.first_byte)
                socket.send_json({"text": sentence, "spk_id": options.spk_id})
                wait = options.timeout.first_byte
                while (answer := self._answer(socket, wait)).get("status") != 2:
                    wait = options.timeout.gap
                    yield self._sound(answer.get("audio"))
                if answer.get("audio"):
                    yield self._sound(answer.get("audio"))
                end = {"task": "tts", "signal": "end", "session": begun.get("session")}
                socket.send_json(end)
                self._await_end(socket)
            finally:
                self._open.discard(socket)

    def _await_end(self, socket: VendorSocket) -> None:
        # The server logs an error when its last word finds nobody; the sound is complete without it.
        try:
            socket.receive(self._options.timeout.connect)
        except VendorError:
            pass

    def _answer(self, socket: VendorSocket, seconds: float) -> dict[str, Any]:
        try:
            answer = orjson.loads(socket.receive(seconds))
        except orjson.JSONDecodeError:
            raise VendorGarbage(self._http.vendor, "a message that is not JSON") from None
        if not isinstance(answer, dict) or answer.get("status") not in (0, 1, 2):
            raise self._refusal(answer)
        return answer

    def _sound(self, written: Any) -> bytes:
        try:
            return base64.b64decode(written, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise VendorGarbage(self._http.vendor, "sound that is not base64") from None

    def _refusal(self, answer: Any) -> VendorError:
        if not isinstance(answer, dict):
            return VendorGarbage(self._http.vendor, "an answer that is no object")
        code = answer.get("code", answer.get("status"))
        text = self._http.redact(f"{code} {answer.get('message') or answer.get('signal') or ''}")
        ours = isinstance(code, int) and code in _BAD_REQUEST
        return (VendorRejected if ours else VendorUnavailable)(self._http.vendor, text)
