"""ElevenLabs over its WebSocket keeps the contract of a streaming voice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.contract.speaking import TtsStreamContract
from tests.contract.suites import Subject
from tests.fakes.inference import InlineInference
from tests.vendors.elevenlabs_vendor import KEY, ElevenlabsVendor
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build


@contextmanager
def _subject() -> Iterator[Subject]:
    with ElevenlabsVendor() as vendor:
        block = {
            "type": "elevenlabs_stream",
            "ws_url": vendor.url,
            "api_key": KEY,
            "voice_id": "anna",
            "timeout": {"connect": 1, "gap": 0.3},
        }
        provider = build("tts", "Eleven", block, Services(inference=InlineInference()))  # type: ignore[arg-type]
        yield Subject(provider, vendor.fail, vendor.wait_gone, lambda: vendor.open)
        provider.close()
        assert vendor.faults == []


class TestElevenlabsStreamTts(TtsStreamContract):
    type_name = "elevenlabs_stream"

    def subject(self) -> Any:
        return _subject()
