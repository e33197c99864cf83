"""The secret the server makes for itself."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S
from xiaozhi.errors import SettingsError
from xiaozhi.settings import Settings, token_secret
from xiaozhi.settings.loading import CONFIG_DIR
from xiaozhi.settings.token_secret import FILE_NAME


def settings_in(directory: Path, auth_key: str = "") -> Settings:
    return Settings.model_validate({"log": {"data_dir": str(directory)}, "server": {"auth_key": auth_key}})


def test_the_operators_own_is_used_and_nothing_is_written(tmp_path: Path) -> None:
    assert token_secret(settings_in(tmp_path / "data", "mine")) == "mine"
    assert not (tmp_path / "data").exists()


def test_that_of_a_console_comes_next(tmp_path: Path) -> None:
    """It signs its devices' tokens with it."""
    console = {"log": {"data_dir": str(tmp_path / "data")}, "manager-api": {"secret": "the-console-s"}}

    assert token_secret(Settings.model_validate(console)) == "the-console-s"
    assert token_secret(Settings.model_validate({**console, "server": {"auth_key": "mine"}})) == "mine"
    assert not (tmp_path / "data").exists()


def test_it_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "new" / "data")

    first = token_secret(settings)

    assert len(first) >= 32
    assert token_secret(settings) == first
    assert stat.S_IMODE((settings.data_dir / FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in settings.data_dir.iterdir()] == [FILE_NAME]
    assert token_secret(settings_in(tmp_path / "other")) != first


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("\n")

    with pytest.raises(SettingsError, match="delete the file"):
        token_secret(settings_in(tmp_path))


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, not a directory")

    with pytest.raises(SettingsError, match="auth_key"):
        token_secret(settings_in(tmp_path / "data"))


def test_workers_that_start_together_agree(tmp_path: Path) -> None:
    """Four processes wait on one pipe, are let go at once, and all print the same secret."""
    script = (
        "import sys; from pathlib import Path; from xiaozhi.settings import Settings, token_secret;"
        "s = Settings.model_validate({'log': {'data_dir': sys.argv[1]}});"
        "print('ready', flush=True); sys.stdin.read(1); print(token_secret(s))"
    )
    environ = os.environ | {"PYTHONPATH": str(CONFIG_DIR.parent)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "data")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        )
        for _ in range(4)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("x")
        worker.stdin.flush()
    secrets = {worker.communicate(timeout=PATIENCE_S)[0].strip() for worker in workers}

    assert [worker.returncode for worker in workers] == [0, 0, 0, 0]
    assert len(secrets) == 1
    assert len(secrets.pop()) >= 32
