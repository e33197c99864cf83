"""Qwen3-ASR-Flash: one request per utterance; what an answer means, and what is wrong with one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRequest
from loadtest.vendors.sounds import hum
from tests.fakes.inference import InlineInference
from tests.providers.dashscope_blocks import QWEN
from tests.vendors import qwen_asr_vendor
from xiaozhi.chat import CallContext
from xiaozhi.errors import (
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorUnavailable,
)
from xiaozhi.providers.asr.qwen3_asr_flash import Qwen3AsrFlash
from xiaozhi.providers.contracts.asr import Transcript
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build

CONTEXT = CallContext()
SERVICES = Services(inference=InlineInference())  # type: ignore[arg-type]
PCM = hum(1.05, 16_000)


def qwen(url: str, **block: Any) -> Qwen3AsrFlash:
    built: Qwen3AsrFlash = build("asr", "Qwen", QWEN | {"api_key": "secret-key", "base_url": url} | block, SERVICES)
    return built


def test_the_text_its_language_and_its_emotion() -> None:
    with HttpVendor(qwen_asr_vendor.qwen_asr("Hello there.", language="en", emotion="happy")) as vendor:
        asr = qwen(f"{vendor.url}/compatible-mode/v1", context="小智, ESP32", language="en", enable_itn=False)
        assert asr.transcribe(PCM, CONTEXT) == Transcript("Hello there.", "en", "happy")
        asr.close()
        body = vendor.requests[0].json()
        assert body["input"]["messages"][0] == {"role": "system", "content": [{"text": "小智, ESP32"}]}
        options = {"enable_lid": True, "enable_itn": False, "language": "en"}
        assert body["parameters"] == {"asr_options": options, "result_format": "message"}
        assert vendor.refusals == []


def _json_answer(request: VendorRequest) -> VendorAnswer:
    message = {"role": "assistant", "content": [{"text": "好"}]}
    return VendorAnswer(json.dumps({"output": {"choices": [{"message": message}]}}).encode())


def test_an_answer_in_one_piece_and_nothing_said() -> None:
    with HttpVendor(_json_answer) as vendor:
        asr = qwen(vendor.url)
        assert asr.transcribe(PCM, CONTEXT) == Transcript("好")
        assert asr.transcribe(PCM[:3000], CONTEXT) == Transcript("")
        asr.close()
        assert len(vendor.requests) == 1


def test_silence_is_no_error() -> None:
    with HttpVendor(qwen_asr_vendor.qwen_asr("")) as vendor:
        asr = qwen(vendor.url)
        assert asr.transcribe(bytes(32_000), CONTEXT) == Transcript("", "zh", "neutral")
        asr.close()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"code":"InvalidParameter","message":"audio is too long"}', VendorRejected),
        (b'{"code":"Throttling.RateQuota","message":"slow down"}', VendorBusy),
        (b'{"code":"InternalError","message":"secret-key"}', VendorUnavailable),
        (b"{not json", VendorGarbage),
        (b"[1]", VendorGarbage),
        (b'{"output":{}}', VendorGarbage),
    ],
)
def test_errors_inside_an_answer(data: bytes, expected: type[VendorError]) -> None:
    body = b"id:1\nevent:error\n:HTTP_STATUS/400\ndata:" + data + b"\n\n"
    with HttpVendor(lambda request: VendorAnswer(body, "text/event-stream")) as vendor:
        asr = qwen(vendor.url)
        with pytest.raises(expected) as caught:
            asr.transcribe(PCM, CONTEXT)
        asr.close()
        assert "secret-key" not in str(caught.value)


def test_a_refused_key_is_not_told() -> None:
    with HttpVendor(qwen_asr_vendor.qwen_asr()) as vendor:
        vendor.script(qwen_asr_vendor.PATH, Script(status=401, error="no such key: secret-key"))
        asr = qwen(vendor.url)
        with pytest.raises(VendorRejected) as caught:
            asr.transcribe(PCM, CONTEXT)
        asr.close()
        assert "secret-key" not in str(caught.value)
