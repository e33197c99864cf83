"""Alibaba Cloud's real-time recognition (NLS): sound goes out while the user speaks, partial text and whole sentences
come back.

Source: help.aliyun.com/zh/isi/user-guide/websocket. One connection per utterance, opened when speech begins. The
language is that of the project whose `appkey` is used."""

from __future__ import annotations

from collections.abc import Generator

from pydantic import Field

from xiaozhi.chat import CallContext
from xiaozhi.providers.asr_session import LONGEST_S, AsrSession, SessionAsr
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, Transcript
from xiaozhi.providers.families.aliyun_nls import SILENCE, NlsAccess, NlsOptions
from xiaozhi.providers.families.aliyun_nls_connections import NlsEvent, NlsLine, new_task
from xiaozhi.providers.families.heard_sentences import joined_sentences
from xiaozhi.providers.registry import provider

NAMESPACE = "SpeechTranscriber"
PIECE_MS = 60
"""As devices send it. The service wants small pieces."""


class AliyunStreamAsrOptions(NlsOptions):
    """See `NlsOptions`. `max_sentence_silence`: ms of silence that end a sentence of the vendor's; an utterance may
    have several."""

    max_sentence_silence: int = Field(800, ge=200, le=6_000)
    connect_timeout: float = Field(5.0, gt=0)
    timeout: float = Field(10.0, gt=0)
    """Seconds from the end of speech to the text."""


@provider("asr", "aliyun_stream", AliyunStreamAsrOptions)
class AliyunStreamAsr(SessionAsr):
    """One connection and one task per utterance."""

    def __init__(self, options: AliyunStreamAsrOptions) -> None:
        super().__init__(timeout=options.timeout, piece_ms=PIECE_MS)
        self.options = options
        self.access = NlsAccess(options)

    def connect(self, context: CallContext) -> AsrSession:
        """Connect and start a task."""
        return _Session(self)

    def close(self) -> None:
        """Break off every utterance."""
        super().close()
        self.access.close()


class _Session(AsrSession):
    def __init__(self, owner: AliyunStreamAsr) -> None:
        options = owner.options
        self._task = new_task()
        self._sentences: list[str] = []
        self._line = NlsLine(owner.vendor, options, owner.access, NAMESPACE, connect=options.connect_timeout)
        payload = {
            "format": "pcm",
            "sample_rate": ASR_SAMPLE_RATE,
            "enable_intermediate_result": True,
            "enable_punctuation_prediction": True,
            "enable_inverse_text_normalization": True,
            "max_sentence_silence": options.max_sentence_silence,
        }
        self._line.begin(
            self._task,
            "StartTranscription",
            payload,
            until="TranscriptionStarted",
            deadline=options.connect_timeout,
        )

    def send_sound(self, pcm: bytes) -> None:
        self._line.send_sound(pcm)

    def send_end(self) -> None:
        self._line.send(self._task, "StopTranscription")

    def read(self) -> Generator[Transcript | None]:
        try:
            while True:
                event = self._line.receive(LONGEST_S)
                if not isinstance(event, NlsEvent):
                    continue
                if event.status in SILENCE:
                    return  # what was heard before is the result
                self._line.check(event)
                if event.name == "TranscriptionCompleted":
                    return
                yield self._heard(event)
        finally:
            self._line.close()

    def hang_up(self) -> None:
        self._line.close()

    def _heard(self, event: NlsEvent) -> Transcript | None:
        """Everything heard so far, None when an event brings no text."""
        text = str(event.payload.get("result") or "")
        if event.name == "SentenceEnd":
            self._sentences.append(text)
            return Transcript(joined_sentences(self._sentences))
        if event.name == "TranscriptionResultChanged":
            return Transcript(joined_sentences([*self._sentences, text]))
        return None
