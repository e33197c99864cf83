"""The files of a local model: found in its folder, or a sentence that says what is missing and which command brings it.

Looks at names and sizes only, so it may be asked whenever a configuration is checked."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from xiaozhi.models.catalogue import COMMAND, command_for, known_model
from xiaozhi.models.fetching import damaged

_POINTER = b"version https://git-lfs"


def first_of(folder: Path, *patterns: str) -> Path | None:
    """The first file that fits the first pattern that fits any. Git LFS pointers, which a clone without Git LFS leaves
    in place of large files, are none."""
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            if path.is_file() and not is_pointer(path):
                return path
    return None


def is_pointer(path: Path) -> bool:
    """Whether a file is a Git LFS pointer instead of what it is called."""
    if path.stat().st_size > 1_024:
        return False
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def missing_model(folder: str, wanted: str, fetch: str) -> str:
    """What to expect of a `model_dir` that is not a folder with `wanted`. `fetch`: the model of the catalogue to offer
    where the folder's name tells of none."""
    place = Path(folder)
    if folder and place.is_dir() and any(is_pointer(path) for path in place.iterdir() if path.is_file()):
        wanted += " (there are only Git LFS pointers: it was cloned without Git LFS)"
    return f"a folder with {wanted}:  {command_for(folder, fetch)}"


def unsound(folder: Path) -> str:
    """ "", or which files of a folder that is called like a model of the catalogue are not that model's. Reads all of
    them: for a pool thread. A folder with another name holds a model of one's own, which nobody knows here."""
    model = known_model(folder.name)
    wrong = [] if model is None or model.folder != folder.name else damaged(model, folder)
    return f"{', '.join(wrong)}: not the files that were published:  {COMMAND} {folder.name}" if wrong else ""


def missing_package(package: str, extra: str) -> str:
    """ "", or which command installs the library of a local model."""
    if importlib.util.find_spec(package) is not None:
        return ""
    return f"the package {package.replace('_', '-')} installed:  make setup WITH={extra}"


def checked(folder: str, *missing: str) -> str:
    """`folder`; raises ValueError with everything that is missing, as `missing_model` and `missing_package` say it."""
    found = [each for each in missing if each]
    if found:
        raise ValueError("; and ".join(found))
    return folder
