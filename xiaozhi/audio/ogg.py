"""Ogg Opus <-> Opus packets, without decoding them. Sources: RFC 3533 (Ogg), RFC 7845 (Opus in Ogg).

Why by hand: a device plays the packets as they are, so all that is needed is to find them, which costs microseconds
where a demuxing library wants the whole file or a thread; to write them is no more than their headers."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final

from xiaozhi.audio.decode import DecodeError

MAX_PACKET_BYTES = 65_536
PRE_SKIP: Final = 312
"""Samples at 48 kHz that libopus's encoder looks ahead, and a player leaves out at the beginning."""
_GRANULES_PER_MS: Final = 48
"""Ogg counts Opus in samples at 48 kHz, whatever was encoded."""
_PAGE_MS: Final = 1_000
"""A player has a page when all of it has come, so pages are kept short."""
_PAGE: Final = struct.Struct("<4sBBqIIIB")
_FIRST, _LAST = 2, 4
_BITS_TURNED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def ogg_opus(packets: Sequence[bytes], *, packet_ms: int, sample_rate: int, serial: int = 1) -> bytes:
    """A whole file of mono Opus packets that last `packet_ms` each. `sample_rate`: of what was encoded, Hz.

    About 20 us for each second of sound."""
    head = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, PRE_SKIP, sample_rate, 0, 0)
    tags = struct.pack("<8sI7sI", b"OpusTags", 7, b"xiaozhi", 0)
    per_page = max(1, _PAGE_MS // packet_ms)
    pages = [_page([head], 0, 0, serial, _FIRST), _page([tags], 0, 1, serial, 0)]
    for start in range(0, len(packets), per_page):
        part = packets[start : start + per_page]
        end = start + len(part)
        flags = _LAST if end == len(packets) else 0
        pages.append(_page(part, end * packet_ms * _GRANULES_PER_MS, len(pages), serial, flags))
    return b"".join(pages)


def _page(packets: Sequence[bytes], granule: int, number: int, serial: int, flags: int) -> bytes:
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    if len(lacing) > 255:
        raise ValueError("packets of more than 255 segments do not fit on one Ogg page")
    rest = lacing + b"".join(packets)
    without = _PAGE.pack(b"OggS", 0, flags, granule, serial, number, 0, len(lacing)) + rest
    return _PAGE.pack(b"OggS", 0, flags, granule, serial, number, _checksum(without), len(lacing)) + rest


def _checksum(page: bytes) -> int:
    """Ogg's CRC: the polynomial of zlib's, with the bits of everything the other way round, from 0 and not inverted."""
    turned = zlib.crc32(page.translate(_BITS_TURNED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{turned:032b}"[::-1], 2)


class OggOpusDemuxer:
    """Ogg pages in, Opus packets out (RFC 3533, RFC 7845), without decoding. Chained streams continue; other streams in
    the file are skipped.

    Page checksums are not looked at: the transport has its own."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._partial = bytearray()
        self._serial: int | None = None
        self._expected = b"OpusHead"

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that `data` completes. Raises DecodeError."""
        self._data += data
        packets: list[bytes] = []
        at = 0
        while (end := self._page_end(at)) is not None:
            self._take_page(bytes(self._data[at:end]), packets)
            at = end
        del self._data[:at]
        return packets

    def finish(self) -> None:
        """The stream has ended. Raises DecodeError when it was cut off or never was one."""
        if self._expected:
            raise DecodeError("no Opus stream")
        if self._data or self._partial:
            raise DecodeError("the Ogg stream is cut off")

    def _page_end(self, at: int) -> int | None:
        """Where the page that starts at `at` ends, None while it is incomplete."""
        data = self._data
        if bytes(data[at : at + 4]) != b"OggS"[: len(data) - at]:
            raise DecodeError("not an Ogg page")
        if len(data) < at + 27 or len(data) < at + 27 + data[at + 26]:
            return None
        if data[at + 4] != 0:
            raise DecodeError(f"Ogg version {data[at + 4]}")
        body = at + 27 + data[at + 26]
        end = body + sum(data[at + 27 : body])
        return end if len(data) >= end else None

    def _take_page(self, page: bytes, packets: list[bytes]) -> None:
        continued, begins, ends = page[5] & 1, page[5] & 2, page[5] & 4
        serial = int.from_bytes(page[14:18], "little")
        segments = page[27 : 27 + page[26]]
        body = page[27 + page[26] :]
        # Streams that run side by side all begin before any of them has data; one that begins later is the next link of
        # a chain.
        if begins and body.startswith(b"OpusHead") and (self._serial is None or not self._expected):
            self._serial = serial
            self._expected = b"OpusHead"
        if serial != self._serial:
            return
        if not continued:
            self._partial.clear()  # its end was lost
        lost = bool(continued) and not self._partial
        at = 0
        for segment in segments:
            if not lost:
                self._partial += body[at : at + segment]
            at += segment
            if segment == 255:
                if len(self._partial) > MAX_PACKET_BYTES and self._expected != b"OpusTags":
                    raise DecodeError("an Opus packet without end")
                continue
            if self._partial:
                self._take_packet(bytes(self._partial), packets)
                self._partial.clear()
            lost = False
        if ends:
            self._serial = None

    def _take_packet(self, packet: bytes, packets: list[bytes]) -> None:
        if not self._expected:
            packets.append(packet)
            return
        if not packet.startswith(self._expected):
            raise DecodeError(f"{self._expected.decode()} is missing")
        if self._expected == b"OpusHead":
            if len(packet) < 19 or packet[8] & 0xF0:
                raise DecodeError("an Opus header of an unknown version")
            self._expected = b"OpusTags"
        else:
            self._expected = b""
