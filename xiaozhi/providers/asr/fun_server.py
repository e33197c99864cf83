"""A FunASR runtime server: PCM goes out while the user speaks, partial text comes back, the corrected text at the end
("2pass").

Source: runtime/docs/websocket_protocol.md of modelscope/FunASR, and the two servers that speak it (C++ and Python),
which differ in when they set `is_final`: the C++ server on the last message only, the Python one on every corrected
sentence. A stream that has seen the latter waits for the end mark that newer Python servers send on request (`is_end`),
or for a short silence.

One connection per utterance, opened when speech begins, so its set-up is hidden behind the user's first words.
"""

from __future__ import annotations

import uuid
from typing import Any, Literal

import gevent
import orjson
from gevent.event import Event
from pydantic import AliasChoices, Field, SecretStr

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError, VendorGarbage, VendorTimeout, VendorUnavailable
from xiaozhi.net.http_errors import redact
from xiaozhi.net.websocket_client import VendorSocket
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, Asr, AsrStream, Transcript
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.families.sensevoice_tags import transcript
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.tasks import Tasks

# The server counts messages, not samples: `chunk_size[1]` units of 60 ms are recognised after `chunk_interval`
# messages.
CHUNK_UNIT_MS = 60
# Between the corrected text of a sentence and that of the next, when the server does not say which is the last.
SETTLE_S = 0.5
# A microphone is never open longer; the reader must not live for ever when nobody closes the stream.
LONGEST_S = 600.0


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
class FunServerAsr(Asr):
    """One connection per utterance."""

    def __init__(self, options: FunServerAsrOptions) -> None:
        self.options = options
        key = options.api_key.get_secret_value()
        self.headers = {"Authorization": f"Bearer; {key}"} if key not in ("", "none") else {}
        self.secrets = (key,) if self.headers else ()
        self.url = f"{'wss' if options.is_ssl else 'ws'}://{options.host}:{options.port}"
        step_ms = options.chunk_size[1] * CHUNK_UNIT_MS // options.chunk_interval
        self.step_bytes = max(1, step_ms * ASR_SAMPLE_RATE // 1000) * 2
        self.hello = _hello(options)
        self.streams: set[AsrStream] = set()
        self._closed = False

    def open(self, context: CallContext) -> AsrStream:
        """Connect and announce an utterance."""
        vendor = self.name or "fun_server"
        if self._closed:
            raise VendorUnavailable(vendor, "closed")
        return _Utterance(self, vendor)

    def close(self) -> None:
        """Break off what runs."""
        self._closed = True
        for stream in list(self.streams):
            stream.close()


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


class _Utterance(AsrStream):
    def __init__(self, owner: FunServerAsr, vendor: str) -> None:
        self._owner = owner
        self._vendor = vendor
        self._rest = bytearray()
        self._sentences: list[str] = []
        self._online = ""
        self._finishing = False
        self._marks_sentences = False
        self._done = Event()
        self._error: VendorError | None = None
        options = owner.options
        self._socket = VendorSocket(
            vendor,
            owner.url,
            headers=owner.headers,
            subprotocols=["binary"],
            connect=options.connect_timeout,
            verify=options.verify,
            secrets=owner.secrets,
        )
        self._tasks = Tasks()
        try:
            self._socket.send_text(orjson.dumps({**owner.hello, "wav_name": uuid.uuid4().hex}).decode())
        except BaseException:
            self._socket.close()
            raise
        owner.streams.add(self)
        self._tasks.spawn("asr-fun-server", self._read)

    def feed(self, pcm: bytes) -> None:
        self._raise_if_failed()
        self._rest += pcm
        step = self._owner.step_bytes
        while len(self._rest) >= step:
            self._socket.send_binary(bytes(self._rest[:step]))
            del self._rest[:step]

    def finish(self) -> Transcript:
        self._raise_if_failed()
        try:
            if self._rest:
                self._socket.send_binary(bytes(self._rest))
            self._finishing = True
            # `is_end` asks newer Python servers for an end mark; the others ignore it.
            self._socket.send_text('{"is_speaking": false, "is_end": true}')
            # A server that corrects sentence by sentence may have nothing left to say: what it has corrected is the
            # text.
            if not self._done.wait(timeout=self._owner.options.timeout) and not (
                self._marks_sentences and self._sentences
            ):
                raise VendorTimeout(self._vendor, f"no text within {self._owner.options.timeout:g} s")
            self._raise_if_failed()
            return transcript(self._text())
        finally:
            self.close()

    def close(self) -> None:
        self._owner.streams.discard(self)
        self._socket.close()
        self._tasks.kill(timeout=0)
        if not self._done.is_set():
            self._error = self._error or VendorUnavailable(self._vendor, "the stream was closed")
            self._done.set()

    def _text(self) -> str:
        return "".join(self._sentences) + self._online

    def _raise_if_failed(self) -> None:
        if self._error is not None:
            raise self._error

    # --- the reader's greenlet -------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            while not self._take(self._receive()):
                pass
        except VendorError as error:
            self._error = self._error or error
        finally:
            self._done.set()

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
        self.partial = self._text()
        final = bool(message.get("is_final")) or mode == "offline"
        if not self._finishing:
            self._marks_sentences |= final
            return False
        return bool(message.get("is_end")) or (final and not self._marks_sentences)
