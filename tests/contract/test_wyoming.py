"""The Wyoming providers keep the contracts of their kinds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.contract.speaking import TtsStreamContract
from tests.contract.suites import FAULTS, AsrStreamContract, ProviderContract, Subject
from tests.fakes.inference import InlineInference
from tests.vendors.wyoming_vendor import WyomingVendor
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build

# There are no keys and no quotas.
POSSIBLE = [fault for fault in FAULTS if fault not in ("401", "429")]


@contextmanager
def _subject(kind: str, *, streaming: bool) -> Iterator[Subject]:
    with WyomingVendor(kind, streaming=streaming) as vendor:

        def fail(fault: str) -> None:
            if fault == "refused":
                vendor.stop()
            else:
                vendor.once.append({"disconnect": "drop", "500": "error"}.get(fault, fault))

        block = {"type": "wyoming", "port": vendor.port, "timeout": 0.6, "connect_timeout": 0.5}
        services = Services(inference=InlineInference())  # type: ignore[arg-type]
        provider = build(kind, "Subject", block, services)
        yield Subject(provider, fail, vendor.wait_gone, lambda: vendor.talking)
        provider.close()
        assert vendor.faults == []


class _Wyoming(ProviderContract):
    type_name = "wyoming"
    streaming = False

    def subject(self) -> Any:
        return _subject(self.kind, streaming=self.streaming)

    @pytest.mark.parametrize("fault", POSSIBLE)
    def test_faults(self, it: Subject, fault: str) -> None:
        super().test_faults(it, fault)


class TestWyomingAsr(_Wyoming, AsrStreamContract):
    pass


class TestWyomingAsrInPieces(TestWyomingAsr):
    streaming = True


class TestWyomingTts(_Wyoming, TtsStreamContract):
    pass


class TestWyomingTtsByStream(TestWyomingTts):
    streaming = True
