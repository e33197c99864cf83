"""eSpeak NG as a voice: on this machine, without a network, English and Mandarin; clear but robotic. The default.

Not streaming: espeak speaks a hundred times faster than real time, so a sentence is made at once in the inference pool
and handed on in pieces. A sentence with both scripts is spoken by two voices, each for its own words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import AfterValidator, AliasChoices, Field

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorUnavailable
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.contracts.tts import SentenceTts, Sound, TtsTraits
from xiaozhi.providers.families.espeak_ng import NATIVE_HZ, checked_voice
from xiaozhi.providers.families.espeak_speech import EspeakVoices, espeak_pcm, espeak_sounds
from xiaozhi.providers.registry import provider

Voice = Annotated[str, AfterValidator(checked_voice)]


class EspeakTtsOptions(ProviderOptions):
    """`voice`, `voice_zh`: espeak-ng's names, with a variant if you like ("en-gb+f3"). `rate`, `rate_zh`: words per
    minute, as espeak-ng counts them; its Mandarin needs more of them for the same pace."""

    voice: Voice = Field("en-us", validation_alias=AliasChoices("voice", "voice_en"))
    voice_zh: Voice = "cmn"
    rate: int = Field(165, ge=80, le=450)
    rate_zh: int = Field(210, ge=80, le=450)
    pitch: int = Field(50, ge=0, le=99)
    pitch_range: int = Field(50, ge=0, le=99)
    volume: int = Field(80, ge=1, le=200)
    timeout: float = Field(10.0, gt=0, le=60)


@provider("tts", "espeak", EspeakTtsOptions)
class EspeakTts(SentenceTts):
    """Speaks in the inference pool (kind "tts")."""

    needs_services: ClassVar[bool] = True

    def __init__(self, options: EspeakTtsOptions, services: Services) -> None:
        self._voices = EspeakVoices(
            options.voice,
            options.voice_zh,
            options.rate,
            options.rate_zh,
            options.pitch,
            options.pitch_range,
            options.volume,
        )
        self._timeout = options.timeout
        self._inference = services.inference
        self._closed = False
        self.traits = TtsTraits(offline=True, streaming=False, sample_rate=NATIVE_HZ)

    def warm_up(self) -> None:
        """Load the library and both voices' dictionaries. Raises VendorUnavailable."""
        for text in ("hello", "你好"):
            self._inference.run(espeak_pcm, text, self._voices, kind="tts", deadline=30.0)

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """Yield s16le mono PCM at 22,050 Hz. Raises VendorUnavailable, VendorTimeout, Overloaded."""
        if self._closed:
            raise VendorUnavailable("espeak", "closed")
        for sound in espeak_sounds(sentence, self._voices, self._inference, self._timeout):
            yield sound
            if self._closed:
                raise VendorUnavailable("espeak", "closed")

    def close(self) -> None:
        # espeak itself belongs to the process, and other providers may speak with it.
        self._closed = True
