"""Fixed phrases (greetings, apologies, refusals) that must be heard at once, or when nothing else works any more.

    prepare ─► the voice says every phrase once, in the background ─► reply cache
    fixed   ─► cache, else the voice, else the emergency voice
    apology ─► cache, else whatever still works

Not the reply cache (`replies.py` keeps the frames) and not a synthesiser. The emergency voice is a synthesiser that
needs no network; it is made when it is first needed. What it has said is never kept under the name of the real voice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from xiaozhi.chat import CallContext
from xiaozhi.errors import Overloaded, ProtocolError, VendorError
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, SentenceBegins, SentenceTts, Sound, SpeechEvent, Tts
from xiaozhi.providers.wrappers import with_fallback
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.speaking.encoder import FrameEncoder, VoiceFormat
from xiaozhi.session.speaking.speech_cache import Frames, SpeechCache, SpeechKey
from xiaozhi.speech.cleanup import ReplyText

log = get_logger(__name__)

RETRY_S = 60.0
"""A voice that could not say the phrases is not asked again for so long."""
MAX_FORMATS = 8
"""Formats of devices for which phrases are prepared."""


def reply_key(tts: Tts, voice: VoiceFormat, text: str) -> SpeechKey:
    """Where the sound of `text` is cached for devices with this format."""
    return SpeechKey(f"{tts.name}/{tts.traits.voice_key}", voice.format, voice.sample_rate, voice.frame_ms, text)


@dataclass(frozen=True, slots=True)
class Ready:
    """Frames from the cache, ready for this device."""

    frames: Frames


@dataclass(frozen=True, slots=True)
class SentenceOver:
    """All sound of the sentence is here. Only vendors of single sentences can tell."""


class CacheFirst(SentenceTts):
    """A voice that knows the frames of what it has said before, and says where a sentence ends. Its events are for
    `Reply` only."""

    def __init__(self, inner: SentenceTts, replies: SpeechCache, voice: VoiceFormat) -> None:
        self._inner = inner
        self._replies = replies
        self._voice = voice
        self.name = inner.name
        self.traits = inner.traits

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[SpeechEvent | Ready | SentenceOver]:  # type: ignore[override]
        frames = self._replies.get(reply_key(self._inner, self._voice, sentence))
        if frames is not None:
            yield Ready(frames)
        else:
            yield from self._inner.synthesize(sentence, context)
        yield SentenceOver()


class OneByOne(SentenceTts):
    """A streaming voice for single sentences, each in a session of its own: so that their sound can be cached one by
    one."""

    def __init__(self, inner: Tts) -> None:
        self._inner = inner
        self.name = inner.name
        self.traits = replace(inner.traits, streaming=False)

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of one sentence."""
        stream = self._inner.open(context)
        try:
            stream.say(sentence)
            stream.finish()
            for event in stream.events():
                if not isinstance(event, SentenceBegins):
                    yield event
        finally:
            stream.close()


def by_sentence(tts: Tts) -> SentenceTts:
    """`tts` as a voice for single sentences."""
    return tts if isinstance(tts, SentenceTts) else OneByOne(tts)


class Phrases:
    """The fixed phrases of one configuration. `texts` are whole texts; `emergency` makes the emergency voice, or gives
    None."""

    def __init__(
        self,
        tts: Tts,
        *,
        texts: Sequence[str],
        correct_words: Sequence[str],
        replies: SpeechCache,
        inference: InferencePool,
        emergency: Callable[[], Tts | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._voice = by_sentence(tts)
        self._texts = tuple(texts)
        self._correct_words = tuple(correct_words)
        self._replies = replies
        self._inference = inference
        self._make_emergency = emergency
        self._emergency: Tts | None = None
        self._asked_for_emergency = False
        self._clock = clock
        self._tasks = Tasks()
        self._ready: set[VoiceFormat] = set()
        self._at_work: set[VoiceFormat] = set()
        self._not_before = 0.0

    # --- voices -----------------------------------------------------------------------------------------------------

    @property
    def fixed(self) -> SentenceTts:
        """The voice for fixed phrases."""
        return self._with_emergency(self._voice)

    def apology(self, *, voice_failed: bool) -> Tts:
        """The voice for an apology; `voice_failed`: the real one has just proved not to work, so only its cache is
        used."""
        if not voice_failed:
            return self.fixed
        return self._with_emergency(_Mute(self._voice))

    def _with_emergency(self, voice: SentenceTts) -> SentenceTts:
        emergency = _Lazily(self._emergency_voice)
        both: SentenceTts = with_fallback([voice, emergency])
        return both

    def _emergency_voice(self) -> SentenceTts | None:
        if not self._asked_for_emergency:
            self._asked_for_emergency = True
            self._emergency = self._make_emergency()
        return by_sentence(self._emergency) if self._emergency is not None else None

    # --- preparation ------------------------------------------------------------------------------------------------

    def prepare(self, voice: VoiceFormat) -> None:
        """See to it that devices with this format hear the phrases without a wait; returns at once."""
        if voice in self._ready or voice in self._at_work or not self._texts or self._clock() < self._not_before:
            return
        if len(self._ready) + len(self._at_work) < MAX_FORMATS:
            self._at_work.add(voice)
            self._tasks.spawn("phrases", self._say_all, voice)

    def ready(self, voice: VoiceFormat) -> bool:
        """True when every phrase has been said for this format."""
        return voice in self._ready

    def close(self) -> None:
        """Stop preparing. Idempotent."""
        self._tasks.kill()

    def _say_all(self, voice: VoiceFormat) -> None:
        try:
            for sentence in self._sentences():
                key = reply_key(self._voice, voice, sentence)
                if self._replies.get(key) is None:
                    self._replies.put(key, self._say(sentence, voice))
            self._ready.add(voice)
        except (VendorError, Overloaded, ProtocolError, ValueError) as error:
            self._not_before = self._clock() + RETRY_S
            log.warning("phrases not prepared, will be tried again", error=str(error)[:200])
        finally:
            self._at_work.discard(voice)

    def _sentences(self) -> list[str]:
        words = ReplyText(correct_words=self._correct_words)
        return [sentence.spoken for text in self._texts for sentence in [*words.feed(text), *words.flush()]]

    def _say(self, sentence: str, voice: VoiceFormat) -> Frames:
        maker = FrameEncoder(voice, self._inference)
        frames: list[bytes] = []
        for sound in self._voice.synthesize(sentence, CallContext()):
            if sound.substitute:
                raise VendorError(self._voice.name, "only a substitute answers")
            if isinstance(sound, OpusPackets):
                frames += maker.packets(sound.packets)
            elif isinstance(sound, Pcm):
                frames += maker.pcm(sound.data, sound.rate or self._voice.traits.sample_rate)
        return tuple(frames + maker.end())


class _Lazily(SentenceTts):
    """The emergency voice, made when its first word is needed."""

    name = "emergency"

    def __init__(self, make: Callable[[], SentenceTts | None]) -> None:
        self._make = make

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of one sentence. Raises VendorError when there is no such voice."""
        voice = self._make()
        if voice is None:
            raise VendorError(self.name, "there is no emergency voice")
        for sound in voice.synthesize(sentence, context):
            yield Pcm(sound.data, sound.rate or voice.traits.sample_rate) if isinstance(sound, Pcm) else sound


class _Mute(SentenceTts):
    """A voice that does not work any more; its name is what its cached sound is found by."""

    def __init__(self, inner: SentenceTts) -> None:
        self._inner = inner
        self.name = inner.name
        self.traits = inner.traits

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """Raises VendorError."""
        raise VendorError(self.name, "the voice has failed")
        yield  # makes it a generator, like every other voice
