"""The voice: sentences in, paced frames out. One `DeviceVoice` per visit knows the device; one `Playback` per answer
owns a TTS stream.

    turn ──say()──► [sentences] ──feeder──► TTS stream ──events──► pump: frames.py (pool) ──► outbox

Not the place where text is split (speech/) and not the place where time is kept (outbox). `say` does not wait for the
voice: a language model is read to its end while its first sentence plays, which frees its connection early and keeps
its deadlines honest. The pump starts with the first sentence, and nothing of it reaches the outbox before the turn may
be heard (`audible`): that is what makes speculative synthesis invisible.

Plain PCM at the device's rate is encoded here, on the hub, a third of a millisecond at a time. Not for want of a pool:
a thread that comes back from each frame's 40 us in C waits for the interpreter lock for 250 us when the hub is busy,
and the hub for it (see docs/performance.md). What is dearer (resampling, higher complexity) goes to the pool in
batches, because each trip costs as much as encoding a frame or two: small ones while the device has little in hand,
large ones once the queue ahead is long. What has come from the vendor meanwhile goes along, and the last frame of a
sentence is made together with the rest of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import gevent
from gevent import Greenlet
from gevent.event import Event
from gevent.lock import RLock

from xiaozhi.audio.clips import ClipFormat, Clips
from xiaozhi.audio.files import open_sound
from xiaozhi.audio.opus import OpusError
from xiaozhi.chat import CallContext
from xiaozhi.errors import ConnectionClosed, Overloaded, TurnClosed, VendorError, VendorGarbage, VendorTimeout
from xiaozhi.protocol import messages as wire
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, SentenceBegins, SentenceTts, SpeechEvent, Tts, TtsStream
from xiaozhi.providers.wrappers import SentenceStream
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.speaking.encoder import FrameEncoder, VoiceFormat, work_on_sound
from xiaozhi.session.speaking.outbox import Outbox
from xiaozhi.session.speaking.phrases import CacheFirst, Ready, SentenceOver, reply_key
from xiaozhi.session.speaking.speech_cache import Frames, SpeechCache
from xiaozhi.session.turn_record import Timeline
from xiaozhi.speech.emotion import Emotion
from xiaozhi.speech.sentences import Sentence

log = get_logger(__name__)

MIN_BATCH_MS = 120
MAX_BATCH_MS = 1_200
FIRST_MS = 120
"""Encoded and sent before the rest when a device has nothing in hand."""
# Longer sentences are hardly ever said twice.
CACHED_TEXT_LENGTH = 60
MAX_WAITING_SENTENCES = 200
"""What a model may be ahead of the voice; then it has to wait."""
FEEDER_WAIT_S = 60.0
RELEASE_DEADLINE_S = 60.0
"""Longer than a prepared turn waits for its release; who waits longer has been forgotten."""
FRAMES_AT_ONCE = 8
"""Half a second: progress is seen while the device is being waited for."""
IDLE_FLUSH_S = 0.3
"""Sound of a vendor that does not say where a sentence ends is not held back longer than this for a larger batch."""


class DeviceVoice:
    """What the replies of a visit share. `chime`: a sound file, "" for the built-in one."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        inference: InferencePool,
        replies: SpeechCache,
        clips: Clips,
        voice: VoiceFormat,
        chime: str = "",
    ) -> None:
        self.outbox = outbox
        self.inference = inference
        self.voice = voice
        self.replies = replies
        self._clips = clips
        self._chime = chime

    def chime(self) -> Frames:
        """The sound that says "your turn"; the built-in one when the configured file is none."""
        form = ClipFormat(self.voice.format, self.voice.sample_rate, self.voice.frame_ms)
        try:
            return work_on_sound(self.inference, self._clips.frames, self._chime, form)
        except (OSError, ValueError) as error:
            log.warning("chime cannot be played", file=self._chime, error=str(error)[:200])
            return work_on_sound(self.inference, self._clips.frames, "", form)


class Playback:
    """The sound of one answer. `say`, `finish`, `play` and `chime` belong to the turn's greenlet, `close` to anyone.

    `audible` is set when the turn may be heard. `on_heard` is told the display text of each sentence when its sound
    begins to be sent, from the writer; it must be quick. `timeline` learns when the first sound came and the first
    frame went."""

    def __init__(
        self,
        speaker: DeviceVoice,
        *,
        turn_id: int,
        tts: Tts,
        context: CallContext,
        audible: Event,
        tasks: Tasks,
        timeline: Timeline,
        on_heard: Callable[[str], None],
        stall_seconds: float,
        emotes: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._speaker = speaker
        self._outbox = speaker.outbox
        self._turn_id = turn_id
        self._tts = tts
        self._context = context
        self._audible = audible
        self._tasks = tasks
        self._timeline = timeline
        self._on_heard = on_heard
        self._stall_seconds = stall_seconds
        self._emotes = emotes
        self._clock = clock
        self._maker = FrameEncoder(speaker.voice, speaker.inference)
        self._busy = RLock()
        """Held by whoever makes frames: the pump, or the watch when the vendor pauses."""
        self._stream: TtsStream | None = None
        self._pump: Greenlet | None = None
        self._to_say: deque[str] = deque()
        self._news = Event()
        self._room = Event()
        self._finishing = False
        self._said: deque[Sentence] = deque()
        self._unfinished = 0
        self._progress = clock()
        self._pcm = bytearray()
        self._rate = tts.traits.sample_rate
        self._keep: list[bytes] | None = None
        self._sentence: Sentence | None = None
        self._sounded = False
        self._marked = True
        self._emotion: Emotion | None = None
        self.error: Exception | None = None
        """Why there is no (more) sound."""

    def emote(self, emotion: Emotion) -> None:
        """Show this face with the first sentence."""
        if self._emotion is None:
            self._emotion = emotion

    def say(self, sentence: Sentence) -> None:
        """Queue a sentence; blocks only when the voice is very far behind. Raises the provider's error, also an earlier
        sentence's."""
        self._check()
        if self._pump is None:
            self._pump = self._tasks.spawn("speaker", self._pump_sound)
            self._tasks.spawn("speaker-watch", self._watch, self._pump)
        if not self._stalls:
            self._progress = self._clock()  # until now it was waiting for us
        self._said.append(sentence)
        self._unfinished += 1
        self._to_say.append(sentence.spoken)
        self._news.set()
        while len(self._to_say) >= MAX_WAITING_SENTENCES:
            self._room.clear()
            self._room.wait(timeout=FEEDER_WAIT_S)
            self._check()

    def finish(self) -> None:
        """Wait until all sound of what was said has been queued. Raises the provider's error, VendorTimeout when it
        stalled."""
        if self._pump is None:
            return
        if not self._stalls:
            self._progress = self._clock()
        self._finishing = True
        self._news.set()
        self._pump.join()
        self._check()

    def play(self, path: Path) -> None:
        """Play a sound file, in step with the device. Raises VendorGarbage when it is none."""
        speaker = self._speaker
        try:
            sound = work_on_sound(speaker.inference, open_sound, path, speaker.voice.sample_rate)
            while piece := work_on_sound(speaker.inference, sound.read):
                self._send(
                    self._maker.pcm(piece, speaker.voice.sample_rate)
                    if isinstance(piece, bytes)
                    else self._maker.packets(piece)
                )
            self._send(self._maker.end())
        except (OSError, ValueError, OpusError) as error:
            raise VendorGarbage("music", f"{path.name}: {error}") from error

    def chime(self) -> None:
        """Play the sound that says "your turn"."""
        self._send(self._speaker.chime())

    def close(self) -> None:
        """Stop synthesising; what the outbox holds is the turn's business. Idempotent."""
        if self._stream is not None:
            self._stream.close()
        if self._pump is not None and self._pump is not gevent.getcurrent():
            self._pump.kill(block=False)
        self._room.set()

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    # --- beside the pump ----------------------------------------------------------------------------------------------

    def _feed(self, stream: TtsStream) -> None:
        try:
            while True:
                if self._to_say:
                    stream.say(self._to_say.popleft())
                    self._room.set()
                    # Before the release one sentence is prepared, not a whole answer that may be thrown away.
                    self._audible.wait(timeout=RELEASE_DEADLINE_S)
                elif self._finishing:
                    stream.finish()
                    return
                else:
                    self._news.clear()
                    self._news.wait(timeout=FEEDER_WAIT_S)
        except (VendorError, Overloaded) as error:
            self._fail(error)
            stream.close()

    def _watch(self, pump: Greenlet) -> None:
        # What bounds every wait of `say`, `finish` and the pump: closing the stream makes all three return.
        tick = IDLE_FLUSH_S if self._tts.traits.streaming else min(1.0, self._stall_seconds)
        while not pump.ready():
            pump.join(timeout=tick)
            idle = self._clock() - self._progress
            if pump.ready() or not self._audible.is_set():
                continue
            if self._stalls and idle > self._stall_seconds:
                self._fail(VendorTimeout(self._tts.name or "tts", f"no sound for {self._stall_seconds:g} s"))
                if self._stream is not None:
                    self._stream.close()
                pump.kill(block=False)
            elif (
                self._tts.traits.streaming and self._pcm and idle > IDLE_FLUSH_S and self._busy.acquire(blocking=False)
            ):
                try:
                    self._encode()
                except Overloaded as error:
                    self._fail(error)
                finally:
                    self._busy.release()

    @property
    def _stalls(self) -> bool:
        """Whether silence is the vendor's fault. A streaming one may still be waiting for the words after its last
        sentence."""
        waits_for_us = self._tts.traits.streaming and not self._finishing and not self._said and self._sounded
        return self._unfinished > 0 and not waits_for_us

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
        self._room.set()

    # --- the pump's greenlet ------------------------------------------------------------------------------------------

    def _pump_sound(self) -> None:
        stream: TtsStream | None = None
        try:
            stream = self._stream = self._open()
            self._tasks.spawn("speaker-feeder", self._feed, stream)
            for event in stream.events():
                with self._busy:
                    self._progress = self._clock()
                    self._take(event)
            self._end_sentence()
        except (VendorError, Overloaded) as error:
            self._fail(error)
        except OpusError as error:
            self._fail(VendorGarbage(self._tts.name or "tts", str(error)))
        except (TurnClosed, ConnectionClosed):
            raise  # nobody listens any more, which is no failure of the voice
        except Exception as error:
            self._fail(error)
            raise
        finally:
            if stream is not None:
                stream.close()

    def _open(self) -> TtsStream:
        tts = self._tts
        if isinstance(tts, SentenceTts):
            return SentenceStream(CacheFirst(tts, self._speaker.replies, self._speaker.voice), self._context)
        return tts.open(self._context)

    def _take(self, event: SpeechEvent | Ready | SentenceOver) -> None:
        if isinstance(event, Pcm):
            self._sound(event.substitute)
            if self._pcm and event.rate and event.rate != self._rate:
                self._encode()
            self._rate = event.rate or self._tts.traits.sample_rate
            self._pcm += event.data
            if len(self._pcm) >= self._batch_bytes():
                self._encode()
        elif isinstance(event, OpusPackets):
            self._sound(event.substitute)
            self._encode()
            self._send(self._maker.packets(event.packets))
        elif isinstance(event, Ready):
            self._sound(True)
            self._send(event.frames)
        elif isinstance(event, SentenceBegins):
            self._end_sentence()
            self._begin_sentence()
        elif isinstance(event, SentenceOver):
            self._end_sentence()

    def _sound(self, not_to_be_kept: bool) -> None:
        self._sounded = True
        if not_to_be_kept:
            self._keep = None
        if self._timeline.tts_first is None:
            self._timeline.tts_first = self._clock()

    def _batch_bytes(self) -> int:
        batch_ms = min(MAX_BATCH_MS, max(MIN_BATCH_MS, self._ahead_ms // 2))
        return self._rate * batch_ms // 1000 * 2

    @property
    def _ahead_ms(self) -> int:
        """Sound that waits for its time."""
        return self._outbox.queued_frames * self._speaker.voice.frame_ms

    def _begin_sentence(self) -> None:
        self._sentence = self._said.popleft() if self._said else None
        self._sounded = False
        self._marked = False
        cacheable = (
            self._sentence is not None
            and not self._tts.traits.streaming
            and len(self._sentence.spoken) <= CACHED_TEXT_LENGTH
        )
        self._keep = [] if cacheable else None

    def _end_sentence(self) -> None:
        self._send(self._maker.end(self._rest_of_pcm(), self._rate))
        sentence, self._sentence = self._sentence, None
        if sentence is None:
            return
        if self._keep:
            self._speaker.replies.put(reply_key(self._tts, self._speaker.voice, sentence.spoken), tuple(self._keep))
        self._keep = None
        self._unfinished -= 1
        self._progress = self._clock()

    def _encode(self) -> None:
        rest = self._rest_of_pcm()
        if rest:
            self._send(self._maker.pcm(rest, self._rate))

    def _rest_of_pcm(self) -> bytes:
        """Encode here what is cheap; what is left of the PCM for the pool to encode."""
        pcm = bytes(self._pcm)
        self._pcm.clear()
        at_once = self._maker.at_once_bytes(self._rate)
        if not at_once:
            return pcm
        start, end = 0, at_once if self._outbox.queued_frames else self._rate * FIRST_MS // 1000 * 2
        while start < len(pcm):
            self._send(self._maker.at_once(pcm[start:end]))
            start, end = end, end + at_once
            if start < len(pcm):
                gevent.sleep(0)  # others first: the hub is not to be held for longer
        return b""

    def _send(self, frames: Sequence[bytes]) -> None:
        if not frames:
            return
        if not self._marked:
            self._announce()
        if self._keep is not None:
            self._keep.extend(frames)
        for start in range(0, len(frames), FRAMES_AT_ONCE):
            self._outbox.frames(self._turn_id, frames[start : start + FRAMES_AT_ONCE])
            self._progress = self._clock()

    def _announce(self) -> None:
        if not self._audible.wait(timeout=RELEASE_DEADLINE_S):
            raise TurnClosed("never released")
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
        if self._timeline.first_frame is None:
            self._timeline.first_frame = self._clock()
        self._on_heard(display)
