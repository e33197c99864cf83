"""The providers of Alibaba Cloud's Intelligent Speech Interaction keep the contracts of their kinds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from tests.contract.loopback import failing
from tests.contract.speaking import TtsSentenceContract, TtsStreamContract
from tests.contract.suites import AsrBatchContract, AsrStreamContract, Subject
from tests.fakes.inference import InlineInference
from tests.vendors.aliyun_nls_vendor import ACCESS_KEY_ID, APPKEY, ASR, SECRET, TTS, NlsGateway, NlsHttpVendor
from tests.waiting import wait_for
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build


@contextmanager
def _http_subject(kind: str, path: str, **block: Any) -> Iterator[Subject]:
    with NlsHttpVendor() as vendor:
        base = {
            "type": "aliyun",
            "appkey": APPKEY,
            "access_key_id": ACCESS_KEY_ID,
            "access_key_secret": SECRET,
            "token_url": vendor.url,
            "host": vendor.url,
            "timeout": {"connect": 1, "first_byte": 0.3, "gap": 0.3, "total": 5},
        }
        services = Services(inference=InlineInference())  # type: ignore[arg-type]
        provider = build(kind, "Subject", base | block, services)
        yield Subject(provider, failing(vendor, path), vendor.wait_gone, lambda: vendor.counts.get(path))
        provider.close()
        assert vendor.refusals == []


@contextmanager
def _ws_subject(kind: str, **more: Any) -> Iterator[Subject]:
    with NlsGateway() as gateway:
        block = {
            "type": "aliyun_stream",
            "appkey": APPKEY,
            "token": SECRET,
            "host": gateway.url,
            "timeout": 0.3,
            "connect_timeout": 0.5,
        }
        services = Services(inference=InlineInference())  # type: ignore[arg-type]
        provider = build(kind, "Subject", block | more, services)
        yield Subject(
            provider,
            gateway.fail,
            lambda: wait_for(lambda: all(task.end for task in gateway.tasks)),
            lambda: gateway.tasks,
        )
        provider.close()
        assert gateway.faults == []


class TestAliyunAsr(AsrBatchContract):
    type_name = "aliyun"

    def subject(self) -> Any:
        return _http_subject("asr", ASR)


class TestAliyunTts(TtsSentenceContract):
    type_name = "aliyun"
    form: ClassVar[str] = "wav"

    def subject(self) -> Any:
        return _http_subject("tts", TTS, format=self.form)


class TestAliyunTtsPcm(TestAliyunTts):
    form = "pcm"


class TestAliyunTtsMp3(TestAliyunTts):
    form = "mp3"


class TestAliyunStreamAsr(AsrStreamContract):
    type_name = "aliyun_stream"

    def subject(self) -> Any:
        return _ws_subject("asr")


class TestAliyunStreamTts(TtsStreamContract):
    type_name = "aliyun_stream"

    def subject(self) -> Any:
        return _ws_subject("tts")


class TestAliyunStreamTtsMp3(TtsStreamContract):
    type_name = "aliyun_stream"

    def subject(self) -> Any:
        return _ws_subject("tts", format="mp3")
