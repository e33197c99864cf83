"""The offline recogniser keeps the contract of one that wants the whole utterance."""

from __future__ import annotations

from typing import Any

from tests.contract.loopback import local_subject
from tests.contract.suites import AsrBatchContract


class TestPocketsphinxAsr(AsrBatchContract):
    type_name = "pocketsphinx"
    vendor = False

    def subject(self) -> Any:
        return local_subject("asr", {"type": "pocketsphinx"})
