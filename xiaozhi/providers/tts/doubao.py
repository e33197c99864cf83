"""Doubao's voices over HTTP (V1): one request per sentence, the whole sound in one answer of JSON. Also 302.ai, which
sells the same under its own address.

Source: volcengine.com/docs/6561/79823 (the old voices), /1257584 (those of the speech model). The two differ in their
ranges, and in what the loudness is called; which one a voice is shows in its name.

WAV is asked for as the existing server does; `format: ogg_opus` goes to the device as it is. What arrives is judged by
its content. Nothing streams here: `huoshan_double_stream` is the vendor's voice that does."""

from __future__ import annotations

import urllib.parse
import uuid
from collections.abc import Iterator
from typing import Any, Final, Literal

import orjson
from pydantic import AliasChoices, Field

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError, VendorGarbage, VendorSilent
from xiaozhi.net.http import HttpReply
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import SentenceTts, Sound, TtsTraits
from xiaozhi.providers.families.http_options import ApiKey, HttpOptions, HttpUrl
from xiaozhi.providers.families.openai import error_in_answer
from xiaozhi.providers.families.platform_ids import PlatformId
from xiaozhi.providers.families.sound_in_json import NoSoundInJson, SoundInJson
from xiaozhi.providers.families.voice_scales import VoiceScales, scaled
from xiaozhi.providers.families.volcengine_account import is_cloned, is_large_model
from xiaozhi.providers.families.volcengine_errors import OK_CODES, failure
from xiaozhi.providers.registry import provider
from xiaozhi.providers.sound import sounds
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

OLD_RATIO: Final = (0.1, 3.0)
OLD_SPEED: Final = (0.2, 3.0)
LARGE_SPEED: Final = (0.8, 2.0)
LARGE_LOUDNESS: Final = (0.5, 2.0)
STANDARD_CLUSTER: Final = "volcano_tts"
CLONE_CLUSTER: Final = "volcano_icl"


class DoubaoTtsOptions(VoiceScales, HttpOptions):
    """`authorization`: what stands before the token in the header, to the letter: "Bearer;" for the vendor, "Bearer "
    for 302.ai."""

    api_url: HttpUrl = Field(
        "https://openspeech.bytedance.com/api/v1/tts", validation_alias=AliasChoices("api_url", "base_url", "url")
    )
    appid: PlatformId = ""
    access_token: ApiKey
    authorization: str = "Bearer;"
    cluster: str = STANDARD_CLUSTER
    """A cloned voice (S_...) gets `volcano_icl` unless another one is named."""
    voice: str = Field(min_length=1, validation_alias=AliasChoices("private_voice", "voice"))
    speed_ratio: float = Field(1.0, ge=OLD_SPEED[0], le=OLD_SPEED[1])
    volume_ratio: float = Field(1.0, ge=OLD_RATIO[0], le=OLD_RATIO[1])
    pitch_ratio: float = Field(1.0, ge=OLD_RATIO[0], le=OLD_RATIO[1])
    """The speech model has no pitch to set; old voices have."""
    emotion: str = ""
    """Such as happy, for the voices that have it."""
    format: Literal["wav", "pcm", "mp3", "ogg_opus"] = "wav"
    sample_rate: Literal[8000, 16000, 24000] = 24_000

    def audio(self) -> dict[str, Any]:
        """`audio` as it is sent."""
        large = is_large_model(self.voice)
        speed = LARGE_SPEED if large else OLD_SPEED
        audio: dict[str, Any] = {
            "voice_type": self.voice,
            "encoding": self.format,
            "rate": self.sample_rate,
            "speed_ratio": _within(speed, scaled(self.rate_percent, speed[0], 1, speed[1], otherwise=self.speed_ratio)),
        }
        loud = LARGE_LOUDNESS if large else OLD_RATIO
        volume = _within(loud, scaled(self.volume_percent, loud[0], 1, loud[1], otherwise=self.volume_ratio))
        if large:
            audio["loudness_ratio"] = volume
        else:
            audio["volume_ratio"] = volume
            low, high = OLD_RATIO
            audio["pitch_ratio"] = scaled(self.pitch_percent, low, 1, high, otherwise=self.pitch_ratio)
        if self.emotion:
            audio |= {"emotion": self.emotion, "enable_emotion": True}
        return audio


def _within(limits: tuple[float, float], value: float) -> float:
    return min(max(value, limits[0]), limits[1])


@provider("tts", "doubao", DoubaoTtsOptions)
class DoubaoTts(SentenceTts):
    """One request per sentence."""

    needs_services = True

    def __init__(self, options: DoubaoTtsOptions, services: Services) -> None:
        self._options = options
        self._inference = services.inference
        token = options.access_token.get_secret_value()
        clone = is_cloned(options.voice) and options.cluster == STANDARD_CLUSTER
        self._app = {
            "appid": options.appid,
            "token": token,
            "cluster": CLONE_CLUSTER if clone else options.cluster,
        }
        self._audio = options.audio()
        self._secrets = (token,)
        self._headers = {"Authorization": options.authorization + token}
        self._http = options.http(urllib.parse.urlsplit(options.api_url).hostname or self.type_name, self._secrets)
        self.traits = TtsTraits(streaming=False, sample_rate=options.sample_rate)
        if is_large_model(options.voice) and (options.pitch_percent or options.pitch_ratio != 1):
            log.warning("the pitch has no effect on this voice", voice=options.voice)

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of one sentence."""
        body = {
            "app": self._app,
            "user": {"uid": context.device_id or "xiaozhi"},
            "audio": self._audio,
            "request": {
                "reqid": str(uuid.uuid4()),
                "text": sentence,
                "text_type": "plain",
                "operation": "query",
            },
        }
        options = self._options
        try:
            with self._http.stream("POST", options.api_url, json=body, headers=self._headers) as reply:
                yield from sounds(
                    self._sound_in(reply),
                    vendor=self._http.vendor,
                    expected="opus" if options.format == "ogg_opus" else options.format,
                    sample_rate=options.sample_rate,
                    inference=self._inference,
                )
        except VendorError as error:
            told = self._told_by(error)
            if told is None:
                raise
            raise told from error

    def _sound_in(self, reply: HttpReply) -> Iterator[bytes]:
        decoder, found = SoundInJson("data"), False
        try:
            for piece in reply.chunks():
                if sound := decoder.feed(piece):
                    found = True
                    yield sound
            answer = decoder.answer()
        except NoSoundInJson as error:
            raise VendorGarbage(self._http.vendor, self._http.redact(str(error))) from error
        code = answer.get("code", 0) if isinstance(answer, dict) else None
        if not isinstance(answer, dict) or not isinstance(code, int):
            raise VendorGarbage(self._http.vendor, self._http.redact(str(answer)))
        if complaint := answer.get("error"):  # as 302.ai says it
            words = complaint if isinstance(complaint, dict) else {"message": complaint}
            told = {key: self._http.redact(str(word)) for key, word in words.items()}
            raise error_in_answer(self._http.vendor, told)
        message = str(answer.get("message") or "")
        if code not in OK_CODES:
            raise failure(self._http.vendor, code, message, self._secrets)
        if not found:
            raise VendorSilent(self._http.vendor, self._http.redact(message or "no sound"))

    def _told_by(self, error: VendorError) -> VendorError | None:
        """What a refusal's own code says, which is more than the status that it came with."""
        try:
            answer = orjson.loads(error.details)
        except orjson.JSONDecodeError:
            return None
        code = answer.get("code") if isinstance(answer, dict) else None
        if not isinstance(code, int) or code in OK_CODES:
            return None
        told = failure(error.vendor, code, str(answer.get("message") or ""), self._secrets)
        told.status, told.asked_at = error.status, error.asked_at
        return told

    def close(self) -> None:
        """Break off what runs."""
        self._http.close()
