"""Fixed phrases (greetings, apologies, refusals): spoken at once from the speech cache, and by an emergency voice when
nothing else works.

    prepare ─► the selected voice says every phrase once, in the background ─► speech cache
    fixed   ─► cache, else the selected voice, else the emergency voice
    apology ─► cache, else whatever still works

It gives voices to `playback.py` and plays nothing itself. The emergency voice needs no network and is made when it is
first needed. Its sound is never cached as the selected voice's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import gevent

from xiaozhi.chat import CallContext
from xiaozhi.errors import Overloaded, ProtocolError, VendorError
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, SentenceTts, Sound, Tts
from xiaozhi.providers.wrappers import by_sentence, with_fallback
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.speaking.encoder import VoiceFormat
from xiaozhi.session.speaking.rendering import sentence_frames
from xiaozhi.session.speaking.speech_cache import Frames, SpeechCache
from xiaozhi.session.speaking.voice import speech_key
from xiaozhi.speech.cleanup import ReplyText

log = get_logger(__name__)

RETRY_S = 60.0
"""A voice that could not say the phrases is not asked again for so long."""
QUIET_S = 0.5
"""So long nobody must have been listened to before a phrase is said that can wait: saying one may take a second of the
thread that a user's question needs."""
GIVE_WAY_S = 20.0
"""After so long it is said all the same."""
MAX_FORMATS = 8
"""Formats of devices for which phrases are prepared."""


class Phrases:
    """The fixed phrases of one configuration. `texts` are whole texts; `patient` more of them, which are prepared after
    those and while nobody is listened to; `emergency` makes the emergency voice, or gives None."""

    def __init__(
        self,
        tts: Tts,
        *,
        texts: Sequence[str],
        correct_words: Sequence[str],
        replies: SpeechCache,
        inference: InferencePool,
        patient: Sequence[str] = (),
        emergency: Callable[[], Tts | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._voice = by_sentence(tts)
        self._emergency = _EmergencyVoice(self._voice, emergency)
        self._fixed: SentenceTts = with_fallback([self._voice, self._emergency])
        self._texts = tuple(texts)
        self._patient = tuple(patient)
        self._correct_words = tuple(correct_words)
        self._replies = replies
        self._inference = inference
        self._clock = clock
        self._tasks = Tasks()
        self._ready: set[VoiceFormat] = set()
        self._at_work: set[VoiceFormat] = set()
        self._not_before = 0.0
        self._told = ""

    # --- voices -------------------------------------------------------------------------------------------------------

    @property
    def fixed(self) -> SentenceTts:
        """The voice for fixed phrases."""
        return self._fixed

    def apology(self, *, voice_failed: bool) -> SentenceTts:
        """The voice for an apology. `voice_failed`: of the selected one, which has just failed, only cached sound is
        used."""
        return self._emergency if voice_failed else self._fixed

    # --- preparation --------------------------------------------------------------------------------------------------

    def prepare(self, voice: VoiceFormat) -> None:
        """Have the phrases said for devices with this format, so that they are cached; returns at once."""
        if voice in self._ready or voice in self._at_work or self._clock() < self._not_before:
            return
        if not self._texts and not self._patient:
            return
        if len(self._ready) + len(self._at_work) < MAX_FORMATS:
            self._at_work.add(voice)
            self._tasks.spawn("phrases", self._say_all, voice)

    @property
    def preparing(self) -> bool:
        """Some phrases are being said right now."""
        return bool(self._at_work)

    def ready(self, voice: VoiceFormat) -> bool:
        """True when every phrase has been said for this format."""
        return voice in self._ready

    def close(self) -> None:
        """Stop preparing. Idempotent."""
        self._tasks.kill()

    def _say_all(self, voice: VoiceFormat) -> None:
        try:
            for sentence in self._sentences(self._texts):
                self._prepare(sentence, voice)
            for sentence in self._sentences(self._patient):
                self._give_way()
                self._prepare(sentence, voice)
            self._ready.add(voice)
        except (VendorError, Overloaded, ProtocolError, ValueError) as error:
            self._not_before = self._clock() + RETRY_S
            fault = str(error)[:200]
            if fault != self._told:
                self._told = fault  # a voice that never comes is told of once
                log.warning("phrases not prepared, will be tried again", error=fault)
        finally:
            self._at_work.discard(voice)

    def _prepare(self, sentence: str, voice: VoiceFormat) -> None:
        key = speech_key(self._voice, voice, sentence)
        if self._replies.fetch(key) is None:
            self._replies.share(key, self._say(sentence, voice))

    def _give_way(self) -> None:
        until = self._clock() + GIVE_WAY_S
        while self._inference.seconds_since("vad") < QUIET_S and self._clock() < until:
            gevent.sleep(QUIET_S / 2)

    def _sentences(self, texts: Sequence[str]) -> list[str]:
        words = ReplyText(correct_words=self._correct_words)
        return [sentence.spoken for text in texts for sentence in [*words.feed(text), *words.flush()]]

    def _say(self, sentence: str, voice: VoiceFormat) -> Frames:
        return sentence_frames(self._voice, sentence, voice, self._inference, substitutes=False)


class _EmergencyVoice(SentenceTts):
    """The emergency voice, made when its first word is needed. It has the name and the traits of the voice that it
    stands in for, so that cached sound of that voice is found; its own sound is marked as a substitute's."""

    def __init__(self, stands_in_for: SentenceTts, make: Callable[[], Tts | None]) -> None:
        self.name = stands_in_for.name
        self.traits = stands_in_for.traits
        self._make: Callable[[], Tts | None] | None = make
        self._voice: SentenceTts | None = None

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of one sentence. Raises VendorError when there is no such voice."""
        make, self._make = self._make, None
        if make is not None:
            made = make()
            self._voice = by_sentence(made) if made is not None else None
        voice = self._voice
        if voice is None:
            raise VendorError("emergency", "there is no emergency voice")
        for sound in voice.synthesize(sentence, context):
            if isinstance(sound, Pcm):
                yield Pcm(sound.data, sound.rate or voice.traits.sample_rate, True)
            else:
                yield OpusPackets(sound.packets, sound.frame_ms, True)
