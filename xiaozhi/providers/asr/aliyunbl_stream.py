"""DashScope real-time recognition (Paraformer, Fun-ASR): sound goes out while the user speaks, partial text comes back.

Source: help.aliyun.com/zh/model-studio/websocket-for-paraformer-real-time-service, .../fun-asr-client-events. The
vendor cuts what it hears into sentences by pauses of its own; each is told again and again until it ends.

One task per utterance, over kept connections."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any, Literal

from pydantic import AliasChoices, Field

from xiaozhi.audio.pcm import Resampler
from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError
from xiaozhi.providers.asr_session import AsrSession, SessionAsr
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, Transcript
from xiaozhi.providers.families.dashscope import DuplexOptions, DuplexTask, DuplexTasks, language_code
from xiaozhi.providers.families.heard_sentences import joined_sentences
from xiaozhi.providers.registry import provider

PIECE_MS = 100
"""What the vendor recommends to send at a time."""
NOTHING_HEARD = ("NO_INPUT_AUDIO_ERROR", "NO_VALID_AUDIO_ERROR")
"""With these codes a task fails in which nobody spoke."""


class AliyunBlStreamAsrOptions(DuplexOptions):
    """Everything below `vocabulary_id` is the vendor's, under its own name. Models other than Paraformer are sent only
    what the block sets."""

    model: str = Field("paraformer-realtime-v2", validation_alias=AliasChoices("model", "model_name"))
    format: Literal["pcm"] = "pcm"
    sample_rate: Literal[8000, 16000] = 16_000
    """Hz that the model wants: 8000 for the models with 8k in their name."""
    vocabulary_id: str = ""
    language_hints: tuple[str, ...] = Field((), validation_alias=AliasChoices("language_hints", "language"))
    disfluency_removal_enabled: bool = False
    semantic_punctuation_enabled: bool = False
    max_sentence_silence: int = Field(200, ge=200, le=6000)
    """ms of silence at which the vendor ends a sentence."""
    multi_threshold_mode_enabled: bool = False
    punctuation_prediction_enabled: bool = True
    inverse_text_normalization_enabled: bool = True
    timeout: float = Field(10.0, gt=0)
    """Seconds from the end of speech to the text."""

    def request(self) -> dict[str, Any]:
        """The payload of run-task."""
        switches = (
            "disfluency_removal_enabled",
            "semantic_punctuation_enabled",
            "max_sentence_silence",
            "multi_threshold_mode_enabled",
            "punctuation_prediction_enabled",
            "inverse_text_normalization_enabled",
        )
        all_of_them = self.model.startswith("paraformer")
        parameters: dict[str, Any] = {"format": self.format, "sample_rate": self.sample_rate}
        parameters |= {key: getattr(self, key) for key in switches if all_of_them or key in self.model_fields_set}
        if self.vocabulary_id:
            parameters["vocabulary_id"] = self.vocabulary_id
        if hints := list(filter(None, map(language_code, self.language_hints))):
            parameters["language_hints"] = hints
        return {
            "task_group": "audio",
            "task": "asr",
            "function": "recognition",
            "model": self.model,
            "parameters": parameters,
            "input": {},
        }


@provider("asr", "aliyunbl_stream", AliyunBlStreamAsrOptions)
class AliyunBlStreamAsr(SessionAsr):
    """One task per utterance."""

    def __init__(self, options: AliyunBlStreamAsrOptions) -> None:
        super().__init__(timeout=options.timeout, piece_ms=PIECE_MS)
        self.sample_rate = options.sample_rate
        self.duplex = DuplexTasks(self, options)
        self._request = options.request()

    def connect(self, context: CallContext) -> AsrSession:
        """Start a task."""
        return _Session(self, self.duplex.start(self._request))

    def close(self) -> None:
        """Hang up on idle connections, break off the others."""
        self.duplex.close()
        super().close()


class _Session(AsrSession):
    def __init__(self, owner: AliyunBlStreamAsr, task: DuplexTask) -> None:
        self._owner = owner
        self._task = task
        self._resampler = Resampler(ASR_SAMPLE_RATE, owner.sample_rate)
        self._ended: list[str] = []
        """Sentences that have ended."""

    def send_sound(self, pcm: bytes) -> None:
        if sound := self._resampler.feed(pcm):
            self._task.send_sound(sound)

    def send_end(self) -> None:
        if rest := self._resampler.flush():
            self._task.send_sound(rest)
        self._task.send_end()

    def read(self) -> Generator[Transcript | None]:
        try:
            with closing(self._owner.duplex.read(self._task)) as messages:
                for message in messages:
                    sentence = message.get("sentence") if isinstance(message, Mapping) else None
                    yield self._heard(sentence) if isinstance(sentence, Mapping) else None
        except VendorError as error:
            if not error.message.startswith(NOTHING_HEARD):
                raise

    def hang_up(self) -> None:
        self._task.hang_up()

    def _heard(self, sentence: Mapping[str, Any]) -> Transcript | None:
        if sentence.get("heartbeat"):
            return None
        text = str(sentence.get("text") or "")
        whole = joined_sentences([*self._ended, text])
        # As the vendor's own client tells: `sentence_end` is missing in some answers.
        if sentence.get("end_time") is not None:
            self._ended.append(text)
        return Transcript(whole)
