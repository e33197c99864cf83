"""Resemblyzer's voice encoder (GE2E): an utterance in, a vector out that is alike for utterances of one person. In
numpy; what computes runs in the inference pool.

40 mel bands of power, windows of 1.6 s of which each next one begins 0.77 s later, three LSTM layers of 256 cells, a
linear layer, and the mean over the windows. Sources: resemble-ai/Resemblyzer (audio.py, voice_encoder.py); Wan et al.,
Generalized end-to-end loss for speaker verification (2018)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from xiaozhi.audio.log_mel import HOP, RATE, mel_power
from xiaozhi.providers.families.torch_tensors import BadTensorFile, Tensors, read_tensors

Samples = npt.NDArray[np.float32]

FILE: Final = "pretrained.pt"
MODEL: Final = "resemblyzer"
BANDS: Final = 40
CELLS: Final = 256
LAYERS: Final = 3
WINDOW: Final = 160
"""Frames."""
STEP: Final = 77
"""Frames from one window to the next: 1.3 windows a second."""
LEAST_COVERAGE: Final = 0.75
"""Of the last window, where there are several."""
LEAST_S: Final = 0.8
LONGEST_S: Final = 8.0
"""More makes nobody better known, and costs."""
_LEVEL: Final = 10 ** (-30 / 20)
"""Quieter sound is made as loud as this (RMS of full scale)."""
_BLOCK: Final = 480
_QUIET: Final = 10 ** (-32 / 20)
"""Blocks of 30 ms that are so much quieter than the loud ones have no voice in them,"""
_NEAR: Final = 6
"""and are kept where there is voice within so many blocks."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """By gate (i, f, g, o): `inputs` (4, in, CELLS), `state` (4, CELLS, CELLS), `bias` (4, 1, CELLS). Those of i, f and
    o are halved, as sigmoid(x) = tanh(x / 2) / 2 + 1 / 2."""

    inputs: Samples
    state: Samples
    bias: Samples


class VoiceEncoder:
    """One model for all threads of the inference pool."""

    def __init__(self, tensors: Tensors) -> None:
        """`tensors` as the file has them. Raises BadTensorFile where their shapes are others."""
        for name, shape in SHAPES.items():
            if tensors[name].shape != shape:
                raise BadTensorFile(f"{name} has the shape {tensors[name].shape}, not {shape}")
        self._layers = [_layer(tensors, number) for number in range(LAYERS)]
        self._linear = np.ascontiguousarray(tensors["linear.weight"].T)
        self._bias = tensors["linear.bias"]

    def embed(self, pcm: bytes) -> tuple[Samples, float] | None:
        """(256 numbers, seconds of voice that they were made of) of s16le mono 16 kHz; None when there is too little
        voice in it."""
        voice = voiced(np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.float32) * np.float32(1 / 32_768))
        if len(voice) < LEAST_S * RATE:
            return None
        voice = voice[-round(LONGEST_S * RATE) :]
        seconds = len(voice) / RATE
        if len(voice) < WINDOW * HOP:
            voice = np.resize(voice, WINDOW * HOP)  # again from its beginning: known better so than with silence
        starts = window_starts(len(voice))
        wanted = (starts[-1] + WINDOW) * HOP
        padded = np.pad(voice, (0, max(0, wanted - len(voice))))
        mel = mel_power(padded, starts[-1] + WINDOW, BANDS)
        windows = np.stack([mel[:, start : start + WINDOW].T for start in starts], axis=1)
        vectors = self.encode(windows)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + np.float32(1e-9)
        found: Samples = vectors.mean(axis=0)
        return found, seconds

    def encode(self, windows: Samples) -> Samples:
        """(frames, windows, 40) -> (windows, 256), none of them below 0."""
        sequence = windows
        for layer in self._layers:
            sequence = _run(layer, sequence)
        vectors: Samples = np.maximum(sequence[-1] @ self._linear + self._bias, 0)
        return vectors


def load(folder: Path) -> VoiceEncoder:
    """The model in a folder. Blocks for its file. Raises BadTensorFile, OSError."""
    return VoiceEncoder(read_tensors(folder / FILE, "model_state", SHAPES))


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (CELLS, CELLS), "linear.bias": (CELLS,)}
    for number in range(LAYERS):
        shapes[f"lstm.weight_ih_l{number}"] = (4 * CELLS, CELLS if number else BANDS)
        shapes[f"lstm.weight_hh_l{number}"] = (4 * CELLS, CELLS)
        shapes[f"lstm.bias_ih_l{number}"] = shapes[f"lstm.bias_hh_l{number}"] = (4 * CELLS,)
    return shapes


SHAPES: Final = _shapes()
"""Of the tensors that are used, by name."""


def window_starts(samples: int) -> list[int]:
    """The first frame of each window."""
    frames = samples // HOP + 1
    starts = list(range(0, max(1, frames - WINDOW + STEP + 1), STEP))
    covered = (samples - starts[-1] * HOP) / (WINDOW * HOP)
    return starts[:-1] if len(starts) > 1 and covered < LEAST_COVERAGE else starts


def voiced(samples: Samples) -> Samples:
    """A sound without its longer pauses, and not too quiet; empty where it is silent."""
    blocks = samples[: len(samples) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    if not len(blocks):
        return samples[:0]
    levels = np.sqrt(np.square(blocks).mean(axis=1))
    loud = float(np.percentile(levels, 95))
    if loud < 1e-4:
        return samples[:0]
    near = np.convolve(levels > loud * _QUIET, np.ones(2 * _NEAR + 1), mode="same") > 0
    kept = blocks[near].reshape(-1)
    level = float(np.sqrt(np.square(kept).mean()))
    found: Samples = kept * np.float32(max(1.0, _LEVEL / max(level, 1e-9)))
    return found


def _layer(tensors: Tensors, number: int) -> _Layer:
    scale = np.array([0.5, 0.5, 1, 0.5], np.float32)[:, None, None]

    def by_gate(name: str) -> Samples:
        weights: Samples = tensors[f"lstm.{name}_l{number}"].reshape(4, CELLS, -1).transpose(0, 2, 1) * scale
        return np.ascontiguousarray(weights)

    return _Layer(by_gate("weight_ih"), by_gate("weight_hh"), by_gate("bias_ih") + by_gate("bias_hh"))


def _run(layer: _Layer, sequence: Samples) -> Samples:
    """(steps, windows, in) -> (steps, windows, CELLS). Gate by gate: products of a step that are so small are not
    shared out among the library's threads, which would take four times as long."""
    steps, windows, width = sequence.shape
    ahead = (sequence.reshape(-1, width) @ layer.inputs + layer.bias).reshape(4, steps, windows, CELLS)
    ahead = np.ascontiguousarray(ahead.swapaxes(0, 1))
    output = np.zeros((steps, windows, CELLS), np.float32)
    hidden, cells = np.zeros((2, windows, CELLS), np.float32)
    for step in range(steps):
        entering, kept, new, leaving = np.tanh(ahead[step] + hidden @ layer.state)
        cells = 0.5 * ((kept + 1) * cells + (entering + 1) * new)
        hidden = np.multiply(0.5 * (leaving + 1), np.tanh(cells), out=output[step])
    return output
