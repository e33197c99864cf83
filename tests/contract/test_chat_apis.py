"""The language and vision models behind other APIs than OpenAI's keep the contracts of their kinds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from loadtest.vendors.http_vendor import HttpVendor
from loadtest.vendors.openai_vendor import CHAT, OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.contract.loopback import failing
from tests.contract.suites import LlmContract, Subject, VllmContract
from tests.fakes.inference import InlineInference
from tests.vendors.anthropic_vendor import AnthropicVendor
from tests.vendors.gemini_vendor import GeminiVendor
from tests.vendors.ollama_vendor import OllamaVendor
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build

SOUNDS = Sounds()


@contextmanager
def subject_of(kind: str, vendor: HttpVendor, version: str = "", **block: Any) -> Iterator[Subject]:
    """A provider of `kind` against a vendor of its own, strictly looked after."""
    base = {"timeout": {"connect": 1, "first_byte": 0.3, "gap": 0.3, "total": 5}}
    with vendor:
        services = Services(inference=InlineInference())  # type: ignore[arg-type]
        provider = build(kind, "Subject", base | {"base_url": vendor.url + version} | block, services)
        yield Subject(provider, failing(vendor, CHAT), vendor.wait_gone, lambda: vendor.active)
        provider.close()
        assert vendor.refusals == []


class TestAnthropicLlm(LlmContract):
    type_name = "anthropic"

    def subject(self) -> Any:
        block = {"type": "anthropic", "api_key": "secret-key", "model_name": "claude-opus-5-5"}
        return subject_of("llm", AnthropicVendor("secret-key"), **block)


class TestAnthropicVllm(VllmContract):
    type_name = "anthropic"

    def subject(self) -> Any:
        block = {"type": "anthropic", "api_key": "secret-key", "model_name": "claude-haiku-4-5"}
        return subject_of("vllm", AnthropicVendor("secret-key"), **block)


@contextmanager
def gemini_subject(kind: str, model: str) -> Iterator[Subject]:
    block = {"type": "gemini", "api_key": "secret-key", "model_name": model}
    with subject_of(kind, GeminiVendor("secret-key"), version="/v1beta", **block) as subject:
        yield subject


class TestGeminiLlm(LlmContract):
    type_name = "gemini"
    model = "gemini-2.5-flash"

    def subject(self) -> Any:
        return gemini_subject("llm", self.model)


class TestGemini3Llm(TestGeminiLlm):
    model = "gemini-3-flash"


class TestGeminiVllm(VllmContract):
    type_name = "gemini"

    def subject(self) -> Any:
        return gemini_subject("vllm", "gemini-2.0-flash")


class TestOllamaLlm(LlmContract):
    type_name = "ollama"

    def subject(self) -> Any:
        return subject_of("llm", OllamaVendor(), type="ollama", model_name="qwen2.5", api_key="secret-key")


class TestXinferenceLlm(LlmContract):
    type_name = "xinference"

    def subject(self) -> Any:
        block = {"type": "xinference", "model_name": "qwen2.5:72b-AWQ", "api_key": "secret-key"}
        return subject_of("llm", OpenAiVendor(api_key="secret-key", sounds=SOUNDS), **block)
