"""Speech that is made as a whole before anybody hears it: frames for the speech cache, a file for a device that fetches
one.

Not an answer, which is played while it is made (`playback.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from xiaozhi.audio.opus import Decoder
from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError
from xiaozhi.providers.contracts.tts import OpusPackets, SentenceTts
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.session.speaking.encoder import FrameEncoder, VoiceFormat, work_on_sound
from xiaozhi.session.speaking.speech_cache import Frames
from xiaozhi.speech.cleanup import ReplyText

_SHORTEST_MS: Final = 5.0
"""Shorter Opus frames (2.5 ms) are not taken over: firmware does not play them from a file."""


@dataclass(frozen=True, slots=True)
class RenderedSpeech:
    """Frames of a text, and its sentences with the ms at which each begins."""

    frames: Frames
    sentences: tuple[tuple[int, str], ...]
    frame_ms: int

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return len(self.frames) * self.frame_ms / 1000


def sentence_frames(
    tts: SentenceTts, sentence: str, voice: VoiceFormat, inference: InferencePool, *, substitutes: bool
) -> Frames:
    """A sentence in this voice. `substitutes`: another voice may stand in. Blocks. Raises VendorError, Overloaded,
    OpusError."""
    encoder = FrameEncoder(voice, inference)
    decoder = Decoder(voice.sample_rate)
    frames: list[bytes] = []
    for sound in tts.synthesize(sentence, CallContext()):
        if sound.substitute and not substitutes:
            raise VendorError(tts.name, "only a substitute answers")
        if not isinstance(sound, OpusPackets):
            frames += encoder.pcm(sound.data, sound.rate or tts.traits.sample_rate)
        elif sound.frame_ms >= _SHORTEST_MS:
            frames += encoder.packets(sound.packets)
        else:
            pcm = work_on_sound(inference, _decoded, decoder, sound.packets)
            frames += encoder.pcm(pcm, voice.sample_rate)
    return tuple(frames + encoder.end())


def render(
    tts: SentenceTts, text: str, voice: VoiceFormat, inference: InferencePool, *, correct_words: Sequence[str] = ()
) -> RenderedSpeech:
    """A text in this voice, or one that stands in for it. Blocks and raises as `sentence_frames`; VendorError when
    there is nothing to say."""
    words = ReplyText(correct_words=correct_words)
    frames: list[bytes] = []
    sentences: list[tuple[int, str]] = []
    for sentence in [*words.feed(text), *words.flush()]:
        sentences.append((len(frames) * voice.frame_ms, sentence.subtitle))
        frames += sentence_frames(tts, sentence.spoken, voice, inference, substitutes=True)
    if not frames:
        raise VendorError(tts.name, "gave no sound for this text")
    return RenderedSpeech(tuple(frames), tuple(sentences), voice.frame_ms)


def _decoded(decoder: Decoder, packets: Sequence[bytes]) -> bytes:
    return b"".join(map(decoder.decode, packets))
