"""Silero VAD (https://github.com/snakers4/silero-vad, MIT): 512-sample windows at 16 kHz, batched over all devices, in
the pool.

Not a decision about utterances: it yields probabilities, `speech/segmenter.py` decides. The model file comes from the
installed silero_vad package, found without importing it (its import pulls in torch); `model_dir` replaces it when a
model file is found there.

The model is a function (64 samples of context + 512 samples, state[2, B, 128]) -> (probability[B], new state). Context
and state belong to each stream, nothing is kept on the model, so windows of different devices share one call: window k
of every stream in the batch is one row of call k. A 60 ms packet completes one or two windows, so a batch is one or two
calls. A stream has one item in flight; its state is committed when everything has been computed, so a batch that fails
has changed nothing and may be repeated.

`runtime: onnx` is the default. Measured here, one thread, us per window by windows in a call:

                 alone     2     4     8    16    32    64   128   RSS of the import and the model
    onnx            62    46    36    32    28    28    27    27    46 MB
    torch          178   163    89    51    34    23    18    16   219 MB

A hundred talking devices make batches of 4 to 10 windows, where onnx is cheaper; 173 MB more is what 3,000 idle devices
cost. torch pays off beyond some 300 devices talking at once in one process, on a machine with memory to spare.

Overload: `feed` never loses sound. What it could not judge in time stays in the stream (at most 10 s) and its
probabilities come out of a later `feed`, in order."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from xiaozhi.errors import Fault, Overloaded, SettingsError, VendorUnavailable
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.contracts.vad import Vad, VadStream, VadTraits
from xiaozhi.providers.families.onnx_sessions import open_session
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.batching import Batcher, BatcherClosed, BatchStats, Ticket

WINDOW_BYTES = 512 * 2
CONTEXT_BYTES = 64 * 2
MAX_WINDOWS = 8
"""Windows of one stream in one batch: 256 ms of sound. A backlog is worked off in several."""
MAX_BEHIND_BYTES = 10 * 16_000 * 2
LAG_MS = 64
"""The model hears a voice for 52 to 102 ms after its last sound (thirteen spoken sentences, English and Mandarin,
through the firmware's Opus)."""
WARM_UP_DEADLINE_S = 60.0
_SILENT_CONTEXT = bytes(CONTEXT_BYTES)
_NEW_STATE = np.zeros((2, 1, 128), dtype=np.float32)
_SCALE = np.float32(1 / 32768)
_SAMPLE_RATE = np.array(16_000, dtype=np.int64)
_MODEL_FILES = {"onnx": "silero_vad.onnx", "torch": "silero_vad.jit"}
_LIBRARIES = {"onnx": ("onnxruntime", "make setup"), "torch": ("torch", "make setup WITH=torch")}
"""runtime -> its package, and the command that installs it. torch (gigabytes) is not among what everybody gets."""
_PLACES = ("", "data", "silero_vad/data", "src/silero_vad/data")
"""Where a model file lies in a `model_dir`: a plain folder, the package, or a clone of its repository."""

Model = Callable[[Any, Any], tuple[Any, Any]]
"""(input float32[B, 576], state float32[2, B, 128]) -> (probability float32[B, 1], new state); runs in a pool
thread."""


class SileroOptions(ProviderOptions):
    """Names and defaults as existing configuration files have them; an empty value means the default."""

    runtime: Literal["onnx", "torch"] = Field("onnx", validate_default=True)
    model_dir: str = ""
    threshold: float = Field(0.5, ge=0, le=1)
    threshold_low: float = Field(0.2, ge=0, le=1)
    min_silence_duration_ms: int = Field(700, ge=32, le=10_000)
    pause_ms: Literal["auto"] | Annotated[int, Field(ge=32, le=10_000)] | None = None
    """Read by the settings, which take it for `conversation.pause_ms`; None: as that says."""
    max_batch: int = Field(128, ge=1, le=512)
    max_wait_ms: float = Field(4.0, ge=0, le=30)
    deadline_ms: int = Field(500, ge=20, le=10_000)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].default if value == "" else value

    @field_validator("runtime")
    @classmethod
    def _is_installed(cls, runtime: str) -> str:
        library, command = _LIBRARIES[runtime]
        if importlib.util.find_spec(library) is None:
            raise ValueError(f"a runtime that is installed; {library} is not:  {command}")
        return runtime

    @model_validator(mode="after")
    def _ordered(self) -> SileroOptions:
        if self.threshold_low > self.threshold:
            raise ValueError(f"threshold_low ({self.threshold_low}) must not be above threshold ({self.threshold})")
        return self


class _Memory:
    """What the model remembers of one recording. Replaced, not changed, by a reset: a late batch then writes to the old
    one."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = _NEW_STATE


class _Windows:
    """Some whole windows of one stream: `pcm` begins with the 64 samples before the first."""

    __slots__ = ("count", "memory", "pcm")

    def __init__(self, memory: _Memory, pcm: bytes, count: int) -> None:
        self.memory = memory
        self.pcm = pcm
        self.count = count


class SileroStream(VadStream):
    """One microphone: the model's memory of it, and sound of which no whole window has been made yet."""

    def __init__(self, batcher: Batcher[_Windows, list[float]]) -> None:
        self._batcher = batcher
        self.reset()

    def feed(self, pcm: bytes) -> list[float]:
        self._residue += pcm
        if len(self._residue) > MAX_BEHIND_BYTES:
            self.reset()
            raise VendorUnavailable("silero", "ten seconds behind, starting anew")
        judged: list[float] = []
        try:
            while self._under_way is not None or len(self._residue) >= WINDOW_BYTES:
                judged += self._judge_next()
        except Overloaded:
            # The rest waits in the stream; what is known is told at once.
            if not judged:
                raise
        except BatcherClosed as closed:
            raise VendorUnavailable("silero", "closed") from closed
        return judged

    def reset(self) -> None:
        self._memory = _Memory()
        self._context = _SILENT_CONTEXT
        self._residue = bytearray()
        self._under_way: Ticket[_Windows, list[float]] | None = None

    def _judge_next(self) -> list[float]:
        ticket = self._under_way
        if ticket is None:
            count = min(len(self._residue) // WINDOW_BYTES, MAX_WINDOWS)
            pcm = self._context + self._residue[: count * WINDOW_BYTES]
            self._under_way = ticket = self._batcher.submit(_Windows(self._memory, pcm, count))
            self._context = pcm[-CONTEXT_BYTES:]
            del self._residue[: count * WINDOW_BYTES]
        try:
            probabilities = self._batcher.wait(ticket)
        except (Overloaded, BatcherClosed):
            raise
        except Exception as error:
            self.reset()
            raise VendorUnavailable("silero", f"model failed: {error}") from error
        self._under_way = None
        return probabilities


@provider("vad", "silero", SileroOptions)
class SileroVad(Vad):
    """See the module. Raises SettingsError when the chosen runtime or its model file is not installed."""

    needs_services = True

    def __init__(self, options: SileroOptions, services: Services) -> None:
        self.traits = VadTraits(
            offline=True,
            threshold=options.threshold,
            threshold_low=options.threshold_low,
            min_silence_ms=options.min_silence_duration_ms,
            lag_ms=LAG_MS,
        )
        self._runtime = options.runtime
        self._path = model_path(options)
        self._inference = services.inference
        self._model: Model | None = None
        self._batcher: Batcher[_Windows, list[float]] = Batcher(
            self._judge,
            services.inference,
            kind="vad",
            max_batch=options.max_batch,
            max_wait_ms=options.max_wait_ms,
            deadline=options.deadline_ms / 1000,
        )

    @property
    def stats(self) -> BatchStats:
        """Batches so far."""
        return self._batcher.stats

    def observe_batches(self, observe: Callable[[int], None]) -> None:
        """Call `observe` with the size of every batch (streams in it); it runs in the hub and must not block."""
        self._batcher.observe = observe

    def warm_up(self) -> None:
        """Import the runtime and load the model: 0.1 s for onnx, 2 s for torch, and the hub stands still for the
        import."""
        model = self._load()
        self._inference.run(_exercise, model, kind="vad", deadline=WARM_UP_DEADLINE_S)

    def open(self) -> SileroStream:
        self._load()
        return SileroStream(self._batcher)

    def close(self) -> None:
        self._batcher.close()

    def _load(self) -> Model:
        # Not in the pool: imports take locks, and those are monkey-patched.
        if self._model is None:
            self._model = _onnx_model(self._path) if self._runtime == "onnx" else _torch_model(self._path)
        return self._model

    def _judge(self, items: list[_Windows]) -> list[list[float]]:
        """The probabilities of every item, in order; in a pool thread."""
        model = self._model
        if model is None:
            raise RuntimeError("no model loaded")
        # Longest first: call k then needs the first rows of call k - 1 only.
        rows = sorted(items, key=_count, reverse=True)
        state: Any = np.concatenate([item.memory.state for item in rows], axis=1)
        judged: dict[int, list[float]] = {id(item): [] for item in rows}
        final: list[Any] = [None] * len(rows)
        still = len(rows)
        for k in range(rows[0].count):
            start = k * WINDOW_BYTES
            sound = b"".join([item.pcm[start : start + CONTEXT_BYTES + WINDOW_BYTES] for item in rows[:still]])
            samples = np.frombuffer(sound, dtype="<i2").reshape(still, -1)
            probability, state = model(samples * _SCALE, state)
            for item, value in zip(rows, probability[:, 0].tolist(), strict=False):
                judged[id(item)].append(value)
            while still and rows[still - 1].count == k + 1:
                still -= 1
                # A copy: a view would keep the whole batch's state alive for as long as this stream is silent.
                final[still] = state[:, still : still + 1].copy()
            state = np.ascontiguousarray(state[:, :still])
        for item, new_state in zip(rows, final, strict=True):
            item.memory.state = new_state
        return [judged[id(item)] for item in items]


def _count(item: _Windows) -> int:
    return item.count


def _exercise(model: Model) -> None:
    # torch specialises its code during the first calls; those must not be a device's.
    for batch in (1, 1, 1, 2, 8, 32):
        model(
            np.zeros((batch, (CONTEXT_BYTES + WINDOW_BYTES) // 2), dtype=np.float32),
            np.zeros((2, batch, 128), dtype=np.float32),
        )


def model_path(options: SileroOptions) -> Path:
    name = _MODEL_FILES[options.runtime]
    places = [Path(options.model_dir) / place / name for place in _PLACES] if options.model_dir else []
    package = importlib.util.find_spec("silero_vad")
    if package is not None and package.submodule_search_locations:
        places.append(Path(package.submodule_search_locations[0]) / "data" / name)
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise SettingsError(
            [
                Fault(
                    "VAD.silero.model_dir",
                    repr(options.model_dir),
                    f"a folder with {name}, or the silero-vad package installed",
                )
            ]
        )
    return found


def _onnx_model(path: Path) -> Model:
    session = open_session(path)
    outputs = ["output", "stateN"]

    def model(samples: Any, state: Any) -> tuple[Any, Any]:
        probability, new_state = session.run(outputs, {"input": samples, "state": state, "sr": _SAMPLE_RATE})
        return probability, new_state

    return model


def _torch_model(path: Path) -> Model:
    import torch

    torch.set_num_threads(1)
    # The outer module keeps one state for all; the inner one takes it as an argument.
    with warnings.catch_warnings():
        # TorchScript is deprecated, but it is what the package ships for torch.
        warnings.simplefilter("ignore", DeprecationWarning)
        inner = torch.jit.load(str(path), map_location="cpu").eval()._model

    def model(samples: Any, state: Any) -> tuple[Any, Any]:
        with torch.inference_mode():
            probability, new_state = inner(torch.from_numpy(samples), torch.from_numpy(state))
        return probability.numpy(), new_state.numpy()

    return model
