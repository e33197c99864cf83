"""A FunASR runtime server: PCM goes out while the user speaks, partial text comes back, the corrected text at the end
("2pass").

Source: github.com/modelscope/FunASR (runtime/docs/websocket_protocol.md), and the two servers that speak it (C++ and
Python), which differ in when they set `is_final`: the C++ server on the last message only, the Python one on every
corrected sentence. A stream that has seen the latter waits for the end mark that newer Python servers send on request
(`is_end`), or for a short silence.

One connection per utterance, opened when speech begins, so its set-up is hidden behind the user's first words.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator
from typing import Any, Literal

import gevent
import orjson
from pydantic import AliasChoices, Field, SecretStr

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorGarbage, VendorUnavailable
from xiaozhi.net.http_errors import redact
from xiaozhi.net.websocket_client import VendorSocket
from xiaozhi.providers.asr_session import LONGEST_S, AsrSession, SessionAsr
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, Transcript
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.families.sensevoice_tags import transcript
from xiaozhi.providers.registry import provider

# The server counts messages, not samples: `chunk_size[1]` units of 60 ms are recognised after `chunk_interval`
# messages.
CHUNK_UNIT_MS = 60
# Between the corrected text of a sentence and that of the next, when the server does not say which is the last.
SETTLE_S = 0.5


class FunServerAsrOptions(ProviderOptions):
    """`is_ssl` with `verify: false` (the default) accepts the self-signed certificate that the server's image ships."""

    host: str = "127.0.0.1"
    port: int = Field(10095, ge=1, le=65_535)
    is_ssl: bool = True
    verify: bool = False
    api_key: SecretStr = SecretStr("")
    mode: Literal["2pass", "online", "offline"] = "2pass"
    chunk_size: tuple[int, int, int] = (5, 10, 5)
    """Look back, chunk and look ahead, in units of 60 ms."""
    chunk_interval: int = Field(10, ge=1)
    itn: bool = False
    """Write numbers as digits."""
    hotwords: dict[str, int] | str = ""
    language: str = Field("auto", validation_alias=AliasChoices("language", "svs_lang"))
    connect_timeout: float = Field(3.0, gt=0)
    timeout: float = Field(10.0, gt=0)
    """Seconds from the end of speech to the text."""


@provider("asr", "fun_server", FunServerAsrOptions)
class FunServerAsr(SessionAsr):
    """One connection per utterance."""

    def __init__(self, options: FunServerAsrOptions) -> None:
        # The server counts messages: all but the last have the same length.
        super().__init__(
            timeout=options.timeout,
            piece_ms=max(1, options.chunk_size[1] * CHUNK_UNIT_MS // options.chunk_interval),
        )
        self.options = options
        key = options.api_key.get_secret_value()
        self.headers = {"Authorization": f"Bearer; {key}"} if key not in ("", "none") else {}
        self.secrets = (key,) if self.headers else ()
        self.url = f"{'wss' if options.is_ssl else 'ws'}://{options.host}:{options.port}"
        self.hello = _hello(options)

    def connect(self, context: CallContext) -> AsrSession:
        """Connect and announce an utterance."""
        return _Session(self)


def _hello(options: FunServerAsrOptions) -> dict[str, Any]:
    hotwords = options.hotwords if isinstance(options.hotwords, str) else orjson.dumps(options.hotwords).decode()
    hello: dict[str, Any] = {
        "mode": options.mode,
        "chunk_size": list(options.chunk_size),
        "chunk_interval": options.chunk_interval,
        "wav_format": "pcm",
        "audio_fs": ASR_SAMPLE_RATE,
        "is_speaking": True,
        "itn": options.itn,
        "svs_lang": options.language,
        "svs_itn": options.itn,
    }
    if hotwords:
        hello["hotwords"] = hotwords
    return hello


class _Session(AsrSession):
    def __init__(self, owner: FunServerAsr) -> None:
        self._vendor = owner.vendor
        self._sentences: list[str] = []
        self._online = ""
        self._finishing = False
        self._marks_sentences = False
        self._socket = VendorSocket(
            owner.vendor,
            owner.url,
            headers=owner.headers,
            subprotocols=["binary"],
            connect=owner.options.connect_timeout,
            verify=owner.options.verify,
            secrets=owner.secrets,
        )
        try:
            self._socket.send_json({**owner.hello, "wav_name": uuid.uuid4().hex})
        except BaseException:
            self._socket.close()
            raise

    def send_sound(self, pcm: bytes) -> None:
        self._socket.send_binary(pcm)

    def send_end(self) -> None:
        self._finishing = True
        # `is_end` asks newer Python servers for an end mark; the others ignore it.
        self._socket.send_text('{"is_speaking": false, "is_end": true}')

    def read(self) -> Generator[Transcript | None]:
        with self._socket:
            while not self._take(self._receive()):
                yield transcript(self._text())
            yield transcript(self._text())

    def hang_up(self) -> None:
        self._socket.close()

    def has_said_enough(self) -> bool:
        # A server that corrects sentence by sentence may have nothing left to say.
        return self._marks_sentences and bool(self._sentences)

    def _text(self) -> str:
        return "".join(self._sentences) + self._online

    def _receive(self) -> Any:
        settling = self._finishing and self._marks_sentences and bool(self._sentences)
        with gevent.Timeout(SETTLE_S if settling else None, False):
            message = self._socket.receive(LONGEST_S)
            try:
                return orjson.loads(message)
            except orjson.JSONDecodeError:
                raise VendorGarbage(self._vendor, f"not JSON: {redact(str(message))}") from None
        return None  # nothing more came

    def _take(self, message: Any) -> bool:
        """Note what a message says; True when it was the last one of interest."""
        if message is None:
            return True
        if not isinstance(message, dict):
            raise VendorGarbage(self._vendor, f"not an object: {redact(str(message))}")
        if message.get("error"):
            raise VendorUnavailable(self._vendor, redact(str(message["error"])))
        text, mode = str(message.get("text") or ""), str(message.get("mode") or "")
        if mode.endswith("online"):
            self._online += text
        elif text:
            self._sentences.append(text)
            self._online = ""
        final = bool(message.get("is_final")) or mode == "offline"
        if not self._finishing:
            self._marks_sentences |= final
            return False
        return bool(message.get("is_end")) or (final and not self._marks_sentences)
