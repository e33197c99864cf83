"""Frame encoder: the sound of any provider becomes frames of one device. It encodes on the hub where that is cheap, in
the pool where it is not (resampling, higher complexity), and passes Opus of the vendor on as it is.

It holds no queue and keeps no time. One `FrameEncoder` belongs to one answer and dies with it: a thread that still
encodes for an answer that was killed must never touch the encoder of the next one.

Ready Opus packets are merged into frames of the device's length without decoding (RFC 6716, 3.2.5). What is left at the
end of a sentence is filled up with frames of length zero, which mean "nothing was sent" (RFC 6716, 3.2.1): the decoder
fades out by itself, and nobody has to encode 40 ms of silence. Packets that cannot be merged (of mixed kinds, or longer
than a frame) are decoded and encoded anew, from there to the end of the sentence."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import gevent

from xiaozhi.audio.opus import CannotMerge, Decoder, Encoder, Repacketizer, frame_duration_ms
from xiaozhi.audio.pcm import Resampler
from xiaozhi.errors import Overloaded
from xiaozhi.runtime.inference import InferencePool

T = TypeVar("T")

POOL_DEADLINE_S = 5.0
POOL_RETRY_S = 0.02
AT_ONCE_MS = 480
"""Encoded on the hub in one go: a third of a millisecond."""


@dataclass(frozen=True, slots=True)
class VoiceFormat:
    """What the device plays: `format` "opus" or "pcm" (s16le), Hz, and ms per frame."""

    format: str = "opus"
    sample_rate: int = 24_000
    frame_ms: int = 60
    complexity: int | None = None


def work_on_sound(inference: InferencePool, function: Callable[..., T], *args: object) -> T:
    """Run a function on sound in the pool. A full pool is back-pressure here, not a failure: the sound exists already,
    only its frames are late. Raises Overloaded when it stays full, and what the function raises."""
    until = time.monotonic() + POOL_DEADLINE_S
    while True:
        try:
            return inference.run(function, *args, kind="codec", deadline=POOL_DEADLINE_S)
        except Overloaded:
            if time.monotonic() >= until:
                raise
            gevent.sleep(POOL_RETRY_S)


class FrameEncoder:
    """Makes the frames of one answer; used by one greenlet at a time. The methods block for the pool and raise
    Overloaded when it stays full; `OpusError` for packets that are none."""

    def __init__(self, voice: VoiceFormat, inference: InferencePool) -> None:
        self.voice = voice
        self._inference = inference
        self._merger = Repacketizer(voice.frame_ms)
        self._transcoding = voice.format != "opus"
        self._encoder: Encoder | None = None
        self._decoder: Decoder | None = None
        self._resampler: Resampler | None = None
        self._raw = b""
        self._owes = False
        """Whether something waits for `end`."""

    def at_once_bytes(self, rate: int) -> int:
        """How much PCM at `rate` Hz may be given to `at_once`; 0: encoding is expensive, use `pcm`."""
        voice = self.voice
        cheap = voice.format == "opus" and not voice.complexity and rate == voice.sample_rate
        return rate * AT_ONCE_MS // 1000 * 2 if cheap and self._resampler is None and not self._merger.held else 0

    def at_once(self, pcm: bytes) -> list[bytes]:
        """The frames that `pcm` at the device's rate completes, encoded here, on the hub; see `at_once_bytes`."""
        self._owes = True
        return self._opus().encode(pcm, hold_gil=True)

    def pcm(self, pcm: bytes, rate: int) -> list[bytes]:
        """The frames that s16le mono `pcm` at `rate` Hz completes."""
        frames = self._fill_up() if self._merger.held else []
        self._owes = True
        return frames + self._in_pool(self._encode, pcm, rate)

    def packets(self, packets: Sequence[bytes]) -> list[bytes]:
        """The frames that ready mono Opus packets complete."""
        frames: list[bytes] = []
        if not self._transcoding:
            for index, packet in enumerate(packets):
                try:
                    frames += self._merger.feed(packet)
                except CannotMerge:
                    packets = [*self._merger.held, *packets[index + 1 :]]
                    self._merger.reset()
                    self._transcoding = True
                    break
            else:
                return frames
        self._owes = True
        return frames + self._in_pool(self._transcode, packets)

    def end(self, pcm: bytes = b"", rate: int = 0) -> list[bytes]:
        """The sentence is complete: the frames of its last `pcm` (as for `pcm`), and its last frame, filled up with
        silence."""
        frames = self._fill_up() if self._merger.held else []
        if pcm:
            frames += self._in_pool(self._encode_last, pcm, rate)
        elif self._owes:
            # One frame at most, unless a resampler holds some: less work than the way to the pool.
            frames += self._flush() if self._resampler is None else self._in_pool(self._flush)
        self._owes = False
        self._transcoding = self.voice.format != "opus"
        self._decoder = None
        return frames

    def _fill_up(self) -> list[bytes]:
        toc = self._merger.held[0][0] & 0xFC  # the same kind of packet, holding one frame ...
        nothing = bytes([toc])  # ... of no bytes
        longest = self.voice.frame_ms / frame_duration_ms(toc)
        try:
            for _ in range(int(longest)):
                if frames := self._merger.feed(nothing):
                    return frames
        except CannotMerge:
            pass  # frames of a length that does not divide what is missing: decode what there is
        held = [packet for packet in self._merger.held if packet != nothing]
        self._merger.reset()
        self._owes = True
        return self._in_pool(self._transcode, held)

    def _in_pool(self, function: Callable[..., list[bytes]], *args: object) -> list[bytes]:
        return work_on_sound(self._inference, function, *args)

    # --- on a pool thread, one at a time; what is cheap on the hub ----------------------------------------------------

    def _encode(self, pcm: bytes, rate: int) -> list[bytes]:
        voice = self.voice
        rest: list[bytes] = []
        if self._resampler is not None and self._resampler.source != rate:
            rest = self._cut(self._resampler.flush())
            self._resampler = None
        if rate != voice.sample_rate:
            if self._resampler is None:
                self._resampler = Resampler(rate, voice.sample_rate)
            pcm = self._resampler.feed(pcm)
        return rest + self._cut(pcm)

    def _encode_last(self, pcm: bytes, rate: int) -> list[bytes]:
        return self._encode(pcm, rate) + self._flush()

    def _transcode(self, packets: Sequence[bytes]) -> list[bytes]:
        if self._decoder is None:
            self._decoder = Decoder(self.voice.sample_rate)
        return self._encode(b"".join(map(self._decoder.decode, packets)), self.voice.sample_rate)

    def _flush(self) -> list[bytes]:
        frames: list[bytes] = []
        if self._resampler is not None:
            frames = self._cut(self._resampler.flush())
            self._resampler = None
        if self._raw:
            frames.append(self._raw.ljust(self._frame_bytes, b"\0"))
            self._raw = b""
        if self._encoder is not None:
            frames += self._encoder.flush()
        return frames

    def _cut(self, pcm: bytes) -> list[bytes]:
        """Whole frames of PCM at the device's rate; the rest waits."""
        voice = self.voice
        if voice.format == "opus":
            return self._opus().encode(pcm)
        data, size = self._raw + pcm, self._frame_bytes
        whole = len(data) - len(data) % size
        self._raw = data[whole:]
        return [data[start : start + size] for start in range(0, whole, size)]

    def _opus(self) -> Encoder:
        if self._encoder is None:
            self._encoder = Encoder(self.voice.sample_rate, self.voice.frame_ms, complexity=self.voice.complexity)
        return self._encoder

    @property
    def _frame_bytes(self) -> int:
        return self.voice.sample_rate * self.voice.frame_ms // 1000 * 2
