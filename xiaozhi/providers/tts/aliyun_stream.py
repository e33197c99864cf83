"""Alibaba Cloud's CosyVoice (NLS, FlowingSpeechSynthesizer): text goes in while sound comes out, one task per answer.

Source: help.aliyun.com/zh/isi/user-guide/websocket-protocol-description-for-cosyvoice-tts and .../cosyvoice-api-details
in its developer reference. The vendor cuts and joins our sentences as it likes and does not name those it begins, so
ours are found in the sound (`families/spoken_sentences.py`).

A connection serves one task at a time but any number after each other; the gateway hangs up after ten seconds without
a sign from us. Nothing cancels a task but hanging up."""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

from gevent import Greenlet
from pydantic import AliasChoices, Field

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError, VendorRejected, VendorUnavailable
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import SpeechEvent, TtsTraits
from xiaozhi.providers.families.aliyun_nls import Gateway, NlsAccess, NlsVoiceOptions
from xiaozhi.providers.families.aliyun_nls_connections import NlsEvent, NlsLine, new_task
from xiaozhi.providers.families.spoken_sentences import SpokenSentences
from xiaozhi.providers.kept_connections import KeptConnections
from xiaozhi.providers.registry import provider
from xiaozhi.providers.tts_session import WAIT_S, SessionTts, TtsSession

NAMESPACE = "FlowingSpeechSynthesizer"
KEPT = 4
IDLE_S = 8.0
"""How long an idle connection is kept, and ..."""
PING_S = 5.0
"""... how often one is pinged during a task: the model may think, or call a tool, for longer than ten seconds."""


class AliyunStreamTtsOptions(NlsVoiceOptions):
    """See `NlsOptions` and `NlsVoiceOptions`."""

    host: Gateway = "nls-gateway-cn-beijing.aliyuncs.com"
    """The only one with these voices."""
    voice: str = Field("longxiaochun", validation_alias=AliasChoices("private_voice", "voice"))
    format: Literal["pcm", "wav", "mp3"] = "pcm"
    connect_timeout: float = Field(5.0, gt=0)
    timeout: float = Field(10.0, gt=0)
    """Seconds without a sign of life while the vendor owes sound."""


@provider("tts", "aliyun_stream", AliyunStreamTtsOptions)
class AliyunStreamTts(SessionTts):
    """One task per answer, over kept connections."""

    needs_services = True
    ping_seconds = PING_S

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
        """Start a task. A kept connection that turns out to be dead is replaced once: no text has been sent yet."""
        line, used = self.lines.take()
        try:
            return _Session(self, line)
        except VendorUnavailable:
            if not used:
                raise
            return _Session(self, self.lines.dial())

    def close(self) -> None:
        """Hang up on idle connections, break off the others."""
        self.lines.close()
        super().close()
        self._access.close()

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
        self._said = False
        self._finished = False
        self._line.begin(
            self._task,
            "StartSynthesis",
            owner.request,
            until="SynthesisStarted",
            deadline=options.connect_timeout,
        )
        self._pinger: Greenlet = owner.tasks.spawn_later(owner.ping_seconds, "nls-ping", self._ping)

    def send_sentence(self, sentence: str) -> None:
        self._said = True
        self._spoken.said(sentence)
        self._line.send(self._task, "RunSynthesis", {"text": sentence})

    def send_end(self) -> None:
        self._finished = True
        self._line.send(self._task, "StopSynthesis")

    def read(self) -> Generator[SpeechEvent | None]:
        try:
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
        except VendorRejected:
            self._line.close()
            if self._said or not self._finished:
                raise  # else a task without text was refused, which is all the same
        except BaseException:
            self._line.close()
            raise
        else:
            self._owner.lines.give(self._line)
        finally:
            self._pinger.kill(block=False)

    def hang_up(self) -> None:
        self._line.close()

    def _ping(self) -> None:
        try:
            self._line.ping()
        except VendorError:
            return  # `read` finds the connection broken, and knows better why
        self._pinger = self._owner.tasks.spawn_later(self._owner.ping_seconds, "nls-ping", self._ping)
