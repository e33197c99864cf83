"""Tensors out of a file that PyTorch wrote, in its format of before 1.6 or in the one since then (a zip archive),
without PyTorch and without running pickles.

A pickle is a program: the usual reader calls whatever it names. Here its instructions are looked at one by one; the
few that a file of tensors consists of are understood, no function is ever called, and any other instruction or name
refuses the file. Sources: Python's pickletools, torch/serialization.py (_legacy_save, _save)."""

from __future__ import annotations

import math
import pickletools
import struct
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

Tensors = Mapping[str, npt.NDArray[np.float32]]

MAX_BYTES: Final = 256 * 1024 * 1024
_MAGIC: Final = 0x1950A86A20F9469CFC6C
_VERSION: Final = 1001
_DICT: Final = "collections OrderedDict"
_TENSOR: Final = "torch._utils _rebuild_tensor_v2"
_FLOATS: Final = "torch FloatStorage"
_INTEGERS: Final = "torch LongStorage"
_PICKLE: Final = "data.pkl"
_VALUES: Final = frozenset(["BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"])
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES: Final = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK: Final = object()


class BadTensorFile(ValueError):
    """Not a file of tensors, damaged, or with more in it than tensors."""


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    length: int
    floats: bool


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]


def read_tensors(path: Path, entry: str, wanted: Collection[str]) -> Tensors:
    """The tensors of these names (float32, contiguous) out of the dictionary that the file keeps under `entry`. Reads
    the whole file's structure and only these tensors' numbers. Raises BadTensorFile, OSError."""
    if path.stat().st_size > MAX_BYTES:
        raise BadTensorFile(f"larger than {MAX_BYTES} bytes")
    with path.open("rb") as file:
        try:
            return _read(file, entry, wanted)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, struct.error) as error:
            raise BadTensorFile(f"not a file of tensors: {error}"[:300]) from error


def _read(file: BinaryIO, entry: str, wanted: Collection[str]) -> Tensors:
    magic, version, _, saved, keys = (_value_of(file) for _ in range(5))
    if magic != _MAGIC or version != _VERSION:
        raise BadTensorFile("not written by PyTorch's older format")
    tensors: dict[str, _Tensor] = {name: saved[entry][name] for name in wanted}
    needed = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    numbers: dict[str, npt.NDArray[np.float32]] = {}
    for key in keys:
        (length,) = struct.unpack("<q", file.read(8))
        if length < 0 or length * 4 > MAX_BYTES:
            raise BadTensorFile(f"{length} numbers in one storage")
        if key not in needed:
            file.seek(length * 4, 1)
            continue
        numbers[key] = _numbers(file.read(length * 4), needed[key]).astype(np.float32)
    return {name: _cut(numbers[tensor.storage.key], tensor) for name, tensor in tensors.items()}


def read_state(path: Path, wanted: Collection[str]) -> Tensors:
    """The tensors of these names (float32, contiguous) out of a file that is a zip archive with one dictionary of
    tensors. Reads only these tensors' numbers. Raises BadTensorFile, OSError."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _unpacked(archive, wanted)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise BadTensorFile(f"not a file of tensors: {error}"[:300]) from error
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise BadTensorFile(f"not a file of tensors: {error}"[:300]) from error


def _unpacked(archive: zipfile.ZipFile, wanted: Collection[str]) -> Tensors:
    (top,) = [name.removesuffix(_PICKLE) for name in archive.namelist() if name.endswith(f"/{_PICKLE}")]
    saved = _value_of(BytesIO(_stored(archive, top + _PICKLE, MAX_BYTES)))
    found: dict[str, npt.NDArray[np.float32]] = {}
    for name in wanted:
        tensor = _checked(saved[name], _Tensor)
        data = _stored(archive, f"{top}data/{tensor.storage.key}", tensor.storage.length * 4)
        found[name] = _cut(_numbers(data, tensor.storage).astype(np.float32), tensor)
    return found


def _stored(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A member that is not compressed: a small file cannot become a large one."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > min(most, MAX_BYTES):
        raise BadTensorFile(f"{name[:80]} is compressed or too large")
    return archive.read(info)


def _numbers(data: bytes, storage: _Storage) -> npt.NDArray[np.float32]:
    if not storage.floats:
        raise BadTensorFile("numbers that are not float32")
    read = np.frombuffer(data, "<f4")
    if len(read) != storage.length:
        raise BadTensorFile("it ends too early")
    return read


def _cut(numbers: npt.NDArray[np.float32], tensor: _Tensor) -> npt.NDArray[np.float32]:
    return numbers[tensor.offset : tensor.offset + math.prod(tensor.shape)].reshape(tensor.shape)


def _value_of(file: BinaryIO) -> Any:
    """The next pickle's value: dictionaries, lists, tuples, numbers, texts, tensors."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for instruction, argument, _ in pickletools.genops(file):
        name = instruction.name
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _TUPLES:
            length = _TUPLES[name]
            taken = [stack.pop() for _ in range(length)]
            stack.append(tuple(reversed(taken)))
        elif name == "TUPLE":
            stack.append(tuple(_since_mark(stack)))
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "GLOBAL":
            if argument not in (_DICT, _TENSOR, _FLOATS, _INTEGERS):
                raise BadTensorFile(f"it names {str(argument)[:80]!r}, which is no part of a tensor")
            stack.append(_Global(argument))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_made(function, arguments))
        elif name in ("SETITEM", "SETITEMS"):
            pairs = _since_mark(stack) if name == "SETITEMS" else [stack.pop(), stack.pop()][::-1]
            _checked(stack[-1], dict).update(zip(pairs[::2], pairs[1::2], strict=True))
        elif name in ("APPEND", "APPENDS"):
            items = _since_mark(stack) if name == "APPENDS" else [stack.pop()]
            _checked(stack[-1], list).extend(items)
        elif name == "BUILD":
            stack.pop()  # attributes of a dictionary, which has none here
        elif name == "STOP":
            return stack.pop()
        elif name != "PROTO":
            raise BadTensorFile(f"it has the instruction {name}, which no tensor needs")
    raise BadTensorFile("it ends too early")


def _since_mark(stack: list[Any]) -> list[Any]:
    items = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise BadTensorFile(f"a {kind.__name__} was expected")
    return value


def _storage(told: Any) -> _Storage:
    what, kind, key, _, length, *_ = told
    if what != "storage" or kind not in (_Global(_FLOATS), _Global(_INTEGERS)):
        raise BadTensorFile("numbers that are neither float32 nor int64")
    return _Storage(_checked(key, str), _checked(length, int), kind == _Global(_FLOATS))


def _made(function: Any, arguments: Any) -> Any:
    if function == _Global(_DICT) and arguments == ():
        return {}
    if function != _Global(_TENSOR):
        raise BadTensorFile("it calls what is no part of a tensor")
    storage, offset, shape, strides, *_ = arguments
    size, expected = 1, []
    for length in reversed(shape):
        expected.append(size)
        size *= _checked(length, int)
    if strides != tuple(reversed(expected)) or not 0 <= offset <= _checked(storage, _Storage).length - size:
        raise BadTensorFile("a tensor that does not lie in one piece within its numbers")
    return _Tensor(storage, offset, shape)
