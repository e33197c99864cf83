"""Pictures: a question and a data URI go out, text comes back."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer
from loadtest.vendors.openai_vendor import CHAT, OpenAiVendor
from loadtest.vendors.sounds import Sounds
from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorBusy, VendorGarbage
from xiaozhi.providers.registry import validate
from xiaozhi.providers.vllm.openai import OpenAiVllm

SOUNDS = Sounds()


def vllm_for(url: str, **block: Any) -> OpenAiVllm:
    return OpenAiVllm(validate("vllm", "V", {"type": "openai", "url": url, "model_name": "see", **block}))  # type: ignore[arg-type]


def test_what_is_sent_and_answered() -> None:
    with OpenAiVendor(sounds=SOUNDS) as vendor:
        vllm = vllm_for(vendor.base_url, api_key="k", max_tokens=100)
        vendor.script(CHAT, Script(answer="<think>grey</think> A grey pixel. "))
        assert vllm.describe("What is it?", b"\xff\xd8image", "image/jpeg", CallContext()) == "A grey pixel."
        body = vendor.requests[0].json()
        assert (body["model"], body["stream"], body["max_tokens"]) == ("see", False, 100)
        text, picture = body["messages"][0]["content"]
        assert text == {"type": "text", "text": "What is it?"}
        assert picture["image_url"]["url"] == "data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8image").decode()
        assert vendor.refusals == []
        vllm.close()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", VendorGarbage),
        (b"[]", VendorGarbage),
        (b'{"choices": []}', VendorGarbage),
        (b'{"choices": [{"message": {"content": null}}]}', VendorGarbage),
        (b'{"error": {"code": 429}}', VendorBusy),
        (b"no", VendorGarbage),
    ],
)
def test_what_is_no_answer(body: bytes, expected: type[Exception]) -> None:
    with HttpVendor(lambda request: VendorAnswer(body)) as vendor:
        vllm = vllm_for(vendor.url)
        with pytest.raises(expected):
            vllm.describe("?", b"", "image/png", CallContext())
        vllm.close()
