"""`make new-provider`: what it writes passes its own contract test at once, and it never overwrites anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xiaozhi.providers.scaffold import KINDS, ScaffoldError, main, scaffold

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of as much of the project as a new provider and its test need."""
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("xiaozhi", "loadtest", "tests/contract", "tests/fakes", "tests/vendors"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    for file in ("tests/__init__.py", "tests/conftest.py", "tests/guards.py", "tests/waiting.py", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


@pytest.mark.slow
@pytest.mark.leaks("a child process is waited for by gevent's own watcher")
def test_what_is_written_passes_its_tests_and_the_checks(tree: Path) -> None:
    written = [path for kind in KINDS for path in scaffold(kind, "acme_stream", tree)]
    tests = [str(path) for path in written if path.name.startswith("test_")]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tree), *tests]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    ruff = Path(sys.executable).with_name("ruff")
    if ruff.exists():
        done = subprocess.run(
            [ruff, "check", "--no-cache", *map(str, written)], cwd=tree, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
        done = subprocess.run(
            [ruff, "format", "--check", "--no-cache", *map(str, written)],
            cwd=tree,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    provider, test = scaffold("tts", "acme", tmp_path)
    provider.write_text("mine")
    test.unlink()
    with pytest.raises(ScaffoldError, match="exists"):
        scaffold("tts", "acme", tmp_path)
    assert provider.read_text() == "mine" and not test.exists()


@pytest.mark.parametrize(
    ("kind", "name"), [("stt", "acme"), ("tts", "Acme"), ("tts", "a-b"), ("tts", "class"), ("tts", "../x"), ("tts", "")]
)
def test_wrong_kinds_and_names(tmp_path: Path, kind: str, name: str) -> None:
    with pytest.raises(ScaffoldError):
        scaffold(kind, name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tts", "acme", "--root", str(tmp_path)]) == 0
    assert "type: acme" in capsys.readouterr().out
    assert main(["tts", "acme", "--root", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
