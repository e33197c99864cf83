"""The voice: sentences in, paced frames out. One `Speaker` per visit owns the encoder; one `Reply` per answer owns a TTS stream.

    turn ──say()──► TTS stream ──events──► [pump greenlet]  resample ▸ encode (pool) ──► outbox

Not the place where text is split (speech/) and not the place where time is kept (outbox). The pump starts with the first sentence, and
nothing of it reaches the outbox before the turn is released: that is what makes speculative synthesis invisible.

Sound is encoded in batches, because each trip to the pool costs as much as encoding a frame or two: small ones while the device has
little in hand, large ones once the queue ahead is long.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import gevent
from gevent import Greenlet
from gevent.event import Event

from xiaozhi.audio.opus import Decoder, Encoder, OpusError, Repacketizer
from xiaozhi.audio.pcm import Resampler
from xiaozhi.chat import CallContext
from xiaozhi.errors import Overloaded, VendorError, VendorTimeout
from xiaozhi.protocol import messages as wire
from xiaozhi.providers.adapters import SentenceStream
from xiaozhi.providers.base import OpusPackets, Pcm, SentenceBegins, SentenceTts, Sound, SpeechEvent, Tts, TtsStream
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.outbox import Outbox
from xiaozhi.session.replies import ReplyCache, ReplyKey
from xiaozhi.speech.emotion import Emotion
from xiaozhi.speech.sentences import Sentence

ENCODE_DEADLINE_S = 5.0
POOL_RETRY_S = 0.02
MIN_BATCH_MS = 120
MAX_BATCH_MS = 960
# Longer sentences are hardly ever said twice.
CACHED_TEXT_LENGTH = 60


@dataclass(frozen=True, slots=True)
class VoiceFormat:
    """What the device plays: `format` "opus" or "pcm" (s16le), Hz, and ms per frame."""

    format: str = "opus"
    sample_rate: int = 24_000
    frame_ms: int = 60
    complexity: int | None = None


class Speaker:
    """Turns sound of any provider into frames of this device. Lives as long as the visit."""

    def __init__(self, *, outbox: Outbox, inference: InferencePool, replies: ReplyCache, voice: VoiceFormat) -> None:
        self.outbox = outbox
        self.voice = voice
        self.replies = replies
        self._inference = inference
        self._encoder: Encoder | None = None
        self._decoder: Decoder | None = None
        self._resampler: Resampler | None = None
        self._resampler_rate = 0

    def key(self, tts: Tts, text: str) -> ReplyKey:
        """Where the sound of `text` is cached for devices like this one."""
        voice = self.voice
        return ReplyKey(tts.voice_key, voice.format, voice.sample_rate, voice.frame_ms, text)

    def encode(self, pcm: bytes, rate: int, *, last: bool) -> list[bytes]:
        """Frames of s16le mono `pcm` at `rate` Hz; `last` pads the rest of the sentence with silence. Blocks for the pool."""
        return self._run(self._encode_now, pcm, rate, last)

    def pass_through(self, packets: Sequence[bytes], packet_ms: float) -> list[bytes]:
        """Frames from ready Opus packets: merged without loss when they fit the device's frames, else decoded and encoded anew."""
        voice = self.voice
        if voice.format == "opus":
            if packet_ms == voice.frame_ms:
                return list(packets)
            count = voice.frame_ms / packet_ms
            if count == int(count) and len(packets) % int(count) == 0:
                try:
                    return Repacketizer().merge_all(packets, int(count))
                except OpusError:
                    pass  # mixed configurations cannot be merged (RFC 6716, 3.2.5): re-encode below
        return self._run(self._transcode_now, packets)

    def reset(self) -> None:
        """The next sound has nothing to do with the last."""
        if self._encoder is not None:
            self._encoder.reset()
        self._resampler = None
        self._decoder = None

    def _run(self, function: Callable[..., list[bytes]], *args: object) -> list[bytes]:
        # A full pool is back-pressure here, not a failure: the sound exists already, only its frames are late.
        until = time.monotonic() + ENCODE_DEADLINE_S
        while True:
            try:
                return self._inference.run(function, *args, kind="codec", deadline=ENCODE_DEADLINE_S)
            except Overloaded:
                if time.monotonic() >= until:
                    raise
                gevent.sleep(POOL_RETRY_S)

    # The functions below run on a pool thread; one reply has at most one of them under way.

    def _encode_now(self, pcm: bytes, rate: int, last: bool) -> list[bytes]:
        voice = self.voice
        if rate != voice.sample_rate:
            if self._resampler is None or self._resampler_rate != rate:
                self._resampler = Resampler(rate, voice.sample_rate)
                self._resampler_rate = rate
            pcm = self._resampler.feed(pcm)
            if last:
                pcm += self._resampler.flush()
                self._resampler = None
        if voice.format == "pcm":
            return _pcm_frames(pcm, voice.sample_rate * voice.frame_ms // 1000 * 2)
        if self._encoder is None:
            self._encoder = Encoder(voice.sample_rate, voice.frame_ms, complexity=voice.complexity)
        frames = self._encoder.encode(pcm)
        if last:
            frames += self._encoder.flush()
        return frames

    def _transcode_now(self, packets: Sequence[bytes]) -> list[bytes]:
        if self._decoder is None:
            self._decoder = Decoder(self.voice.sample_rate)
        pcm = b"".join(self._decoder.decode(packet) for packet in packets)
        return self._encode_now(pcm, self.voice.sample_rate, True)


def _pcm_frames(pcm: bytes, size: int) -> list[bytes]:
    frames = [pcm[start : start + size] for start in range(0, len(pcm), size)]
    if frames and len(frames[-1]) < size:
        frames[-1] = frames[-1].ljust(size, b"\0")
    return frames


class Reply:
    """The sound of one answer. `say` and `finish` belong to the turn's greenlet, `close` to anyone."""

    def __init__(
        self,
        speaker: Speaker,
        *,
        turn_id: int,
        tts: Tts,
        context: CallContext,
        released: Event,
        tasks: Tasks,
        stall_seconds: float,
        emotes: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._speaker = speaker
        self._outbox = speaker.outbox
        self._turn_id = turn_id
        self._tts = tts
        self._context = context
        self._released = released
        self._tasks = tasks
        self._stall_seconds = stall_seconds
        self._emotes = emotes
        self._clock = clock
        self._stream: TtsStream | None = None
        self._pump: Greenlet | None = None
        self._said: deque[Sentence] = deque()
        self._unfinished = 0
        self._progress = clock()
        self._pcm = bytearray()
        self._rate = tts.sample_rate
        self._residue = False
        self._keep: list[bytes] | None = None
        self._sentence: Sentence | None = None
        self._marked = True
        self._emotion: Emotion | None = None
        self.heard: list[str] = []
        """Display texts of the sentences of which sound was sent, in order."""
        self.first_sound_at: float | None = None
        """When the provider's first sound arrived (monotonic s)."""
        self.first_frame_at: float | None = None
        """When the first frame went to the socket (monotonic s)."""
        self.characters = 0
        self.error: Exception | None = None

    @property
    def begun(self) -> bool:
        """True once any sound of this reply was queued for the device: from here on nothing may be retried."""
        return self.first_frame_at is not None or bool(self.heard)

    def emote(self, emotion: Emotion) -> None:
        """Show this face with the first sentence."""
        if self._emotion is None:
            self._emotion = emotion

    def say(self, sentence: Sentence) -> None:
        """Queue a sentence; blocks while the look-ahead is full. Raises the provider's error, also a later one."""
        if self.error is not None:
            raise self.error
        if self._stream is None:
            self._open()
        assert self._stream is not None
        if not self._unfinished:
            self._progress = self._clock()
        self._said.append(sentence)
        self._unfinished += 1
        self.characters += len(sentence.spoken)
        self._stream.say(sentence.spoken)
        if self.error is not None:
            raise self.error

    def finish(self) -> None:
        """Wait until all sound has been queued. Raises the provider's error, VendorTimeout when it stalled."""
        if self._stream is None or self._pump is None:
            return
        self._stream.finish()
        self._pump.join()
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Stop synthesising; what the outbox holds is the turn's business. Idempotent."""
        if self._stream is not None:
            self._stream.close()
        if self._pump is not None and self._pump is not gevent.getcurrent():
            self._pump.kill(block=False)

    def _open(self) -> None:
        self._speaker.reset()
        tts = self._tts
        if isinstance(tts, SentenceTts):
            self._stream = SentenceStream(_CacheFirst(tts, self._speaker), self._context)
        else:
            self._stream = tts.open(self._context)
        self._pump = self._tasks.spawn("speaker", self._pump_sound, self._stream)
        self._tasks.spawn("speaker-watch", self._watch, self._stream, self._pump)

    def _watch(self, stream: TtsStream, pump: Greenlet) -> None:
        # What bounds every wait of `say`, `finish` and the pump: closing the stream makes all three return.
        while not pump.ready():
            pump.join(timeout=min(1.0, self._stall_seconds))
            if not pump.ready() and self._unfinished and self._released.is_set() and self._clock() - self._progress > self._stall_seconds:
                self.error = VendorTimeout(self._tts.name or "tts", f"no sound for {self._stall_seconds:g} s")
                stream.close()
                pump.kill(block=False)
                return

    # --- the pump's greenlet ---------------------------------------------------------------------------------------

    def _pump_sound(self, stream: TtsStream) -> None:
        try:
            for event in stream.events():
                self._progress = self._clock()
                self._take(event)
            self._end_sentence()
        except (VendorError, Overloaded) as error:
            self.error = self.error or error
        finally:
            stream.close()

    def _take(self, event: SpeechEvent) -> None:
        if isinstance(event, Pcm):
            if self.first_sound_at is None:
                self.first_sound_at = self._progress
            self._pcm += event.data
            self._rate = event.rate or self._tts.sample_rate
            self._residue = True
            if len(self._pcm) >= self._batch_bytes():
                self._encode(self._rate, last=False)
        elif isinstance(event, SentenceBegins):
            self._end_sentence()
            self._begin_sentence()
        elif isinstance(event, OpusPackets):
            if self.first_sound_at is None:
                self.first_sound_at = self._progress
            self._send(self._speaker.pass_through(event.packets, event.frame_ms))

    def _batch_bytes(self) -> int:
        ahead = self._outbox.queued_frames * self._speaker.voice.frame_ms
        batch_ms = min(MAX_BATCH_MS, max(MIN_BATCH_MS, ahead // 2))
        return self._rate * batch_ms // 1000 * 2

    def _begin_sentence(self) -> None:
        self._sentence = self._said.popleft() if self._said else None
        self._marked = False
        cacheable = self._sentence is not None and not self._tts.streaming and len(self._sentence.spoken) <= CACHED_TEXT_LENGTH
        self._keep = [] if cacheable else None

    def _end_sentence(self) -> None:
        if self._sentence is None:
            return
        if self._residue:
            self._encode(self._rate, last=True)
        if self._keep:
            self._speaker.replies.put(self._speaker.key(self._tts, self._sentence.spoken), tuple(self._keep))
        self._sentence = None
        self._keep = None
        self._unfinished -= 1
        self._progress = self._clock()

    def _encode(self, rate: int, *, last: bool) -> None:
        pcm = bytes(self._pcm)
        self._pcm.clear()
        self._residue = not last
        self._send(self._speaker.encode(pcm, rate, last=last))

    def _send(self, frames: Sequence[bytes]) -> None:
        if not frames:
            return
        if not self._marked:
            self._announce()
        if self._keep is not None:
            self._keep.extend(frames)
        # Piece by piece, so that progress is seen while the device is being waited for.
        for start in range(0, len(frames), 8):
            self._outbox.frames(self._turn_id, frames[start : start + 8])
            self._progress = self._clock()

    def _announce(self) -> None:
        self._released.wait()
        self._marked = True
        self._progress = self._clock()
        sentence = self._sentence
        if self._emotion is not None and self._emotes:
            self._outbox.message(self._turn_id, wire.LlmEmotion(self._emotion.name, self._emotion.emoji))
            self._emotion = None
        if sentence is not None:
            self._outbox.message(self._turn_id, wire.TtsState(wire.TtsPhase.SENTENCE_START, sentence.display))
            self._outbox.mark(self._turn_id, lambda: self._was_sent(sentence.display))

    def _was_sent(self, display: str) -> None:
        # Runs in the writer when everything before the sentence's first frame is on the wire.
        if self.first_frame_at is None:
            self.first_frame_at = self._clock()
        self.heard.append(display)


class _CacheFirst(SentenceTts):
    """A SentenceTts that knows the frames of sentences it has said before."""

    def __init__(self, inner: SentenceTts, speaker: Speaker) -> None:
        self._inner = inner
        self._speaker = speaker
        self.name = inner.name
        self.sample_rate = inner.sample_rate

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        frames = self._speaker.replies.get(self._speaker.key(self._inner, sentence)) if len(sentence) <= CACHED_TEXT_LENGTH else None
        if frames is not None and self._speaker.voice.format == "opus":
            yield OpusPackets(frames, self._speaker.voice.frame_ms)
            return
        yield from self._inner.synthesize(sentence, context)
