"""The neural voices of this machine keep the contract of a voice that takes single sentences: English by hibari, and
Mandarin by a tiny model with Kokoro's inputs."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.loopback import local_subject
from tests.contract.speaking import TtsSentenceContract
from tests.fakes.tiny_kokoro import tiny_kokoro
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.tts.local_neural import LocalNeuralTts, LocalNeuralTtsOptions
from xiaozhi.runtime.inference import InferencePool


@functools.cache
def _kept() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """A folder with the model, as long as this process lives."""
    folder = tempfile.TemporaryDirectory()
    return folder, tiny_kokoro(Path(folder.name) / "model")


@pytest.fixture(scope="module", autouse=True)
def loaded() -> Iterator[None]:
    """The models are loaded once for all tests here."""
    pool = InferencePool(workers=2)
    tts = LocalNeuralTts(LocalNeuralTtsOptions(model_dir=str(_kept()[1])), Services(inference=pool))
    tts.warm_up()
    yield
    tts.close()
    pool.close()


class TestLocalNeural(TtsSentenceContract):
    type_name = "local_neural"
    vendor = False

    def subject(self) -> Any:
        return local_subject("tts", {"type": self.type_name, "model_dir": str(_kept()[1])})
