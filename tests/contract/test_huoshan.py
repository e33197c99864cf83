"""The Volcengine provider keeps the contract of a streaming voice, in both generations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from tests.contract.speaking import TtsStreamContract
from tests.contract.suites import Subject
from tests.vendors.volcengine_vendor import VolcengineVendor
from tests.waiting import wait_for
from xiaozhi.providers.registry import validate
from xiaozhi.providers.tts.huoshan_double_stream import HuoshanTts


@contextmanager
def _subject(**block: Any) -> Iterator[Subject]:
    with VolcengineVendor(access_key="secret-key") as vendor:

        def wait_gone() -> None:
            wait_for(lambda: all(session.end for session in vendor.sessions))

        base = {
            "type": "huoshan_double_stream",
            "ws_url": vendor.ws_url,
            "appid": "app",
            "access_token": "secret-key",
            "timeout": 0.3,
            "connect_timeout": 0.5,
        }
        provider = HuoshanTts(validate("tts", "Huoshan", base | block))  # type: ignore[arg-type]
        yield Subject(provider, vendor.fail, wait_gone, lambda: vendor.sessions)
        provider.close()
        assert vendor.faults == []


class TestHuoshanTts(TtsStreamContract):
    type_name = "huoshan_double_stream"
    block: ClassVar[dict[str, Any]] = {"speaker": "zh_female_wanwanxiaohe_moon_bigtts"}

    def subject(self) -> Any:
        return _subject(**self.block)


class TestHuoshanTtsSecondGeneration(TestHuoshanTts):
    block = {"resource_id": "seed-tts-2.0", "speaker": "zh_female_xiaohe_uranus_bigtts"}


class TestHuoshanTtsOpus(TestHuoshanTts):
    block = {"speaker": "zh_female_wanwanxiaohe_moon_bigtts", "audio_params": {"format": "ogg_opus"}}
