"""Volcengine's recognisers and its HTTP voice keep the contracts of their kinds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from tests.contract.loopback import http_subject
from tests.contract.speaking import TtsSentenceContract
from tests.contract.suites import AsrStreamContract, Subject
from tests.fakes.inference import InlineInference
from tests.vendors.volcengine_recogniser import ASYNC, NOSTREAM, V2, VolcengineRecogniser
from tests.vendors.volcengine_voice import DoubaoVoice
from tests.waiting import wait_for
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build

SERVICES = Services(inference=InlineInference())  # type: ignore[arg-type]


@contextmanager
def _recogniser(type_name: str, path: str, **block: Any) -> Iterator[Subject]:
    with VolcengineRecogniser(access_key="secret-key") as vendor:
        base = {
            "type": type_name,
            "ws_url": vendor.url + path,
            "appid": "app",
            "access_token": "secret-key",
            "timeout": 0.3,
            "connect_timeout": 0.5,
        }
        provider = build("asr", "Doubao", base | block, SERVICES)
        yield Subject(provider, vendor.fail, lambda: wait_for(lambda: not vendor.open), lambda: vendor.open)
        provider.close()
        assert vendor.faults == []


class TestDoubaoStreamAsr(AsrStreamContract):
    type_name = "doubao_stream"
    path: ClassVar[str] = ASYNC
    block: ClassVar[dict[str, Any]] = {}

    def subject(self) -> Any:
        return _recogniser(self.type_name, self.path, **self.block)


class TestDoubaoStreamAsrMultilingual(TestDoubaoStreamAsr):
    path = NOSTREAM
    block = {"enable_multilingual": True, "language": "en-US", "resource_id": "volc.seedasr.sauc.duration"}


class TestDoubaoStreamAsrWhole(TestDoubaoStreamAsr):
    block = {"result_type": "full"}


class TestDoubaoAsr(TestDoubaoStreamAsr):
    type_name = "doubao"
    path = V2


@contextmanager
def _voice(**block: Any) -> Iterator[Subject]:
    def make(url: str) -> Any:
        base = {
            "type": "doubao",
            "api_url": url,
            "appid": "app",
            "access_token": "secret-key",
            "voice": "zh_female_wanwanxiaohe_moon_bigtts",
            "timeout": {"connect": 1, "first_byte": 0.3, "gap": 0.3, "total": 5},
        }
        return build("tts", "Doubao", base | block, SERVICES)

    with http_subject(make, DoubaoVoice()) as subject:
        yield subject


class TestDoubaoTts(TtsSentenceContract):
    type_name = "doubao"
    form: ClassVar[str] = "wav"

    def subject(self) -> Any:
        return _voice(format=self.form)


class TestDoubaoTtsOpus(TestDoubaoTts):
    form = "ogg_opus"


class TestDoubaoTtsPcm(TestDoubaoTts):
    form = "pcm"
