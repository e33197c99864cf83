"""A quantised ONNX model, rewritten so that onnxruntime computes it faster; what comes out is the same, bit for bit.

Onnxruntime has no good kernel for `ConvInteger`: it multiplies unsigned with unsigned bytes and orders the sound anew
in each run. The product of the sound's windows with signed weights takes half the time (a layer of Kokoro 16 ms instead
of 31, the whole model a third less). So a convolution over time with stride 1 becomes Pad, Transpose, one Slice for
each place of the kernel, Concat, `MatMulInteger`, Transpose. Any other node stays as it is.

Only for processors with VNNI (`multiplies_signed_bytes`).

The file is read and written as the fields of protocol buffers that it is made of, so no package is needed for it.
Source: onnx.proto of github.com/onnx/onnx, from which the numbers of the fields are."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

_GRAPH: Final = 7
_NODE, _INITIALIZER = 1, 5
_INPUT, _OUTPUT, _NODE_NAME, _KIND, _ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_NAME, _INT, _INTS, _ATTRIBUTE_TYPE = 1, 3, 8, 20
_DIMS, _DATA_TYPE, _INT32_DATA, _TENSOR_NAME, _RAW_DATA = 1, 2, 5, 8, 9
_DATA_TYPES: Final = {"uint8": 2, "int8": 3, "int64": 7}
_TYPE_INT, _TYPE_INTS = 2, 7
_VARINT, _BYTES = 0, 2
_FIXED_SIZES: Final = {1: 8, 5: 4}
_TO_THE_END: Final = 2**62

Message = Mapping[int, list[Any]]
"""Number of a field -> its values: an int, or a memoryview of bytes."""
Parts = list[bytes | memoryview]


@cache
def multiplies_signed_bytes() -> bool:
    """Whether this processor multiplies unsigned by signed bytes without loss (VNNI). On an older one such a product
    is cut off at 16 bits, and `ConvInteger` is right to avoid it."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.search(r"\bavx(512)?_vnni\b", flags) is not None


def rewrite(source: Path, target: BinaryIO) -> int:
    """Write the model in `source` to `target` with its convolutions as products; returns how many there were. Half a
    second per 100 MB, for a pool thread. Raises OSError, and ValueError for what is no ONNX model."""
    before: Parts = []
    after: Parts = []
    graph: memoryview | None = None
    for number, value, field in _fields(memoryview(source.read_bytes())):
        if number == _GRAPH:
            graph = value
        else:
            (before if graph is None else after).append(field)
    if graph is None:
        raise ValueError("not an ONNX model: it has no graph")
    count, parts = _rewritten(graph)
    target.writelines([*before, _head(_GRAPH, sum(map(len, parts))), *parts, *after])
    return count


def _rewritten(graph: memoryview) -> tuple[int, Parts]:
    fields = list(_fields(graph))
    tensors: dict[str, Message] = {}
    for number, value, _ in fields:
        if number == _INITIALIZER:
            tensor = _message(value)
            tensors[_text(tensor[_TENSOR_NAME])] = tensor
    nodes = [_message(value) if number == _NODE else {} for number, value, _ in fields]
    chosen = [bool(node) and _can_be_product(node, tensors) for node in nodes]
    still_used = {name for node, out in zip(nodes, chosen, strict=True) if not out for name in _inputs(node)}
    parts: Parts = []
    constants: dict[str, bytes] = {}
    for (number, value, field), node, replaced in zip(fields, nodes, chosen, strict=True):
        if replaced:
            parts += _product(node, tensors, constants)
        elif number != _INITIALIZER or _text(_message(value)[_TENSOR_NAME]) in still_used:
            parts.append(field)
    return sum(chosen), [*parts, *constants.values()]


def _can_be_product(node: Message, tensors: Mapping[str, Message]) -> bool:
    inputs = _inputs(node)
    if _text(node[_KIND]) != "ConvInteger" or len(inputs) != 4:
        return False
    given = _attributes(node)
    weights, zero = (tensors.get(inputs[place], {}) for place in (1, 3))
    return (
        [len(given.get(name, ())) for name in ("kernel_shape", "dilations", "pads")] == [1, 1, 2]
        and given.get("strides") == [1]
        and given.get("group", [1]) == [1]
        and all(tensor and tensor[_DATA_TYPE] == [_DATA_TYPES["uint8"]] for tensor in (weights, zero))
        and _array(zero).size == 1
    )


def _product(node: Message, tensors: Mapping[str, Message], constants: dict[str, bytes]) -> Iterator[bytes]:
    """The nodes that do what `node` does; tensors that they need are added to `constants`."""
    sound, weights, zero, weights_zero = _inputs(node)
    given, name = _attributes(node), _text(node[_NODE_NAME]) or _text(node[_OUTPUT])
    (places,), (step,), (before, behind) = given["kernel_shape"], given["dilations"], given["pads"]

    def constant(key: str, value: npt.NDArray[Any]) -> str:
        if key not in constants:
            constants[key] = _tensor(key, value)
        return key

    def number(value: int) -> str:
        return constant(f"product/{value}", np.array([value], np.int64))

    if before or behind:
        pads = constant(f"product/pads/{before}/{behind}", np.array([0, 0, before, 0, 0, behind], np.int64))
        yield _node("Pad", [sound, pads, zero], f"{name}/padded")
        sound = f"{name}/padded"
    yield _node("Transpose", [sound], f"{name}/in_time", perm=[0, 2, 1])
    windows = f"{name}/in_time"
    if places > 1:
        slices = [f"{name}/place/{place}" for place in range(places)]
        for place, each in enumerate(slices):
            start, end = place * step, (place + 1 - places) * step or _TO_THE_END
            yield _node("Slice", [windows, number(start), number(end), number(1)], each)
        windows = f"{name}/windows"
        yield _node("Concat", slices, windows, axis=2)
    matrix = _signed(_array(tensors[weights])).transpose(2, 1, 0)
    products = f"{name}/products"
    signed = [
        constant(f"{name}/weights", matrix.reshape(-1, matrix.shape[2])),
        constant(f"{name}/weights_zero", _signed(_array(tensors[weights_zero]).reshape(()))),
    ]
    yield _node("MatMulInteger", [windows, signed[0], zero, signed[1]], products)
    yield _node("Transpose", [products], _text(node[_OUTPUT]), perm=[0, 2, 1])


def _signed(unsigned: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """128 less, which is the top bit turned over: weights and their zero point move together."""
    return (unsigned ^ 0x80).view(np.int8)


# --- what messages of ONNX hold -----------------------------------------------------------------------------------


def _inputs(node: Message) -> list[str]:
    return [str(name, "utf-8") for name in node.get(_INPUT, [])]


def _attributes(node: Message) -> dict[str, list[int]]:
    """Those that are whole numbers, by name."""
    found = {}
    for each in map(_message, node.get(_ATTRIBUTE, [])):
        found[_text(each[_ATTRIBUTE_NAME])] = _numbers([*each.get(_INT, []), *each.get(_INTS, [])])
    return found


def _array(tensor: Message) -> npt.NDArray[np.uint8]:
    raw = tensor.get(_RAW_DATA)
    found = np.frombuffer(raw[0], np.uint8) if raw else np.array(_numbers(tensor.get(_INT32_DATA, [])), np.uint8)
    return found.reshape(_numbers(tensor.get(_DIMS, [])))


def _node(kind: str, inputs: Sequence[str], output: str, **attributes: int | list[int]) -> bytes:
    body = b"".join(_field(_INPUT, name) for name in inputs) + _field(_OUTPUT, output) + _field(_NODE_NAME, output)
    body += _field(_KIND, kind)
    for name, value in attributes.items():
        if isinstance(value, int):
            given = _field(_INT, value) + _field(_ATTRIBUTE_TYPE, _TYPE_INT)
        else:
            given = b"".join(_field(_INTS, each) for each in value) + _field(_ATTRIBUTE_TYPE, _TYPE_INTS)
        body += _field(_ATTRIBUTE, _field(_ATTRIBUTE_NAME, name) + given)
    return _field(_NODE, body)


def _tensor(name: str, value: npt.NDArray[Any]) -> bytes:
    body = b"".join(_field(_DIMS, size) for size in value.shape) + _field(_DATA_TYPE, _DATA_TYPES[value.dtype.name])
    return _field(_INITIALIZER, body + _field(_TENSOR_NAME, name) + _field(_RAW_DATA, value.tobytes()))


# --- fields of protocol buffers -----------------------------------------------------------------------------------


def _message(data: Any) -> Message:
    found: dict[int, list[Any]] = defaultdict(list)
    for number, value, _ in _fields(data):
        found[number].append(value)
    return found


def _fields(data: memoryview) -> Iterator[tuple[int, Any, memoryview]]:
    """(its number, its value, all of its bytes) of each field."""
    at = 0
    try:
        while at < len(data):
            value: Any
            begin = at
            key, at = _varint(data, at)
            wire = key & 7
            if wire == _VARINT:
                value, at = _varint(data, at)
            else:
                size, at = _varint(data, at) if wire == _BYTES else (_FIXED_SIZES[wire], at)
                value = data[at : at + size]
                at += size
            if at > len(data):
                raise ValueError("not an ONNX model: it is cut off")
            yield key >> 3, value, data[begin:at]
    except (IndexError, KeyError) as error:
        raise ValueError("not an ONNX model") from error


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _numbers(values: Sequence[int | memoryview]) -> list[int]:
    """Of a repeated field, packed or not."""
    found: list[int] = []
    for value in values:
        if isinstance(value, int):
            found.append(value)
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            found.append(number)
    return found


def _text(value: Sequence[memoryview]) -> str:
    return str(value[0], "utf-8") if value else ""


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _head_of(number, _VARINT) + _varint_of(value)
    data = value.encode() if isinstance(value, str) else value
    return _head(number, len(data)) + data


def _head(number: int, size: int) -> bytes:
    return _head_of(number, _BYTES) + _varint_of(size)


def _head_of(number: int, wire: int) -> bytes:
    return _varint_of(number << 3 | wire)


def _varint_of(value: int) -> bytes:
    value &= 2**64 - 1
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
