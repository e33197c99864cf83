"""The sound of a voice that cuts the text itself -> speech events: what arrives is decoded or passed through, and our
sentences are found in it (`sentence_boundaries.py`).

For sessions of `providers/tts_session.py` at vendors that send the sound of a whole answer in one stream. Sound that
comes as the body of an HTTP answer is for `providers/sound.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

# With the provider, at start: a decoder of a later sentence would stop the hub for 50 ms to import it.
import av  # noqa: F401
import numpy as np

from xiaozhi.audio.decode import decoder_for
from xiaozhi.audio.ogg import OggOpusDemuxer
from xiaozhi.audio.opus import packet_duration_ms
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, SentenceBegins, Sound, SpeechEvent
from xiaozhi.providers.families.sentence_boundaries import WINDOW_S, Boundaries
from xiaozhi.providers.sound import in_pool
from xiaozhi.runtime.inference import InferencePool

LOUD = 500
"""Of 32768: what a pause stays below."""


class SpokenSentences:
    """One answer. `form`: what the vendor sends, "pcm" (s16le mono at `sample_rate` Hz), "opus" (in Ogg), or a format
    for `inference` to decode: "wav", "mp3". `marked`: the vendor names its sentences. `speed`: 1 is normal.

    Raises DecodeError, OpusError."""

    def __init__(
        self,
        form: str,
        sample_rate: int,
        *,
        marked: bool,
        speed: float = 1.0,
        inference: InferencePool | None = None,
    ) -> None:
        self._boundaries = Boundaries(marked=marked, speed=speed)
        self._demuxer = OggOpusDemuxer() if form == "opus" else None
        self._decoder = decoder_for(form, sample_rate)
        self._inference = inference

    def said(self, text: str) -> None:
        """A sentence is sent to the vendor; before it is sent, as its sound must find it."""
        self._boundaries.said(text)

    def vendor_begins(self, text: str) -> Iterator[SpeechEvent]:
        """The vendor begins a sentence of its own."""
        yield from map(SentenceBegins, self._boundaries.vendor_begins(text))

    def vendor_ends(self) -> Iterator[SpeechEvent]:
        """The vendor's sentence is complete."""
        yield from map(SentenceBegins, self._boundaries.vendor_ends())

    def feed(self, payload: bytes) -> Iterator[SpeechEvent]:
        """Sound that has come."""
        if self._demuxer is not None:
            for duration, group in groupby(self._demuxer.feed(payload), packet_duration_ms):
                packets = tuple(group)
                yield from self._sound(OpusPackets(packets, duration), len(packets) * duration / 1000, ())
        elif self._decoder.cheap or self._inference is None:
            yield from self.pcm(self._decoder.feed(payload), self._decoder.sample_rate)
        else:
            yield from self.pcm(in_pool(self._inference, self._decoder.feed, payload), self._decoder.sample_rate)

    def finish(self) -> Iterator[SpeechEvent]:
        """The vendor has sent all of its sound: what a decoder still holds."""
        if self._demuxer is None and not self._decoder.cheap and self._inference is not None:
            yield from self.pcm(in_pool(self._inference, self._decoder.finish), self._decoder.sample_rate)

    def pcm(self, pcm: bytes, rate: int) -> Iterator[SpeechEvent]:
        """Whole samples of s16le mono at `rate` Hz that have come."""
        if not pcm:
            return
        window = round(rate * WINDOW_S)
        samples = np.abs(np.frombuffer(pcm, "<i2").astype(np.int32))
        whole = len(samples) - len(samples) % window
        loud = (samples[:whole].reshape(-1, window).max(axis=1) > LOUD).tolist() if whole else []
        yield from self._sound(Pcm(pcm, rate), len(samples) / rate, loud)

    def _sound(self, sound: Sound, seconds: float, loud: Sequence[bool]) -> Iterator[SpeechEvent]:
        yield from map(SentenceBegins, self._boundaries.sound(seconds, loud))
        yield sound
