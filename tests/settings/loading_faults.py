"""What `load` finds wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from xiaozhi.errors import SettingsError
from xiaozhi.settings import load


def faults_of(*args: Any, **kwargs: Any) -> dict[str, tuple[str, str]]:
    """key -> (value, expectation) of the faults that `load` raises."""
    with pytest.raises(SettingsError) as caught:
        load(*args, **kwargs)
    return {fault.key: (fault.value, fault.expected) for fault in caught.value.faults}


def only_fault(overrides: Mapping[str, Any], config_dir: Path) -> tuple[str, str, str]:
    """(key, value, expectation) of the one fault that `overrides` cause."""
    faults = faults_of(environ={}, overrides=overrides, config_dir=config_dir)
    assert len(faults) == 1, faults
    ((key, (value, expected)),) = faults.items()
    return key, value, expected
