"""What all answers to one device share: its sound format, the chime, the speech cache, and how a voice is opened.

It plays nothing: `playback.py` plays one answer. Which voice speaks is decided by the turn, per answer."""

from __future__ import annotations

from collections.abc import Iterable

from xiaozhi.audio.clips import ClipFormat, Clips
from xiaozhi.audio.ffmpeg import load_ffmpeg
from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.tts import SentenceTts, Tts, TtsStream
from xiaozhi.providers.wrappers import open_speech
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.logs import get_logger
from xiaozhi.session.speaking.encoder import FrameEncoder, VoiceFormat, work_on_sound
from xiaozhi.session.speaking.outbox import Outbox
from xiaozhi.session.speaking.speech_cache import Frames, SpeechCache, SpeechKey

log = get_logger(__name__)

# Longer sentences are hardly ever said twice.
CACHED_TEXT_LENGTH = 60


def speech_key(tts: Tts, voice: VoiceFormat, text: str) -> SpeechKey:
    """Where the sound of `text` is cached for devices with this format."""
    return SpeechKey(f"{tts.name}/{tts.traits.voice_key}", voice.format, voice.sample_rate, voice.frame_ms, text)


class DeviceVoice:
    """One per visit. `voice` is the device's format. `chime`: a sound file, "" for the built-in one."""

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
        self._replies = replies
        self._clips = clips
        self._chime = chime

    def encoder(self) -> FrameEncoder:
        """An encoder for one answer."""
        return FrameEncoder(self.voice, self.inference)

    def open(self, tts: Tts, context: CallContext) -> TtsStream:
        """A stream of `tts` for one answer. May block while it connects; raises VendorError, Overloaded."""
        return open_speech(tts, context)

    def cached(self, tts: Tts, text: str) -> Frames | None:
        """The frames of a sentence that was said before. A streaming voice has none: it speaks a whole answer in one
        session."""
        if not isinstance(tts, SentenceTts):
            return None
        return self._replies.get(speech_key(tts, self.voice, text))

    def caches(self, tts: Tts, text: str) -> bool:
        """Whether the frames of this sentence are to be kept."""
        return isinstance(tts, SentenceTts) and len(text) <= CACHED_TEXT_LENGTH

    def keep(self, tts: Tts, text: str, frames: Iterable[bytes]) -> None:
        """Cache the whole sound of a sentence, made by the voice `tts` and no substitute."""
        self._replies.put(speech_key(tts, self.voice, text), frames)

    def chime(self) -> Frames:
        """The sound that says "your turn"; the built-in one when the configured file cannot be played."""
        form = ClipFormat(self.voice.format, self.voice.sample_rate, self.voice.frame_ms)
        if self._chime:
            load_ffmpeg()
        try:
            return work_on_sound(self.inference, self._clips.frames, self._chime, form)
        except (OSError, ValueError) as error:
            log.warning("chime cannot be played", file=self._chime, error=str(error)[:200])
            return work_on_sound(self.inference, self._clips.frames, "", form)
