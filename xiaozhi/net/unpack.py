"""Gzip that is recognised by its first bytes and not by a header. Pure: bytes in, bytes out."""

from __future__ import annotations

import zlib
from typing import Final

PLAIN_OR_GZIP: Final = frozenset({"", "identity", "gzip", "x-gzip"})
"""Values of Content-Encoding whose bodies are looked at here."""

MAX_BYTES: Final = 8 * 1024 * 1024
"""More must not come out of one piece (64 KB): nothing a vendor says packs a hundredfold."""

MAGIC: Final = b"\x1f\x8b"
"""RFC 1952, 2.3.1. No text and no sound begins like this."""


class Unpack:
    """`feed` the pieces of a body that begins with `MAGIC`; what comes out is the body unpacked."""

    def __init__(self) -> None:
        self._gzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

    @property
    def whole(self) -> bool:
        """The body has come to its end."""
        return self._gzip.eof

    def feed(self, piece: bytes) -> bytes:
        """Raises zlib.error."""
        unpacked = bytearray()
        while piece and len(unpacked) < MAX_BYTES:
            if self._gzip.eof:  # several members, one behind the other
                if not piece.startswith(MAGIC):
                    return bytes(unpacked)  # padding
                self._gzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            unpacked += self._gzip.decompress(piece, MAX_BYTES)
            piece = self._gzip.unconsumed_tail or self._gzip.unused_data
        if piece:
            raise zlib.error("grows beyond all measure")
        return bytes(unpacked)
