"""A session with a device, for its tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.fakes.sessions import (
    FakeAgents,
    make_agent,
    visitor,
)

LONG = ["Once upon a time there was a very small server. ", *["And it was never still, not even for a moment. "] * 40]


def visiting(settings: Mapping[str, Any] | None = None, services: Any = None, **parts: Any) -> Any:
    """A visitor of an agent."""
    return visitor(FakeAgents(make_agent(settings, **parts)), services)
