"""The FunASR provider keeps the contract of a streaming recogniser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.contract.suites import AsrStreamContract, Subject
from tests.vendors.funasr_vendor import FunAsrVendor
from xiaozhi.providers.asr.fun_server import FunServerAsr
from xiaozhi.providers.registry import validate


@contextmanager
def _subject() -> Iterator[Subject]:
    with FunAsrVendor() as vendor:
        block = {
            "type": "fun_server",
            "host": "127.0.0.1",
            "port": vendor.port,
            "is_ssl": False,
            "api_key": "secret-key",
            "timeout": 0.3,
        }
        provider = FunServerAsr(validate("asr", "Fun", block))  # type: ignore[arg-type]
        yield Subject(provider, vendor.fail, lambda: _gone(vendor), lambda: vendor.open)
        assert vendor.faults == []


def _gone(vendor: FunAsrVendor) -> None:
    while vendor.wait_gone() is None or vendor.open:
        pass


class TestFunServerAsr(AsrStreamContract):
    type_name = "fun_server"

    def subject(self) -> Any:
        return _subject()
