"""FFmpeg, by the package PyAV: 16 MB of memory that a server without vendors' voices and music does not spend."""

from __future__ import annotations

import importlib
from typing import Any


def load_ffmpeg() -> Any:
    """The package `av`. The first call takes 50 ms and belongs into a greenlet: an import takes locks, and those are
    monkey-patched. Later ones are free, and may stand in a pool thread."""
    return importlib.import_module("av")
