"""The offline assistant keeps the contract of a language model."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.loopback import local_subject
from tests.contract.suites import LlmContract
from xiaozhi.providers.registry import known_types

pytestmark = pytest.mark.skipif("offline" not in known_types("llm"), reason="not part of this tree")


class TestOfflineLlm(LlmContract):
    type_name = "offline"
    vendor = False

    def subject(self) -> Any:
        return local_subject("llm", {"type": "offline"})
