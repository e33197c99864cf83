"""The recognisers and voices that run models on this machine keep their contracts, on tiny models in the real library
where there is one (tests/fakes/tiny_models.py). Vosk's models cannot be made here, and FunASR's library is gigabytes:
both are stood in for (tests/fakes/model_libraries.py)."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.loopback import local_subject
from tests.contract.speaking import TtsSentenceContract
from tests.contract.suites import AsrBatchContract, AsrStreamContract
from tests.fakes import tiny_models
from tests.fakes.model_libraries import (
    a_sense_voice_small,
    a_vosk_model,
    a_whisper_model,
    stand_in_ctranslate2,
    stand_in_funasr,
    stand_in_vosk,
)


@functools.cache
def _kept(make: Callable[[Path], Path]) -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """A folder with the model, as long as this process lives."""
    folder = tempfile.TemporaryDirectory()
    return folder, make(Path(folder.name) / "model")


def on(make: Callable[[Path], Path], kind: str, block: dict[str, Any], key: str = "model_dir") -> Any:
    """The Subject of a provider with that model."""
    return local_subject(kind, {**block, key: str(_kept(make)[1])})


class TestSherpaUtterances(AsrBatchContract):
    type_name = "sherpa_onnx_local"
    vendor = False

    def subject(self) -> Any:
        return on(tiny_models.sense_voice, "asr", {"type": self.type_name})


class TestSherpaStreaming(AsrStreamContract):
    type_name = "sherpa_onnx_local"
    vendor = False

    def subject(self) -> Any:
        block = {"type": self.type_name, "model_type": "zipformer", "streaming": True}
        return on(tiny_models.streaming_transducer, "asr", block)


class TestSherpaVoice(TtsSentenceContract):
    type_name = "sherpa_onnx_local"
    vendor = False

    def subject(self) -> Any:
        return on(tiny_models.vits, "tts", {"type": self.type_name})


class TestFunLocalLight(AsrBatchContract):
    type_name = "fun_local"
    vendor = False

    def subject(self) -> Any:
        return on(tiny_models.sense_voice, "asr", {"type": self.type_name})


class TestFunLocalByFunAsr(AsrBatchContract):
    type_name = "fun_local"
    vendor = False

    @pytest.fixture(autouse=True)
    def library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stand_in_funasr(monkeypatch)

    def subject(self) -> Any:
        return on(a_sense_voice_small, "asr", {"type": self.type_name})


class TestVosk(AsrStreamContract):
    type_name = "vosk"
    vendor = False

    @pytest.fixture(autouse=True)
    def library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stand_in_vosk(monkeypatch)

    def subject(self) -> Any:
        return on(a_vosk_model, "asr", {"type": self.type_name}, key="model_path")


class TestWhisper(AsrBatchContract):
    type_name = "whisper"
    vendor = False

    @pytest.fixture(autouse=True)
    def library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stand_in_ctranslate2(monkeypatch)

    def subject(self) -> Any:
        return on(a_whisper_model, "asr", {"type": self.type_name})
