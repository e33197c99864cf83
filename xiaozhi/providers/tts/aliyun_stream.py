"""Alibaba Cloud's CosyVoice (NLS, FlowingSpeechSynthesizer): text goes in while sound comes out, one task per answer.

Source: help.aliyun.com/zh/isi/user-guide/websocket-protocol-description-for-cosyvoice-tts and .../cosyvoice-api-details
in its developer reference. The vendor cuts and joins our sentences as it likes and does not name those it begins, so
ours are found in the sound (`families/spoken_sentences.py`).

A connection serves one task at a time but any number after each other. The gateway gives a task up when nothing comes
for ten seconds, and keeps text back until there is enough of it: where text stays out, the task is ended here, and the
next sentence begins another one (`families/text_pauses.py`). Nothing cancels a task but hanging up."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Literal

from pydantic import AliasChoices, Field

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorUnavailable
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import SpeechEvent, TtsTraits
from xiaozhi.providers.families.aliyun_nls import Gateway, NlsAccess, NlsVoiceOptions
from xiaozhi.providers.families.aliyun_nls_connections import NlsEvent, NlsLine, new_task
from xiaozhi.providers.families.spoken_sentences import SpokenSentences
from xiaozhi.providers.families.text_pauses import SuccessiveSessions
from xiaozhi.providers.kept_connections import KeptConnections
from xiaozhi.providers.registry import provider
from xiaozhi.providers.tts_session import WAIT_S, SessionTts, TtsSession

NAMESPACE = "FlowingSpeechSynthesizer"
KEPT = 4
IDLE_S = 8.0
"""How long an idle connection is kept."""


class AliyunStreamTtsOptions(NlsVoiceOptions):
    """See `NlsOptions` and `NlsVoiceOptions`."""

    host: Gateway = "nls-gateway-cn-beijing.aliyuncs.com"
    """The only one with these voices."""
    voice: str = Field("longxiaochun", validation_alias=AliasChoices("private_voice", "voice"))
    format: Literal["pcm", "wav", "mp3"] = "pcm"
    connect_timeout: float = Field(5.0, gt=0)
    text_pause: float = Field(1.5, gt=0, lt=10)
    """Seconds without text that end a task."""
    timeout: float = Field(10.0, gt=0)
    """Seconds without a sign of life while the vendor owes sound."""


@provider("tts", "aliyun_stream", AliyunStreamTtsOptions)
class AliyunStreamTts(SessionTts):
    """One task per answer, over kept connections."""

    needs_services = True

    def __init__(self, options: AliyunStreamTtsOptions, services: Services) -> None:
        super().__init__(timeout=options.timeout, marks_sentences=False)
        self.options = options
        self.inference = services.inference
        self.traits = TtsTraits(sample_rate=options.sample_rate)
        manner = options.manner()
        self.speed = 2 ** (manner["speech_rate"] / 500)
        self.request = {
            "voice": options.voice,
            "format": options.format,
            "sample_rate": options.sample_rate,
            **manner,
        }
        self._access = NlsAccess(options)
        self.lines = KeptConnections(self._dial, keep=KEPT, idle_seconds=IDLE_S, tasks=self.tasks)

    def connect(self, context: CallContext) -> TtsSession:
        """Start a task."""
        return SuccessiveSessions(self._begin, self.tasks, pause=self.options.text_pause)

    def close(self) -> None:
        """Hang up on idle connections, break off the others."""
        self.lines.close()
        super().close()
        self._access.close()

    def _begin(self) -> TtsSession:
        return self.lines.begin(partial(_Session, self))

    def _dial(self) -> NlsLine:
        self.check_open()
        return NlsLine(self.vendor, self.options, self._access, NAMESPACE, connect=self.options.connect_timeout)


class _Session(TtsSession):
    def __init__(self, owner: AliyunStreamTts, line: NlsLine) -> None:
        self._owner = owner
        self._line = line
        self._task = new_task()
        options = owner.options
        self._spoken = SpokenSentences(
            options.format, options.sample_rate, marked=False, speed=owner.speed, inference=owner.inference
        )
        self._finished = False
        self._line.begin(
            self._task,
            "StartSynthesis",
            owner.request,
            until="SynthesisStarted",
            deadline=options.connect_timeout,
        )

    def send_sentence(self, sentence: str) -> None:
        self._spoken.said(sentence)
        self._line.send(self._task, "RunSynthesis", {"text": sentence})

    def send_end(self) -> None:
        self._finished = True
        self._line.send(self._task, "StopSynthesis")

    def read(self) -> Generator[SpeechEvent | None]:
        with self._owner.lines.kept_after(self._line):
            while True:
                message = self._line.receive(WAIT_S)
                if not isinstance(message, NlsEvent):
                    yield from self._spoken.feed(message)
                    continue
                self._line.check(message)
                if message.name == "SynthesisCompleted":
                    if not self._finished:
                        raise VendorUnavailable(self._owner.vendor, "the vendor ended the task")
                    yield from self._spoken.finish()
                    break
                yield None

    def hang_up(self) -> None:
        self._line.close()
