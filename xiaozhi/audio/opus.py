"""Opus packets <-> PCM, and merging of packets without decoding them. RFC 6716; libopus by ctypes (`audio/libopus.py`).

Not a container demuxer (Ogg lives in `audio/decode.py`) and not a pacer. Everything here is plain C work on memory the
object owns: no gevent, no locks, no finalizers (states are initialised in Python-owned buffers), so it may be used on
the hub or in the pool, one object in one thread at a time.

Why not the opuslib package: per 60 ms packet its wrapper costs as much again as the decoding (50 us against 24 us),
and without it calls go straight to C.

The GIL. ctypes offers two handles: CDLL releases the GIL around a call, PyDLL keeps it. Decoding a packet takes 24 us,
less than two thread switches, so the decoder keeps it: inline on the hub is the cheapest place in the process
(`loadtest/bench/ears.py` measures the alternatives). The encoder releases it when it has many frames to encode, as
synthesis jobs in the pool have, and keeps it for one or two.

Encoder settings, measured on four espeak voices at 24 kHz mono, 60 ms frames, libopus 1.3.1 (PESQ wide band, ITU-T
P.862.2, higher is better; decoding is what the device will have to do, in this machine's us):

    mode                    us/frame  decode  kbit/s  PESQ     mode                    us/frame  decode  kbit/s  PESQ
    VOIP auto complexity 0       137      57    24.9  2.73     CELT complexity 0, 32k        38      36    32.5  3.23
    VOIP auto complexity 2       218      57    25.8  2.81     CELT complexity 0, 40k        42      38    40.5  3.43
    VOIP auto complexity 5       311      60    26.1  3.60     CELT complexity 0, 48k        46      42    48.5  3.65
    VOIP auto complexity 8       570       -    26.4  3.93     CELT complexity 4, 48k        71      47    48.5  3.27

At 48 kbit/s the CELT layer at complexity 0 is as good as the speech layer at complexity 5, for one seventh of the CPU
here and two thirds of the work in the device; log-spectral distance (4.0 against 4.9 dB) and segmental SNR (9.6 against
7.8 dB) agree. The price is 3 KB/s of network per talking device, which Wi-Fi does not notice. Hence: VOIP application,
signal type "music" (which makes libopus choose CELT above some 18 kbit/s, and the speech layer below), complexity 0,
two bits per sample. Higher CELT complexities switch on a pitch filter that made every one of these synthetic voices
worse."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final

from xiaozhi.audio import libopus
from xiaozhi.errors import ProtocolError

SAMPLE_RATES: Final = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Hz that Opus can encode from and decode to."""
FRAME_MS: Final = (20, 40, 60)
"""Packet durations the encoder offers; decoding takes every legal one."""
MAX_PACKET_MS: Final = 120
"""RFC 6716, section 3.2.5 (R5)."""
BITRATES: Final = {8_000: 24_000, 12_000: 32_000, 16_000: 40_000, 24_000: 48_000, 48_000: 64_000}
"""Bits per second by sample rate; measured above for 24 kHz, PESQ 3.6 to 3.9 for the others."""

_HYBRID_FROM, _CELT_FROM = 12, 16
"""Configuration numbers, RFC 6716, table 2: below the first SILK, from the second CELT."""
_CODE_ONE, _CODE_ANY = 0, 3
"""How many frames, RFC 6716, section 3.2: one; two (codes 1 and 2); as many as the second byte says."""
_MAX_ENCODED: Final = 4_000
"""Bytes: libopus's recommendation for its output buffer; 60 ms at 64 kbit/s are 480."""
_RELEASE_GIL_FROM: Final = 3
"""Frames. Below this an encode is shorter than the thread switches that letting go of the GIL costs. From here on
frames of 60 ms are encoded two at a time and taken apart again, which is the same bit for bit in the CELT layer: a
thread that comes back from C to a busy hub waits for the GIL six times as long as a frame takes to encode."""
_SILK_MS: Final = (10.0, 20.0, 40.0, 60.0)
_CELT_MS: Final = (2.5, 5.0, 10.0, 20.0)

_POINTER, _INT, _INT32, _BYTES = ctypes.c_void_p, ctypes.c_int, ctypes.c_int32, ctypes.c_char_p


def _function(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    # Looked up by item, not by attribute: every item is a function object of its own, with its own argument types.
    function = library[name]
    function.restype = result
    function.argtypes = arguments
    return function


_decoder_size = _function(libopus.HELD, "opus_decoder_get_size", _INT, _INT)(1)
_decoder_init = _function(libopus.HELD, "opus_decoder_init", _INT, _POINTER, _INT32, _INT)
_decode = _function(libopus.HELD, "opus_decode", _INT, _POINTER, _BYTES, _INT32, _POINTER, _INT, _INT)
_encoder_size = _function(libopus.HELD, "opus_encoder_get_size", _INT, _INT)(1)
_encoder_init = _function(libopus.HELD, "opus_encoder_init", _INT, _POINTER, _INT32, _INT, _INT)
_encoder_ctl = _function(libopus.HELD, "opus_encoder_ctl", _INT, _POINTER, _INT)  # variadic: a c_int follows
_ENCODE_ARGUMENTS = (_POINTER, _BYTES, _INT, _POINTER, _INT32)
_encode_held = _function(libopus.HELD, "opus_encode", _INT32, *_ENCODE_ARGUMENTS)
_encode_released = _function(libopus.RELEASED, "opus_encode", _INT32, *_ENCODE_ARGUMENTS)
_repacketizer_size = _function(libopus.HELD, "opus_repacketizer_get_size", _INT)()
_repacketizer_init = _function(libopus.HELD, "opus_repacketizer_init", _POINTER, _POINTER)
_repacketizer_cat = _function(libopus.HELD, "opus_repacketizer_cat", _INT, _POINTER, _BYTES, _INT32)
_repacketizer_out = _function(libopus.HELD, "opus_repacketizer_out", _INT32, _POINTER, _POINTER, _INT32)
_repacketizer_part = _function(
    libopus.HELD, "opus_repacketizer_out_range", _INT32, _POINTER, _INT, _INT, _POINTER, _INT32
)
_repacketizer_frames = _function(libopus.HELD, "opus_repacketizer_get_nb_frames", _INT, _POINTER)
_strerror = _function(libopus.HELD, "opus_strerror", _BYTES, _INT)


class OpusError(ProtocolError):
    """libopus cannot make sense of a packet."""


class CannotMerge(OpusError):
    """These packets differ in mode, bandwidth, frame size or channels, so they cannot become one packet without
    re-encoding."""


def _reason(code: int) -> str:
    text: bytes = _strerror(code)
    return text.decode()


# --- packets -------------------------------------------------------------------------------------------------------


def frame_duration_ms(toc: int) -> float:
    """Milliseconds of one frame, from a packet's first byte (RFC 6716, table 2)."""
    config = toc >> 3
    if config < _HYBRID_FROM:
        return _SILK_MS[config & 3]
    if config < _CELT_FROM:
        return _SILK_MS[config & 1]
    return _CELT_MS[config & 3]


def packet_frames(packet: bytes) -> int:
    """How many frames a packet claims to hold (RFC 6716, section 3.2). Raises OpusError when it is empty or too short
    to say."""
    if not packet:
        raise OpusError("empty Opus packet")
    code = packet[0] & 3
    if code == _CODE_ONE:
        return 1
    if code < _CODE_ANY:
        return 2
    frames = packet[1] & 0x3F if len(packet) > 1 else 0
    if not frames:
        raise OpusError("Opus packet with an unknown number of frames")
    return frames


def packet_duration_ms(packet: bytes) -> float:
    """Milliseconds of sound in a packet: 2.5 to 120. Raises OpusError for what no packet can be."""
    duration = packet_frames(packet) * frame_duration_ms(packet[0])
    if duration > MAX_PACKET_MS:
        raise OpusError(f"Opus packet of {duration:g} ms")
    return duration


def missing_packet(like: bytes) -> bytes:
    """A packet of one or two bytes that stands for a lost one of the same kind and duration as `like`: its frames are
    empty, which every decoder conceals (RFC 6716, section 3.2.1)."""
    code = like[0] & 3
    if code == _CODE_ANY:
        return bytes((like[0], like[1] & 0x3F))
    return bytes((like[0] & 0xFC | (code != 0),))


# --- decoding ------------------------------------------------------------------------------------------------------


class Decoder:
    """One stream of packets -> mono s16le PCM at `sample_rate`, whatever bandwidth, channels and duration the packets
    have.

    Costs 22 KB and, to make, 50 us. Raises ValueError for a rate Opus does not know."""

    __slots__ = ("_last_samples", "_max_samples", "_out", "_state", "_state_at", "_view", "sample_rate")

    def __init__(self, sample_rate: int = 16_000) -> None:
        if sample_rate not in SAMPLE_RATES:
            raise ValueError(f"sample rate {sample_rate}, expected one of {SAMPLE_RATES}")
        self.sample_rate = sample_rate
        self._max_samples = sample_rate * MAX_PACKET_MS // 1000
        buffer = ctypes.create_string_buffer(self._max_samples * 2)
        self._view = memoryview(buffer)  # keeps the buffer alive
        self._out = ctypes.addressof(buffer)
        self._state = ctypes.create_string_buffer(_decoder_size)
        self._state_at = ctypes.addressof(self._state)
        self._last_samples = 0
        self.reset()

    def decode(self, packet: bytes) -> bytes:
        """The PCM of one packet (at most 120 ms). Raises OpusError for a corrupt one; the decoder stays usable.

        An empty packet stands for a lost one: as much sound as the last packet had is concealed, or b"" before the
        first."""
        if packet:
            samples = _decode(self._state_at, packet, len(packet), self._out, self._max_samples, 0)
        elif self._last_samples:
            samples = _decode(self._state_at, None, 0, self._out, self._last_samples, 0)
        else:
            return b""
        if samples < 0:
            raise OpusError(f"Opus packet of {len(packet)} bytes: {_reason(samples)}")
        self._last_samples = samples
        return self._view[: samples * 2].tobytes()

    def recover(self, following: bytes) -> bytes:
        """The PCM of a lost packet, from the copy of it in `following` (in-band FEC); concealed where that carries
        none; b"" before the first packet. `following` is decoded next. Raises OpusError if it is corrupt."""
        if not self._last_samples:
            return b""
        samples = _decode(self._state_at, following, len(following), self._out, self._last_samples, 1)
        if samples < 0:
            raise OpusError(f"Opus packet of {len(following)} bytes: {_reason(samples)}")
        return self._view[: samples * 2].tobytes()

    def reset(self) -> None:
        """Forget the past: the next packet starts a new stream."""
        status = _decoder_init(self._state_at, self.sample_rate, 1)
        if status != libopus.OK:
            raise RuntimeError(f"opus_decoder_init: {_reason(status)}")
        self._last_samples = 0


# --- encoding ------------------------------------------------------------------------------------------------------


class Encoder:
    """Mono s16le PCM at `sample_rate` -> packets of `frame_ms`. The sound comes out 6.5 ms late, as the codec looks
    ahead.

    `bitrate` in bits per second (default: `BITRATES`), `complexity` 0 to 10 (default 0: see the module). Costs 48 KB.
    Raises ValueError for a rate or duration it does not offer."""

    __slots__ = (
        "_ctls",
        "_frame_bytes",
        "_out",
        "_residue",
        "_samples",
        "_state",
        "_state_at",
        "_view",
        "frame_ms",
        "sample_rate",
    )

    def __init__(
        self,
        sample_rate: int = 24_000,
        frame_ms: int = 60,
        *,
        bitrate: int | None = None,
        complexity: int | None = None,
    ) -> None:
        if sample_rate not in SAMPLE_RATES:
            raise ValueError(f"sample rate {sample_rate}, expected one of {SAMPLE_RATES}")
        if frame_ms not in FRAME_MS:
            raise ValueError(f"frame of {frame_ms} ms, expected one of {FRAME_MS}")
        self.sample_rate = sample_rate
        self.frame_ms = frame_ms
        self._samples = sample_rate * frame_ms // 1000
        self._frame_bytes = self._samples * 2
        buffer = ctypes.create_string_buffer(_MAX_ENCODED)
        self._view = memoryview(buffer)  # keeps the buffer alive
        self._out = ctypes.addressof(buffer)
        self._state = ctypes.create_string_buffer(_encoder_size)
        self._state_at = ctypes.addressof(self._state)
        self._residue = b""
        self._ctls = (
            (libopus.SET_BITRATE_REQUEST, bitrate or BITRATES[sample_rate]),
            (libopus.SET_COMPLEXITY_REQUEST, complexity or 0),
            (libopus.SET_SIGNAL_REQUEST, libopus.SIGNAL_MUSIC),
        )
        self.reset()

    def encode(self, pcm: bytes, *, hold_gil: bool = False) -> list[bytes]:
        """All whole packets that `pcm` (any number of bytes) completes; the rest waits for the next call.

        `hold_gil`: for callers on the hub, who must not have to wait until they get it back."""
        data = self._residue + pcm if self._residue else pcm
        size = self._frame_bytes
        whole = len(data) // size
        self._residue = data[whole * size :]
        if hold_gil or whole < _RELEASE_GIL_FROM:
            return [
                self._encoded(_encode_held, data[start : start + size], self._samples)
                for start in range(0, whole * size, size)
            ]
        packets: list[bytes] = []
        # Shorter ones cannot be taken apart: the speech layer fills 120 ms with two frames.
        together = 2 if self.frame_ms * 2 == MAX_PACKET_MS else 1
        for start in range(0, whole * size, together * size):
            sound = data[start : min(start + together * size, whole * size)]
            packet = self._encoded(_encode_released, sound, len(sound) // 2)
            packets += split(packet, len(sound) // size) if len(sound) > size else (packet,)
        return packets

    def _encoded(self, encode: Any, sound: bytes, samples: int) -> bytes:
        length = encode(self._state_at, sound, samples, self._out, _MAX_ENCODED)
        if length < 0:
            raise RuntimeError(f"opus_encode: {_reason(length)}")
        return self._view[:length].tobytes()

    def flush(self) -> list[bytes]:
        """What still waits, filled up with silence to one last packet; nothing when nothing waits."""
        missing = -len(self._residue) % self._frame_bytes
        return self.encode(bytes(missing)) if missing else []

    def reset(self) -> None:
        """Forget the past and what waits: the next sample starts a new stream."""
        status = _encoder_init(self._state_at, self.sample_rate, 1, libopus.APPLICATION_VOIP)
        if status != libopus.OK:
            raise RuntimeError(f"opus_encoder_init: {_reason(status)}")
        for request, value in self._ctls:
            if _encoder_ctl(self._state_at, request, ctypes.c_int(value)) != libopus.OK:
                raise ValueError(f"libopus refuses the value {value} for control {request}")
        self._residue = b""


# --- merging -------------------------------------------------------------------------------------------------------


def mergeable(packets: Sequence[bytes]) -> bool:
    """Whether `merge` will take these packets: same mode, bandwidth, frame size and channels, at most 120 ms
    together."""
    try:
        total = sum(packet_duration_ms(packet) for packet in packets)
    except OpusError:
        return False
    return bool(packets) and total <= MAX_PACKET_MS and len({packet[0] & 0xFC for packet in packets}) == 1


def merge(packets: Sequence[bytes]) -> bytes:
    """One packet with the frames of all, without decoding (libopus's repacketizer). Raises CannotMerge."""
    if not mergeable(packets):
        raise CannotMerge(f"{len(packets)} packets of different kinds or of more than {MAX_PACKET_MS} ms")
    state = ctypes.create_string_buffer(_repacketizer_size)
    at = ctypes.addressof(state)
    _repacketizer_init(at)
    for packet in packets:
        # libopus keeps pointers into the packets; the caller's sequence keeps them alive until `out` has copied them.
        status = _repacketizer_cat(at, packet, len(packet))
        if status != libopus.OK:
            raise CannotMerge(f"opus_repacketizer_cat: {_reason(status)}")
    room = (
        sum(map(len, packets)) + 2 * MAX_PACKET_MS
    )  # the framing needs at most two length bytes for each frame of 2.5 ms
    out = ctypes.create_string_buffer(room)
    length = _repacketizer_out(at, ctypes.addressof(out), room)
    if length < 0:
        raise CannotMerge(f"opus_repacketizer_out: {_reason(length)}")
    return bytes(memoryview(out)[:length])


def split(packet: bytes, parts: int) -> list[bytes]:
    """`parts` packets of the same duration with the frames of one, without decoding. Raises CannotMerge when the frames
    do not divide."""
    state = ctypes.create_string_buffer(_repacketizer_size)
    at = ctypes.addressof(state)
    _repacketizer_init(at)
    status = _repacketizer_cat(at, packet, len(packet))
    if status != libopus.OK:
        raise CannotMerge(f"opus_repacketizer_cat: {_reason(status)}")
    each, rest = divmod(_repacketizer_frames(at), parts)
    if rest or not each:
        raise CannotMerge(f"{each * parts + rest} frames into {parts} packets")
    room = len(packet) + 2 * MAX_PACKET_MS
    out = ctypes.create_string_buffer(room)
    view, packets = memoryview(out), []
    for part in range(parts):
        length = _repacketizer_part(at, part * each, (part + 1) * each, ctypes.addressof(out), room)
        if length < 0:
            raise CannotMerge(f"opus_repacketizer_out_range: {_reason(length)}")
        packets.append(view[:length].tobytes())
    return packets


class Repacketizer:
    """A stream of short packets (a vendor's 20 ms) -> packets of `frame_ms` (a device's 60 ms), bit for bit the same
    sound."""

    __slots__ = ("_held_ms", "frame_ms", "held")

    def __init__(self, frame_ms: int = 60) -> None:
        self.frame_ms = frame_ms
        self.held: list[bytes] = []
        """Packets taken that do not fill `frame_ms` yet; after CannotMerge the caller decodes these and re-encodes from
        there."""
        self._held_ms = 0.0

    def feed(self, packet: bytes) -> list[bytes]:
        """Take one packet; the merged packet it completes, or nothing yet.

        Raises CannotMerge when it is of another kind than those held or does not fit `frame_ms` exactly (what is held
        then includes it), ProtocolError when it is no Opus packet (what is held then does not)."""
        duration = packet_duration_ms(packet)
        fits = self._held_ms + duration <= self.frame_ms and (
            not self.held or (packet[0] ^ self.held[0][0]) & 0xFC == 0
        )
        self.held.append(packet)
        self._held_ms += duration
        if not fits:
            raise CannotMerge(f"packet of {duration:g} ms after {self._held_ms - duration:g} ms held")
        if self._held_ms < self.frame_ms:
            return []
        ready = self.held
        self.reset()
        return ready if len(ready) == 1 else [merge(ready)]

    def reset(self) -> None:
        """Forget what is held."""
        self.held = []
        self._held_ms = 0.0
