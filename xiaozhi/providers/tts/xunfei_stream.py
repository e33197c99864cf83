"""Xunfei's superhumanoid voice: text goes in while sound comes out, one connection per answer.

Source: xfyun.cn/doc/spark/super%20smart-tts.html. The vendor cuts the text itself and marks nothing: our sentences are
found in the sound (`families/spoken_sentences.py`). It takes 64 KB of text at most.

It begins to speak with the eleventh character, or when the text ends, and gives up when no text comes for some 10 s. So
"One moment." in front of a tool call would not be heard before the tool is done: where text stays out, the session is
ended here, and the next sentence begins another one (`families/text_pauses.py`)."""

from __future__ import annotations

import base64
from collections.abc import Generator, Mapping
from typing import Any, Literal

from pydantic import AliasChoices, Field

from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import SpeechEvent, TtsTraits
from xiaozhi.providers.families.spoken_sentences import SpokenSentences
from xiaozhi.providers.families.text_pauses import SuccessiveSessions
from xiaozhi.providers.families.voice_scales import VoiceScales, scaled
from xiaozhi.providers.families.xunfei import BETWEEN, FIRST, LAST, XunfeiOptions, XunfeiSocket, content
from xiaozhi.providers.registry import provider
from xiaozhi.providers.tts_session import WAIT_S, SessionTts, TtsSession

NO_TEXT = " "
"""What the first and the last frame hold in place of a sentence; the vendor refuses an empty text."""


class XunfeiStreamTtsOptions(VoiceScales, XunfeiOptions):
    """`oral_level`, `spark_assist`, `stop_split` and `remain` (how colloquial it becomes) count for voices of the
    series x4 only."""

    api_url: str = Field(
        "wss://cbm01.cn-huabei-1.xf-yun.com/v1/private/mcd9m97e6",
        pattern=r"^wss?://.+",
        validation_alias=AliasChoices("api_url", "ws_url", "url"),
    )
    voice: str = Field("x5_lingxiaoxuan_flow", validation_alias=AliasChoices("private_voice", "voice"))
    format: Literal["raw", "lame"] = "raw"
    """raw: PCM. lame: MP3, a tenth of the bytes but to be decoded here."""
    sample_rate: Literal[8000, 16000, 24000] = 24_000
    oral_level: Literal["high", "mid", "low"] = "mid"
    spark_assist: Literal[0, 1] = 1
    stop_split: Literal[0, 1] = 0
    remain: Literal[0, 1] = 0
    volume: int = Field(50, ge=0, le=100)
    speed: int = Field(50, ge=0, le=100)
    pitch: int = Field(50, ge=0, le=100)
    text_pause: float = Field(1.5, gt=0, lt=10)
    """Seconds without text that end a session."""
    timeout: float = Field(10.0, gt=0)
    """Seconds without a sign of life while the vendor owes sound."""

    def pace(self) -> int:
        """How fast it speaks, 0 (half) to 100 (double)."""
        return round(scaled(self.rate_percent, 0, 50, 100, otherwise=self.speed))

    def parameter(self) -> dict[str, Any]:
        """What every frame asks for."""
        return {
            "oral": {
                "oral_level": self.oral_level,
                "spark_assist": self.spark_assist,
                "stop_split": self.stop_split,
                "remain": self.remain,
            },
            "tts": {
                "vcn": self.voice,
                "speed": self.pace(),
                "volume": round(scaled(self.volume_percent, 0, 50, 100, otherwise=self.volume)),
                "pitch": round(scaled(self.pitch_percent, 0, 50, 100, otherwise=self.pitch)),
                "bgs": 0,
                "reg": 0,
                "rdn": 0,
                "rhy": 0,
                "audio": {
                    "encoding": self.format,
                    "sample_rate": self.sample_rate,
                    "channels": 1,
                    "bit_depth": 16,
                    "frame_size": 0,
                },
            },
        }


@provider("tts", "xunfei_stream", XunfeiStreamTtsOptions)
class XunfeiStreamTts(SessionTts):
    """One connection per answer, more where its text pauses."""

    needs_services = True

    def __init__(self, options: XunfeiStreamTtsOptions, services: Services) -> None:
        super().__init__(timeout=options.timeout, marks_sentences=False)
        self.options = options
        self.inference = services.inference
        self.parameter = options.parameter()
        self.traits = TtsTraits(sample_rate=options.sample_rate)

    def connect(self, context: CallContext) -> TtsSession:
        """Connect; the vendor begins with the first sentence."""
        return SuccessiveSessions(self._begin, self.tasks, pause=self.options.text_pause)

    def _begin(self) -> TtsSession:
        self.check_open()
        return _Session(self, XunfeiSocket(self.vendor, self.options.api_url, self.options))


class _Session(TtsSession):
    def __init__(self, owner: XunfeiStreamTts, socket: XunfeiSocket) -> None:
        self._owner = owner
        self._socket = socket
        self._frames = 0
        options = owner.options
        self._spoken = SpokenSentences(
            {"raw": "pcm", "lame": "mp3"}[options.format],
            options.sample_rate,
            marked=False,
            speed=2 ** ((options.pace() - 50) / 50),
            inference=owner.inference,
        )

    def send_sentence(self, sentence: str) -> None:
        self._spoken.said(sentence)
        if not self._frames:
            self._send(FIRST, NO_TEXT)
        # The vendor puts the pieces together: "Hello.How" would be one word.
        self._send(BETWEEN, f"{sentence} " if sentence[-1:].isascii() else sentence)

    def send_end(self) -> None:
        self._send(LAST, NO_TEXT)

    def read(self) -> Generator[SpeechEvent | None]:
        try:
            status = FIRST
            while status != LAST:
                status, payload = self._socket.receive(WAIT_S)
                audio = payload.get("audio")
                if isinstance(audio, Mapping):
                    status = max(status, LAST if audio.get("status") == LAST else FIRST)
                    if sound := content(self._owner.vendor, audio, "audio"):
                        yield from self._spoken.feed(sound)
                yield None
            yield from self._spoken.finish()
        finally:
            self._socket.close()

    def hang_up(self) -> None:
        self._socket.close()

    def _send(self, status: int, text: str) -> None:
        payload = {
            "encoding": "utf8",
            "compress": "raw",
            "format": "plain",
            "status": status,
            "seq": self._frames,
            "text": base64.b64encode(text.encode()).decode(),
        }
        self._frames += 1
        self._socket.send(status, {"text": payload}, self._owner.parameter)
