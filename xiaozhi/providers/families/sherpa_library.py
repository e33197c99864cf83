"""Loads models by the sherpa-onnx library (https://github.com/k2-fsa/sherpa-onnx, Apache-2.0).

What that library cannot use (a model of another type, a table that does not fit) ends the process that asked: it calls
`_Exit`; some of it only with the first sound (a language that Whisper does not know). So a model is first loaded and
tried in a child process (this file, run by itself), and what the child says becomes the error of whoever wrote the
configuration. Then it is loaded here, in the inference pool; the library gives the
interpreter's lock back while it loads and computes. One thread per model: the pool is what runs several at once.

What the library writes about odd text or sound goes to the process's standard error, past our log; it has no switch for
that."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIBRARY_ERRORS = (RuntimeError, ValueError, IndexError)
"""What the library raises, besides MemoryError."""
_ROOT = Path(__file__).resolve().parents[3]
_TRIAL_S = 240.0
_PLACE = re.compile(r"^(?:/project/)?\S+\.(?:cc|h):\S+ ")
_MODULE = "xiaozhi.providers.families.sherpa_library"


@dataclass(frozen=True, slots=True)
class SherpaModel:
    """What is loaded: the library's class and factory ("OfflineRecognizer.from_sense_voice", "OfflineTts"), and its
    arguments as JSON, files as absolute paths; `written`: when each file was written. Equal values are one model."""

    factory: str
    arguments: str
    written: tuple[int, ...] = ()

    @classmethod
    def of(cls, factory: str, **arguments: Any) -> SherpaModel:
        """Paths become text; they must be there."""
        written: list[int] = []

        def text_of(path: Path) -> str:
            written.append(path.stat().st_mtime_ns)
            return str(path.resolve())

        return cls(factory, json.dumps(arguments, default=text_of), tuple(written))


_tried: set[SherpaModel] = set()
"""Models that the library can use."""


def fault_of(model: SherpaModel) -> str:
    """What is wrong with a model, "" for nothing: found out by a child process that loads it, once for the same files.
    Blocks the greenlet."""
    if model in _tried:
        return ""
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "ORT_DISABLE_TELEMETRY": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", _MODULE],
            input=json.dumps([model.factory, model.arguments]).encode(),
            env=environ,
            capture_output=True,
            timeout=_TRIAL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it was not loaded within {_TRIAL_S:g} s"
    if done.returncode == 0:
        _tried.add(model)
        return ""
    said = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    last = _PLACE.sub("", said[-1]) if said else f"it ended with {done.returncode}"
    return last[:300]


def load(model: SherpaModel) -> Any:
    """Load it in this thread. Call `fault_of` before: see the module. Raises LIBRARY_ERRORS."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import sherpa_onnx

    arguments: dict[str, Any] = json.loads(model.arguments)
    if model.factory == "OfflineTts":
        return _voice(sherpa_onnx, arguments)
    owner, method = model.factory.split(".")
    return getattr(getattr(sherpa_onnx, owner), method)(**arguments)


def _voice(library: Any, arguments: Mapping[str, Any]) -> Any:
    kinds = {
        "vits": library.OfflineTtsVitsModelConfig,
        "kokoro": library.OfflineTtsKokoroModelConfig,
        "matcha": library.OfflineTtsMatchaModelConfig,
    }
    kind = arguments["kind"]
    files = library.OfflineTtsModelConfig(**{kind: kinds[kind](**arguments["files"])}, num_threads=1, provider="cpu")
    return library.OfflineTts(library.OfflineTtsConfig(model=files, rule_fsts=arguments["rules"], max_num_sentences=1))


def _exercise(model: Any, factory: str) -> None:
    """Use it once."""
    if factory == "OfflineTts":
        model.generate("你好 hello", sid=0, speed=1.0)
        return
    stream = model.create_stream()
    stream.accept_waveform(16_000, _TRIAL_SOUND)
    if factory.startswith("Offline"):
        model.decode_stream(stream)
        return
    while model.is_ready(stream):
        model.decode_stream(stream)


_TRIAL_SOUND = [0.01 * (-1) ** (place // 20) for place in range(16_000)]
"""A second of a quiet hum."""


if __name__ == "__main__":
    _model = SherpaModel(*json.loads(sys.stdin.read()))
    _exercise(load(_model), _model.factory)
