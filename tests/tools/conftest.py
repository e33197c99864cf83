"""Log lines of this room's tests are captured: what a test expects to go wrong needs no picture of it, which would take
100 ms to draw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from structlog.testing import capture_logs

from xiaozhi.net.guarded_fetch import GuardedFetch
from xiaozhi.net.http import VendorHttp
from xiaozhi.tools.base import ToolServices


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture
def services() -> Iterator[ToolServices]:
    """Services whose HTTP clients end with the test, and that fetch pages from this machine."""
    with ExitStack() as closing:

        def http(vendor: str, **options: Any) -> VendorHttp:
            client = VendorHttp(vendor, **options)
            closing.callback(client.close)
            return client

        def fetch(name: str, **options: Any) -> GuardedFetch:
            return GuardedFetch(name, **{**options, "named_hosts": ["127.0.0.1"]})

        yield ToolServices(http=http, fetch=fetch)
