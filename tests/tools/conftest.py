"""Log lines of this room's tests are captured: what a test expects to go wrong needs no picture of it, which would take
100 ms to draw."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    with capture_logs():
        yield
