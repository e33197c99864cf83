"""Deepgram: sound goes in while the user speaks, text comes back sentence by sentence, and as it changes.

Source: developers.deepgram.com/reference/speech-to-text/listen-streaming, /docs/close-stream, /docs/audio-keep-alive.

Everything is said in the address: model, language, form of the sound. An interim result is replaced by the next one; a
final one stands. At the end CloseStream makes the vendor say what it still has, tell so (Metadata) and hang up.
Finalize would spare a new connection, but is not always answered, so nobody could tell when the text is complete; and a
new connection is hidden behind the user's first words.

The vendor hangs up after ten seconds without sound, so whoever sends none for a while says KeepAlive."""

from __future__ import annotations

import urllib.parse
from collections.abc import Generator, Mapping
from typing import Any, Literal

import orjson
from pydantic import AliasChoices, Field

from xiaozhi.audio.opus import Encoder
from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError, VendorGarbage, VendorRejected, VendorUnavailable
from xiaozhi.net.http_errors import redact
from xiaozhi.net.websocket_client import VendorSocket
from xiaozhi.providers.asr_session import LONGEST_S, AsrSession, SessionAsr
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, Transcript
from xiaozhi.providers.families.heard_sentences import joined_sentences
from xiaozhi.providers.families.http_options import ApiKey, BlankFree
from xiaozhi.providers.registry import provider
from xiaozhi.runtime import tasks
from xiaozhi.settings.fields import Words

PIECE_MS = 100
OPUS_FRAME_MS = 20
SILENCE_S = 4.0
"""After so long without sound, KeepAlive is due."""

_KEEP_ALIVE = '{"type": "KeepAlive"}'
_CLOSE = '{"type": "CloseStream"}'


class DeepgramAsrOptions(BlankFree):
    """Keys as Deepgram calls its parameters."""

    url: str = Field(
        "wss://api.deepgram.com/v1/listen",
        pattern=r"^wss?://.+",
        validation_alias=AliasChoices("url", "ws_url", "base_url"),
    )
    api_key: ApiKey
    model: str = Field("nova-3", min_length=1, validation_alias=AliasChoices("model", "model_name"))
    language: str = "multi"
    """Such as zh or en-US; multi: whatever of ten languages is spoken."""
    punctuate: bool = True
    smart_format: bool = False
    """Dates, amounts and the like as one writes them."""
    interim_results: bool = True
    endpointing: int = Field(300, ge=0, le=10_000)
    """Milliseconds of silence after which a result is final; 0: the vendor does not look for it."""
    keyterm: Words = ()
    """Words to listen for; of nova-3."""
    encoding: Literal["linear16", "opus"] = "linear16"
    """opus: a tenth of the upload, for some CPU here."""
    extra: dict[str, Any] = {}
    """Further parameters of the address."""
    connect_timeout: float = Field(5.0, gt=0)
    timeout: float = Field(10.0, gt=0)
    """Seconds from the end of speech to the text."""

    def address(self) -> str:
        """Where to connect to."""
        said: dict[str, Any] = {
            "model": self.model,
            "language": self.language,
            "encoding": self.encoding,
            "sample_rate": ASR_SAMPLE_RATE,
            "channels": 1,
            "punctuate": self.punctuate,
            "smart_format": self.smart_format,
            "interim_results": self.interim_results,
            "endpointing": self.endpointing or False,
            "keyterm": list(self.keyterm),
            **self.extra,
        }
        written = {key: _written(value) for key, value in said.items()}
        return f"{self.url}{'&' if '?' in self.url else '?'}{urllib.parse.urlencode(written, doseq=True)}"


def _written(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


@provider("asr", "deepgram", DeepgramAsrOptions)
class DeepgramAsr(SessionAsr):
    """One connection per utterance."""

    def __init__(self, options: DeepgramAsrOptions) -> None:
        super().__init__(timeout=options.timeout, piece_ms=PIECE_MS)
        self.options = options
        self.address = options.address()
        self.key = options.api_key.get_secret_value()

    def connect(self, context: CallContext) -> AsrSession:
        """Connect; everything else is in the address."""
        return _Session(self)


class _Session(AsrSession):
    def __init__(self, owner: DeepgramAsr) -> None:
        self._vendor = owner.vendor
        self._secrets = (owner.key,)
        self._owner = owner
        self._encoder = Encoder(ASR_SAMPLE_RATE, OPUS_FRAME_MS) if owner.options.encoding == "opus" else None
        self._finals: list[str] = []
        self._language = ""
        self._silent = True
        """No sound was sent since it was last looked."""
        self._ending = False
        self._socket = VendorSocket(
            owner.vendor,
            owner.address,
            headers={"Authorization": f"Token {owner.key}"},
            connect=owner.options.connect_timeout,
            secrets=self._secrets,
        )
        self._alive = owner.tasks.spawn_later(SILENCE_S, "asr-deepgram-alive", self._keep_alive)

    def send_sound(self, pcm: bytes) -> None:
        self._silent = False
        if self._encoder is None:
            self._socket.send_binary(pcm)
            return
        for packet in self._encoder.encode(pcm, hold_gil=True):
            self._socket.send_binary(packet)

    def send_end(self) -> None:
        self._ending = True
        if self._encoder is not None:
            for packet in self._encoder.flush():
                self._socket.send_binary(packet)
        self._socket.send_text(_CLOSE)

    def read(self) -> Generator[Transcript | None]:
        try:
            with self._socket:
                while (message := self._message()).get("type") != "Metadata":
                    yield self._heard(message)
        finally:
            tasks.end(self._alive, timeout=0)

    def hang_up(self) -> None:
        self._ending = True
        self._socket.close()

    def _keep_alive(self) -> None:
        if self._ending:
            return
        if self._silent:
            try:
                self._socket.send_text(_KEEP_ALIVE)
            except VendorError:
                return  # `read` finds the connection broken, and knows better why
        self._silent = True
        self._alive = self._owner.tasks.spawn_later(SILENCE_S, "asr-deepgram-alive", self._keep_alive)

    def _message(self) -> Mapping[str, Any]:
        try:
            data = self._socket.receive(LONGEST_S)
        except VendorUnavailable as error:
            if "DATA-0000" in error.message:  # the reason in its close frame: this is not the sound it was told of
                raise VendorRejected(self._vendor, error.message) from error
            raise
        try:
            message = orjson.loads(data)
        except orjson.JSONDecodeError:
            message = None
        if not isinstance(message, dict):
            raise VendorGarbage(self._vendor, f"no JSON object: {redact(str(data), self._secrets)}")
        if message.get("type") == "Error":
            said = str(message.get("description") or message.get("message") or message)
            raise VendorRejected(self._vendor, redact(said, self._secrets))
        return message

    def _heard(self, message: Mapping[str, Any]) -> Transcript | None:
        if message.get("type") != "Results":
            return None
        try:
            best = message["channel"]["alternatives"][0]
            text = str(best["transcript"])
        except (KeyError, IndexError, TypeError):
            raise VendorGarbage(self._vendor, "results without a transcript") from None
        if best.get("languages"):
            self._language = str(best["languages"][0])
        if message.get("is_final"):
            self._finals.append(text)
            text = ""
        return Transcript(joined_sentences([*self._finals, text]), language=self._language)
