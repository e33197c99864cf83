"""What one device's assistant is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from xiaozhi.providers.contracts.asr import Asr
from xiaozhi.providers.contracts.intent import Intent
from xiaozhi.providers.contracts.llm import Llm
from xiaozhi.providers.contracts.memory import Memory
from xiaozhi.providers.contracts.tts import Tts
from xiaozhi.providers.contracts.vad import Vad
from xiaozhi.providers.contracts.vllm import Vllm
from xiaozhi.providers.contracts.voiceprint import Voiceprint


@dataclass(frozen=True, slots=True)
class ProviderSet:
    """The providers a session works with, swapped as one when the configuration is reloaded."""

    vad: Vad
    asr: Asr
    llm: Llm
    tts: Tts
    memory: Memory
    intent: Intent
    vllm: Vllm | None = None
    voiceprint: Voiceprint | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    """kind -> name of the selected module, for people."""
