"""The bytes of a vendor's speech -> `Sound`: whatever format arrives is recognised by its content, Opus is passed on as
it is.

For every provider that gets sound as the body of an answer. What is cheap happens here and now (WAV, PCM, taking Ogg
apart); what decodes (MP3 and everything else FFmpeg knows) goes to the inference pool."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

import gevent

from xiaozhi.audio.decode import SNIFF_BYTES, DecodeError, SoundDecoder, decoder_for, sniff
from xiaozhi.audio.ogg import OggOpusDemuxer
from xiaozhi.audio.opus import Decoder, OpusError, packet_duration_ms
from xiaozhi.errors import Overloaded, VendorGarbage
from xiaozhi.net.http_errors import redact
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, Sound
from xiaozhi.runtime.inference import InferencePool

DECODE_DEADLINE_S = 5.0
POOL_RETRY_S = 0.02
# The longest packet `OpusPackets` may hold; longer ones are legal but rare.
LONGEST_PACKET_MS = 60.0
OPUS_RATE = 24_000


def sounds(
    chunks: Iterable[bytes], *, vendor: str, expected: str, sample_rate: int, inference: InferencePool
) -> Iterator[Sound]:
    """Sound as it comes. `expected`: the format that was asked for (pcm, wav, mp3, opus, ...); only pcm is believed
    without a mark.

    `sample_rate` (Hz) is that of raw PCM; every `Pcm` carries the rate it really has. Raises VendorGarbage,
    VendorTimeout, Overloaded."""
    incoming = iter(chunks)
    head = b""
    for chunk in incoming:
        head += chunk
        if len(head) >= SNIFF_BYTES:
            break
    form = _form(head, expected)
    if not form:
        raise VendorGarbage(
            vendor, f"no {expected} sound: {redact(head.decode('utf-8', 'replace'))}" if head else "no sound"
        )
    try:
        found = False
        for sound in (
            _from_ogg(head, incoming)
            if form == "ogg_opus"
            else _decoded(head, incoming, decoder_for(form, sample_rate), inference)
        ):
            found = True
            yield sound
        if not found:
            raise VendorGarbage(vendor, "no sound")
    except (DecodeError, OpusError) as error:
        raise VendorGarbage(vendor, str(error)) from error


def _form(head: bytes, expected: str) -> str:
    found = sniff(head)
    if expected != "pcm":
        return found
    # Any two samples of raw PCM may look like the start of an MPEG frame; only a mark of four letters is believed
    # instead.
    if found in ("wav", "ogg_opus") or head[:3] == b"ID3":
        return found
    return "pcm" if len(head) >= 2 and head[:1] not in (b"{", b"<") else ""


def _decoded(head: bytes, rest: Iterator[bytes], decoder: SoundDecoder, inference: InferencePool) -> Iterator[Pcm]:
    for chunk in _with_head(head, rest):
        pcm = decoder.feed(chunk) if decoder.cheap else _in_pool(inference, decoder.feed, chunk)
        if pcm:
            yield Pcm(pcm, decoder.sample_rate)
    pcm = decoder.finish() if decoder.cheap else _in_pool(inference, decoder.finish)
    if pcm:
        yield Pcm(pcm, decoder.sample_rate)


def _in_pool(inference: InferencePool, function: Callable[..., bytes], *args: bytes) -> bytes:
    # The sound exists already: a full pool is a reason to wait, not to fail.
    until = time.monotonic() + DECODE_DEADLINE_S
    while True:
        try:
            return inference.run(function, *args, kind="codec", deadline=DECODE_DEADLINE_S)
        except Overloaded:
            if time.monotonic() >= until:
                raise
            gevent.sleep(POOL_RETRY_S)


def _from_ogg(head: bytes, rest: Iterator[bytes]) -> Iterator[Sound]:
    demuxer = OggOpusDemuxer()
    for chunk in _with_head(head, rest):
        for duration, packets in groupby(demuxer.feed(chunk), packet_duration_ms):
            if duration <= LONGEST_PACKET_MS:
                yield OpusPackets(tuple(packets), duration)
            else:
                decoder = Decoder(OPUS_RATE)
                yield Pcm(b"".join(map(decoder.decode, packets)), OPUS_RATE)
    demuxer.finish()


def _with_head(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest
