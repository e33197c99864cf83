"""Sound files read piece by piece, whatever their format: music for a device, decoded as it is played and never held
whole.

Not a decoder of streams that arrive (`decode.py`) and not a short ready-made sound (`clips.py`). Blocking C work of a
few milliseconds per piece: open and read in the inference pool, after `load_ffmpeg` in the greenlet. Formats: what
FFmpeg knows, and P3, the packet file of the xiaozhi tools (per packet: u8 type, u8 reserved, u16 length big-endian,
then one Opus packet)."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from xiaozhi.audio.decode import DecodeError
from xiaozhi.audio.ffmpeg import load_ffmpeg
from xiaozhi.audio.opus import Decoder, packet_duration_ms

PIECE_S = 1.0
MAX_P3_BYTES = 16 * 1024 * 1024
_P3_HEADER = struct.Struct("!BBH")
_P3_PIECE = 16
"""Packets per piece: about a second."""
MAX_BROKEN_PACKETS = 20


class SoundFile(ABC):
    """An open file. Used by one caller at a time; it is closed when it is dropped."""

    start_ms: float = 0.0
    """Where in the file the first piece begins."""

    @abstractmethod
    def read(self) -> bytes | list[bytes]:
        """The next second or so: s16le mono PCM at the rate asked for, or Opus packets; empty at the end. Raises
        DecodeError."""


def open_sound(path: Path, sample_rate: int, start_ms: float = 0.0, gain: float = 1.0) -> SoundFile:
    """The file at `path` from `start_ms` on, its PCM at `sample_rate` Hz and `gain` times (0 to 1) as loud. A file in
    which nothing can be found by time begins at its beginning. Raises OSError, DecodeError."""
    if not path.is_file() and path.exists():
        raise DecodeError(f"{path.name} is no regular file")  # to open a pipe is to wait for its other end
    if path.suffix.lower() != ".p3":
        return MediaFile(path, sample_rate, start_ms, gain)
    packets = PacketFile(path, start_ms)
    return packets if gain == 1.0 else QuieterPackets(packets, sample_rate, gain)


def amplified(pcm: bytes, gain: float) -> bytes:
    """s16le PCM, `gain` times (0 to 1) as loud."""
    made: bytes = (np.frombuffer(pcm, dtype="<i2") * np.float32(gain)).astype("<i2").tobytes()
    return made


class MediaFile(SoundFile):
    """Any container FFmpeg knows."""

    def __init__(self, path: Path, sample_rate: int, start_ms: float = 0.0, gain: float = 1.0) -> None:
        self._piece_bytes = int(sample_rate * PIECE_S) * 2
        self._gain = gain
        av = load_ffmpeg()
        self._error: type[Exception] = av.error.FFmpegError
        self._resampler: Any = av.AudioResampler(format="s16", layout="mono", rate=sample_rate)
        try:
            self._container: Any = av.open(str(path))
        except OSError:
            raise  # it cannot be read at all; FFmpeg's own errors of this kind are OSErrors too
        except (self._error, ValueError) as error:
            raise DecodeError(f"{path.name} is not a sound file") from error
        if not self._container.streams.audio or self._container.streams.audio[0].codec_context is None:
            self._container.close()
            raise DecodeError(f"{path.name} has no sound, or of an unknown codec")
        if start_ms > 0:
            self._seek(start_ms)
        self._packets: Any = self._container.demux(audio=0)
        self._broken = 0
        self._ended = False

    def _seek(self, start_ms: float) -> None:
        stream = self._container.streams.audio[0]
        try:
            wanted = (stream.start_time or 0) + round(start_ms / 1000 / stream.time_base)
            self._container.seek(wanted, stream=stream)
        except self._error:
            return  # from the beginning
        self.start_ms = start_ms

    def read(self) -> bytes:
        pcm = bytearray()
        while not self._ended and len(pcm) < self._piece_bytes:
            packet = next(self._packets, None)
            if packet is None:
                pcm += self._through(None)
                self._ended = True
                self._container.close()
                break
            try:
                for frame in packet.decode():
                    pcm += self._through(frame)
            except (self._error, ValueError) as error:
                self._broken += 1
                if self._broken > MAX_BROKEN_PACKETS:
                    raise DecodeError(f"not sound: {error}") from error
        return bytes(pcm) if self._gain == 1.0 else amplified(bytes(pcm), self._gain)

    def _through(self, frame: Any) -> bytes:
        if frame is not None:
            frame.pts = None
        # Planes are padded for SIMD.
        return b"".join(
            bytes(memoryview(made.planes[0])[: made.samples * 2]) for made in self._resampler.resample(frame)
        )


class PacketFile(SoundFile):
    """P3: Opus packets one after another, which need no decoding."""

    def __init__(self, path: Path, start_ms: float = 0.0) -> None:
        if path.stat().st_size > MAX_P3_BYTES:
            raise DecodeError(f"{path.name} is larger than {MAX_P3_BYTES} bytes")
        self._data = path.read_bytes()
        self._at = 0
        while self.start_ms < start_ms and self._at < len(self._data):
            self.start_ms += packet_duration_ms(self._next())

    def read(self) -> list[bytes]:
        packets: list[bytes] = []
        while self._at < len(self._data) and len(packets) < _P3_PIECE:
            packets.append(self._next())
        return packets

    def _next(self) -> bytes:
        if self._at + _P3_HEADER.size > len(self._data):
            raise DecodeError("a P3 file that is cut off")
        _, _, size = _P3_HEADER.unpack_from(self._data, self._at)
        start = self._at + _P3_HEADER.size
        self._at = start + size
        if not size or self._at > len(self._data):
            raise DecodeError("not a P3 file")
        return self._data[start : self._at]


class QuieterPackets(SoundFile):
    """The packets of a P3 file as PCM: only decoded sound can be made quieter."""

    def __init__(self, packets: PacketFile, sample_rate: int, gain: float) -> None:
        self.start_ms = packets.start_ms
        self._packets = packets
        self._decoder = Decoder(sample_rate)
        self._gain = gain

    def read(self) -> bytes:
        return amplified(b"".join(map(self._decoder.decode, self._packets.read())), self._gain)
