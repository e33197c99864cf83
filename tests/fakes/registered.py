"""The fakes as providers of a configuration: `type: "tests.fakes.registered:RegisteredLlm"`, and a configuration that
has nothing else. `lives` has all that were made and are not closed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.fakes.hearing import FakeAsr, FakeVad
from tests.fakes.thinking import FakeIntent, FakeLlm, FakeMemory
from tests.fakes.voice import FakeTts
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.registry import provider

lives: list[Any] = []


class _Registered:
    """Is in `lives` until it is closed. Options: `broken` keeps it from being warmed up."""

    def __init__(self, options: ProviderOptions) -> None:
        super().__init__()
        self.options = options
        lives.append(self)

    def warm_up(self) -> None:
        if (self.options.model_extra or {}).get("broken"):
            raise OSError("the model file is damaged")

    def close(self) -> None:
        lives.remove(self)


@provider("vad", "registered", ProviderOptions)
class RegisteredVad(_Registered, FakeVad):
    """See the module."""


@provider("asr", "registered", ProviderOptions)
class RegisteredAsr(_Registered, FakeAsr):
    """See the module."""


@provider("llm", "registered", ProviderOptions)
class RegisteredLlm(_Registered, FakeLlm):
    """See the module."""


@provider("tts", "registered", ProviderOptions)
class RegisteredTts(_Registered, FakeTts):
    """See the module."""


@provider("memory", "registered", ProviderOptions)
class RegisteredMemory(_Registered, FakeMemory):
    """See the module."""


@provider("intent", "registered", ProviderOptions)
class RegisteredIntent(_Registered, FakeIntent):
    """See the module."""


def configuration(directory: Any) -> Mapping[str, Any]:
    """Settings with one block of each kind, called Own."""
    kinds = {"VAD": "Vad", "ASR": "Asr", "LLM": "Llm", "TTS": "Tts", "Memory": "Memory", "Intent": "Intent"}
    return {
        "log": {"log_dir": "", "data_dir": str(directory)},
        # No model that may lie in models/ here.
        "selected_module": {**dict.fromkeys(kinds, "Own"), "EndOfTurn": ""},
        **{section: {"Own": {"type": f"{__name__}:Registered{name}"}} for section, name in kinds.items()},
    }
