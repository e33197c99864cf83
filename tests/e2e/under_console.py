"""A server under a management console."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

from tests.e2e.stage import Stage
from tests.vendors.console import (
    SECRET,
    BoundDevice,
    StrictConsole,
)

ANN, BEN = "02:00:00:00:0c:01", "02:00:00:00:0C:02"
"""As they write themselves: the console compares letter by letter."""


def under(console: StrictConsole, **more: Any) -> dict[str, Any]:
    """Settings of a server under this console."""
    return {"manager-api": {"url": console.api_url, "secret": SECRET, "retry_delay": 0}, **more}


def bind(console: StrictConsole, stage: Stage, mac: str, *, voice: str, prompt: str, **more: Any) -> BoundDevice:
    """An agent with a prompt and a voice of its own."""
    endpoint = {"type": "openai", "api_key": f"key-of-{voice}", "model_name": "m", "base_url": stage.vendor.base_url}
    speech = {"type": "openai", "api_key": "k", "api_url": stage.vendor.base_url, "model": "m", "voice": "unused",
              "private_voice": voice, "response_format": "wav", "language": "普通话"}  # fmt: skip
    models = {
        "LLM": {"LLM_x": endpoint},
        "TTS": {"TTS_x": speech},
        "Memory": {"Memory_nomem": {"type": "nomem"}},
        "Intent": {"Intent_function_call": {"type": "function_call"}},
        "selected_module": {"TTS": "TTS_x", "LLM": "LLM_x", "Memory": "Memory_nomem", "Intent": "Intent_function_call"},
        "prompt": prompt,
        "summaryMemory": None,
        **more,
    }
    device = console.bound[mac] = BoundDevice(models)
    return device


def page_of(stage: Stage) -> str:
    """The page for people."""
    with urllib.request.urlopen(f"http://127.0.0.1:{stage.server.http_port}/", timeout=60) as reply:
        return str(reply.read().decode())
