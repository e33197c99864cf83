"""A configuration directory of its own for every test, so that the developer's config/local.yaml never matters."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from xiaozhi.settings.layers import SHIPPED
from xiaozhi.settings.loading import CONFIG_DIR


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    """A copy of config/ without local.yaml."""
    copy = tmp_path / "config"
    copy.mkdir()
    for name in SHIPPED:
        shutil.copy(CONFIG_DIR / name, copy)
    for part in ("profiles", "prompts"):
        shutil.copytree(CONFIG_DIR / part, copy / part)
    return copy


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write(text, name="my.yaml")` -> path."""

    def write_file(text: str | bytes, name: str = "my.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write_file
