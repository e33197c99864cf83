"""setup.sh in a copy of its own, with requirement files that ask for nothing, so that no index is needed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest

from tests.ops.programs import ROOT

PATIENCE_S = 60.0
BASE = Path(sysconfig.get_config_var("BINDIR")) / f"python{sysconfig.get_python_version()}"
"""The interpreter behind this virtual environment."""


def copy_to(folder: Path) -> Path:
    """A tree with nothing but the set-up."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "setup.sh", folder)
    for name in ("requirements", "requirements-dev", "requirements-torch", "requirements-sherpa"):
        (folder / f"{name}.txt").write_text("# nothing\n", encoding="utf-8")
    return folder


def command(tree: Path, *arguments: str, **environ: str) -> tuple[list[str], dict[str, str]]:
    """(words, environment) of a call of setup.sh that can reach no index."""
    return [str(tree / "setup.sh"), *arguments], {**os.environ, "PYTHON": str(BASE), "PIP_NO_INDEX": "1", **environ}


def set_up(tree: Path, *arguments: str, **environ: str) -> tuple[int, str]:
    """(exit code, what was said)."""
    words, environment = command(tree, *arguments, **environ)
    done = subprocess.run(
        words,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stderr + done.stdout


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree that has been set up; what it said is in `said`."""
    tree = copy_to(tmp_path_factory.mktemp("ready") / "a tree")
    code, said = set_up(tree)
    assert code == 0, said
    (tree / "said").write_text(said, encoding="utf-8")
    return tree


@pytest.fixture
def old_python(tmp_path: Path) -> str:
    """A Python of long ago."""
    script = tmp_path / "python3.9"
    script.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit\nexit 1\n', encoding="utf-8")
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def lazy_python(tmp_path: Path) -> str:
    """A Python that makes no virtual environment: it takes seconds, and what is asked is whether one would be made."""
    script = tmp_path / "lazy-python"
    script.write_text(f'#!/bin/sh\n[ "$1 $2" = "-m venv" ] && exit 7\nexec {BASE} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return str(script)


def test_a_fresh_tree_is_set_up_and_nothing_is_done_twice(ready: Path) -> None:
    said = (ready / "said").read_text(encoding="utf-8")

    assert "making .venv" in said and "installing the packages of requirements.txt" in said
    assert subprocess.run([ready / ".venv/bin/python", "-c", "import pip"], check=False).returncode == 0
    assert set_up(ready) == (0, "")


def test_what_is_asked_for_later_is_added(ready: Path) -> None:
    assert "requirements-torch.txt" in set_up(ready, "--torch")[1]
    assert "requirements-sherpa.txt" in set_up(ready, "--torch", "--sherpa")[1]
    assert "requirements-dev.txt" in set_up(ready, "--dev")[1]

    assert set_up(ready, "--dev") == set_up(ready, "--torch") == set_up(ready) == (0, "")


def test_a_list_that_cannot_be_installed_says_so_and_the_rest_stays(ready: Path) -> None:
    (ready / "requirements.txt").write_text("no-such-package==1.0\n", encoding="utf-8")
    code, said = set_up(ready)
    (ready / "requirements.txt").write_text("# nothing\n", encoding="utf-8")

    assert code == 1 and "pip could not install requirements.txt" in said
    assert "making .venv" not in set_up(ready)[1]


def test_speech_is_installed_unless_it_is_not_wanted_or_cannot_be_had(ready: Path) -> None:
    speech = ready / "requirements-speech.txt"
    speech.write_text("no-such-package==1.0\n", encoding="utf-8")
    try:
        assert set_up(ready, "--minimal") == (0, "")
        code, said = set_up(ready)
        assert code == 0 and "going on without" in said
        assert set_up(ready) == (0, ""), "not tried at every start"
        assert set_up(ready, "--speech")[0] == 1, "who asks for it is told that there is none"
        speech.write_text("# nothing\n", encoding="utf-8")
        assert "installing the packages of requirements-speech.txt" in set_up(ready)[1]
        assert set_up(ready) == (0, "")
    finally:
        speech.unlink()


@pytest.mark.parametrize(
    "spoil", [lambda venv: (venv / ".unfinished").touch(), lambda venv: (venv / ".set-up").unlink()]
)
def test_a_venv_that_was_left_half_made_is_made_anew(
    spoil: Callable[[Path], object], ready: Path, lazy_python: str
) -> None:
    """pip was killed; or the making of the environment itself."""
    stamps = {path: path.read_text(encoding="utf-8") for path in (ready / ".venv").glob(".set-up*")}
    for path in stamps:
        path.unlink()
    (ready / ".venv/.set-up").touch()
    spoil(ready / ".venv")

    code, said = set_up(ready, PYTHON=lazy_python)
    (ready / ".venv/.unfinished").unlink(missing_ok=True)
    for path, text in stamps.items():
        path.write_text(text, encoding="utf-8")

    assert code == 7 and "making it anew" in said


def test_a_venv_that_was_moved_is_made_anew(ready: Path, tmp_path: Path, lazy_python: str) -> None:
    moved = Path(shutil.copytree(ready, tmp_path / "moved", symlinks=True))

    code, said = set_up(moved, PYTHON=lazy_python)

    assert code == 7 and "making it anew" in said


def test_a_link_to_another_trees_venv_is_used_but_never_cleared(ready: Path, tmp_path: Path) -> None:
    tree = copy_to(tmp_path / "worktree")
    (tree / ".venv").symlink_to(ready / ".venv")
    set_up(ready)
    assert set_up(tree) == (0, "")

    (ready / ".venv/.unfinished").touch()
    code, said = set_up(tree)
    (ready / ".venv/.unfinished").unlink()

    assert code == 1 and f"is a link to {ready / '.venv'}" in said
    assert (ready / ".venv/bin/python").exists()


def test_a_python_that_is_too_old_is_named_with_a_command_that_helps(tmp_path: Path, old_python: str) -> None:
    tree = copy_to(tmp_path / "tree")

    code, said = set_up(tree, PYTHON=old_python)

    assert code == 1
    assert "Python 3.11 or newer is needed, and here is Python 3.9.2" in said
    assert "PYTHON=/path/to/python make setup" in said
    assert not (tree / ".venv").exists()


def test_no_python_at_all(tmp_path: Path) -> None:
    code, said = set_up(copy_to(tmp_path / "tree"), PYTHON="python3-of-nowhere")

    assert code == 1 and "here is no python3-of-nowhere" in said


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    code, said = set_up(copy_to(tmp_path / "tree"), "--cuda")

    assert code == 1 and "unknown option --cuda; there are: --dev --sherpa --torch" in said


@pytest.mark.skipif(shutil.which("flock") is None, reason="no flock here")
def test_a_second_terminal_says_that_it_waits(ready: Path) -> None:
    words, environment = command(ready)
    with (ready / "setup.sh").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
        assert second.stderr is not None
        said = second.stderr.readline()
        still_waiting = second.poll() is None
    with gevent.Timeout(PATIENCE_S):
        ended = second.wait()
    second.stderr.close()

    assert said == "setup: another terminal is setting up at the moment; waiting for it\n"
    assert still_waiting and ended == 0
