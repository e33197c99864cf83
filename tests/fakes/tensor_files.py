"""Files of tensors as PyTorch wrote them before 1.6, and as it writes them since (zip archives), made by hand:
instruction by instruction, so that hostile ones can be made as well."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xiaozhi.providers.families import campplus
from xiaozhi.providers.families.resemblyzer import SHAPES

MAGIC = 0x1950A86A20F9469CFC6C
Arrays = Mapping[str, npt.NDArray[np.float32]]


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def named(value: str) -> bytes:
    module, name = value.rsplit(" ", 1)
    return f"c{module}\n{name}\n".encode()


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key: str, length: int, kind: str = "torch FloatStorage") -> bytes:
    return b"(" + text("storage") + named(kind) + text(key) + text("cpu") + number(length) + b"NtQ"


def tensor(
    key: str, shape: tuple[int, ...], *, length: int | None = None, strides: tuple[int, ...] | None = None
) -> bytes:
    usual = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
    whole = int(np.prod(shape)) if length is None else length
    told = storage(key, whole) + number(0) + numbers(shape) + numbers(usual if strides is None else strides)
    return named("torch._utils _rebuild_tensor_v2") + b"(" + told + b"\x89" + named("collections OrderedDict") + b")RtR"


def head() -> bytes:
    long = MAGIC.to_bytes(10, "little")
    return b"\x80\x02\x8a\x0a" + long + b"." + b"\x80\x02M" + struct.pack("<H", 1001) + b"." + b"\x80\x02}."


def tail(arrays: Arrays) -> bytes:
    keys = b"\x80\x02](" + b"".join(text(name) for name in arrays) + b"e."
    return keys + b"".join(struct.pack("<q", array.size) + array.astype("<f4").tobytes() for array in arrays.values())


def file_of(arrays: Arrays, **replaced: bytes) -> bytes:
    """A file with these tensors under "model_state"; some written otherwise."""
    items = b"".join(text(name) + replaced.get(name, tensor(name, array.shape)) for name, array in arrays.items())
    state = named("collections OrderedDict") + b")R(" + items + b"u}b"
    return head() + b"\x80\x02}(" + text("step") + number(7) + text("model_state") + state + b"u." + tail(arrays)


@cache
def made_weights(seed: int = 5) -> dict[str, npt.NDArray[np.float32]]:
    """Weights of the encoder's shapes that nobody trained."""
    chance = np.random.default_rng(seed)
    return {name: (chance.standard_normal(shape) * 0.1).astype(np.float32) for name, shape in SHAPES.items()}


@cache
def _made_file() -> bytes:
    return file_of(made_weights())


def made_model(folder: Path) -> Path:
    """A folder with such a model, for `voiceprint.model_dir`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pretrained.pt").write_bytes(_made_file())
    return folder


def state_file(arrays: Arrays, *, compressed: bool = False, **replaced: bytes) -> bytes:
    """A zip archive with these tensors and one of whole numbers; some written otherwise."""
    items = b"".join(text(name) + replaced.get(name, tensor(name, array.shape)) for name, array in arrays.items())
    counted = named("torch._utils _rebuild_tensor_v2") + b"(" + storage("n", 1, "torch LongStorage") + number(0) + b"))"
    counted += b"\x89" + named("collections OrderedDict") + b")RtR"
    written = BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}(" + items + text("count") + counted + b"u.")
        archive.writestr("archive/data/n", bytes(8))
        for name, array in arrays.items():
            archive.writestr(f"archive/data/{name}", array.astype("<f4").tobytes())
    return written.getvalue()


@cache
def campplus_weights(seed: int = 5) -> dict[str, npt.NDArray[np.float32]]:
    """Weights of CAM++'s shapes that nobody trained, of a size that keeps numbers about 1."""
    chance = np.random.default_rng(seed)

    def made(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        drawn = chance.standard_normal(shape)
        if name.endswith("running_var"):
            return 1 + 0.1 * np.abs(drawn)
        if len(shape) == 1 and name.endswith("weight"):
            return 1 + 0.1 * drawn
        return drawn / np.sqrt(max(1, np.prod(shape[1:])))

    return {name: made(name, shape).astype(np.float32) for name, shape in campplus.SHAPES.items()}


@cache
def _campplus_file() -> bytes:
    return state_file(campplus_weights())


def campplus_model(folder: Path) -> Path:
    """A folder with such a model, for `voiceprint.model_dir`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / campplus.FILE).write_bytes(_campplus_file())
    return folder
