"""Doubao's speech recognition (V2), one utterance per request; billed by the request, where `doubao_stream` is billed
by the hour.

Source: volcengine.com/docs/6561/80816. The existing server sends the whole utterance at its end. The protocol takes
sound in pieces of any length, each of which is answered, so it goes out while the user speaks: at the end only the last
piece is on its way, and there is no utterance to be packed in one go."""

from __future__ import annotations

import uuid
from typing import Any

from pydantic import Field

from xiaozhi.chat import CallContext
from xiaozhi.providers.asr_session import AsrSession, SessionAsr
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE
from xiaozhi.providers.families.http_options import ApiKey, BlankFree
from xiaozhi.providers.families.platform_ids import PlatformId
from xiaozhi.providers.families.volcengine_account import TableName
from xiaozhi.providers.families.volcengine_hearing import VolcengineHearing
from xiaozhi.providers.registry import provider

PIECE_MS = 200
# The end is marked on a piece of sound, which may not be empty.
CLOSING_SOUND = bytes(ASR_SAMPLE_RATE // 10 * 2)


class DoubaoAsrOptions(BlankFree):
    """`cluster`: the service that was ordered, as the vendor's console calls it."""

    ws_url: str = Field("wss://openspeech.bytedance.com/api/v2/asr", pattern=r"^wss?://.+")
    appid: PlatformId
    access_token: ApiKey
    cluster: str = "volcengine_input_common"
    boosting_table_name: TableName = ""
    correct_table_name: TableName = ""
    language: str = "zh-CN"
    connect_timeout: float = Field(5.0, gt=0)
    timeout: float = Field(10.0, gt=0)
    """Seconds from the end of speech to the text."""


@provider("asr", "doubao", DoubaoAsrOptions)
class DoubaoAsr(SessionAsr):
    """One connection per utterance."""

    def __init__(self, options: DoubaoAsrOptions) -> None:
        super().__init__(timeout=options.timeout, piece_ms=PIECE_MS)
        self._options = options
        self._token = options.access_token.get_secret_value()

    def connect(self, context: CallContext) -> AsrSession:
        """Connect and announce an utterance."""
        options = self._options
        return VolcengineHearing(
            self.vendor,
            options.ws_url,
            {"Authorization": f"Bearer; {self._token}"},
            self._request(context),
            connect=options.connect_timeout,
            secrets=(self._token,),
            single=False,
            closing_sound=CLOSING_SOUND,
        )

    def _request(self, context: CallContext) -> dict[str, Any]:
        options = self._options
        request: dict[str, Any] = {"reqid": str(uuid.uuid4()), "sequence": 1, "nbest": 1, "show_utterances": False}
        if options.boosting_table_name:
            request["boosting_table_name"] = options.boosting_table_name
        if options.correct_table_name:
            request["correct_table_name"] = options.correct_table_name
        return {
            "app": {
                "appid": options.appid,
                "cluster": options.cluster,
                "token": self._token,
            },
            "user": {"uid": context.device_id or "xiaozhi"},
            "audio": {
                "format": "raw",
                "codec": "raw",
                "rate": ASR_SAMPLE_RATE,
                "bits": 16,
                "channel": 1,
                "language": options.language,
            },
            "request": request,
        }
