"""Any speech recognition of Home Assistant (faster-whisper, Vosk, whisper.cpp, ...) over the Wyoming protocol: sound
goes out while the user speaks, the text comes at the end, from some services in pieces.

Source: github.com/OHF-Voice/wyoming, README, "Speech Recognition". One connection per utterance, as Home Assistant has
it: services close theirs after the text."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pydantic import AliasChoices, Field

from xiaozhi.chat import CallContext
from xiaozhi.providers.asr_session import LONGEST_S, AsrSession, SessionAsr
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, Transcript
from xiaozhi.providers.families.wyoming import WyomingConnection, WyomingOptions, WyomingService
from xiaozhi.providers.registry import provider

PIECE_MS = 60
FORMAT = {"rate": ASR_SAMPLE_RATE, "width": 2, "channels": 1}


class WyomingAsrOptions(WyomingOptions):
    """`model` and `language`: the service's own where they are empty."""

    port: int = Field(10300, ge=1, le=65_535)
    model: str = Field("", validation_alias=AliasChoices("model", "model_name"))
    language: str = ""
    timeout: float = Field(15.0, gt=0)
    """Seconds from the end of speech to the text."""


@provider("asr", "wyoming", WyomingAsrOptions)
class WyomingAsr(SessionAsr):
    """One connection per utterance."""

    def __init__(self, options: WyomingAsrOptions) -> None:
        super().__init__(timeout=options.timeout, piece_ms=PIECE_MS)
        self._service = WyomingService("asr", options, options.port)
        self._model = options.model
        self._request: dict[str, Any] = {}
        if options.model:
            self._request["name"] = options.model
        if options.language and options.language.lower() != "auto":
            self._request["language"] = options.language

    def warm_up(self) -> None:
        """Ask the service what it offers."""
        self._service.warm_up(self.vendor, "models", self._model)

    def connect(self, context: CallContext) -> AsrSession:
        """Connect and announce an utterance."""
        self._service.programs(self.vendor)
        return _Session(self._service.connect(self.vendor), self._request)


class _Session(AsrSession):
    def __init__(self, connection: WyomingConnection, request: dict[str, Any]) -> None:
        self._connection = connection
        try:
            connection.send("transcribe", request)
            connection.send("audio-start", FORMAT)
        except BaseException:
            connection.close()
            raise

    def send_sound(self, pcm: bytes) -> None:
        self._connection.send("audio-chunk", FORMAT, pcm)

    def send_end(self) -> None:
        self._connection.send("audio-stop")

    def read(self) -> Generator[Transcript | None]:
        so_far = ""
        with self._connection as connection:
            while True:
                event = connection.receive(LONGEST_S)
                text, language = str(event.data.get("text") or ""), str(event.data.get("language") or "")
                match event.type:
                    case "transcript":  # the whole text, whether it came in pieces or not
                        yield Transcript(text.strip(), language)
                        return
                    case "transcript-chunk":
                        so_far += text
                        yield Transcript(so_far.strip(), language)
                    case _:
                        yield None

    def hang_up(self) -> None:
        self._connection.close()
