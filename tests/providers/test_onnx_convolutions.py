"""A rewritten model computes what it computed, bit for bit; what cannot be a product stays a convolution."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from xiaozhi.providers.families.onnx_convolutions import multiplies_signed_bytes, rewrite

CHANNELS_IN, CHANNELS_OUT, LENGTH = 6, 4, 40
USUAL: dict[str, Any] = {"kernel_shape": [3], "dilations": [1], "pads": [1, 1], "strides": [1], "group": 1}


def model_with(tmp_path: Path, *, data_type: Any = np.uint8, in_raw: bool = True, **attributes: Any) -> Path:
    """One convolution between two other nodes; weights and sound are noise."""
    given = USUAL | attributes
    noise = np.random.default_rng(7)
    shape = (CHANNELS_OUT, CHANNELS_IN // given["group"], *given["kernel_shape"])
    weights = noise.integers(0, 255 if data_type is np.uint8 else 127, shape).astype(data_type)
    zero = helper.make_tensor("zero", TensorProto.UINT8 if data_type is np.uint8 else TensorProto.INT8, [], [73])
    stored = numpy_helper.from_array(weights, "weights")
    if not in_raw:
        stored = helper.make_tensor("weights", TensorProto.UINT8, shape, weights.reshape(-1).tolist())
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["sound"], ["bytes", "scale", "sound_zero"]),
        helper.make_node("ConvInteger", ["bytes", "weights", "sound_zero", "zero"], ["sums"], "layer", **given),
        helper.make_node("Cast", ["sums"], ["out"], to=TensorProto.FLOAT),
    ]
    sound = helper.make_tensor_value_info("sound", TensorProto.FLOAT, [1, CHANNELS_IN, "length"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    made = helper.make_model(
        helper.make_graph(nodes, "graph", [sound], [out], [stored, zero]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    path = tmp_path / "model.onnx"
    onnx.save(made, path)
    return path


def rewritten(path: Path) -> tuple[int, bytes]:
    target = io.BytesIO()
    return rewrite(path, target), target.getvalue()


def result_of(model: Any) -> Any:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    sound = np.random.default_rng(8).normal(size=(1, CHANNELS_IN, LENGTH)).astype(np.float32)
    return session.run(None, {"sound": sound})[0]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"in_raw": False},
        {"kernel_shape": [1], "pads": [0, 0]},
        {"kernel_shape": [7], "dilations": [3], "pads": [9, 9]},
        {"kernel_shape": [5], "pads": [4, 0]},
        {"kernel_shape": [5], "pads": [0, 0]},
    ],
)
@pytest.mark.skipif(not multiplies_signed_bytes(), reason="only processors with VNNI multiply these bytes without loss")
def test_a_convolution_becomes_a_product_with_the_same_result(tmp_path: Path, changed: dict[str, Any]) -> None:
    path = model_with(tmp_path, **changed)

    count, model = rewritten(path)

    kinds = [node.op_type for node in onnx.load_from_string(model).graph.node]
    assert count == 1
    assert "MatMulInteger" in kinds
    assert "ConvInteger" not in kinds
    assert np.array_equal(result_of(model), result_of(str(path)))


@pytest.mark.parametrize("changed", [{"strides": [2]}, {"group": 2}, {"data_type": np.int8}])
def test_what_is_not_understood_stays_a_convolution(tmp_path: Path, changed: dict[str, Any]) -> None:
    path = model_with(tmp_path, **changed)

    count, model = rewritten(path)

    assert count == 0
    assert onnx.load_from_string(model) == onnx.load(path)


@pytest.mark.parametrize("content", [b"", b"what is this?", b"\x3a\xff\x01x"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)

    with pytest.raises(ValueError, match="not an ONNX model"):
        rewrite(path, io.BytesIO())
