"""Volcengine bidirectional TTS (V3): text goes in while sound comes out, one WebSocket session per answer.

Source: volcengine.com/docs/6561/1329505. Resources of the first generation (volc.service_type.10029, seed-tts-1.0) name
each sentence as it begins; those of the second (seed-tts-2.0) begin and end only once
(`families/sentence_boundaries.py` finds the sentences in between).

A connection serves one session at a time but any number after each other; opening one costs some 100 ms, so with
`enable_ws_reuse` a few idle ones are kept. An interrupted answer cancels its session, which frees the vendor, and keeps
the connection. The vendor wants a session to be finished as soon as no more text comes: where text stays out, as while
a tool is at work, it is, and the next sentence begins another one (`families/text_pauses.py`)."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterator
from typing import Any, Literal

import orjson
from gevent.event import Event as Signal
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError, VendorUnavailable
from xiaozhi.providers.contracts.tts import (
    SpeechEvent,
    TtsTraits,
)
from xiaozhi.providers.families.spoken_sentences import SpokenSentences
from xiaozhi.providers.families.text_pauses import SuccessiveSessions
from xiaozhi.providers.families.voice_scales import VoiceScales, scaled
from xiaozhi.providers.families.volcengine import Event, VolcengineFrame
from xiaozhi.providers.families.volcengine_account import MIXED_VOICE, VolcengineAccount, resource_for
from xiaozhi.providers.families.volcengine_connections import Line
from xiaozhi.providers.kept_connections import KeptConnections
from xiaozhi.providers.registry import provider
from xiaozhi.providers.tts_session import WAIT_S, SessionTts, TtsSession
from xiaozhi.runtime.logs import get_logger

CANCEL_S = 2.0
"""How long a cancelled session may take to say so before its connection is given up."""
ROUNDING = 0.005
"""Shares such as 0.33 need not make a whole to the last digit."""

log = get_logger(__name__)


class HuoshanAudioParams(BaseModel):
    """`audio_params` of the vendor; further keys (emotion, emotion_scale, ...) are passed on as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    format: Literal["pcm", "ogg_opus"] = "pcm"
    sample_rate: Literal[8000, 16000, 22050, 24000, 32000, 44100, 48000] = 24_000
    speech_rate: int = Field(0, ge=-50, le=100)
    loudness_rate: int = Field(0, ge=-50, le=100)


class MixedSpeaker(BaseModel):
    """One voice of a mixture, and its share."""

    model_config = ConfigDict(extra="allow", frozen=True)

    source_speaker: str = Field(min_length=1)
    mix_factor: float = Field(gt=0, le=1)


class HuoshanMixture(BaseModel):
    """`mix_speaker` of the vendor."""

    model_config = ConfigDict(extra="allow", frozen=True)

    speakers: tuple[MixedSpeaker, ...] = Field((), max_length=3)

    @model_validator(mode="after")
    def _is_whole(self) -> HuoshanMixture:
        shares = sum(speaker.mix_factor for speaker in self.speakers)
        if self.speakers and abs(shares - 1) > ROUNDING:
            raise ValueError(f"expected a mix_factor for each speaker, 1 in sum; here it is {shares:g}")
        return self


class HuoshanTtsOptions(VoiceScales, VolcengineAccount):
    """`speaker: custom_mix_bigtts` is the mixture in `mix_speaker`, which other speakers leave aside."""

    ws_url: str = Field("wss://openspeech.bytedance.com/api/v3/tts/bidirection", pattern=r"^wss?://.+")
    resource_id: str = "volc.service_type.10029"
    speaker: str = Field(min_length=1, validation_alias=AliasChoices("private_voice", "speaker"))
    enable_ws_reuse: bool = True
    idle_connections: int = Field(4, ge=0)
    idle_seconds: float = Field(60.0, gt=0)
    """An idle connection counts against the account's concurrency."""
    audio_params: HuoshanAudioParams = HuoshanAudioParams()
    additions: dict[str, Any] = {}
    mix_speaker: HuoshanMixture | None = Field(None, validate_default=True)
    connect_timeout: float = Field(5.0, gt=0)
    text_pause: float = Field(5.0, gt=0)
    """Seconds without text that end a session."""
    timeout: float = Field(10.0, gt=0)
    """Seconds without a sign of life while the vendor owes sound."""

    @field_validator("speaker")
    @classmethod
    def _of_this_resource(cls, speaker: str, info: ValidationInfo) -> str:
        resource = info.data.get("resource_id", "")
        if wanted := resource_for(speaker, resource):
            raise ValueError(f"this voice belongs to resource_id {wanted}, not to {resource}")
        return speaker

    @field_validator("mix_speaker")
    @classmethod
    def _can_be_mixed(cls, mixture: HuoshanMixture | None, info: ValidationInfo) -> HuoshanMixture | None:
        if info.data.get("speaker") == MIXED_VOICE:
            if mixture is None or not mixture.speakers:
                raise ValueError(f"expected the speakers that {MIXED_VOICE} consists of")
            if not marks_its_sentences(info.data.get("resource_id", "")):
                raise ValueError("voices of the second generation cannot be mixed; see resource_id")
        return mixture if mixture is not None and mixture.speakers else None

    def audio(self) -> dict[str, Any]:
        """`audio_params` as they are sent."""
        params = {key: value for key, value in self.audio_params.model_dump().items() if value not in ("", None)}
        for key, percent in (("speech_rate", self.rate_percent), ("loudness_rate", self.volume_percent)):
            params[key] = round(scaled(percent, -50, 0, 100, otherwise=params[key]))
        return params

    def extras(self) -> dict[str, Any]:
        """`additions` as they are sent."""
        extras = dict(self.additions)
        if self.pitch_percent is not None:
            pitch = round(scaled(self.pitch_percent, -12, 0, 12, otherwise=0))
            extras["post_process"] = {**extras.get("post_process", {}), "pitch": pitch}
        return extras


def marks_its_sentences(resource_id: str) -> bool:
    """True for the first generation; see the module."""
    return not resource_id.startswith(("seed-tts-2", "seed-icl-2"))


@provider("tts", "huoshan_double_stream", HuoshanTtsOptions)
class HuoshanTts(SessionTts):
    """One session per answer, over kept connections."""

    def __init__(self, options: HuoshanTtsOptions) -> None:
        self.marks_sentences = marks_its_sentences(options.resource_id)
        super().__init__(timeout=options.timeout, marks_sentences=self.marks_sentences)
        self.options = options
        audio = options.audio()
        self.speed = 1 + audio["speech_rate"] / 100
        self.request: dict[str, Any] = {"speaker": options.speaker, "audio_params": audio}
        if extras := options.extras():
            self.request["additions"] = orjson.dumps(extras).decode()
        if options.mix_speaker is not None:
            if options.speaker == MIXED_VOICE:
                self.request["mix_speaker"] = options.mix_speaker.model_dump()
            else:
                log.warning("mix_speaker has no effect on this voice", voice=options.speaker, wanted=MIXED_VOICE)
        self.traits = TtsTraits(sample_rate=options.audio_params.sample_rate)
        keep = options.idle_connections if options.enable_ws_reuse else 0
        self.lines = KeptConnections(self._dial, keep=keep, idle_seconds=options.idle_seconds, tasks=self.tasks)

    def connect(self, context: CallContext) -> TtsSession:
        """Start a session."""
        return SuccessiveSessions(
            lambda: self.lines.begin(lambda line: _Session(self, line, context)),
            self.tasks,
            pause=self.options.text_pause,
        )

    def close(self) -> None:
        """Hang up on idle connections, break off the others."""
        self.lines.close()
        super().close()

    def _dial(self) -> Line:
        self.check_open()
        options = self.options
        headers = options.headers(options.resource_id)
        return Line(self.vendor, options.ws_url, headers, connect=options.connect_timeout, secrets=options.secrets)


class _Session(TtsSession):
    """One session of the vendor's. The vendor may cut or join our sentences, so its own end of a sentence says nothing
    about ours: where they begin is found by `SpokenSentences`."""

    def __init__(self, owner: HuoshanTts, line: Line, context: CallContext) -> None:
        self._owner = owner
        self._line = line
        self._id = uuid.uuid4().hex
        self._user = {"uid": context.device_id or "xiaozhi"}
        self._spoken = SpokenSentences(
            "opus" if owner.options.audio_params.format == "ogg_opus" else "pcm",
            owner.traits.sample_rate,
            marked=owner.marks_sentences,
            speed=owner.speed,
        )
        self._over = Signal()
        """Set when the vendor has ended the session, or the connection is lost."""
        self._finished = False
        self._hung_up = False
        try:
            self._send(Event.START_SESSION)
            line.expect(Event.SESSION_STARTED, owner.options.connect_timeout, self._id)
        except BaseException:
            line.close()
            raise

    def send_sentence(self, sentence: str) -> None:
        self._spoken.said(sentence)
        self._send(Event.TASK_REQUEST, sentence)

    def send_end(self) -> None:
        self._finished = True
        self._line.send(Event.FINISH_SESSION, None, self._id)

    def read(self) -> Generator[SpeechEvent | None]:
        try:
            with self._owner.lines.kept_after(self._line):
                while True:
                    frame = self._line.receive(WAIT_S)
                    if frame.session != self._id:
                        continue  # remains of a cancelled session
                    if frame.event == Event.SESSION_CANCELED:
                        break
                    if frame.event == Event.SESSION_FINISHED:
                        if not (self._finished or self._hung_up):
                            raise VendorUnavailable(self._owner.vendor, "the vendor ended the session")
                        break
                    yield from self._events(frame)
        finally:
            self._over.set()

    def hang_up(self) -> None:
        self._hung_up = True
        if self._finished or not self._owner.options.enable_ws_reuse:
            self._line.close()  # too late to cancel (the vendor's rule), or not worth it
        else:
            self._owner.tasks.spawn("tts-huoshan-cancel", self._cancel)

    def _cancel(self) -> None:
        try:
            self._line.send(Event.CANCEL_SESSION, None, self._id)
            if not self._over.wait(timeout=CANCEL_S):
                self._line.close()
        except VendorError:
            self._line.close()

    def _send(self, event: Event, text: str = "") -> None:
        # The parameters count at the start of the session only, but the vendor's own clients repeat them.
        request = {**self._owner.request, "text": text} if text else self._owner.request
        payload = {"user": self._user, "event": int(event), "namespace": "BidirectionalTTS", "req_params": request}
        self._line.send(event, payload, self._id)

    def _events(self, frame: VolcengineFrame) -> Iterator[SpeechEvent | None]:
        """What a frame of this session means."""
        match frame.event:
            case Event.SENTENCE_START if self._owner.marks_sentences:
                yield from self._spoken.vendor_begins(_text_of(frame))
            case Event.SENTENCE_END if self._owner.marks_sentences:
                yield from self._spoken.vendor_ends()
            case Event.RESPONSE if frame.is_audio and frame.payload and not self._hung_up:
                yield from self._spoken.feed(frame.payload)
        yield None


def _text_of(frame: VolcengineFrame) -> str:
    # The documentation has it in res_params, the service sends it at the top.
    said = frame.json()
    inner = said.get("res_params")
    text = said.get("text") or (inner.get("text") if isinstance(inner, dict) else "")
    return str(text or "")
