"""Finds and loads libopus, and names the constants of its API that are used here (opus_defines.h).

The system's library is taken where there is one: Debian's 1.3.1 encodes a 60 ms frame in 57 us, the 1.6.1 in PyAV's
wheel in 68 (decoding: no difference). The wheel's copy makes a machine without libopus work all the same; it is loaded
without importing PyAV. Raises ImportError, with what to install, when there is neither.
"""

from __future__ import annotations

import ctypes
import importlib.util
from ctypes.util import find_library
from pathlib import Path
from typing import Final

OK: Final = 0
APPLICATION_VOIP: Final = 2048
SIGNAL_VOICE: Final = 3001
SIGNAL_MUSIC: Final = 3002
SET_BITRATE_REQUEST: Final = 4002
SET_COMPLEXITY_REQUEST: Final = 4010
SET_SIGNAL_REQUEST: Final = 4024

_IN_WHEEL: Final = ("../av.libs/libopus-*.so*", ".dylibs/libopus*.dylib", "../av.libs/*opus-*.dll")
"""Where the tools that make wheels for Linux, macOS and Windows put a library, seen from the package's folder."""


def find() -> str:
    """What to load: a name that the system's loader knows, or a path. Raises ImportError."""
    return find_library("opus") or carried_by_pyav()


def carried_by_pyav() -> str:
    """The path of the copy in PyAV's wheel. Raises ImportError when this PyAV has none (one that was built here)."""
    package = importlib.util.find_spec("av")
    folders = package.submodule_search_locations if package is not None else None
    for folder in folders or ():
        for pattern in _IN_WHEEL:
            for path in sorted(Path(folder).glob(pattern)):
                return str(path)
    raise ImportError(
        "the Opus library is missing: install it with the system's package manager (Debian, Ubuntu: libopus0; "
        "Fedora: opus; macOS: brew install opus), or install PyAV as a wheel, which carries one"
    )


RELEASED: Final = ctypes.CDLL(find())
"""The library; calls let go of the GIL."""
HELD: Final = ctypes.PyDLL(RELEASED._name, handle=RELEASED._handle)
"""The same library; calls keep the GIL."""
