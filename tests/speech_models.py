"""Where the models of the offline default are, for tests that hear and speak with real weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xiaozhi.models.catalogue import known_model
from xiaozhi.models.fetching import is_here

_ROOT = Path(__file__).resolve().parents[1]


def model_folder(name: str) -> Path:
    """The folder of a model of the catalogue: of `make tools`, or of `make run`. Skips the test where it is in neither;
    on the build machine, where `make tools` has fetched it, that is a failure."""
    model = known_model(name)
    assert model is not None, name
    for parent in (_ROOT / ".tools/models", _ROOT / "models"):
        if is_here(model, parent / model.folder):
            return parent / model.folder
    message = f"{name} is not here: make tools, or server.py models fetch {name}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
