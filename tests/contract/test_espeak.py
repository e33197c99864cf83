"""The offline voice keeps the contract of a voice that takes single sentences."""

from __future__ import annotations

from typing import Any

from tests.contract.loopback import local_subject
from tests.contract.speaking import TtsSentenceContract


class TestEspeakTts(TtsSentenceContract):
    type_name = "espeak"
    vendor = False

    def subject(self) -> Any:
        return local_subject("tts", {"type": "espeak"})
