"""DashScope's recognisers and its voice keep the contracts of their kinds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from loadtest.vendors.http_vendor import HttpVendor
from tests.contract.loopback import failing
from tests.contract.speaking import TtsStreamContract
from tests.contract.suites import AsrBatchContract, AsrStreamContract, Subject
from tests.fakes.inference import InlineInference
from tests.vendors import qwen_asr_vendor
from tests.vendors.dashscope_vendor import DashscopeVendor
from tests.waiting import wait_for
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build

SERVICES = Services(inference=InlineInference())  # type: ignore[arg-type]


@contextmanager
def duplex_subject(kind: str, type_name: str, *, marked: bool = True, **block: Any) -> Iterator[Subject]:
    """A provider that works by tasks, against a vendor of its own."""
    with DashscopeVendor(marked=marked) as vendor:

        def wait_gone() -> None:
            wait_for(lambda: all(task.end for task in vendor.tasks), "the end of every task")

        base = {
            "type": type_name,
            "ws_url": vendor.ws_url,
            "api_key": "secret-key",
            "timeout": 0.6,
            "connect_timeout": 0.5,
        }
        provider = build(kind, "Subject", base | block, SERVICES)
        yield Subject(provider, vendor.fail, wait_gone, lambda: vendor.tasks)
        provider.close()
        assert vendor.faults == []


class TestParaformer(AsrStreamContract):
    type_name = "aliyunbl_stream"
    block: ClassVar[dict[str, Any]] = {}

    def subject(self) -> Any:
        return duplex_subject("asr", self.type_name, **self.block)


class TestFunAsrRealtime(TestParaformer):
    block = {"model": "fun-asr-realtime"}


class TestQwen3AsrFlash(AsrBatchContract):
    type_name = "qwen3_asr_flash"

    @contextmanager
    def subject(self) -> Iterator[Subject]:
        with HttpVendor(qwen_asr_vendor.qwen_asr()) as vendor:
            block = {
                "type": "qwen3_asr_flash",
                "base_url": f"{vendor.url}/compatible-mode/v1",
                "api_key": "secret-key",
                "timeout": {"connect": 1, "first_byte": 0.3, "gap": 0.3, "total": 5},
            }
            provider = build("asr", "Subject", block, SERVICES)
            yield Subject(provider, failing(vendor, qwen_asr_vendor.PATH), vendor.wait_gone, lambda: vendor.active)
            provider.close()
            assert vendor.refusals == []


class TestCosyVoice(TtsStreamContract):
    type_name = "alibl_stream"
    marked = True
    block: ClassVar[dict[str, Any]] = {}

    def subject(self) -> Any:
        return duplex_subject("tts", self.type_name, marked=self.marked, **self.block)


class TestCosyVoiceThatMarksNothing(TestCosyVoice):
    marked = False


class TestCosyVoiceOpus(TestCosyVoice):
    block = {"format": "opus"}


class TestCosyVoiceMp3(TestCosyVoice):
    block = {"format": "mp3"}


class TestCosyVoiceWav(TestCosyVoice):
    block = {"format": "wav"}
