"""The offline assistant keeps the contract of a language model."""

from __future__ import annotations

from typing import Any

from tests.contract.loopback import local_subject
from tests.contract.suites import LlmContract


class TestOfflineLlm(LlmContract):
    type_name = "offline"
    vendor = False

    def subject(self) -> Any:
        return local_subject("llm", {"type": "offline"})
