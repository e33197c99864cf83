"""Doubao's streaming speech recognition (V3): sound goes in while the user speaks, text comes back as it changes.

Source: volcengine.com/docs/6561/1354869. There are two services: `bigmodel_async` answers at once and knows Chinese,
its dialects and English; `bigmodel_nostream` (`enable_multilingual`) answers at the end and knows the `language` that
it is told. The first model is volc.bigasr.sauc.duration, the second volc.seedasr.sauc.duration.

Sound is sent as PCM. The vendor would take Ogg Opus, but what a device sends has been decoded for the voice detection
by then: it would have to be encoded again, to save 200 kbit/s of a speaking user.

One connection per utterance, opened when speech begins, so its set-up is hidden behind the user's first words. The
vendor's own end of a sentence (`end_window_size`) cuts the text; when the utterance is over is decided here."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from pydantic import Field

from xiaozhi.chat import CallContext
from xiaozhi.providers.asr_session import AsrSession, SessionAsr
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE
from xiaozhi.providers.families.volcengine_account import TableName, VolcengineAccount
from xiaozhi.providers.families.volcengine_hearing import VolcengineHearing
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

SERVICES = "wss://openspeech.bytedance.com/api/v3/sauc/"
PIECE_MS = 200
"""The vendor is fastest with this."""
SHORTEST_PAUSE_MS = 200


class DoubaoStreamAsrOptions(VolcengineAccount):
    """`format`, `codec`, `sample_rate`, `bits` and `channel` can say nothing but what is sent: PCM, 16 bits, mono, at
    16 kHz. `auth_method`: V3 knows the headers of a token only."""

    ws_url: str = Field("", pattern=r"^(wss?://.+)?$")
    """"": the vendor's service that `enable_multilingual` asks for."""
    resource_id: str = "volc.bigasr.sauc.duration"
    boosting_table_name: TableName = ""
    correct_table_name: TableName = ""
    enable_multilingual: bool = False
    language: str = ""
    """Such as en-US; read by the multilingual service only."""
    end_window_size: int = Field(200, ge=0, le=10_000)
    """Milliseconds of silence after which a sentence counts as complete; at least 200."""
    result_type: Literal["single", "full"] = "single"
    uid: str = ""
    """"": the device."""
    format: Literal["pcm"] = "pcm"
    codec: Literal["pcm", "raw"] = "raw"
    sample_rate: Literal[16000] = 16000
    bits: Literal[16] = 16
    channel: Literal[1] = 1
    auth_method: Literal["token"] = "token"
    request: dict[str, Any] = {}
    """More for the vendor's `request`, such as enable_ddc or enable_nonstream."""
    connect_timeout: float = Field(5.0, gt=0)
    timeout: float = Field(10.0, gt=0)
    """Seconds from the end of speech to the text."""


@provider("asr", "doubao_stream", DoubaoStreamAsrOptions)
class DoubaoStreamAsr(SessionAsr):
    """One connection per utterance."""

    def __init__(self, options: DoubaoStreamAsrOptions) -> None:
        super().__init__(timeout=options.timeout, piece_ms=PIECE_MS)
        self._options = options
        multilingual = options.enable_multilingual
        self._url = options.ws_url or SERVICES + ("bigmodel_nostream" if multilingual else "bigmodel_async")
        if options.language and not multilingual and not options.language.lower().startswith(("zh", "en")):
            log.warning("language has no effect without enable_multilingual", language=options.language)

    def connect(self, context: CallContext) -> AsrSession:
        """Connect and announce an utterance."""
        options = self._options
        return VolcengineHearing(
            self.vendor,
            self._url,
            {**options.headers(options.resource_id), "X-Api-Request-Id": str(uuid.uuid4()), "X-Api-Sequence": "-1"},
            self._request(context),
            connect=options.connect_timeout,
            secrets=options.secrets,
            single=options.result_type == "single",
        )

    def _request(self, context: CallContext) -> dict[str, Any]:
        options = self._options
        audio = {"format": "pcm", "codec": "raw", "rate": ASR_SAMPLE_RATE, "bits": 16, "channel": 1}
        if options.enable_multilingual and options.language:
            audio["language"] = options.language
        request = {
            "reqid": str(uuid.uuid4()),
            "model_name": "bigmodel",
            "show_utterances": True,
            "result_type": options.result_type,
            "end_window_size": max(SHORTEST_PAUSE_MS, options.end_window_size),
            **options.request,
        }
        tables = {
            "boosting_table_name": options.boosting_table_name,
            "correct_table_name": options.correct_table_name,
        }
        corpus = {key: name for key, name in tables.items() if name}
        if corpus:
            request["corpus"] = {**corpus, **request.get("corpus", {})}
        return {"user": {"uid": options.uid or context.device_id or "xiaozhi"}, "audio": audio, "request": request}
