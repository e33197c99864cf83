"""Xunfei's recogniser and its voice keep the contracts of their kinds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from tests.contract.speaking import TtsStreamContract
from tests.contract.suites import AsrStreamContract, Subject
from tests.fakes.inference import InlineInference
from tests.vendors.xunfei_vendor import IAT, TTS, XunfeiVendor
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build

SERVICES = Services(inference=InlineInference())  # type: ignore[arg-type]


@contextmanager
def _subject(kind: str, path: str, **block: Any) -> Iterator[Subject]:
    with XunfeiVendor() as vendor:
        base = {
            "type": "xunfei_stream",
            "api_url": vendor.url + path,
            "app_id": vendor.app,
            "api_key": vendor.key,
            "api_secret": vendor.secret,
            "timeout": 0.6,
            "connect_timeout": 0.5,
        }
        provider = build(kind, "Subject", base | block, SERVICES)
        yield Subject(provider, vendor.fail, vendor.wait_gone, lambda: vendor.open)
        provider.close()
        assert vendor.faults == []


class TestXunfeiAsr(AsrStreamContract):
    type_name = "xunfei_stream"

    def subject(self) -> Any:
        return _subject("asr", IAT)


class TestXunfeiTts(TtsStreamContract):
    type_name = "xunfei_stream"
    # The suite's first sentence is too short for the vendor to begin with.
    block: ClassVar[dict[str, Any]] = {"text_pause": 0.2}

    def subject(self) -> Any:
        return _subject("tts", TTS, **self.block)


class TestXunfeiTtsMp3(TestXunfeiTts):
    block = {"format": "lame", "text_pause": 0.2}
