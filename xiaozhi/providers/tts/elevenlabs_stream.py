"""ElevenLabs over a WebSocket: text goes in while sound comes out, one connection per answer.

Source: elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-stream-input. Whole sentences are
sent, so the vendor is told not to wait for more (`auto_mode`). It does not name our sentences, but which character is
spoken when; counting those that are no blanks finds where each of our sentences begins in the sound. A connection is
closed by the vendor at the end, so there is none to keep."""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Generator, Iterator
from typing import Any, Final, Literal

import orjson
from pydantic import AliasChoices, Field, model_validator

from xiaozhi.audio.decode import RawDecoder
from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorGarbage
from xiaozhi.net.http_errors import redact
from xiaozhi.net.websocket_client import VendorSocket
from xiaozhi.providers.contracts.tts import Pcm, SentenceBegins, SpeechEvent, TtsTraits
from xiaozhi.providers.families.elevenlabs import ElevenlabsOptions, refusal
from xiaozhi.providers.registry import provider
from xiaozhi.providers.tts_session import WAIT_S, SessionTts, TtsSession

INACTIVITY_S: Final = "180"
"""How long the vendor waits for more text, the longest it offers: tools may take their time in an answer."""


class ElevenlabsStreamTtsOptions(ElevenlabsOptions):
    """`output_format`: raw PCM, which can be cut where a sentence begins."""

    ws_url: str = Field(
        "wss://api.elevenlabs.io",
        pattern=r"^wss?://[^?]+$",
        validation_alias=AliasChoices("ws_url", "base_url", "api_url", "url"),
    )
    output_format: Literal["pcm_8000", "pcm_16000", "pcm_22050", "pcm_24000", "pcm_44100", "pcm_48000"] = "pcm_24000"

    @model_validator(mode="after")
    def _proxied_by_the_environment(self) -> ElevenlabsStreamTtsOptions:
        if self.proxy:
            raise ValueError("a WebSocket goes through the proxy of the environment (https_proxy) only: remove proxy")
        return self


@provider("tts", "elevenlabs_stream", ElevenlabsStreamTtsOptions)
class ElevenlabsStreamTts(SessionTts):
    """One connection per answer."""

    def __init__(self, options: ElevenlabsStreamTtsOptions) -> None:
        super().__init__(timeout=options.timeout.gap)
        self.options = options
        self.traits = TtsTraits(sample_rate=int(options.output_format.removeprefix("pcm_")))

    def connect(self, context: CallContext) -> TtsSession:
        """A connection that takes text."""
        return _Session(self)


class _Session(TtsSession):
    def __init__(self, owner: ElevenlabsStreamTts) -> None:
        options = owner.options
        self._owner = owner
        self._rate = owner.traits.sample_rate
        self._decoder = RawDecoder(self._rate)
        self._unbegun: deque[str] = deque()
        """Sent, and not yet found in the sound."""
        self._left = 0
        """Characters of the sentence that is being spoken that are still to come."""
        url = options.address(
            options.ws_url,
            "stream-input",
            model_id=options.model_id,
            output_format=options.output_format,
            language_code=options.language_code,
            auto_mode="true",
            sync_alignment="true",
            inactivity_timeout=INACTIVITY_S,
        )
        self._socket = VendorSocket(
            owner.vendor,
            url,
            headers={**options.credentials(), **options.headers},
            connect=options.timeout.connect,
            verify=options.verify_tls,
            secrets=options.secrets(),
        )
        settings = options.settings()
        self._send({"text": " "} | ({"voice_settings": settings} if settings else {}))  # a failure closes the socket

    def send_sentence(self, sentence: str) -> None:
        self._unbegun.append(sentence)
        self._send({"text": f"{sentence} "})

    def send_end(self) -> None:
        self._send({"text": ""})

    def read(self) -> Generator[SpeechEvent | None]:
        with self._socket as socket:
            while True:
                message = self._understood(socket.receive(WAIT_S))
                if message.get("error"):
                    said = {"message": redact(str(message.get("message", "")), self._owner.options.secrets())}
                    raise refusal(self._owner.vendor, str(message["error"]), said)
                if message.get("audio"):
                    yield from self._spoken(self._sound(message["audio"]), message.get("alignment"))
                if message.get("isFinal"):
                    return
                yield None

    def hang_up(self) -> None:
        self._socket.close()

    def _send(self, message: dict[str, Any]) -> None:
        self._socket.send_json(message)

    def _understood(self, message: str | bytes) -> dict[str, Any]:
        try:
            found = orjson.loads(message)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise VendorGarbage(self._owner.vendor, "a message that is no JSON object")
        return found

    def _sound(self, written: Any) -> bytes:
        try:
            return self._decoder.feed(base64.b64decode(written, validate=True))
        except (TypeError, ValueError, binascii.Error):
            raise VendorGarbage(self._owner.vendor, "sound that is not base64") from None

    def _spoken(self, pcm: bytes, alignment: Any) -> Iterator[SpeechEvent]:
        """The sound of one message, cut where our sentences begin."""
        done = 0
        for sentence, start_ms in list(self._begun(alignment)):
            start = min(len(pcm), round(start_ms * self._rate / 1000) * 2)
            if start > done:
                yield Pcm(pcm[done:start], self._rate)
                done = start
            yield SentenceBegins(sentence)
        if done < len(pcm):
            yield Pcm(pcm[done:], self._rate)

    def _begun(self, alignment: Any) -> Iterator[tuple[str, float]]:
        """Our sentences whose first characters are spoken in a message, and when (ms into its sound)."""
        if not isinstance(alignment, dict):
            return
        starts = alignment.get("charStartTimesMs") or ()
        for character, start in zip(alignment.get("chars") or (), starts, strict=False):
            if not str(character).strip():
                continue
            while not self._left and self._unbegun:
                sentence = self._unbegun.popleft()
                self._left = sum(not sign.isspace() for sign in sentence)
                yield sentence, float(start)
            self._left = max(0, self._left - 1)
