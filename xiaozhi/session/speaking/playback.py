"""Playback of one answer: sentences in, paced frames out. It owns one TTS stream and dies with its turn.

    turn ──say()──► [sentences] ──► TTS stream ──receive()──► encoder ──► outbox
                         └── in the speech cache: ready frames ──────────────┘

It does not split text (speech/) and does not keep time (outbox). `say` does not wait for the voice: a language model is
read to its end while its first sentence plays, which frees its connection early and keeps its deadlines honest.

One greenlet plays. While the turn is still saying sentences it is a greenlet of its own; from `finish` on it is the
turn's, which has nothing else to do then. It opens the stream, receives, encodes, waits for the outbox, and looks at
the clock whenever `receive` comes back without an event: for a vendor that has stalled, and for sound that is held back
for a larger batch. Nothing reaches the outbox before the turn may be heard (`audible`), and before that only the first
sentence goes to the voice: that makes speculative synthesis invisible and cheap.

PCM at the device's rate is encoded here, on the hub, a third of a millisecond at a time: a thread that comes back from
each frame's 40 us in C waits for the interpreter lock for 250 us when the hub is busy, and the hub for it
(docs/performance.md). What is dearer (resampling, higher complexity) goes to the pool in batches, because each trip
costs as much as encoding a frame or two: small ones while the device has little in hand, large ones once the queue
ahead is long. The last frame of a sentence is made together with the rest of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gevent
from gevent import Greenlet
from gevent.event import Event

from xiaozhi.audio.ffmpeg import load_ffmpeg
from xiaozhi.audio.files import open_sound
from xiaozhi.audio.opus import OpusError
from xiaozhi.chat import CallContext
from xiaozhi.errors import (
    ConnectionClosed,
    Overloaded,
    TurnClosed,
    VendorError,
    VendorGarbage,
    VendorTimeout,
    forget_trace,
)
from xiaozhi.protocol import messages as wire
from xiaozhi.providers.contracts.tts import (
    OpusPackets,
    Pcm,
    SentenceBegins,
    SentenceEnds,
    SpeechEnds,
    SpeechEvent,
    Tts,
    TtsStream,
)
from xiaozhi.runtime.deadlines import at_most
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.speaking.encoder import work_on_sound
from xiaozhi.session.speaking.speech_cache import Frames
from xiaozhi.session.speaking.voice import DeviceVoice
from xiaozhi.session.turn_record import Timeline
from xiaozhi.speech.emotion import Emotion
from xiaozhi.speech.sentences import Sentence
from xiaozhi.tools.music import Track

log = get_logger(__name__)

MIN_BATCH_MS = 120
MAX_BATCH_MS = 1_200
FIRST_MS = 120
"""Encoded and sent before the rest when a device has nothing in hand."""
MAX_WAITING_SENTENCES = 200
"""What a model may be ahead of the voice; then it has to wait. Fewer than a TTS stream takes."""
SAY_WAIT_S = 60.0
"""No single wait for the next sentence, or for room for one, is longer; each is taken up again."""
RELEASE_DEADLINE_S = 60.0
"""Longer than a prepared turn waits for its release; who waits longer has been forgotten."""
TICK_S = 1.0
"""How often the clock is looked at while a voice makes no sound."""
OPEN_FILE_S = 10.0
"""How long a sound file may take to be opened."""
IDLE_FLUSH_S = 0.3
"""Sound is not held back longer than this for a larger batch: not every vendor says where a sentence ends."""


@dataclass(frozen=True, slots=True)
class _Said:
    """A sentence, and its frames when the speech cache has them (none for one that is only shown); else the TTS stream
    makes its sound."""

    sentence: Sentence
    frames: Frames | None


class Playback:
    """The sound of one answer. `say`, `finish`, `play` and `chime` belong to the turn's greenlet, `close` to any.

    `audible` is set when the turn may be heard. `on_heard` is told the display text of each sentence when its sound
    begins to be sent, from the writer; it must be quick. `timeline` learns when the first sound came and the first
    frame went. `stall_seconds`: a voice that owes sound and makes none for so long has failed. `voices` is given the
    frames of each sentence that `on_heard` is told of; None: they are not kept."""

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
        voices: list[list[bytes]] | None = None,
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
        self._voices = voices
        self._clock = clock
        self._encoder = speaker.encoder()
        self._greenlet: Greenlet | None = None
        self._player: Greenlet | None = None
        """The greenlet that plays: `_greenlet`, then the turn's."""
        self._over = False
        """Nothing more will be played: all of it has been, or it was stopped."""
        self._stream: TtsStream | None = None
        self._stream_finished = False
        self._stream_ended = False
        self._to_say: deque[_Said] = deque()
        """Said by the turn, and not passed on yet."""
        self._coming: deque[_Said] = deque()
        """Passed on; their sound comes in this order."""
        self._passed_on = False
        self._unended = 0
        """Sentences that the stream was given and has not ended."""
        self._finishing = False
        self._news = Event()
        self._room = Event()
        self._waiting_since = clock()
        self._pcm = bytearray()
        self._rate = tts.traits.sample_rate
        self._sentence: Sentence | None = None
        self._keep: list[bytes] | None = None
        """The frames of the sentence so far, when they are to be cached."""
        self._voice: list[bytes] | None = None
        """The same, when they go to `voices`."""
        self._sounded = False
        self._announced = True
        self._emotion: Emotion | None = None
        self.error: Exception | None = None
        """Why there is no (more) sound."""

    def emote(self, emotion: Emotion) -> None:
        """Show this face with the first sentence."""
        if self._emotion is None:
            self._emotion = emotion

    def say(self, sentence: Sentence) -> None:
        """Queue a sentence, or with nothing `spoken` what is only shown; waits only when the voice is
        `MAX_WAITING_SENTENCES` behind. Raises the voice's error, also an earlier sentence's."""
        self._check()
        if not self._owes:
            self._waiting_since = self._clock()  # until now the voice was waiting for us
        frames = self._speaker.cached(self._tts, sentence.spoken) if sentence.spoken else ()
        self._to_say.append(_Said(sentence, frames))
        if self._greenlet is None:
            self._player = self._greenlet = self._tasks.spawn("playback", self._play)
        self._pass_on()
        self._news.set()
        while len(self._to_say) + len(self._coming) >= MAX_WAITING_SENTENCES and not self._over:
            self._room.clear()
            self._room.wait(timeout=SAY_WAIT_S)
            self._check()

    def finish(self) -> None:
        """Play the rest of what was said, until all of it is in the outbox. Raises the voice's error, VendorTimeout
        when it has stalled."""
        greenlet = self._greenlet
        if greenlet is None:
            return
        if not self._owes:
            self._waiting_since = self._clock()
        self._finishing = True
        self._player = gevent.getcurrent()
        self._pass_on()
        self._news.set()
        greenlet.join()  # until it has dealt with the event that it waits for: one tick, or the outbox's deadline
        self._play()
        self._check()

    def play(self, track: Track) -> None:
        """Play a sound file, in step with the device, and note in `track` where it begins and ends. Raises
        VendorGarbage when it is none."""
        speaker, encoder, outbox = self._speaker, self._encoder, self._outbox
        rate, turn_id = speaker.voice.sample_rate, self._turn_id
        load_ffmpeg()
        try:
            # Not among the quick work: a disk that does not answer keeps the thread.
            sound = speaker.inference.run(
                open_sound, track.path, rate, track.start_ms, track.gain, kind="other", deadline=OPEN_FILE_S
            )
            track.start_ms = sound.start_ms
            outbox.mark(turn_id, lambda: track.begin(outbox.sent_ms(turn_id)))
            while piece := work_on_sound(speaker.inference, sound.read):
                self._send(encoder.pcm(piece, rate) if isinstance(piece, bytes) else encoder.packets(piece))
            self._send(encoder.end())
            outbox.mark(turn_id, lambda: track.end(outbox.sent_ms(turn_id)))
        except (OSError, ValueError, OpusError) as error:
            raise VendorGarbage("music", f"{track.path.name}: {error}") from error

    def play_all(self, tracks: Sequence[Track]) -> None:
        """`play` one after another; of several, those that are no sound are left out. Raises VendorGarbage when all
        are."""
        played = 0
        for track in tracks:
            try:
                self.play(track)
                played += 1
            except VendorGarbage as error:
                if track is tracks[-1] and not played:
                    raise
                log.warning("music left out", error=str(error)[:200])
                forget_trace(error)

    def chime(self) -> None:
        """Play the sound that says "your turn"."""
        self._send(self._speaker.chime())

    def close(self) -> None:
        """Stop synthesising; what the outbox holds is the turn's business. Idempotent."""
        self._over = True
        if self._stream is not None:
            self._stream.close()
        if self._greenlet is not None and self._greenlet is not gevent.getcurrent():
            self._greenlet.kill(block=False)
        self._room.set()

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def _pass_on(self) -> None:
        """Pass on what waits: before the release one sentence is prepared, not an answer that may be thrown away."""
        stream = self._stream
        while self._to_say and (self._audible.is_set() or not self._passed_on):
            said = self._to_say[0]
            if said.frames is None and stream is None:
                return  # whoever plays opens it
            self._to_say.popleft()
            self._passed_on = True
            self._coming.append(said)
            if said.frames is None and stream is not None:
                self._unended += 1
                try:
                    stream.say(said.sentence.spoken)
                except (VendorError, Overloaded):
                    return  # `receive` raises it, after the sound that came before
        if self._finishing and not self._to_say and stream is not None and not self._stream_finished:
            self._stream_finished = True
            stream.finish()

    # --- the greenlet that plays --------------------------------------------------------------------------------------

    def _play(self) -> None:
        me = gevent.getcurrent()
        try:
            try:
                while self._player is me and not self._over:
                    if not self._step():
                        self._over = True
            except (VendorError, Overloaded):
                self._end_sentence(False)  # what has come of it is heard
                raise
        except (VendorError, Overloaded) as error:
            self._fail(error)
        except OpusError as error:
            self._fail(VendorGarbage(self._tts.name or "tts", str(error)))
        except (TurnClosed, ConnectionClosed):
            self._over = True  # nobody listens any more, which is no failure of the voice
            raise
        except Exception as error:
            self._fail(error)
            raise
        finally:
            if self._player is me:
                self._over = True
                if self._stream is not None:
                    self._stream.close()
                self._room.set()

    def _fail(self, error: Exception) -> None:
        if not self._over:  # else it was closed, and nobody asks
            self.error = error
            self._over = True

    def _step(self) -> bool:
        """Do what is next; False when everything has been played."""
        self._pass_on()
        if self._sentence is None and self._coming and (frames := self._coming[0].frames) is not None:
            self._play_cached(frames)
        elif self._unended:
            self._receive()
        elif self._to_say and self._passed_on and not self._audible.is_set():
            self._await_release()
        elif self._to_say:
            self._open()
        elif not self._finishing:
            self._news.clear()
            self._news.wait(timeout=SAY_WAIT_S)
        elif self._stream is None or self._stream_ended:
            return False
        else:
            self._receive()
        return True

    def _open(self) -> None:
        with at_most(self._stall_seconds, self._stalled()):
            self._stream = self._speaker.open(self._tts, self._context)

    def _play_cached(self, frames: Frames) -> None:
        self._begin_sentence()
        if frames:
            self._sound(True)
            self._send(frames)
        else:
            self._announce()
        self._end_sentence(True)

    def _receive(self) -> None:
        assert self._stream is not None
        event = self._stream.receive(IDLE_FLUSH_S if self._pcm else min(TICK_S, self._stall_seconds))
        if event is not None:
            self._take(event)
            self._waiting_since = self._clock()
        elif self._pcm:
            self._encode()
        elif not self._audible.is_set():
            self._waiting_since = self._clock()
        elif self._owes and self._clock() - self._waiting_since > self._stall_seconds:
            raise self._stalled()

    def _stalled(self) -> VendorTimeout:
        return VendorTimeout(self._tts.name or "tts", f"no sound for {self._stall_seconds:g} s")

    @property
    def _owes(self) -> bool:
        """Whether silence is the voice's fault. A streaming one may still be waiting for the words after its last
        sentence."""
        waits_for_us = self._tts.traits.streaming and self._sounded and not (self._to_say or self._coming)
        return self._finishing or (self._unended > 0 and not waits_for_us)

    def _take(self, event: SpeechEvent) -> None:
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
            self._send(self._encoder.packets(event.packets))
        elif isinstance(event, SentenceBegins):
            self._begin_sentence()
        elif isinstance(event, SentenceEnds):
            self._unended -= self._sentence is not None
            self._end_sentence(event.whole)
        elif isinstance(event, SpeechEnds):
            self._stream_ended = True
            self._unended = 0  # whatever it has not marked

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
        sentence = self._sentence = self._coming.popleft().sentence if self._coming else None
        self._room.set()
        self._sounded = False
        self._announced = False
        self._keep = [] if sentence is not None and self._speaker.caches(self._tts, sentence.spoken) else None
        self._voice = [] if self._voices is not None else None

    def _end_sentence(self, whole: bool) -> None:
        self._send(self._encoder.end(self._rest_of_pcm(), self._rate))
        sentence, self._sentence = self._sentence, None
        if whole and self._keep and sentence is not None:
            self._speaker.keep(self._tts, sentence.spoken, self._keep)
        self._keep = self._voice = None

    def _encode(self) -> None:
        rest = self._rest_of_pcm()
        if rest:
            self._send(self._encoder.pcm(rest, self._rate))

    def _rest_of_pcm(self) -> bytes:
        """Encode here what is cheap; what is left of the PCM for the pool to encode."""
        pcm = bytes(self._pcm)
        self._pcm.clear()
        at_once = self._encoder.at_once_bytes(self._rate)
        if not at_once:
            return pcm
        start, end = 0, at_once if self._outbox.queued_frames else self._rate * FIRST_MS // 1000 * 2
        while start < len(pcm):
            self._send(self._encoder.at_once(pcm[start:end]))
            start, end = end, end + at_once
            if start < len(pcm):
                gevent.sleep(0)  # others first: the hub is not to be held for longer
        return b""

    def _send(self, frames: Sequence[bytes]) -> None:
        if not frames:
            return
        if self._timeline.encoded is None:
            self._timeline.encoded = self._clock()
        if not self._announced:
            self._announce()
        if self._keep is not None:
            self._keep.extend(frames)
        if self._voice is not None:
            self._voice.extend(frames)
        self._outbox.frames(self._turn_id, frames)

    def _announce(self) -> None:
        self._await_release()
        self._announced = True
        sentence, voice = self._sentence, self._voice
        if self._emotion is not None and self._emotes:
            self._outbox.message(self._turn_id, wire.LlmEmotion(self._emotion.name, self._emotion.emoji))
            self._emotion = None
        if sentence is not None:
            self._outbox.message(self._turn_id, wire.TtsState(wire.TtsPhase.SENTENCE_START, sentence.subtitle))
            self._outbox.mark(self._turn_id, lambda: self._was_sent(sentence, voice))

    def _await_release(self) -> None:
        if not self._audible.wait(timeout=RELEASE_DEADLINE_S):
            raise TurnClosed("never released")
        self._waiting_since = self._clock()

    def _was_sent(self, sentence: Sentence, voice: list[bytes] | None) -> None:
        # Runs in the writer when everything before the sentence's first frame is on the wire.
        if sentence.spoken and self._timeline.first_frame is None:
            self._timeline.first_frame = self._clock()
        if self._voices is not None and voice is not None:
            self._voices.append(voice)
        self._on_heard(sentence.display)
