"""The providers of Tencent Cloud keep the contracts of their kinds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from tests.contract.loopback import failing
from tests.contract.speaking import TtsSentenceContract, TtsStreamContract
from tests.contract.suites import AsrBatchContract, Subject
from tests.fakes.inference import InlineInference
from tests.vendors.tencent_vendor import APPID, SECRET, SECRET_ID, STREAM, TencentStreamVendor, TencentVendor
from tests.waiting import wait_for
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build


@contextmanager
def _subject(kind: str, action: str, **block: Any) -> Iterator[Subject]:
    with TencentVendor() as vendor:
        base = {
            "type": "tencent",
            "secret_id": SECRET_ID,
            "secret_key": SECRET,
            "url": vendor.url,
            "timeout": {"connect": 1, "first_byte": 0.3, "gap": 0.3, "total": 5},
        }
        services = Services(inference=InlineInference())  # type: ignore[arg-type]
        provider = build(kind, "Subject", base | block, services)
        yield Subject(provider, failing(vendor, action), vendor.wait_gone, lambda: vendor.counts.get(action))
        provider.close()
        assert vendor.refusals == []


@contextmanager
def _stream_subject() -> Iterator[Subject]:
    with TencentStreamVendor() as vendor:
        block = {
            "type": "tencent_stream",
            "appid": APPID,
            "secret_id": SECRET_ID,
            "secret_key": SECRET,
            "ws_url": vendor.url + STREAM,
            "timeout": 0.3,
            "connect_timeout": 0.5,
        }
        provider = build("tts", "Subject", block, Services(inference=InlineInference()))  # type: ignore[arg-type]
        yield Subject(
            provider,
            vendor.fail,
            lambda: wait_for(lambda: all(session.end for session in vendor.sessions)),
            lambda: vendor.sessions,
        )
        provider.close()
        assert vendor.faults == []


class TestTencentAsr(AsrBatchContract):
    type_name = "tencent"

    def subject(self) -> Any:
        return _subject("asr", "SentenceRecognition")


class TestTencentTts(TtsSentenceContract):
    type_name = "tencent"
    form: ClassVar[str] = "wav"

    def subject(self) -> Any:
        return _subject("tts", "TextToVoice", format=self.form)


class TestTencentTtsMp3(TestTencentTts):
    form = "mp3"


class TestTencentStreamTts(TtsStreamContract):
    type_name = "tencent_stream"

    def subject(self) -> Any:
        return _stream_subject()
