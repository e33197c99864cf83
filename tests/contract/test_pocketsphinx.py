"""The offline recognisers keep the contract of one that wants the whole utterance, here without models."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.loopback import local_subject
from tests.contract.suites import AsrBatchContract
from xiaozhi.providers.asr import offline


class TestPocketsphinxAsr(AsrBatchContract):
    type_name = "pocketsphinx"
    vendor = False

    def subject(self) -> Any:
        return local_subject("asr", {"type": "pocketsphinx"})


class TestOfflineAsr(AsrBatchContract):
    type_name = "offline"
    vendor = False

    @pytest.fixture(autouse=True)
    def unfetched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for check in ("is_whisper", "is_moonshine"):
            monkeypatch.setattr(offline, check, lambda folder: False)

    def subject(self) -> Any:
        return local_subject("asr", {"type": "offline"})
