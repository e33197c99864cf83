"""What the first-run guide offers: which blocks serve together, and what each needs to be told.

Blocks are those of config/vendors.yaml; where an installation lacks one, or its type, the choice is not offered. Reads
the disk for models: call it in a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from xiaozhi.models.catalogue import COMMAND, DEFAULT, FOLDER, MODELS
from xiaozhi.models.entries import KnownModel
from xiaozhi.models.fetching import progress
from xiaozhi.models.speech import DEFAULT_SPEECH
from xiaozhi.providers import registry
from xiaozhi.settings import SECTIONS, Loaded
from xiaozhi.settings.layers import Path

SETUP: Final = "make setup WITH={}"


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing to be typed, and where it goes. `usual`: stands in the field already."""

    name: str
    paths: tuple[Path, ...]
    secret: bool = False
    usual: str = ""


@dataclass(frozen=True, slots=True)
class Preset:
    """`selected`: section -> block. `models`: names of models that must be there."""

    name: str
    selected: Mapping[str, str]
    asks: tuple[Ask, ...] = ()
    models: tuple[str, ...] = ()


PRESETS: Final = (
    Preset(
        "offline",
        {"ASR": "Offline", "LLM": "Offline", "TTS": "Offline"},
        models=tuple(model.name for model in DEFAULT_SPEECH),
    ),
    Preset(
        "openai",
        {"ASR": "OpenaiASR", "LLM": "OpenaiLLM", "TTS": "OpenAITTS"},
        (
            Ask(
                "address",
                (("LLM", "OpenaiLLM", "base_url"), ("ASR", "OpenaiASR", "base_url"), ("TTS", "OpenAITTS", "api_url")),
                usual="https://api.openai.com/v1",
            ),
            Ask(
                "key",
                (("LLM", "OpenaiLLM", "api_key"), ("ASR", "OpenaiASR", "api_key"), ("TTS", "OpenAITTS", "api_key")),
                secret=True,
            ),
            Ask("model_llm", (("LLM", "OpenaiLLM", "model_name"),), usual="gpt-4o-mini"),
            Ask("model_asr", (("ASR", "OpenaiASR", "model_name"),), usual="gpt-4o-mini-transcribe"),
            Ask("model_tts", (("TTS", "OpenAITTS", "model"),), usual="tts-1"),
            Ask("voice", (("TTS", "OpenAITTS", "voice"),), usual="nova"),
        ),
    ),
    Preset(
        "aliyun",
        {"ASR": "AliyunBLStreamASR", "LLM": "AliLLM", "TTS": "AliBLTTS"},
        (
            Ask(
                "key",
                (("LLM", "AliLLM", "api_key"), ("ASR", "AliyunBLStreamASR", "api_key"), ("TTS", "AliBLTTS", "api_key")),
                secret=True,
            ),
        ),
    ),
    Preset(
        "doubao",
        {"ASR": "DoubaoStreamASR", "LLM": "DoubaoLLM", "TTS": "HuoshanDoubleStreamTTS"},
        (
            Ask("key_ark", (("LLM", "DoubaoLLM", "api_key"),), secret=True),
            Ask("appid", (("ASR", "DoubaoStreamASR", "appid"), ("TTS", "HuoshanDoubleStreamTTS", "appid"))),
            Ask(
                "access_token",
                (("ASR", "DoubaoStreamASR", "access_token"), ("TTS", "HuoshanDoubleStreamTTS", "access_token")),
                secret=True,
            ),
        ),
    ),
    Preset("local", {"ASR": "SherpaASR", "TTS": "SherpaTTS"}, models=("sense-voice-int8", "kokoro-zh-en")),
)


def presets_for(loaded: Loaded) -> list[dict[str, Any]]:
    """Those that this installation can serve, as the page gets them."""
    return [_shown(preset) for preset in PRESETS if _is_there(loaded, preset)]


def _is_there(loaded: Loaded, preset: Preset) -> bool:
    kinds = {section: kind for kind, section in SECTIONS.items()}
    for section, name in preset.selected.items():
        block = loaded.settings.modules(kinds[section]).get(name)
        if block is None or registry.type_of(name, block) not in registry.known_types(kinds[section]):
            return False
    return True


def _shown(preset: Preset) -> dict[str, Any]:
    return {
        "name": preset.name,
        "selected": dict(preset.selected),
        "asks": [
            {"name": ask.name, "secret": ask.secret, "usual": ask.usual, "paths": [list(path) for path in ask.paths]}
            for ask in preset.asks
        ],
        "steps": _steps(preset),
    }


def _steps(preset: Preset) -> list[dict[str, Any]]:
    """Commands that bring the libraries and models of a preset, and how far they have been done. `make run` does those
    of the offline default by itself."""
    models = [model for model in MODELS if model.name in preset.models]
    if models == list(DEFAULT_SPEECH):
        return [_fetch_step(DEFAULT, models)]
    libraries = sorted({model.needs for model in models})
    return [
        *({"command": SETUP.format(library), "size_mb": None, "done": None} for library in libraries),
        *(_fetch_step(model.name, [model]) for model in models),
    ]


def _fetch_step(name: str, models: Sequence[KnownModel]) -> dict[str, Any]:
    found = progress(models, FOLDER)
    return {
        "command": f"{COMMAND} {name}",
        "size_mb": round(found.whole / 1e6),
        "here_mb": round(found.here / 1e6),
        "running": found.running,
        "done": found.here == found.whole,
    }
