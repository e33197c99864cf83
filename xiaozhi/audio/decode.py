"""Vendors' sound formats -> s16le mono PCM, on a stream: bytes go in as they arrive, sound comes out as soon as it can.

Not a resampler (`pcm.Resampler`; every decoder tells its `sample_rate`) and not bound to a thread: `cheap` says which
decoders may run where they are, the others belong into the inference pool. Opus in Ogg is taken apart by `ogg.py`.
Source: Microsoft's RIFF/WAVE description, ID3v2.4."""

from __future__ import annotations

import io
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import av
import numpy as np

from xiaozhi.audio.pcm import Resampler, to_mono

MAX_HEADER_BYTES = 1024 * 1024
MAX_FILE_BYTES = 64 * 1024 * 1024
# Every decoder is told to use one thread, the caller's: left alone FFmpeg starts one per core for each stream, which is
# what the inference pool exists to prevent. A stream may begin in the middle of a frame and hold a broken one; more
# than this is not sound.
MAX_BROKEN_FRAMES = 8
SNIFF_BYTES = 40


class DecodeError(ValueError):
    """The bytes are not what they claim to be."""


def sniff(head: bytes) -> str:
    """What a stream is, by its first `SNIFF_BYTES` bytes: wav, ogg_opus, mp3, other (a container FFmpeg knows), or ""
    (no known mark: raw PCM, text, or too little to tell)."""
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"OggS":
        return "ogg_opus" if b"OpusHead" in head[:SNIFF_BYTES] else "other"
    if head[:3] == b"ID3" or _is_mp3_frame(head):
        return "mp3"
    if head[:4] in (b"fLaC", b"\x1aE\xdf\xa3", b"FORM", b".snd") or head[4:8] == b"ftyp" or _is_adts_frame(head):
        return "other"
    return ""


def _is_mp3_frame(head: bytes) -> bool:
    # MPEG audio layer III: 11 bits of sync, a valid version, layer 01, no reserved bit rate or sample rate.
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return False
    return head[1] & 0x18 != 0x08 and head[2] & 0xF0 not in (0xF0, 0x00) and head[2] & 0x0C != 0x0C


def _is_adts_frame(head: bytes) -> bool:
    return len(head) >= 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0


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
    pool. Raises DecodeError."""
    decoder = FileDecoder(sample_rate)
    return decoder.feed(data) + decoder.finish()


class RawDecoder(SoundDecoder):
    """s16le mono PCM that only needs its samples kept whole."""

    cheap = True

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Whole samples."""
        if self._rest:
            data = self._rest + data
        if len(data) & 1:
            data, self._rest = data[:-1], data[-1:]
        else:
            self._rest = b""
        return data

    def finish(self) -> bytes:
        """Nothing: half a sample is no sound."""
        return b""


class WavDecoder(SoundDecoder):
    """RIFF/WAVE as vendors stream it: sizes of 0 or 0xFFFFFFFF mean "until the end", chunks before the data are
    skipped.

    Integer PCM of 8, 16, 24 and 32 bits and 32-bit float, any number of channels (mixed down)."""

    cheap = True

    def __init__(self) -> None:
        super().__init__()
        self._head: bytearray | None = bytearray()
        self._rest = b""
        self._left: int | None = None
        self._kind = 0
        self._width = 2
        self._channels = 1

    def feed(self, data: bytes) -> bytes:
        """PCM of the samples that `data` completes."""
        if self._head is not None:
            self._head += data
            start = self._parse_head(bytes(self._head))
            if start is None:
                if len(self._head) > MAX_HEADER_BYTES:
                    raise DecodeError("a WAV header without data")
                return b""
            data = bytes(self._head[start:])
            self._head = None
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if self._rest:
            data = self._rest + data
        block = self._width * self._channels
        whole = len(data) - len(data) % block
        self._rest = data[whole:]
        return self._to_s16(data[:whole])

    def finish(self) -> bytes:
        """Nothing is ever left but half a sample."""
        if self._head is not None:
            raise DecodeError("the WAV header is cut off")
        return b""

    def _parse_head(self, head: bytes) -> int | None:
        """Where the samples begin, None while more bytes are needed."""
        if len(head) < 12:
            return None
        if head[:4] not in (b"RIFF", b"RF64") or head[8:12] != b"WAVE":
            raise DecodeError("not a WAV")
        at = 12
        while at + 8 <= len(head):
            name, size = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
            if name == b"data":
                if not self.sample_rate:
                    raise DecodeError("WAV data before its format")
                self._left = None if size in (0, 0xFFFFFFFF) else size
                return at + 8
            if name == b"fmt " and at + 8 + size <= len(head):
                self._parse_format(head[at + 8 : at + 8 + size])
            at += 8 + size + (size & 1)  # chunks are padded to even length
        return None

    def _parse_format(self, form: bytes) -> None:
        if len(form) < 16:
            raise DecodeError("the WAV format chunk is too short")
        kind, self._channels, self.sample_rate, _, _, bits = struct.unpack_from("<HHIIHH", form)
        if kind == 0xFFFE and len(form) >= 26:  # extensible: the real kind is the start of a GUID
            kind = int.from_bytes(form[24:26], "little")
        self._kind, self._width = kind, bits // 8
        if (kind, bits) not in {(1, 8), (1, 16), (1, 24), (1, 32), (3, 32)}:
            raise DecodeError(f"WAV with format {kind} and {bits} bits")
        if not 1 <= self._channels <= 8 or not 4_000 <= self.sample_rate <= 192_000:
            raise DecodeError(f"WAV with {self._channels} channels at {self.sample_rate} Hz")

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


class Mp3Decoder(SoundDecoder):
    """MPEG audio frame by frame. Tags and the frame that only holds encoder information are skipped."""

    def __init__(self) -> None:
        super().__init__()
        self._codec: Any = av.CodecContext.create("mp3", "r")
        self._codec.thread_count = 1
        self._head: bytearray | None = bytearray()
        self._broken = 0
        self._frames = 0

    def feed(self, data: bytes) -> bytes:
        """PCM of the frames that `data` completes."""
        if self._head is not None:
            self._head += data
            data = self._without_tag()
            if not data:
                return b""
        return self._decode(self._codec.parse(data))

    def finish(self) -> bytes:
        """PCM of the last frame, which only the end of the stream completes."""
        pcm = self._decode([*self._codec.parse(None), None])
        if not self._frames:
            raise DecodeError("no MPEG audio frame")
        return pcm

    def _without_tag(self) -> bytes:
        head = self._head
        if head is None or len(head) < 10:
            return b""
        size = 0
        if head[:3] == b"ID3":  # id3v2.4.0-structure, 3.1: four bytes of seven bits
            size = 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
        if size > MAX_FILE_BYTES:
            raise DecodeError("an ID3 tag without end")
        if len(head) <= size:
            return b""
        self._head = None
        return bytes(head[size:])

    def _decode(self, packets: Iterable[Any]) -> bytes:
        pcm = []
        for packet in packets:
            if packet is not None and not self._frames and _is_info_frame(bytes(packet)):
                continue
            try:
                frames = self._codec.decode(packet)
            except av.error.EOFError:
                continue
            except av.error.FFmpegError as error:
                self._count_broken(str(error))
                continue
            for frame in frames:
                self.sample_rate = self.sample_rate or frame.sample_rate
                if frame.sample_rate == self.sample_rate:
                    pcm.append(_s16_mono(frame))
                    self._frames += 1
                else:
                    self._count_broken(f"a frame at {frame.sample_rate} Hz among others at {self.sample_rate}")
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

    def feed(self, data: bytes) -> bytes:
        """Nothing yet. Raises DecodeError beyond 64 MB."""
        self._data += data
        if len(self._data) > MAX_FILE_BYTES:
            raise DecodeError(f"a file of more than {MAX_FILE_BYTES} bytes")
        return b""

    def finish(self) -> bytes:
        """All of the sound."""
        wanted = self.sample_rate
        try:
            with av.open(io.BytesIO(bytes(self._data)), "r") as container:
                if not container.streams.audio:
                    raise DecodeError("a file without sound")
                codec = container.streams.audio[0].codec_context
                codec.thread_count = 1
                rate = codec.sample_rate
                pcm = b"".join(_s16_mono(frame) for frame in container.decode(audio=0) if frame.sample_rate == rate)
        except (av.error.FFmpegError, ValueError) as error:
            raise DecodeError(f"not a sound file: {error}") from error
        if not pcm or not rate:
            raise DecodeError("a file without sound")
        self.sample_rate = wanted or rate
        resampler = Resampler(rate, self.sample_rate)
        return resampler.feed(pcm) + resampler.flush()
