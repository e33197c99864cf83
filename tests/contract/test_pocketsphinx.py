"""The offline recogniser keeps the contract of one that wants the whole utterance."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.loopback import local_subject
from tests.contract.suites import AsrBatchContract
from xiaozhi.providers.registry import known_types

pytestmark = pytest.mark.skipif("pocketsphinx" not in known_types("asr"), reason="not part of this tree")


class TestPocketsphinxAsr(AsrBatchContract):
    type_name = "pocketsphinx"
    vendor = False

    def subject(self) -> Any:
        return local_subject("asr", {"type": "pocketsphinx"})
