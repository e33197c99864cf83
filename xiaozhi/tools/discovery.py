"""Finds tools outside this tree: in folders that `plugins.dirs` names, one file each, and in installed packages that
declare an entry point of the group `xiaozhi.tools` (its value is a module).

Such files run in this process with all its rights: only the owner of the configuration can name them. Source:
packaging.python.org (entry points specification)."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from xiaozhi.errors import Fault, SettingsError

DIRS: Final = "dirs"
"""Key of the folders, below `plugins`."""
ENTRY_POINTS: Final = "xiaozhi.tools"
_PREFIX: Final = "xiaozhi_plugins."
_MAX_FILES: Final = 200


def folders(written: Any) -> list[Path]:
    """`plugins.dirs` as paths; relative ones start at the working directory. Raises SettingsError."""
    values = [written] if isinstance(written, str) else written or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise SettingsError([Fault(f"plugins.{DIRS}", repr(written)[:80], "must be a list of folders")])
    return [Path(value) for value in values if value]


def files_of(folder: Path) -> list[Path]:
    """The Python files of a folder; those whose name begins with _ are left to be imported by others. Raises
    SettingsError when there is no such folder."""
    if not folder.is_dir():
        raise SettingsError([Fault(f"plugins.{DIRS}", str(folder), "must be a folder that exists")])
    found = sorted(path.resolve() for path in folder.glob("*.py") if not path.name.startswith("_"))
    return found[:_MAX_FILES]


def loaded(file: Path) -> ModuleType:
    """The module of a file, read anew. Raises SettingsError saying where it fails."""
    name = _PREFIX + file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations and dataclasses are looked up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a foreign file does
        del sys.modules[name]
        raise SettingsError([Fault(f"plugins.{DIRS}", str(file), _told(error, file))]) from error
    return module


@functools.cache
def installed() -> Sequence[ModuleType]:
    """The modules of installed packages. Raises SettingsError when one cannot be imported."""
    modules = []
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            module = entry.load()
        except Exception as error:
            fault = Fault(f"package {entry.name}", entry.value, f"cannot be imported: {error}"[:300])
            raise SettingsError([fault]) from error
        if isinstance(module, ModuleType):
            modules.append(module)
    return tuple(modules)


def _told(error: BaseException, file: Path) -> str:
    line = next((f" (line {frame.lineno})" for frame in reversed(traceback.extract_tb(error.__traceback__))
                 if frame.filename == str(file)), "")  # fmt: skip
    if isinstance(error, SyntaxError) and error.lineno:
        line = f" (line {error.lineno})"
    return f"cannot be loaded{line}: {type(error).__name__}: {error}"[:300]
