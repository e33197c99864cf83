"""libespeak-ng through ctypes: text in, PCM out, one sentence at a time. The library and its data come with the
espeakng-loader package.

Not a provider: `espeak.py` is. espeak-ng is ONE global state per process (voice, callback, phonemes), so there is one
`Engine`, behind a native lock, and it is never shut down: terminating and starting again costs more than it frees. Its
functions run in the inference pool; the lock is the native kind because a patched one would create a second hub in a
pool thread.

The synchronous mode (2) is the one that calls back within `espeak_Synth`; the "retrieval" mode (1) starts a thread of
its own. API: espeak-ng, src/include/espeak-ng/speak_lib.h."""

from __future__ import annotations

import ctypes
import difflib
import re
import unicodedata
from functools import cache
from pathlib import Path

import espeakng_loader
from gevent import monkey

from xiaozhi.errors import VendorUnavailable

_SYNCHRONOUS = 2
_BUFFER_MS = 500
_CHARS_UTF8 = 1
_END_PAUSE = 0x1000
_DONT_EXIT = 0x8000
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
NATIVE_HZ = 22_050
"""What espeak-ng's formant voices are made at."""

ALIASES = {"en-gb": "en", "zh": "cmn", "zh-cn": "cmn", "mandarin": "cmn", "cantonese": "yue"}
"""Names people expect, and the files that are meant: espeak only takes the latter."""

LONGEST_WORD = 40
LONGEST_NUMBER = 15
_APOSTROPHES = re.compile(r"[’`´ʼ]")
_LONG_WORD = re.compile(rf"[^\W\d㐀-鿿]{{{LONGEST_WORD}}}")
_LONG_NUMBER = re.compile(rf"\d{{{LONGEST_NUMBER}}}")
# Latin, Greek, Cyrillic; Han. The English and Mandarin voices have no words in other scripts, and espeak has been seen
# to complain about some of them.
_SCRIPTS = (range(0x0530), range(0x3400, 0xA000), range(0xF900, 0xFB00))
_TWO_SCRIPTS = frozenset({"cmn", "zh", "yue", "en", "en-us", "en-gb"})
_SPOKEN_SIGNS = frozenset(".,!?;:'%+-=/&@#$€£°()。，！？；：、…—“”《》¥")

_allocate_lock = monkey.get_original("_thread", "allocate_lock")
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class Engine:
    """The one espeak-ng of this process; get it with `engine()`. Every method belongs into a pool thread (milliseconds
    of CPU)."""

    def __init__(self) -> None:
        self._lock = _allocate_lock()
        self._library: ctypes.CDLL | None = None
        self._callback = _Callback(self._collect)
        self._pcm = bytearray()

    def start(self) -> None:
        """Load the library and its data, once. Raises VendorUnavailable."""
        with self._lock:
            self._start()

    def say(self, text: str, *, voice: str, words_per_minute: int, pitch: int, pitch_range: int, volume: int) -> bytes:
        """s16le mono PCM at NATIVE_HZ of `text`, b"" when there is nothing to say in it. About 1 ms per second of
        speech.

        The same text sounds the same but is not the same to the bit: the library's voices flutter, and carry on where
        they were. Raises VendorUnavailable."""
        own_script = voice.partition("+")[0] not in _TWO_SCRIPTS
        data = speakable(text, any_script=own_script).encode() + b"\0"
        if len(data) == 1:
            return b""
        with self._lock:
            library = self._start()
            name, plus, variant = voice.partition("+")
            if library.espeak_SetVoiceByName(f"{ALIASES.get(name, name)}{plus}{variant}".encode()) != 0:
                raise VendorUnavailable("espeak", f"no voice {voice!r}")
            for parameter, value in (
                (_RATE, words_per_minute),
                (_VOLUME, volume),
                (_PITCH, pitch),
                (_RANGE, pitch_range),
            ):
                library.espeak_SetParameter(parameter, value, 0)
            self._pcm.clear()
            if library.espeak_Synth(data, len(data), 0, 1, 0, _CHARS_UTF8 | _END_PAUSE, None, None) != 0:
                raise VendorUnavailable("espeak", "the sentence could not be spoken")
            return bytes(self._pcm)

    def _start(self) -> ctypes.CDLL:
        if self._library is not None:
            return self._library
        try:
            library = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            raise VendorUnavailable("espeak", str(error)) from error
        library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
        library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
        library.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
        library.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        library.espeak_SetSynthCallback.argtypes = [_Callback]
        library.espeak_SetSynthCallback.restype = None
        rate = library.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, str(data_path()).encode(), _DONT_EXIT)
        if rate != NATIVE_HZ:
            raise VendorUnavailable("espeak", f"it could not be started ({rate})")
        library.espeak_SetSynthCallback(self._callback)
        self._library = library
        return library

    def _collect(self, samples: int | None, count: int, _events: int | None) -> int:
        # Called by the library within espeak_Synth, under the lock. 0: go on.
        if samples and count > 0:
            self._pcm += ctypes.string_at(samples, count * 2)
        return 0


@cache
def engine() -> Engine:
    """THE engine."""
    return Engine()


def data_path() -> Path:
    """espeak-ng's voices and dictionaries."""
    return Path(espeakng_loader.get_data_path())


def checked_voice(name: str) -> str:
    """`name` ("en-us", "en-gb", "cmn+f3") if espeak-ng has that voice and variant. Raises ValueError naming the
    nearest."""
    voice, _, variant = name.partition("+")
    voices, variants = _inventory()
    if voice.lower() not in voices:
        near = difflib.get_close_matches(voice.lower(), voices, 1, 0)
        raise ValueError(
            f"espeak-ng has no voice {voice!r}; the nearest is {near[0]!r}" if near else "a voice of espeak-ng"
        )
    if "+" in name and variant not in variants:
        near = difflib.get_close_matches(variant, variants, 1, 0)
        raise ValueError(
            f"espeak-ng has no variant {variant!r}; the nearest is {near[0]!r}" if near else "a variant of espeak-ng"
        )
    return f"{voice.lower()}+{variant}" if variant else voice.lower()


@cache
def _inventory() -> tuple[frozenset[str], frozenset[str]]:
    languages = {path.name.lower() for path in (data_path() / "lang").rglob("*") if path.is_file()}
    variants = {path.name for path in (data_path() / "voices" / "!v").iterdir()}
    return frozenset(languages | set(ALIASES)), frozenset(variants)


def speakable(text: str, *, any_script: bool = False) -> str:
    """`text` without what espeak-ng stumbles over: endless words and numbers, piles of apostrophes (both have crashed
    it, issue 2495 of espeak-ng), signs that are not spoken, control characters."""
    kept: list[str] = []
    # NFKC: full-width letters and digits are letters and digits, an accent belongs to its letter.
    for char in unicodedata.normalize("NFKC", _APOSTROPHES.sub("'", text)):
        fits = char in _SPOKEN_SIGNS or (
            unicodedata.category(char)[0] in ("LMN" if any_script else "LN")
            and (any_script or any(ord(char) in script for script in _SCRIPTS))
        )
        # A sign twice in a row is no second sign.
        if fits and not (kept and kept[-1] == char and char in _SPOKEN_SIGNS):
            kept.append(char)
        elif not fits and kept and kept[-1] != " ":
            kept.append(" ")
    words = []
    for word in "".join(kept).split():
        first, *rest = word.split("'")
        # One apostrophe per word is English ("don't"); suffixes stacked on suffixes are not.
        word = f"{first}'{''.join(rest)}" if first and rest and rest[0] else first + "".join(rest)
        word = _LONG_WORD.sub(lambda match: match[0] + " ", word)
        words.append(_LONG_NUMBER.sub(lambda match: match[0] + " ", word))
    spoken = " ".join(words)
    return spoken if any(char.isalnum() for char in spoken) else ""
