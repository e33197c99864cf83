"""Edge's voice keeps the contract of a voice for single sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.contract.speaking import TtsSentenceContract
from tests.contract.suites import Subject
from tests.fakes.inference import InlineInference
from tests.vendors.edge_vendor import EdgeVendor
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build


@contextmanager
def _subject() -> Iterator[Subject]:
    with EdgeVendor() as vendor:
        block = {"type": "edge", "ws_url": vendor.ws_url, "connect_timeout": 1, "timeout": 0.3}
        provider = build("tts", "Edge", block, Services(inference=InlineInference()))  # type: ignore[arg-type]
        yield Subject(provider, vendor.fail, vendor.wait_gone, lambda: vendor.open)
        provider.close()
        assert vendor.faults == []


class TestEdgeTts(TtsSentenceContract):
    type_name = "edge"

    def subject(self) -> Any:
        return _subject()
