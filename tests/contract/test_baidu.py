"""Baidu's recognition keeps the contract of its kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.contract.loopback import failing
from tests.contract.suites import AsrBatchContract, Subject
from tests.vendors.baidu_vendor import API_KEY, ASR, SECRET, TOKEN, BaiduVendor
from xiaozhi.providers.asr.baidu import BaiduAsr
from xiaozhi.providers.registry import validate


@contextmanager
def _subject() -> Iterator[Subject]:
    with BaiduVendor() as vendor:
        block = {
            "type": "baidu",
            "api_key": API_KEY,
            "secret_key": SECRET,
            "url": vendor.url + ASR,
            "token_url": vendor.url + TOKEN,
            "timeout": {"connect": 1, "first_byte": 0.3, "gap": 0.3, "total": 5},
        }
        provider = BaiduAsr(validate("asr", "Baidu", block))  # type: ignore[arg-type]
        yield Subject(provider, failing(vendor, ASR), vendor.wait_gone, lambda: vendor.counts.get(ASR))
        provider.close()
        assert vendor.refusals == []


class TestBaiduAsr(AsrBatchContract):
    type_name = "baidu"

    def subject(self) -> Any:
        return _subject()
