"""Volcengine bidirectional speech (V3): text goes in while sound comes out, over one WebSocket session per reply.

Source: volcengine.com/docs/6561/1329505. Resources of the first generation (volc.service_type.10029, seed-tts-1.0) name
each sentence as it begins; those of the second (seed-tts-2.0) begin and end only once (`_boundaries.py` finds the
sentences in between).

A connection serves one session at a time but any number after each other; opening one costs some 100 ms, so with
`enable_ws_reuse` a few idle ones are kept. An interrupted reply cancels its session, which frees the vendor, and keeps
the connection."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Literal

import numpy as np
import orjson
from gevent.event import Event as Signal
from gevent.queue import Empty, Full, Queue
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr

from xiaozhi.audio.decode import DecodeError, RawDecoder
from xiaozhi.audio.ogg import OggOpusDemuxer
from xiaozhi.audio.opus import OpusError, packet_duration_ms
from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError, VendorGarbage, VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.contracts.tts import (
    OpusPackets,
    Pcm,
    SentenceBegins,
    Sound,
    SpeechEvent,
    Tts,
    TtsStream,
    TtsTraits,
)
from xiaozhi.providers.families.openai import ApiKey
from xiaozhi.providers.families.sentence_boundaries import WINDOW_S, Boundaries
from xiaozhi.providers.families.volcengine import Event, VolcengineFrame
from xiaozhi.providers.families.volcengine_connections import Line, Lines
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.tasks import Tasks

LOOK_AHEAD = 8
"""Sentences sent of which no sound has come, before `say` blocks: enough for the vendor's own cutting, little to lose
on an interrupt."""
BUFFERED_PIECES = 512
"""Pieces of sound between the vendor and the listener; full: the vendor waits."""
WAIT_S = 120.0
"""No wait for the listener or the speaker is longer."""
CANCEL_S = 2.0
"""How long a cancelled session may take to say so before its connection is given up."""
LOUD = 500
"""Of 32768: what a pause stays below."""


class HuoshanAudioParams(BaseModel):
    """`audio_params` of the vendor; further keys (emotion, emotion_scale, ...) are passed on as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    format: Literal["pcm", "ogg_opus"] = "pcm"
    sample_rate: Literal[8000, 16000, 22050, 24000, 32000, 44100, 48000] = 24_000
    speech_rate: int = Field(0, ge=-50, le=100)
    loudness_rate: int = Field(0, ge=-50, le=100)


class HuoshanTtsOptions(ProviderOptions):
    """`appid` and `access_token` of the old console, or `api_key` of the new one. `ttsRate`, `ttsVolume`, `ttsPitch`:
    -100..100 from management consoles, in place of speech_rate, loudness_rate and pitch."""

    ws_url: str = Field("wss://openspeech.bytedance.com/api/v3/tts/bidirection", pattern=r"^wss?://.+")
    appid: str = ""
    access_token: ApiKey = SecretStr("")
    api_key: ApiKey = SecretStr("")
    resource_id: str = "volc.service_type.10029"
    speaker: str = Field(min_length=1, validation_alias=AliasChoices("private_voice", "speaker"))
    enable_ws_reuse: bool = True
    idle_connections: int = Field(4, ge=0)
    idle_seconds: float = Field(60.0, gt=0)
    """An idle connection counts against the account's concurrency."""
    audio_params: HuoshanAudioParams = HuoshanAudioParams()
    additions: dict[str, Any] = {}
    mix_speaker: dict[str, Any] = {}
    rate_percent: float | None = Field(None, ge=-100, le=100, validation_alias=AliasChoices("ttsRate", "rate_percent"))
    volume_percent: float | None = Field(
        None, ge=-100, le=100, validation_alias=AliasChoices("ttsVolume", "volume_percent")
    )
    pitch_percent: float | None = Field(
        None, ge=-100, le=100, validation_alias=AliasChoices("ttsPitch", "pitch_percent")
    )
    connect_timeout: float = Field(5.0, gt=0)
    timeout: float = Field(10.0, gt=0)
    """Seconds without a sign of life while the vendor owes sound."""

    def audio(self) -> dict[str, Any]:
        """`audio_params` as they are sent."""
        params = self.audio_params.model_dump()
        if self.rate_percent is not None:
            params["speech_rate"] = _of_percent(self.rate_percent, -50, 100)
        if self.volume_percent is not None:
            params["loudness_rate"] = _of_percent(self.volume_percent, -50, 100)
        return params

    def extras(self) -> dict[str, Any]:
        """`additions` as they are sent."""
        extras = dict(self.additions)
        if self.pitch_percent is not None:
            extras["post_process"] = {
                **extras.get("post_process", {}),
                "pitch": _of_percent(self.pitch_percent, -12, 12),
            }
        return extras


def _of_percent(percent: float, low: int, high: int) -> int:
    return round(percent / 100 * (high if percent > 0 else -low))


@provider("tts", "huoshan_double_stream", HuoshanTtsOptions)
class HuoshanTts(Tts):
    """One session per reply, over kept connections."""

    def __init__(self, options: HuoshanTtsOptions) -> None:
        self.options = options
        self.marks_sentences = not options.resource_id.startswith(("seed-tts-2", "seed-icl-2"))
        audio = options.audio()
        self.speed = 1 + audio["speech_rate"] / 100
        self.request: dict[str, Any] = {"speaker": options.speaker, "audio_params": audio}
        if extras := options.extras():
            self.request["additions"] = orjson.dumps(extras).decode()
        if options.mix_speaker:
            self.request["mix_speaker"] = options.mix_speaker
        self.traits = TtsTraits(
            sample_rate=options.audio_params.sample_rate,
            voice_key=f"{options.resource_id}/{orjson.dumps(self.request).decode()}",
        )
        self.tasks = Tasks()
        self._closed = False
        keep = options.idle_connections if options.enable_ws_reuse else 0
        self.lines = Lines(self._dial, keep=keep, idle_seconds=options.idle_seconds, tasks=self.tasks)

    @property
    def vendor(self) -> str:
        """The name in errors."""
        return self.name or "huoshan_double_stream"

    def open(self, context: CallContext) -> TtsStream:
        """Start a session. A kept connection that turns out to be dead is replaced once: no text has been sent yet."""
        line, used = self.lines.take()
        try:
            return _Reply(self, line, context)
        except VendorUnavailable:
            if not used:
                raise
            return _Reply(self, self.lines.dial(), context)

    def close(self) -> None:
        """Hang up on idle connections, break off the others."""
        self._closed = True
        self.lines.close()
        self.tasks.kill()

    def _dial(self) -> Line:
        if self._closed:
            raise VendorUnavailable(self.vendor, "closed")
        options = self.options
        token, key = options.access_token.get_secret_value(), options.api_key.get_secret_value()
        headers = {"X-Api-Resource-Id": options.resource_id}
        if key:
            headers["X-Api-Key"] = key
        if token:
            headers["X-Api-Access-Key"] = token
        if options.appid:
            headers["X-Api-App-Key"] = options.appid
        secrets = tuple(filter(None, (token, key)))
        return Line(self.vendor, options.ws_url, headers, connect=options.connect_timeout, secrets=secrets)


class _Reply(TtsStream):
    """One session. A reader greenlet takes the vendor's frames; `events` takes what it made of them."""

    def __init__(self, owner: HuoshanTts, line: Line, context: CallContext) -> None:
        self._owner = owner
        self._line = line
        self._session = uuid.uuid4().hex
        self._user = {"uid": context.device_id or "xiaozhi"}
        self._boundaries = Boundaries(marked=owner.marks_sentences, speed=owner.speed)
        self._pieces = (
            _opus_pieces() if owner.options.audio_params.format == "ogg_opus" else _pcm_pieces(owner.traits.sample_rate)
        )
        # A SpeechEvent, an Exception, or None: the end.
        self._queue: Queue[SpeechEvent | Exception | None] = Queue(BUFFERED_PIECES)
        self._room = Signal()
        self._ended = Signal()
        self._error: Exception | None = None
        """What `events` has come upon."""
        self._failure: VendorError | None = None
        """What the reader has come upon; sound that arrived before it may still be waiting."""
        self._sounded = False
        self._finished = False
        self._closed = False
        self._alive_at = time.monotonic()
        try:
            self._send(Event.START_SESSION)
            line.expect(Event.SESSION_STARTED, owner.options.connect_timeout, self._session)
        except BaseException:
            line.close()
            raise
        owner.tasks.spawn("tts-huoshan", self._read)

    def say(self, sentence: str) -> None:
        while (
            not (self._closed or self._ended.is_set())
            and self._error is None
            and self._boundaries.unbegun >= LOOK_AHEAD
        ):
            self._room.clear()
            if not self._room.wait(timeout=WAIT_S):
                raise VendorTimeout(self._owner.vendor, f"no sentence began for {WAIT_S:g} s")
        self._check()
        if self._ended.is_set():
            raise self._failure or VendorUnavailable(self._owner.vendor, "the session has ended")
        if not self._boundaries.unbegun:
            self._alive_at = time.monotonic()  # the vendor owes sound from now on
        self._boundaries.said(sentence)
        self._send(Event.TASK_REQUEST, sentence)

    def finish(self) -> None:
        if self._finished or self._closed or self._ended.is_set():
            return
        self._finished = True
        self._alive_at = time.monotonic()
        self._line.send(Event.FINISH_SESSION, None, self._session)

    def events(self) -> Iterator[SpeechEvent]:
        try:
            while (event := self._next()) is not None:
                yield event
        finally:
            self.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._room.set()
        if self._ended.is_set():
            return
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)  # wakes `events`, which finds the stream closed
        if self._finished or not self._owner.options.enable_ws_reuse:
            self._line.close()  # too late to cancel (the vendor's rule), or not worth it
        else:
            self._owner.tasks.spawn("tts-huoshan-cancel", self._cancel)

    def _cancel(self) -> None:
        try:
            self._line.send(Event.CANCEL_SESSION, None, self._session)
            if not self._ended.wait(timeout=CANCEL_S):
                self._line.close()
        except VendorError:
            self._line.close()

    def _send(self, event: Event, text: str = "") -> None:
        # The parameters count at the start of the session only, but the vendor's own clients repeat them.
        request = {**self._owner.request, "text": text} if text else self._owner.request
        payload = {"user": self._user, "event": int(event), "namespace": "BidirectionalTTS", "req_params": request}
        self._line.send(event, payload, self._session)

    def _next(self) -> SpeechEvent | None:
        while True:
            self._check()
            try:
                item = self._queue.get(timeout=min(1.0, max(0.01, self._patience())))
            except Empty:
                if self._ended.is_set() and self._queue.empty():
                    self._error = self._failure  # the reader was killed
                elif self._patience() <= 0:
                    self._error = VendorTimeout(self._owner.vendor, f"no sound for {self._owner.options.timeout:g} s")
                continue
            if isinstance(item, Exception):
                self._error = item
            self._check()
            event: SpeechEvent | None = item
            return event

    def _patience(self) -> float:
        """Seconds the vendor still has. It owes sound when text is waiting for its first, and an end after `finish`.

        The second generation does not tell when it has caught up, so in the middle of a reply its silence means
        nothing."""
        owes = self._boundaries.unbegun > 0 and (self._owner.marks_sentences or not self._sounded)
        if not (owes or self._finished):
            return WAIT_S
        return self._alive_at + self._owner.options.timeout - time.monotonic()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._closed:
            raise VendorUnavailable(self._owner.vendor, "the stream was closed")

    # --- the reader's greenlet -------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            while self._take(self._line.receive(WAIT_S)):
                pass
            self._ended.set()
            self._owner.lines.give(self._line)
        except (VendorError, DecodeError, OpusError) as error:
            self._failure = error if isinstance(error, VendorError) else VendorGarbage(self._owner.vendor, str(error))
            self._line.close()
            self._put(self._failure)
        except Full:
            self._line.close()  # nobody has listened for WAIT_S
        finally:
            if not self._ended.is_set():
                self._line.close()
                self._failure = self._failure or VendorUnavailable(self._owner.vendor, "closed")
                self._ended.set()
            self._room.set()

    def _take(self, frame: VolcengineFrame) -> bool:
        """Pass on what a frame holds; False when it was the session's last."""
        if frame.session != self._session:
            return True  # remains of a cancelled session
        self._alive_at = time.monotonic()
        match frame.event:
            case Event.SENTENCE_START if self._owner.marks_sentences:
                self._begin(self._boundaries.vendor_begins(_text_of(frame)))
            case Event.SENTENCE_END if self._owner.marks_sentences:
                self._begin(self._boundaries.vendor_ends())
            case Event.RESPONSE if frame.is_audio and frame.payload and not self._closed:
                for sound, seconds, loud in self._pieces(frame.payload):
                    self._begin(self._boundaries.sound(seconds, loud))
                    self._sounded = True
                    self._put(sound)
            case Event.SESSION_FINISHED:
                if not (self._finished or self._closed):
                    raise VendorUnavailable(self._owner.vendor, "the vendor ended the session")
                self._begin(self._boundaries.rest())
                self._put(None)
                return False
            case Event.SESSION_CANCELED:
                return False
        return True

    def _begin(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            self._put(SentenceBegins(sentence))
            self._room.set()

    def _put(self, item: SpeechEvent | Exception | None) -> None:
        if not self._closed:
            self._queue.put(item, timeout=WAIT_S)


Pieces = Callable[[bytes], Iterable[tuple[Sound, float, Sequence[bool]]]]
"""Payload -> (sound, seconds, loudness by window)."""


def _pcm_pieces(sample_rate: int) -> Pieces:
    decoder = RawDecoder(sample_rate)
    window = round(sample_rate * WINDOW_S)

    def pieces(payload: bytes) -> Iterator[tuple[Sound, float, Sequence[bool]]]:
        pcm = decoder.feed(payload)
        samples = np.abs(np.frombuffer(pcm, "<i2").astype(np.int32))
        whole = len(samples) - len(samples) % window
        loud = (samples[:whole].reshape(-1, window).max(axis=1) > LOUD).tolist() if whole else []
        yield Pcm(pcm, sample_rate), len(samples) / sample_rate, loud

    return pieces


def _opus_pieces() -> Pieces:
    demuxer = OggOpusDemuxer()

    def pieces(payload: bytes) -> Iterator[tuple[Sound, float, Sequence[bool]]]:
        for duration, group in groupby(demuxer.feed(payload), packet_duration_ms):
            packets = tuple(group)
            yield OpusPackets(packets, duration), len(packets) * duration / 1000, ()

    return pieces


def _text_of(frame: VolcengineFrame) -> str:
    # The documentation has it in res_params, the service sends it at the top.
    said = frame.json()
    inner = said.get("res_params")
    text = said.get("text") or (inner.get("text") if isinstance(inner, dict) else "")
    return str(text or "")
