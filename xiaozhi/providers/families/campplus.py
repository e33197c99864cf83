"""CAM++, 3D-Speaker's voice encoder for Mandarin: an utterance in, a vector out that is alike for utterances of one
person. In numpy; what computes runs in the inference pool.

A few two-dimensional convolutions over the filter bank, then three blocks of densely connected layers over time, each
of which weighs its channels by the context (the mean of the whole, and of each second), then mean and deviation over
time, and a linear layer. Normalisations are folded into a scale and an offset. Sources: modelscope/3D-Speaker
(speakerlab/models/campplus); Wang et al., CAM++: a fast and efficient network for speaker verification (2023)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from xiaozhi.audio.kaldi_fbank import BANDS, RATE, fbank
from xiaozhi.providers.families.resemblyzer import voiced
from xiaozhi.providers.families.torch_tensors import BadTensorFile, Tensors, read_state

Samples = npt.NDArray[np.float32]

FILE: Final = "campplus_cn_common.bin"
MODEL: Final = "campplus"
SIZE: Final = 192
BLOCKS: Final = ((12, 1), (24, 2), (16, 2))
"""Layers of each block, and how far apart (in frames) what a layer looks at is."""
CHANNELS: Final = 32
GROWTH: Final = 32
WIDTH: Final = 128
CONTEXT: Final = 100
"""Frames of a piece of context: of 20 ms, as the first layer over time halves them."""
LEAST_S: Final = 0.8
LONGEST_S: Final = 5.0
"""More makes nobody better known, and costs."""
_EPSILON: Final = 1e-5


@dataclass(frozen=True, slots=True)
class _Norm:
    """x * scale + offset, by channel."""

    scale: Samples
    offset: Samples


@dataclass(frozen=True, slots=True)
class _Layer:
    """One dense layer: `before` and `narrow` make WIDTH channels of all, `local` GROWTH of them, `squeeze` and `widen`
    the weights of those."""

    before: _Norm
    narrow: Samples
    inner: _Norm
    local: Samples
    squeeze: tuple[Samples, Samples]
    widen: tuple[Samples, Samples]


class MandarinVoiceEncoder:
    """One model for all threads of the inference pool."""

    def __init__(self, tensors: Tensors) -> None:
        """`tensors` as the file has them. Raises BadTensorFile where their shapes are others."""
        for name, shape in SHAPES.items():
            if tensors[name].shape != shape:
                raise BadTensorFile(f"{name} has the shape {tensors[name].shape}, not {shape}")
        self._head = _head(tensors)
        self._entry = tensors["xvector.tdnn.linear.weight"]
        self._entry_norm = _norm(tensors, "xvector.tdnn.nonlinear.batchnorm")
        self._blocks = [
            [_layer(tensors, f"xvector.block{block}.tdnnd{layer}") for layer in range(1, layers + 1)]
            for block, (layers, _) in enumerate(BLOCKS, 1)
        ]
        self._between = [
            (
                _norm(tensors, f"xvector.transit{block}.nonlinear.batchnorm"),
                tensors[f"xvector.transit{block}.linear.weight"][:, :, 0],
            )
            for block in range(1, len(BLOCKS) + 1)
        ]
        self._last = _norm(tensors, "xvector.out_nonlinear.batchnorm")
        self._dense = tensors["xvector.dense.linear.weight"][:, :, 0]
        self._dense_norm = _norm(tensors, "xvector.dense.nonlinear.batchnorm")

    def embed(self, pcm: bytes) -> tuple[Samples, float] | None:
        """(SIZE numbers, seconds of voice that they were made of) of s16le mono 16 kHz; None when there is too little
        voice in it."""
        voice = voiced(np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.float32) * np.float32(1 / 32_768))
        if len(voice) < LEAST_S * RATE:
            return None
        voice = voice[-round(LONGEST_S * RATE) :]
        features = fbank(voice)
        return self.encode(features - features.mean(axis=0)), len(voice) / RATE

    def encode(self, features: Samples) -> Samples:
        """(frames, BANDS), at least two frames -> (SIZE,)."""
        x = self._head_of(np.ascontiguousarray(features.T)[None])
        x = _relu(_over_time(x, self._entry, step=2), self._entry_norm)
        for layers, (_, apart), (norm, weight) in zip(self._blocks, BLOCKS, self._between, strict=True):
            whole = np.empty((len(x) + GROWTH * len(layers), x.shape[1]), np.float32)
            known = len(x)
            whole[:known] = x
            for layer in layers:
                whole[known : known + GROWTH] = _dense(layer, whole[:known], apart)
                known += GROWTH
            x = weight @ _relu(whole, norm)
        x = _relu(x, self._last)
        pooled = np.concatenate([x.mean(axis=1), x.std(axis=1, ddof=1)])
        found: Samples = (self._dense @ pooled) * self._dense_norm.scale[:, 0] + self._dense_norm.offset[:, 0]
        return found

    def _head_of(self, x: Samples) -> Samples:
        """(1, BANDS, frames) -> (CHANNELS * BANDS / 8, frames)."""
        for step in self._head:
            kept = x
            for number, (weight, offset, down) in enumerate(step.convolutions):
                x = _over_plane(x, weight, down) + offset
                if number < len(step.convolutions) - 1:
                    np.maximum(x, 0, out=x)
            if step.around is not None:
                weight, offset, down = step.around
                kept = np.einsum("oi,ift->oft", weight, kept[:, ::down], optimize=True) + offset
            if step.residual:
                x += kept
            np.maximum(x, 0, out=x)
        return x.reshape(-1, x.shape[2])


_Convolution = tuple[Samples, Samples, int]
"""Weights, offset, and by how much it makes the number of bands smaller."""


@dataclass(frozen=True, slots=True)
class _Step:
    """Convolutions, and what is added to their result: nothing, what went in, or that through `around`."""

    convolutions: tuple[_Convolution, ...]
    residual: bool = False
    around: _Convolution | None = None


def load(folder: Path) -> MandarinVoiceEncoder:
    """The model in a folder. Blocks for its file. Raises BadTensorFile, OSError."""
    return MandarinVoiceEncoder(read_state(folder / FILE, SHAPES))


def _head(tensors: Tensors) -> list[_Step]:
    def convolution(conv: str, norm: str, down: int = 1) -> _Convolution:
        folded = _norm(tensors, f"head.{norm}")
        weight: Samples = tensors[f"head.{conv}.weight"] * folded.scale[:, :, None, None]
        return (weight if weight.shape[2] > 1 else weight[:, :, 0, 0]), folded.offset[:, :, None], down

    steps = [_Step((convolution("conv1", "bn1"),))]
    for place in ("layer1.0", "layer1.1", "layer2.0", "layer2.1"):
        down = 2 if place.endswith("0") else 1
        both = (
            convolution(f"{place}.conv1", f"{place}.bn1", down),
            convolution(f"{place}.conv2", f"{place}.bn2"),
        )
        around = convolution(f"{place}.shortcut.0", f"{place}.shortcut.1", down) if down > 1 else None
        steps.append(_Step(both, residual=True, around=around))
    return [*steps, _Step((convolution("conv2", "bn2", 2),))]


def _layer(tensors: Tensors, name: str) -> _Layer:
    def pair(which: str) -> tuple[Samples, Samples]:
        linear = f"{name}.cam_layer.{which}"
        return tensors[f"{linear}.weight"][:, :, 0], tensors[f"{linear}.bias"][:, None]

    return _Layer(
        _norm(tensors, f"{name}.nonlinear1.batchnorm"),
        tensors[f"{name}.linear1.weight"][:, :, 0],
        _norm(tensors, f"{name}.nonlinear2.batchnorm"),
        tensors[f"{name}.cam_layer.linear_local.weight"],
        pair("linear1"),
        pair("linear2"),
    )


def _norm(tensors: Tensors, name: str) -> _Norm:
    scale = 1 / np.sqrt(tensors[f"{name}.running_var"] + np.float32(_EPSILON))
    offset = np.zeros_like(scale)
    if f"{name}.weight" in SHAPES:
        scale, offset = scale * tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    return _Norm(scale[:, None], (offset - tensors[f"{name}.running_mean"] * scale)[:, None])


def _relu(x: Samples, norm: _Norm) -> Samples:
    found = x * norm.scale
    found += norm.offset
    np.maximum(found, 0, out=found)
    return found


def _dense(layer: _Layer, x: Samples, apart: int) -> Samples:
    inner = _relu(layer.narrow @ _relu(x, layer.before), layer.inner)
    local = _over_time(inner, layer.local, apart=apart)
    pieces = [inner[:, start : start + CONTEXT] for start in range(0, inner.shape[1], CONTEXT)]
    context = np.stack([piece.mean(axis=1) for piece in pieces], axis=1) + inner.mean(axis=1, keepdims=True)
    squeezed = np.maximum(layer.squeeze[0] @ context + layer.squeeze[1], 0)
    weights = 0.5 * np.tanh(0.5 * (layer.widen[0] @ squeezed + layer.widen[1])) + 0.5
    for number in range(len(pieces)):
        local[:, number * CONTEXT : (number + 1) * CONTEXT] *= weights[:, number : number + 1]
    return local


def _over_time(x: Samples, weight: Samples, *, step: int = 1, apart: int = 1) -> Samples:
    """(in, frames) with weights (out, in, taps) -> (out, frames / step); silence around."""
    _, _, taps = weight.shape
    around = taps // 2 * apart
    padded = np.pad(x, ((0, 0), (around, around)))
    frames = -(-x.shape[1] // step)
    found = np.zeros((len(weight), frames), np.float32)
    for tap in range(taps):
        start = tap * apart
        found += weight[:, :, tap] @ padded[:, start : start + (frames - 1) * step + 1 : step]
    return found


def _over_plane(x: Samples, weight: Samples, down: int) -> Samples:
    """(in, bands, frames) with weights (out, in, 3, 3) -> (out, bands / down, frames); silence around."""
    inputs, bands, frames = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    kept = -(-bands // down)
    found = np.zeros((len(weight), kept * frames), np.float32)
    for band in range(3):
        rows = padded[:, band : band + (kept - 1) * down + 1 : down]
        for frame in range(3):
            found += weight[:, :, band, frame] @ rows[:, :, frame : frame + frames].reshape(inputs, -1)
    return found.reshape(len(weight), kept, frames)


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, channels: int, *, learnt: bool = True) -> None:
        for part in ("running_mean", "running_var", *(("weight", "bias") if learnt else ())):
            shapes[f"{name}.{part}"] = (channels,)

    def plane(conv: str, bn: str, inputs: int = CHANNELS, size: int = 3) -> None:
        shapes[f"head.{conv}.weight"] = (CHANNELS, inputs, size, size)
        norm(f"head.{bn}", CHANNELS)

    plane("conv1", "bn1", 1)
    plane("conv2", "bn2")
    for place in ("layer1.0", "layer1.1", "layer2.0", "layer2.1"):
        plane(f"{place}.conv1", f"{place}.bn1")
        plane(f"{place}.conv2", f"{place}.bn2")
        if place.endswith("0"):
            plane(f"{place}.shortcut.0", f"{place}.shortcut.1", size=1)
    channels = WIDTH
    shapes["xvector.tdnn.linear.weight"] = (channels, CHANNELS * BANDS // 8, 5)
    norm("xvector.tdnn.nonlinear.batchnorm", channels)
    for block, (layers, _) in enumerate(BLOCKS, 1):
        for number in range(1, layers + 1):
            name = f"xvector.block{block}.tdnnd{number}"
            norm(f"{name}.nonlinear1.batchnorm", channels)
            shapes[f"{name}.linear1.weight"] = (WIDTH, channels, 1)
            norm(f"{name}.nonlinear2.batchnorm", WIDTH)
            shapes[f"{name}.cam_layer.linear_local.weight"] = (GROWTH, WIDTH, 3)
            shapes[f"{name}.cam_layer.linear1.weight"] = (WIDTH // 2, WIDTH, 1)
            shapes[f"{name}.cam_layer.linear1.bias"] = (WIDTH // 2,)
            shapes[f"{name}.cam_layer.linear2.weight"] = (GROWTH, WIDTH // 2, 1)
            shapes[f"{name}.cam_layer.linear2.bias"] = (GROWTH,)
            channels += GROWTH
        norm(f"xvector.transit{block}.nonlinear.batchnorm", channels)
        shapes[f"xvector.transit{block}.linear.weight"] = (channels // 2, channels, 1)
        channels //= 2
    norm("xvector.out_nonlinear.batchnorm", channels)
    shapes["xvector.dense.linear.weight"] = (SIZE, 2 * channels, 1)
    norm("xvector.dense.nonlinear.batchnorm", SIZE, learnt=False)
    return shapes


SHAPES: Final = _shapes()
"""Of the tensors that are used, by name."""
