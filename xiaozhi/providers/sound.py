"""The bytes of a vendor's speech -> `Sound`: whatever format arrives is recognised by its content, Opus is passed on as
it is.

For every provider that gets sound as the body of an answer. The content decides, because headers are wrong as often as
they are right: a type says mp3 over a WAV, or audio over an error in JSON, and raw PCM comes where a WAV was asked for.
Raw PCM has no mark and may begin like anything, so text is believed only when all of what has come is text.

What is cheap happens here and now (WAV, PCM, taking Ogg apart); what decodes (MP3 and everything else FFmpeg knows)
goes to the inference pool. When the vendor breaks off, what it has sent is still sounded."""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, Final

# With the provider, at start: a decoder of a later sentence would stop the hub for 50 ms to import it.
import av  # noqa: F401
import gevent
import numpy as np
import orjson

from xiaozhi.audio.decode import DecodeError, RawDecoder, SoundDecoder, decoder_for
from xiaozhi.audio.file_marks import MPEG_BYTES, SNIFF_BYTES, has_mark, is_mpeg, sniff
from xiaozhi.audio.ogg import OggOpusDemuxer
from xiaozhi.audio.opus import Decoder, OpusError, packet_duration_ms
from xiaozhi.errors import Overloaded, VendorError, VendorGarbage, VendorSilent
from xiaozhi.net.http_errors import redact
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, Sound
from xiaozhi.runtime.inference import InferencePool

DECODE_DEADLINE_S = 5.0
POOL_RETRY_S = 0.02
# The longest packet `OpusPackets` may hold; longer ones are legal but rare.
LONGEST_PACKET_MS = 60.0
OPUS_RATE = 24_000
MAX_TEXT_BYTES: Final = 65_536
"""Of an error that came in place of sound; it is read whole to be understood."""

_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# JSON or markup by its first characters: no other text is as long as sound.
_WRITTEN: Final = re.compile(r"\ufeff?\s*(?:\{\s*[\"}]|\[\s*[\[{\"\]]|<[!?/a-zA-Z])")
_RAW_TYPES: Final = ("audio/pcm", "audio/l16", "audio/raw", "audio/x-raw", "audio/x-pcm", "audio/lpcm")
# Speech begins quietly. Compressed sound and other noise have louder samples among so many.
_LOUD: Final = 16_384
_QUIET_SAMPLES: Final = 64


def sounds(
    chunks: Iterable[bytes],
    *,
    vendor: str,
    expected: str,
    sample_rate: int,
    inference: InferencePool,
    content_type: str = "",
    refusal: Callable[[Any], VendorError | None] = lambda answer: None,
) -> Iterator[Sound]:
    """Sound as it comes. `expected`: the format that was asked for (pcm, wav, mp3, opus, ...). `content_type`: the
    header of that name with its parameters, which knows the rate of raw PCM best.

    `sample_rate` (Hz) is that of raw PCM otherwise; every `Pcm` carries the rate it really has. `refusal`: the error
    that a JSON answer stands for. Raises VendorGarbage, VendorSilent (nothing in it), VendorTimeout, Overloaded, and
    what `refusal` gives."""
    incoming = iter(chunks)
    head, ended = _head(incoming, expected)
    if not head:
        raise VendorSilent(vendor, "no sound")
    form = _form(head, ended, expected, content_type)
    if form == "text":
        raise _what_it_says(head, incoming, vendor, expected, refusal)
    if not form:
        raise VendorGarbage(vendor, f"no {expected} sound: {redact(head[:MPEG_BYTES].decode('utf-8', 'replace'))}")
    try:
        found = False
        for sound in (
            _from_ogg(head, incoming)
            if form == "ogg_opus"
            else _decoded(head, incoming, _decoder(form, sample_rate, content_type), inference)
        ):
            found = True
            yield sound
        if not found:
            raise VendorSilent(vendor, "no sound")
    except (DecodeError, OpusError) as error:
        raise VendorGarbage(vendor, str(error)) from error


# --- what it is -------------------------------------------------------------------------------------------------------


def _head(incoming: Iterator[bytes], expected: str) -> tuple[bytes, bool]:
    """Enough of the body to tell what it is, and whether that is all of it."""
    head = b""
    for chunk in incoming:
        head += chunk
        if len(head) < SNIFF_BYTES:
            continue
        if sniff(head):
            settled = _believed_at_once(head, expected)
        else:
            settled = len(head) >= 2 * _QUIET_SAMPLES and not _is_text(head)
        if settled or len(head) >= MPEG_BYTES:
            return head, False
    return head, True


def _believed_at_once(head: bytes, expected: str) -> bool:
    """Raw PCM may begin like an MPEG frame, so that needs a second one where PCM may come."""
    return has_mark(head) or expected not in ("pcm", "wav")


def _form(head: bytes, ended: bool, expected: str, content_type: str) -> str:
    """wav, ogg_opus, mp3, other, pcm or text; "" for none of them."""
    found = sniff(head)
    if found and (_believed_at_once(head, expected) or is_mpeg(head)):
        return found
    if _is_text(head) and (ended or expected != "pcm" or _WRITTEN.match(head.decode("utf-8", "ignore"))):
        return "text"
    kind = _media_type(content_type)
    raw = expected == "pcm" or kind in _RAW_TYPES
    raw = raw or (expected == "wav" and (kind.startswith("audio/") or _begins_quietly(head)))
    return "pcm" if raw and len(head) > 1 else ""


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return bool(text) and _CONTROLS.search(text) is None


def _begins_quietly(head: bytes) -> bool:
    samples = np.frombuffer(head[: 2 * min(_QUIET_SAMPLES, len(head) // 2)], "<i2").astype(np.int32)
    return bool(samples.size) and int(np.abs(samples).max()) < _LOUD


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _parameter(content_type: str, name: str) -> int:
    """A number among the parameters of a content type, 0 when there is none."""
    found = re.search(rf";\s*{name}\s*=\s*\"?(\d{{1,6}})", content_type, re.IGNORECASE)
    return int(found.group(1)) if found is not None else 0


def _decoder(form: str, sample_rate: int, content_type: str) -> SoundDecoder:
    if form != "pcm":
        return decoder_for(form, sample_rate)
    rate, channels = _parameter(content_type, "rate"), _parameter(content_type, "channels")
    return RawDecoder(rate if 8_000 <= rate <= 48_000 else sample_rate, channels if 1 <= channels <= 8 else 1)


def _what_it_says(
    head: bytes, rest: Iterator[bytes], vendor: str, expected: str, refusal: Callable[[Any], VendorError | None]
) -> VendorError:
    """The error of a body that is text in place of sound."""
    body = head
    for chunk in rest:
        body += chunk
        if len(body) > MAX_TEXT_BYTES:
            break
    try:
        error = refusal(orjson.loads(body.removeprefix(codecs.BOM_UTF8)))
    except orjson.JSONDecodeError:
        error = None
    return error or VendorGarbage(vendor, f"no {expected} sound: {redact(body.decode('utf-8', 'replace'))}")


# --- what it sounds like ----------------------------------------------------------------------------------------------


def _decoded(head: bytes, rest: Iterator[bytes], decoder: SoundDecoder, inference: InferencePool) -> Iterator[Pcm]:
    try:
        for chunk in _with_head(head, rest):
            pcm = decoder.feed(chunk) if decoder.cheap else in_pool(inference, decoder.feed, chunk)
            if pcm:
                yield Pcm(pcm, decoder.sample_rate)
    except VendorError:
        yield from _last_of(decoder, inference)
        raise
    pcm = decoder.finish() if decoder.cheap else in_pool(inference, decoder.finish)
    if pcm:
        yield Pcm(pcm, decoder.sample_rate)


def _last_of(decoder: SoundDecoder, inference: InferencePool) -> Iterator[Pcm]:
    """What a decoder holds of a body that has broken off."""
    try:
        pcm = decoder.finish() if decoder.cheap else in_pool(inference, decoder.finish)
    except DecodeError:
        return  # the end is missing, which is known
    if pcm:
        yield Pcm(pcm, decoder.sample_rate)


def in_pool(inference: InferencePool, function: Callable[..., bytes], *args: bytes) -> bytes:
    """Decode in the pool. Raises DecodeError, and Overloaded when the pool stays full."""
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
