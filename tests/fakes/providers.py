"""A whole set of fake providers, for whoever builds a session."""

from __future__ import annotations

from typing import Any

from tests.fakes.hearing import FakeAsr, FakeVad
from tests.fakes.thinking import FakeIntent, FakeLlm, FakeMemory
from tests.fakes.voice import FakeTts
from xiaozhi.session.agent import ProviderSet


def provider_set(**chosen: Any) -> ProviderSet:
    """Fakes of every kind; `provider_set(llm=FakeLlm("Yes."))` replaces one."""
    kinds: dict[str, Any] = {
        "vad": FakeVad(),
        "asr": FakeAsr(),
        "llm": FakeLlm(),
        "tts": FakeTts(),
        "memory": FakeMemory(),
        "intent": FakeIntent(),
    }
    kinds.update(chosen)
    kinds.setdefault("names", {kind: f"Fake{kind}" for kind in kinds})
    return ProviderSet(**kinds)
