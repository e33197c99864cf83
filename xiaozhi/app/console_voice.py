"""How a voice sounds: one sentence, synthesised as a device with these settings would hear it, for the console's pages.

The selected voice only: whoever wants to hear it does not want to hear the fallback's."""

from __future__ import annotations

from typing import Final

from xiaozhi.audio.opus import Decoder, OpusError
from xiaozhi.audio.pcm import Resampler, wav_file
from xiaozhi.chat import CallContext
from xiaozhi.errors import Overloaded, VendorError, VendorTimeout
from xiaozhi.providers.contracts.tts import OpusPackets, SentenceTts, Sound
from xiaozhi.providers.pool import LeasedProviders, ProviderPool
from xiaozhi.providers.wrappers import by_sentence
from xiaozhi.runtime.deadlines import at_most
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.settings import Loaded

AT_ONCE: Final = 2
"""Sentences that are spoken for pages at the same time."""
PATIENCE_S: Final = 30.0
MAX_BYTES: Final = 48_000 * 2 * 60
"""A minute of sound."""
CONVERT_S: Final = 10.0


class VoiceTrials:
    """Providers are leased for one sentence and given back."""

    def __init__(self, pool: ProviderPool, inference: InferencePool) -> None:
        self._pool = pool
        self._inference = inference
        self._busy = 0

    def hear(self, loaded: Loaded, text: str, name: str = "") -> bytes:
        """`text` in the voice of a block, by default the selected one of these settings, as WAV (PCM, 16 bit, mono).
        Blocks. Raises VendorError, SettingsError, Overloaded."""
        if self._busy >= AT_ONCE:
            raise Overloaded("voices to try", retry_after=5)
        self._busy += 1
        leased = LeasedProviders(self._pool, loaded)
        try:
            name = name or loaded.settings.selected("tts")
            with at_most(PATIENCE_S, VendorTimeout(name, f"gave no whole sentence within {PATIENCE_S:g} s")):
                voice = by_sentence(leased.get("tts", name))
                sounds = _spoken(voice, text)
            wav: bytes = self._inference.run(_wav, sounds, voice.traits.sample_rate, kind="codec", deadline=CONVERT_S)
            return wav
        finally:
            self._busy -= 1
            leased.release()


def _spoken(voice: SentenceTts, text: str) -> list[Sound]:
    sounds: list[Sound] = []
    size = 0
    for sound in voice.synthesize(text, CallContext()):
        sounds.append(sound)
        size += sum(map(len, sound.packets)) if isinstance(sound, OpusPackets) else len(sound.data)
        if size > MAX_BYTES:
            break
    if not size:
        raise VendorError(voice.name, "gave no sound for this sentence")
    return sounds


def _wav(sounds: list[Sound], rate: int) -> bytes:
    """In a thread of the pool."""
    decoder, pcm = Decoder(rate if rate in (8_000, 12_000, 16_000, 24_000, 48_000) else 24_000), bytearray()
    first = next((sound.rate for sound in sounds if not isinstance(sound, OpusPackets) and sound.rate), 0)
    rate = decoder.sample_rate if any(isinstance(sound, OpusPackets) for sound in sounds) else first or rate
    resampler: Resampler | None = None
    for sound in sounds:
        if isinstance(sound, OpusPackets):
            for packet in sound.packets:
                try:
                    pcm += decoder.decode(packet)
                except OpusError:
                    continue  # a gap of one packet is no reason to hear nothing
            continue
        if (sound.rate or rate) == rate:
            pcm += sound.data
            continue
        if resampler is None or resampler.source != sound.rate:
            resampler = Resampler(sound.rate, rate)
        pcm += resampler.feed(sound.data)
    return wav_file(bytes(pcm), rate)
