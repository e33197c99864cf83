"""A limit of late calls that can never count is warned about."""

from __future__ import annotations

from typing import Any

import pytest

from xiaozhi.app.wiring import warnings
from xiaozhi.settings import load


@pytest.mark.parametrize(
    ("keys", "warned"),
    [
        ({}, False),
        ({"conversation": {"late_answer_limit": 10}}, True),
        ({"conversation": {"late_answer_limit": 10, "late_answer_seconds": 0}}, False),
        ({"conversation": {"late_answer_limit": 10}, "tool_call_timeout": 5}, False),
    ],
)
def test_a_limit_without_effect(keys: dict[str, Any], warned: bool) -> None:
    found = [text for text in warnings(load(environ={}, overrides=keys)) if "late_answer_limit" in text]

    assert bool(found) is warned
