"""A model with Kokoro's inputs and output, for the real onnxruntime: each phoneme hums for 50 ms, between half a second
of silence on either side. No weights of anybody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RATE_HZ = 24_000
PHONEME_SAMPLES = 1_200
SILENCE_SAMPLES = 12_000
SPEAKERS = ("zf_xiaoxiao", "zm_yunxi")


def tiny_kokoro(folder: Path) -> Path:
    """The folder, with a model and two speakers."""
    folder.mkdir(parents=True, exist_ok=True)
    node = helper.make_node
    nodes = [
        node("Shape", ["tokens"], ["shape"]),
        node("Gather", ["shape", "one"], ["count"], axis=0),
        node("Sub", ["count", "two"], ["phonemes"]),  # without the marks at both ends
        node("Mul", ["phonemes", "long"], ["length"]),
        node("Range", ["zero", "length", "one"], ["places"]),
        node("Cast", ["places"], ["times"], to=TensorProto.FLOAT),
        node("Mul", ["times", "step"], ["phase"]),
        node("Sin", ["phase"], ["wave"]),
        node("Mul", ["wave", "loudness"], ["hum"]),
        node("Div", ["hum", "speed"], ["scaled"]),
        node("ReduceMean", ["style"], ["mean"], keepdims=0),
        node("Mul", ["mean", "nothing"], ["unheard"]),
        node("Add", ["scaled", "unheard"], ["voice"]),
        node("Concat", ["silence", "voice", "silence"], ["audio"], axis=0),
    ]
    constants = {
        "zero": np.int64(0),
        "one": np.int64(1),
        "two": np.int64(2),
        "long": np.int64(PHONEME_SAMPLES),
        "step": np.float32(2 * np.pi * 200 / RATE_HZ),
        "loudness": np.float32(0.3),
        "nothing": np.float32(0),
        "silence": np.zeros(SILENCE_SAMPLES, np.float32),
    }
    inputs = [
        helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, "n"]),
        helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, 256]),
        helper.make_tensor_value_info("speed", TensorProto.FLOAT, [1]),
    ]
    outputs = [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["length"])]
    made = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", inputs, outputs, made), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 9
    onnx.save(model, str(folder / "model.onnx"))
    for speaker in SPEAKERS:
        np.zeros((510, 256), "<f4").tofile(folder / f"{speaker}.bin")
    return folder
