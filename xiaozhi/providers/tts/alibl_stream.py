"""CosyVoice of DashScope: text goes in while sound comes out, one task per answer, over kept connections.

Source: help.aliyun.com/zh/model-studio/cosyvoice-websocket-api, .../cosyvoice-server-events. The vendor cuts the text
itself. Newer models name each of their sentences before its sound; where none is named, ours are found in the sound
(`families/spoken_sentences.py`).

The vendor gives a task up when no text comes for 23 s; before that it is ended here, and the next sentence begins
another one (`families/text_pauses.py`)."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from typing import Any, Literal

from pydantic import AliasChoices, Field

from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import SpeechEvent, TtsTraits
from xiaozhi.providers.families.dashscope import DuplexOptions, DuplexTask, DuplexTasks, language_code
from xiaozhi.providers.families.spoken_sentences import SpokenSentences
from xiaozhi.providers.families.text_pauses import SuccessiveSessions
from xiaozhi.providers.families.voice_scales import VoiceScales, scaled
from xiaozhi.providers.registry import provider
from xiaozhi.providers.tts_session import SessionTts, TtsSession


class AliBlStreamTtsOptions(VoiceScales, DuplexOptions):
    """`language`: by its code (en) or its Chinese name (英语); any other name leaves the language to the voice.
    `parameters`: more of the vendor's (instruction, seed, bit_rate, ...), sent as they are."""

    model: str = Field("cosyvoice-v2", validation_alias=AliasChoices("model", "model_name"))
    voice: str = Field("longxiaochun_v2", validation_alias=AliasChoices("private_voice", "voice"))
    format: Literal["pcm", "opus", "mp3", "wav"] = "pcm"
    """opus (in Ogg) is passed to the device as it is."""
    sample_rate: Literal[8000, 16000, 22050, 24000, 44100, 48000] = 24_000
    volume: int = Field(50, ge=0, le=100)
    rate: float = Field(1.0, ge=0.5, le=2)
    pitch: float = Field(1.0, ge=0.5, le=2)
    language: str = ""
    parameters: dict[str, Any] = {}
    text_pause: float = Field(15.0, gt=0, lt=23)
    """Seconds without text that end a task."""
    timeout: float = Field(10.0, gt=0)
    """Seconds without a sign of life while the vendor owes sound."""

    def speed(self) -> float:
        """How fast it speaks; 1 is normal."""
        return scaled(self.rate_percent, 0.5, 1.0, 2.0, otherwise=self.rate)

    def request(self) -> dict[str, Any]:
        """The payload of run-task."""
        parameters: dict[str, Any] = {
            "text_type": "PlainText",
            "voice": self.voice,
            "format": self.format,
            "sample_rate": self.sample_rate,
            "volume": round(scaled(self.volume_percent, 0, 50, 100, otherwise=self.volume)),
            "rate": self.speed(),
            "pitch": scaled(self.pitch_percent, 0.5, 1.0, 2.0, otherwise=self.pitch),
        }
        if hint := language_code(self.language):
            parameters["language_hints"] = [hint]
        return {
            "task_group": "audio",
            "task": "tts",
            "function": "SpeechSynthesizer",
            "model": self.model,
            "parameters": parameters | self.parameters,
            "input": {},
        }


@provider("tts", "alibl_stream", AliBlStreamTtsOptions)
class AliBlStreamTts(SessionTts):
    """One task per answer."""

    needs_services = True

    def __init__(self, options: AliBlStreamTtsOptions, services: Services) -> None:
        super().__init__(timeout=options.timeout, marks_sentences=False)
        self.options = options
        self.inference = services.inference
        self.duplex = DuplexTasks(self, options)
        self.traits = TtsTraits(sample_rate=options.sample_rate)
        self._request = options.request()

    def connect(self, context: CallContext) -> TtsSession:
        """Start a task."""
        return SuccessiveSessions(self._begin, self.tasks, pause=self.options.text_pause)

    def close(self) -> None:
        """Hang up on idle connections, break off the others."""
        self.duplex.close()
        super().close()

    def _begin(self) -> TtsSession:
        return _Session(self, self.duplex.start(self._request))


class _Session(TtsSession):
    def __init__(self, owner: AliBlStreamTts, task: DuplexTask) -> None:
        self._owner = owner
        self._task = task
        self._texts: list[str] = []
        self._spoken = self._sentences(marked=False)
        self._sounded = False
        self._marked = False

    def send_sentence(self, sentence: str) -> None:
        self._texts.append(sentence)
        self._spoken.said(sentence)
        # The vendor puts the pieces together: "Hello.How" would be one word.
        self._task.send_text(f"{sentence} " if sentence[-1:].isascii() else sentence)

    def send_end(self) -> None:
        self._task.send_end()

    def read(self) -> Generator[SpeechEvent | None]:
        with closing(self._owner.duplex.read(self._task)) as messages:
            for message in messages:
                if isinstance(message, bytes):
                    self._sounded = True
                    yield from self._spoken.feed(message)
                else:
                    yield from self._noted(message)
                yield None
        yield from self._spoken.finish()

    def hang_up(self) -> None:
        self._task.hang_up()

    def _noted(self, output: Mapping[str, Any]) -> Iterator[SpeechEvent]:
        """What a message beside the sound says about it."""
        text = output.get("original_text")
        if output.get("type") == "sentence-begin" and isinstance(text, str) and text:
            if not self._sounded and not self._marked:
                self._marked = True
                self._spoken = self._sentences(marked=True)
                for said in self._texts:
                    self._spoken.said(said)
            if self._marked:
                yield from self._spoken.vendor_begins(text)
        elif output.get("type") == "sentence-end" and self._marked:
            yield from self._spoken.vendor_ends()

    def _sentences(self, *, marked: bool) -> SpokenSentences:
        options = self._owner.options
        return SpokenSentences(
            options.format,
            options.sample_rate,
            marked=marked,
            speed=options.speed(),
            inference=self._owner.inference,
        )
