"""One PocketSphinx decoder through the C functions of the `pocketsphinx` package.

The package's own Python class keeps the interpreter's lock during the whole search: a hundred milliseconds per
utterance in which no greenlet runs, whatever thread it is called on. The same compiled module exports the C functions,
and ctypes gives the lock back while they work. That the symbols are there is checked when the library is opened; the
version is pinned. API: cmusphinx/pocketsphinx 5.1, include/pocketsphinx.h. Not thread-safe: one decoder, one caller at
a time."""

from __future__ import annotations

import ctypes
import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from xiaozhi.errors import VendorUnavailable


def model_path() -> Path:
    """The directory of the bundled US-English model: acoustic model `en-us`, dictionary `cmudict-en-us.dict`."""
    return _package() / "model" / "en-us"


def _package() -> Path:
    # Found, not imported: the package would bring its own decoder and audio modules along.
    spec = importlib.util.find_spec("pocketsphinx")
    if spec is None or spec.origin is None:
        raise VendorUnavailable("pocketsphinx", "the package pocketsphinx is not installed")
    return Path(spec.origin).parent


@cache
def _library() -> ctypes.CDLL:
    modules = sorted(_package().glob("_pocketsphinx*.so"))
    try:
        library = ctypes.CDLL(str(modules[0]))
        for name, result, arguments in _FUNCTIONS:
            function = getattr(library, name)
            function.restype = result
            function.argtypes = arguments
    except (IndexError, OSError, AttributeError) as error:
        raise VendorUnavailable(
            "pocketsphinx", f"its compiled module cannot be used ({error}); version 5.1 is expected"
        ) from error
    return library


_POINTER = ctypes.c_void_p
_FUNCTIONS: tuple[tuple[str, Any, list[Any]], ...] = (
    ("ps_config_parse_json", _POINTER, [_POINTER, ctypes.c_char_p]),
    ("ps_config_free", ctypes.c_int, [_POINTER]),
    ("ps_init", _POINTER, [_POINTER]),
    ("ps_free", ctypes.c_int, [_POINTER]),
    ("ps_start_stream", ctypes.c_int, [_POINTER]),
    ("ps_start_utt", ctypes.c_int, [_POINTER]),
    ("ps_process_raw", ctypes.c_int, [_POINTER, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int]),
    ("ps_end_utt", ctypes.c_int, [_POINTER]),
    ("ps_get_hyp", ctypes.c_char_p, [_POINTER, _POINTER]),
)


class SphinxDecoder:
    """A decoder with its model and grammar; about 15 ms to make and 7 MB."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """`config`: PocketSphinx's parameters. Raises VendorUnavailable."""
        self._library = _library()
        self._decoder = None
        text = json.dumps({"loglevel": "FATAL", **config}, ensure_ascii=False)
        parsed = self._library.ps_config_parse_json(None, text.encode())
        if not parsed:
            raise VendorUnavailable("pocketsphinx", "its configuration was not accepted")
        self._decoder = self._library.ps_init(parsed)
        # The decoder keeps a reference of its own.
        self._library.ps_config_free(parsed)
        if not self._decoder:
            raise VendorUnavailable("pocketsphinx", "the model or the language model could not be loaded")

    def decode(self, pcm: bytes) -> str:
        """The most likely words of a whole utterance (s16le mono 16 kHz), "" when there are none. Raises
        VendorUnavailable."""
        library, decoder = self._library, self._decoder
        # A new stream forgets the noise of the last speaker's room: the same sound gives the same words, whoever spoke
        # before.
        if library.ps_start_stream(decoder) < 0 or library.ps_start_utt(decoder) < 0:
            raise VendorUnavailable("pocketsphinx", "an utterance could not be begun")
        try:
            # The last argument: this is everything, so that levels are normalised over the whole.
            heard = library.ps_process_raw(decoder, pcm, len(pcm) // 2, 0, 1)
        finally:
            ended = library.ps_end_utt(decoder)
        if heard < 0 or ended < 0:
            raise VendorUnavailable("pocketsphinx", "the utterance could not be decoded")
        found = library.ps_get_hyp(decoder, None)
        return found.decode() if found else ""

    def __del__(self) -> None:
        if self._decoder:
            self._library.ps_free(self._decoder)
            self._decoder = None
