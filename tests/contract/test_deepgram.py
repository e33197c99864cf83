"""Deepgram keeps the contract of a streaming recogniser, with either form of sound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from tests.contract.suites import AsrStreamContract, Subject
from tests.vendors.deepgram_vendor import PATH, DeepgramVendor
from tests.waiting import wait_for
from xiaozhi.providers.asr.deepgram import DeepgramAsr
from xiaozhi.providers.registry import validate


@contextmanager
def _subject(**block: Any) -> Iterator[Subject]:
    with DeepgramVendor() as vendor:
        base = {
            "type": "deepgram",
            "url": vendor.url + PATH,
            "api_key": "secret-key",
            "timeout": 0.3,
            "connect_timeout": 0.5,
        }
        provider = DeepgramAsr(validate("asr", "Deepgram", base | block))  # type: ignore[arg-type]
        yield Subject(provider, vendor.fail, lambda: wait_for(lambda: not vendor.open), lambda: vendor.open)
        provider.close()
        assert vendor.faults == []


class TestDeepgramAsr(AsrStreamContract):
    type_name = "deepgram"
    block: ClassVar[dict[str, Any]] = {}

    def subject(self) -> Any:
        return _subject(**self.block)


class TestDeepgramAsrOpus(TestDeepgramAsr):
    block = {"encoding": "opus"}
