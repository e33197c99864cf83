"""libopus is found wherever this project runs: the system's, else the copy in PyAV's wheel, else words for people."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from xiaozhi.audio import libopus

WITHOUT_A_SYSTEM_LIBRARY = """
import ctypes.util, sys
ctypes.util.find_library = lambda name: None
from xiaozhi.audio import libopus
from xiaozhi.audio.opus import Decoder, Encoder
packets = Encoder(24_000, 60).encode(bytes(2 * 24 * 600))
assert len(packets) == 10 and len(Decoder().decode(packets[0])) == 2 * 16 * 60
assert "av" not in sys.modules, "PyAV was imported"
print(libopus.RELEASED._name)
"""


def version(path: str) -> str:
    ask = ctypes.CDLL(path).opus_get_version_string
    ask.restype = ctypes.c_char_p
    return ask().decode()


def test_pyav_carries_a_libopus() -> None:
    assert version(libopus.carried_by_pyav()).startswith("libopus 1.")


def test_without_a_system_library_sound_is_coded_all_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_SYSTEM_LIBRARY], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == libopus.carried_by_pyav()


def test_with_neither_people_are_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built_here = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(libopus, "find_library", lambda name: None)
    monkeypatch.setattr(libopus.importlib.util, "find_spec", lambda name: built_here)

    with pytest.raises(ImportError, match=r"libopus0.*PyAV as a wheel"):
        libopus.find()
