"""The OpenAI-compatible providers keep the contracts of their kinds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from loadtest.vendors.openai_vendor import ASR, CHAT, TTS, OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.contract.loopback import failing
from tests.contract.speaking import TtsSentenceContract
from tests.contract.suites import AsrBatchContract, LlmContract, Subject, VllmContract
from tests.fakes.inference import InlineInference
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build

SOUNDS = Sounds()


@contextmanager
def openai_subject(kind: str, endpoint: str, **block: Any) -> Iterator[Subject]:
    """A provider of `kind` against a vendor of its own, strictly looked after."""
    with OpenAiVendor(api_key="secret-key", sounds=SOUNDS) as vendor:
        base = {
            "type": "openai",
            "base_url": vendor.base_url,
            "api_key": "secret-key",
            "model_name": "scripted",
            "timeout": {"connect": 1, "first_byte": 0.3, "gap": 0.3, "total": 5},
        }
        services = Services(inference=InlineInference())  # type: ignore[arg-type]
        provider = build(kind, "Subject", base | block, services)
        yield Subject(provider, failing(vendor, endpoint), vendor.wait_gone, lambda: vendor.active)
        provider.close()
        assert vendor.refusals == []


class TestOpenAiLlm(LlmContract):
    type_name = "openai"

    def subject(self) -> Any:
        return openai_subject("llm", CHAT)


class TestOpenAiAsr(AsrBatchContract):
    type_name = "openai"

    def subject(self) -> Any:
        return openai_subject("asr", ASR)


class TestOpenAiVllm(VllmContract):
    type_name = "openai"

    def subject(self) -> Any:
        return openai_subject("vllm", CHAT)


class TestOpenAiTtsWav(TtsSentenceContract):
    type_name = "openai"
    form: ClassVar[str] = "wav"

    def subject(self) -> Any:
        return openai_subject("tts", TTS, response_format=self.form)


class TestOpenAiTtsOpus(TestOpenAiTtsWav):
    form = "opus"


class TestOpenAiTtsMp3(TestOpenAiTtsWav):
    form = "mp3"


class TestOpenAiTtsPcm(TestOpenAiTtsWav):
    form = "pcm"
