"""Vendors' sound formats -> s16le mono PCM, on a stream: bytes go in as they arrive, sound comes out as soon as it can.

Nothing is cut in silence: a body may hold several files one behind the other, at different rates, and headers lie about
sizes. What comes out has one rate, the first file's, which every decoder tells (`sample_rate`).

Not bound to a thread: `cheap` says which decoders may run where they are, the others belong into the inference pool.
Opus in Ogg is taken apart by `ogg.py`; how files begin is known by `file_marks.py`. Source: Microsoft's RIFF/WAVE
description, ID3v2.4."""

from __future__ import annotations

import io
import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np

from xiaozhi.audio.ffmpeg import load_ffmpeg
from xiaozhi.audio.file_marks import ID3_TAG, ID3_TAG_BYTES, WAV_START, WAV_START_BYTES, files_in, sniff
from xiaozhi.audio.pcm import Resampler, to_mono

__all__ = [
    "DecodeError",
    "FileDecoder",
    "Mp3Decoder",
    "RawDecoder",
    "SoundDecoder",
    "WavDecoder",
    "decode_file",
    "decoder_for",
    "sniff",
]

MAX_HEADER_BYTES = 1024 * 1024
MAX_FILE_BYTES = 64 * 1024 * 1024
# Every decoder is told to use one thread, the caller's: left alone FFmpeg starts one per core for each stream, which is
# what the inference pool exists to prevent. A stream may begin in the middle of a frame and hold a broken one; more
# than this is not sound.
MAX_BROKEN_FRAMES = 8


class DecodeError(ValueError):
    """The bytes are not what they claim to be."""


class SoundDecoder(ABC):
    """One stream of sound. Used by one caller at a time."""

    cheap: bool = False
    """True: a call costs microseconds. False: call it in the inference pool."""

    def __init__(self) -> None:
        self.sample_rate = 0
        """Hz of what comes out; 0 until it is known."""

    @abstractmethod
    def feed(self, data: bytes) -> bytes:
        """The s16le mono PCM that `data` completes. Raises DecodeError."""

    @abstractmethod
    def finish(self) -> bytes:
        """The stream has ended: what is left of it. Raises DecodeError when there never was any sound."""


def decoder_for(form: str, sample_rate: int) -> SoundDecoder:
    """A decoder for "pcm" (s16le mono at `sample_rate`), "wav", "mp3", or anything else FFmpeg knows ("other")."""
    if form == "pcm":
        return RawDecoder(sample_rate)
    if form == "wav":
        return WavDecoder()
    if form == "mp3":
        return Mp3Decoder()
    return FileDecoder()


def decode_file(data: bytes, sample_rate: int) -> bytes:
    """A whole file in any format FFmpeg knows -> s16le mono PCM at `sample_rate` Hz. Takes milliseconds: call it in the
    pool, after `load_ffmpeg` in the greenlet. Raises DecodeError."""
    decoder = FileDecoder(sample_rate)
    return decoder.feed(data) + decoder.finish()


class RawDecoder(SoundDecoder):
    """s16le PCM that only needs its samples kept whole, and its `channels` mixed down."""

    cheap = True

    def __init__(self, sample_rate: int, channels: int = 1) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self._channels = channels
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Whole samples."""
        if self._rest:
            data = self._rest + data
        odd = len(data) % (2 * self._channels)
        data, self._rest = (data[:-odd], data[-odd:]) if odd else (data, b"")
        return to_mono(data, self._channels)

    def finish(self) -> bytes:
        """Nothing: half a sample is no sound."""
        return b""


class _OneRate:
    """Sound of several files -> sound at one rate: `sample_rate`, or the first file's when it is 0."""

    def __init__(self, sample_rate: int = 0) -> None:
        self.sample_rate = sample_rate
        self._resampler: Resampler | None = None

    def add(self, pcm: bytes, rate: int) -> bytes:
        """`pcm` of `rate` Hz, and what came before it at another one."""
        self.sample_rate = self.sample_rate or rate
        before = b""
        if self._resampler is not None and self._resampler.source != rate:
            before = self.rest()
        if rate == self.sample_rate:
            return before + pcm
        if self._resampler is None:
            self._resampler = Resampler(rate, self.sample_rate)
        return before + self._resampler.feed(pcm)

    def rest(self) -> bytes:
        """What is still inside."""
        resampler, self._resampler = self._resampler, None
        return b"" if resampler is None else resampler.flush()


# Chunks that may stand behind the samples; what else does is samples that the header has not counted.
_CHUNKS: Final = frozenset(
    b"LIST|INFO|fact|cue |smpl|inst|bext|iXML|axml|id3 |ID3 |JUNK|junk|PAD |pad |FLLR|PEAK|plst|labl|note|ltxt|adtl|"
    b"acid|afsp|DISP|cart|umid|_PMX|strc|levl|chna|ds64|slnt|wavl".split(b"|")
)
_PARTIAL_START: Final = re.compile(rb"(?:(?:RIFF|RF64|BW64).{0,7}|RIFF?|RF6?|BW6?|RI?|B)\Z", re.DOTALL)
_UNTIL_THE_END: Final = 1 << 62


class WavDecoder(SoundDecoder):
    """RIFF/WAVE as vendors stream it: sizes of 0 or 0xFFFFFFFF mean "until the end", and so do sizes that are too
    small; chunks around the data are skipped; where another file begins, the sound goes on with it.

    Integer PCM of 8, 16, 24 and 32 bits and 32-bit float, any number of channels (mixed down), as it comes. Other
    codecs (mu-law, ADPCM, ...) at the end, by FFmpeg: then it is not `cheap`."""

    def __init__(self) -> None:
        super().__init__()
        self.cheap = True
        self._data = bytearray()
        self._in_head = True
        self._left = _UNTIL_THE_END
        """Bytes of the samples, or of the chunk behind them, that are still to come by the header."""
        self._skips = False
        """In a chunk behind the samples."""
        self._odd = False
        """The samples have an odd number of bytes, so a byte of padding may follow them."""
        self._kind = 0
        self._width = 2
        self._channels = 1
        self._rate = 0
        self._one_rate = _OneRate()
        self._other: FileDecoder | None = None

    def feed(self, data: bytes) -> bytes:
        """PCM of the samples that `data` completes."""
        if self._other is not None:
            return self._other.feed(data)
        self._data += data
        return b"".join(self._read(final=False))

    def finish(self) -> bytes:
        """What was held back because it might have been the start of something else."""
        if self._other is not None:
            pcm = self._other.finish()
            self.sample_rate = self._other.sample_rate
            return pcm
        pcm = b"".join(self._read(final=True)) + self._one_rate.rest()
        if self._in_head:
            raise DecodeError("the WAV header is cut off")
        return pcm

    def _read(self, *, final: bool) -> Iterator[bytes]:
        while self._other is None:
            if self._in_head:
                start = self._parse_head(bytes(self._data))
                if start is None:
                    if len(self._data) > MAX_HEADER_BYTES:
                        raise DecodeError("a WAV header without data")
                    return
                if self._other is None:
                    del self._data[:start]
                    self._in_head = self._skips = False
                continue
            block = 1 if self._skips else self._width * self._channels
            following = WAV_START.search(self._data)
            if following is not None and following.start() <= self._left:
                start = following.start()
                yield self._take(start, block)
                del self._data[: start % block]  # less than a sample is none
                self._in_head = True
                continue
            end = min(self._left, len(self._data))
            if not final and end < self._left:
                partial = _PARTIAL_START.search(self._data, max(0, end - WAV_START_BYTES + 1))
                end = end if partial is None else partial.start()
            yield self._take(end, block)
            if self._left >= block or not self._behind(final):
                return

    def _take(self, end: int, block: int) -> bytes:
        """What stands before `end`, in whole blocks."""
        whole = end - end % block
        pcm = b"" if self._skips else self._one_rate.add(self._to_s16(bytes(self._data[:whole])), self._rate)
        del self._data[:whole]
        self._left -= whole
        return pcm

    def _behind(self, final: bool) -> bool:
        """Read what stands behind the samples, or a chunk; False while that is not known."""
        data, half = self._data, self._left  # less than a sample may be left
        places = (half, half + 1) if self._odd else (half,)
        at = next((at for at in places if bytes(data[at : at + 4]) in _CHUNKS or WAV_START.match(data, at)), None)
        if at is None:
            if len(data) - half <= WAV_START_BYTES and not final:
                return False
            self._skips = False
            self._left = _UNTIL_THE_END
            return len(data) > half
        if len(data) < at + 8:
            return False
        del data[:at]
        size = int.from_bytes(data[4:8], "little")
        self._in_head = WAV_START.match(data) is not None
        self._skips = not self._in_head
        self._left = 8 + size
        self._odd = bool(size & 1)
        return True

    def _parse_head(self, head: bytes) -> int | None:
        """Where the samples begin, None while more bytes are needed."""
        if len(head) < WAV_START_BYTES:
            return None
        if WAV_START.match(head) is None:
            raise DecodeError("not a WAV")
        at, self._rate = WAV_START_BYTES, 0
        while at + 8 <= len(head):
            name, size = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
            if name == b"data":
                if not self._rate:
                    raise DecodeError("WAV data before its format")
                self._left = _UNTIL_THE_END if size in (0, 0xFFFFFFFF) else size
                self._odd = bool(size & 1)
                self.sample_rate = self._one_rate.sample_rate = self.sample_rate or self._rate
                return at + 8
            if name == b"fmt " and at + 8 + size <= len(head):
                self._parse_format(head[at + 8 : at + 8 + size])
                if self._other is not None:
                    self._other.feed(head)
                    return at
            at += 8 + size + (size & 1)  # chunks are padded to even length
        return None

    def _parse_format(self, form: bytes) -> None:
        if len(form) < 16:
            raise DecodeError("the WAV format chunk is too short")
        kind, self._channels, self._rate, _, _, bits = struct.unpack_from("<HHIIHH", form)
        if kind == 0xFFFE and len(form) >= 26:  # extensible: the real kind is the start of a GUID
            kind = int.from_bytes(form[24:26], "little")
        self._kind, self._width = kind, bits // 8
        if not 1 <= self._channels <= 8 or not 4_000 <= self._rate <= 192_000:
            raise DecodeError(f"WAV with {self._channels} channels at {self._rate} Hz")
        if (kind, bits) not in {(1, 8), (1, 16), (1, 24), (1, 32), (3, 32)}:
            self._other = FileDecoder(self.sample_rate)
            self.cheap = False

    def _to_s16(self, data: bytes) -> bytes:
        if self._kind == 3:
            samples = np.clip(np.frombuffer(data, "<f4") * 32768.0, -32768, 32767)
            data = np.nan_to_num(samples).astype("<i2").tobytes()
        elif self._width == 1:
            data = ((np.frombuffer(data, np.uint8).astype(np.int16) - 128) << 8).astype("<i2").tobytes()
        elif self._width == 3:
            data = np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(-1, 3)[:, 1:]).tobytes()
        elif self._width == 4:
            data = (np.frombuffer(data, "<i4") >> 16).astype("<i2").tobytes()
        return data if self._channels == 1 else to_mono(data, self._channels)


def _s16_mono(frame: Any) -> bytes:
    # numpy rather than FFmpeg's resampler: that one is a filter graph, and starts threads of its own.
    samples = frame.to_ndarray()
    channels = frame.layout.nb_channels
    samples = samples if frame.format.is_planar else samples.reshape(-1, channels).T
    mono = samples[0] if channels == 1 else samples.mean(axis=0)
    if samples.dtype.kind == "f":
        mono = np.nan_to_num(mono) * 32768.0
    elif samples.dtype == np.uint8:
        mono = (mono.astype(np.float32) - 128) * 256
    elif samples.dtype == np.int32:
        mono = mono / 65536
    pcm: bytes = np.clip(mono, -32768, 32767).astype("<i2").tobytes()
    return pcm


_PARSED_BYTES: Final = 1_024
_PARTIAL_TAG: Final = re.compile(rb"I(?:D(?:3[\x02-\x04]?[\x00-\x0f]?.?[\x00-\x7f]{0,3})?)?\Z", re.DOTALL)


class Mp3Decoder(SoundDecoder):
    """MPEG audio frame by frame. Tags, wherever they stand, and the frame that only holds encoder information are
    skipped."""

    def __init__(self) -> None:
        super().__init__()
        av = load_ffmpeg()
        self._codec: Any = av.CodecContext.create("mp3", "r")
        self._errors: Any = av.error
        self._codec.thread_count = 1
        self._held = b""
        """Perhaps the start of a tag."""
        self._skip = 0
        """Bytes of a tag that are still to come."""
        self._one_rate = _OneRate()
        self._broken = 0
        self._frames = 0

    def feed(self, data: bytes) -> bytes:
        """PCM of the frames that `data` completes."""
        frames = self._without_tags(data)
        # In small pieces, since the parser tells the decoder of a change of rates as soon as it has read of it.
        pieces = (frames[at : at + _PARSED_BYTES] for at in range(0, len(frames), _PARSED_BYTES))
        return b"".join(self._decode(self._codec.parse(piece)) for piece in pieces)

    def finish(self) -> bytes:
        """PCM of the last frame, which only the end of the stream completes."""
        held, self._held = self._held, b""
        pcm = self._decode([*(self._codec.parse(held) if held else ()), *self._codec.parse(None), None])
        if not self._frames:
            raise DecodeError("no MPEG audio frame")
        return pcm + self._one_rate.rest()

    def _without_tags(self, data: bytes) -> bytes:
        """Each file of a body that holds several may begin with a tag."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        data, self._held = self._held + data, b""
        frames = b""
        while (tag := ID3_TAG.search(data)) is not None:
            size = 0
            for byte in tag.group()[-4:]:
                size = size << 7 | byte
            if size > MAX_FILE_BYTES:
                raise DecodeError("an ID3 tag without end")
            frames += data[: tag.start()]
            end = tag.end() + size
            self._skip = max(0, end - len(data))
            data = data[end:]
        partial = _PARTIAL_TAG.search(data, max(0, len(data) - ID3_TAG_BYTES + 1))
        if partial is not None:
            self._held = data[partial.start() :]
            data = data[: partial.start()]
        return frames + data

    def _decode(self, packets: Iterable[Any]) -> bytes:
        pcm = []
        for packet in packets:
            if packet is not None and not self._frames and _is_info_frame(bytes(packet)):
                continue
            try:
                frames = self._codec.decode(packet)
            except self._errors.EOFError:
                continue
            except self._errors.FFmpegError as error:
                self._count_broken(str(error))
                continue
            for frame in frames:
                pcm.append(self._one_rate.add(_s16_mono(frame), frame.sample_rate))
                self.sample_rate = self._one_rate.sample_rate
                self._frames += 1
        return b"".join(pcm)

    def _count_broken(self, reason: str) -> None:
        self._broken += 1
        if self._broken > MAX_BROKEN_FRAMES:
            raise DecodeError(f"not MPEG audio: {reason}")


def _is_info_frame(packet: bytes) -> bool:
    # The Xing/LAME frame follows 4 bytes of header and 9..32 bytes of side information.
    return b"Xing" in packet[:48] or b"Info" in packet[:48]


class FileDecoder(SoundDecoder):
    """Anything FFmpeg knows, decoded at the end: containers may keep their index there."""

    def __init__(self, sample_rate: int = 0) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self._data = bytearray()
        self._errors = (load_ffmpeg().error.FFmpegError, ValueError)

    def feed(self, data: bytes) -> bytes:
        """Nothing yet. Raises DecodeError beyond 64 MB."""
        self._data += data
        if len(self._data) > MAX_FILE_BYTES:
            raise DecodeError(f"a file of more than {MAX_FILE_BYTES} bytes")
        return b""

    def finish(self) -> bytes:
        """All of the sound."""
        body = bytes(self._data)
        self._data.clear()
        # The sound of one file may hold the mark of another by chance: then it is decoded as one.
        for files in dict.fromkeys((tuple(files_in(body)), (body,))):
            one_rate = _OneRate(self.sample_rate)
            try:
                pcm = b"".join(_decoded(file, one_rate) for file in files) + one_rate.rest()
            except self._errors as failed:
                error = failed
                continue
            self.sample_rate = one_rate.sample_rate
            return pcm
        raise DecodeError(f"not a sound file: {error}") from error


def _decoded(file: bytes, one_rate: _OneRate) -> bytes:
    """The sound of one file. Broken packets cost their own sound, and an end that is cut off the rest. Raises
    FFmpegError, ValueError."""
    pcm: list[bytes] = []
    broken = 0
    av = load_ffmpeg()
    with av.open(io.BytesIO(file), "r") as container:
        codec = container.streams.audio[0].codec_context if container.streams.audio else None
        if codec is None:
            raise DecodeError("a file without sound, or of an unknown codec")
        codec.thread_count = 1
        packets = container.demux(audio=0)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                # The rate is the frames': some headers tell half of it (HE-AAC).
                pcm += [one_rate.add(_s16_mono(frame), frame.sample_rate) for frame in packet.decode()]
            except (av.error.FFmpegError, ValueError):
                broken += 1
                if not pcm or broken > MAX_BROKEN_FRAMES:
                    raise
    if not pcm:
        raise DecodeError("a file without sound")
    return b"".join(pcm)
