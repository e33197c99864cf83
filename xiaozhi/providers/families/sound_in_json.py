"""An answer of JSON that has its sound in it, in base64 -> the sound as it arrives, and the rest of the answer. Pure.

Such an answer is large, and all of it is made before its first byte is sent; but it need not all have arrived before
its first second is heard."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

import orjson

MAX_REST_BYTES: Final = 65_536
"""Of an answer beside its sound."""


class NoSoundInJson(ValueError):
    """Not JSON, or not base64 where the sound should be."""


class SoundInJson:
    """`feed` what arrives. `key`: the field that has the sound, wherever in the answer it is."""

    def __init__(self, key: str) -> None:
        self._opening = re.compile(rb'"%s"\s*:\s*"' % key.encode())
        self._rest = bytearray()
        self._digits = b""
        self._found = False
        self._inside = False

    def feed(self, piece: bytes) -> bytes:
        """The sound in `piece`. Raises NoSoundInJson."""
        if not self._found:
            self._rest += piece
            opening = self._opening.search(self._rest)
            if opening is None:
                self._check_rest()
                return b""
            piece = bytes(self._rest[opening.end() :])
            del self._rest[opening.end() :]
            self._found = self._inside = True
        if not self._inside:
            self._rest += piece
            self._check_rest()
            return b""
        digits, quote, behind = piece.partition(b'"')
        if quote:
            self._inside = False
            self._rest += quote + behind
        return self._decoded(digits)

    def answer(self) -> Any:
        """The answer, without its sound, when all of it has arrived. Raises NoSoundInJson."""
        try:
            return orjson.loads(bytes(self._rest))
        except orjson.JSONDecodeError:
            begins = bytes(self._rest[:300]).decode("utf-8", "replace")
            raise NoSoundInJson(f"no whole JSON: {begins}") from None

    def _decoded(self, digits: bytes) -> bytes:
        # Some servers write every slash as \/.
        digits = self._digits + digits.replace(b"\\", b"")
        whole = len(digits) - len(digits) % 4 if self._inside else len(digits)
        self._digits = digits[whole:]
        try:
            return base64.b64decode(digits[:whole], validate=True)
        except binascii.Error as error:
            raise NoSoundInJson(f"not base64: {error}") from None

    def _check_rest(self) -> None:
        if len(self._rest) > MAX_REST_BYTES:
            raise NoSoundInJson(f"more than {MAX_REST_BYTES} bytes, and no sound")
