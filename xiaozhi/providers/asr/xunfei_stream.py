"""Xunfei's large recognition model (iat, domain slm): sound goes out while the user speaks, text comes back and is
corrected.

Source: xfyun.cn/doc/spark/spark_slm_iat.html and spark_zh_iat.html. Each result is a numbered piece of the text; with
dynamic correction (Chinese only) a piece may replace earlier ones. The vendor hears 60 s at most.

One connection per utterance: the vendor closes it after the last result."""

from __future__ import annotations

import base64
from collections.abc import Generator, Mapping
from typing import Any

import orjson
from pydantic import AliasChoices, Field

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorGarbage
from xiaozhi.providers.asr_session import LONGEST_S, AsrSession, SessionAsr
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, AsrTraits, Transcript
from xiaozhi.providers.families.xunfei import BETWEEN, FIRST, LAST, XunfeiOptions, XunfeiSocket, content
from xiaozhi.providers.registry import provider

PIECE_MS = 40
"""What the vendor recommends to send at a time."""


class XunfeiStreamAsrOptions(XunfeiOptions):
    """`domain`, `language` and `accent` are the vendor's. `eos`: ms of silence at which the vendor stops to listen.
    When an utterance ends is decided here, so it is as long as the vendor can hear."""

    api_url: str = Field(
        "wss://iat.cn-huabei-1.xf-yun.com/v1",
        pattern=r"^wss?://.+",
        validation_alias=AliasChoices("api_url", "ws_url", "url"),
    )
    domain: str = "slm"
    language: str = "zh_cn"
    accent: str = "mandarin"
    eos: int = Field(60_000, ge=600, le=60_000)
    timeout: float = Field(10.0, gt=0)
    """Seconds from the end of speech to the text."""

    def parameter(self) -> dict[str, Any]:
        """What the first frame asks for."""
        wanted: dict[str, Any] = {
            "domain": self.domain,
            "language": self.language,
            "accent": self.accent,
            "eos": self.eos,
            "result": {"encoding": "utf8", "compress": "raw", "format": "json"},
        }
        if self.language.startswith("zh"):
            wanted["dwa"] = "wpgs"
        return {"iat": wanted}


@provider("asr", "xunfei_stream", XunfeiStreamAsrOptions)
class XunfeiStreamAsr(SessionAsr):
    """One connection per utterance."""

    traits = AsrTraits(longest_s=60)

    def __init__(self, options: XunfeiStreamAsrOptions) -> None:
        super().__init__(timeout=options.timeout, piece_ms=PIECE_MS)
        self._options = options
        self._parameter = options.parameter()

    def connect(self, context: CallContext) -> AsrSession:
        """Connect; the vendor listens from the first piece of sound on."""
        socket = XunfeiSocket(self.vendor, self._options.api_url, self._options)
        return _Session(self.vendor, socket, self._parameter)


class _Session(AsrSession):
    def __init__(self, vendor: str, socket: XunfeiSocket, parameter: Mapping[str, Any]) -> None:
        self._vendor = vendor
        self._socket = socket
        self._parameter = parameter
        self._frames = 0
        self._text = CorrectedText()

    def send_sound(self, pcm: bytes) -> None:
        self._send(BETWEEN if self._frames else FIRST, pcm)

    def send_end(self) -> None:
        if not self._frames:
            self._send(FIRST, b"")
        self._send(LAST, b"")

    def read(self) -> Generator[Transcript | None]:
        try:
            status = FIRST
            while status != LAST:
                status, payload = self._socket.receive(LONGEST_S)
                yield self._heard(payload)
        finally:
            self._socket.close()

    def hang_up(self) -> None:
        self._socket.close()

    def _send(self, status: int, pcm: bytes) -> None:
        audio = {
            "encoding": "raw",
            "sample_rate": ASR_SAMPLE_RATE,
            "channels": 1,
            "bit_depth": 16,
            "seq": self._frames,
            "status": status,
            "audio": base64.b64encode(pcm).decode(),
        }
        self._frames += 1
        self._socket.send(status, {"audio": audio}, self._parameter if status == FIRST else None)

    def _heard(self, payload: Mapping[str, Any]) -> Transcript | None:
        result = payload.get("result")
        if not isinstance(result, Mapping) or not (raw := content(self._vendor, result, "text")):
            return None
        try:
            self._text.add(orjson.loads(raw))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise VendorGarbage(self._vendor, f"a result that is not understood: {error}") from error
        return Transcript(self._text.whole())


class CorrectedText:
    """Text that comes in numbered pieces, of which later ones may replace earlier ones. Pure."""

    def __init__(self) -> None:
        self._pieces: dict[int, str] = {}

    def add(self, piece: Mapping[str, Any]) -> None:
        """A result: its number `sn`, its words `ws`, and with `pgs` "rpl" the range `rg` of numbers that it replaces.
        Raises KeyError, TypeError, ValueError, AttributeError for one that has another form."""
        if piece.get("pgs") == "rpl":
            first, last = piece["rg"]
            for number in [number for number in self._pieces if first <= number <= last]:
                del self._pieces[number]
        # Of several candidates for a word the first is the best.
        self._pieces[int(piece["sn"])] = "".join(
            str(word["cw"][0]["w"]) for word in piece.get("ws") or () if word["cw"]
        )

    def whole(self) -> str:
        """All of it."""
        return "".join(self._pieces[number] for number in sorted(self._pieces)).strip()
