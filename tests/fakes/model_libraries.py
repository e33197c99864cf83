"""Stand-ins for libraries whose models are too large for tests: they take what the real ones take and refuse the rest,
and hear loudness like `tiny_models`. By the sources of vosk 0.3.45 (its Python binding), funasr 1.4.16 (AutoModel,
SenseVoiceSmall) and ctranslate2 4.8.5 (models.Whisper)."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gevent import monkey

SENSE_VOICE_PARTS = ("model.pt", "configuration.json", "config.yaml", "am.mvn", "chn_jpn_yue_eng_ko_spectok.bpe.model")


def a_vosk_model(folder: Path) -> Path:
    """The files that make a folder look like a Vosk model."""
    for name in ("am/final.mdl", "conf/model.conf"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def a_sense_voice_small(folder: Path) -> Path:
    """The files that make a folder look like FunASR's SenseVoiceSmall."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SENSE_VOICE_PARTS:
        (folder / name).write_bytes(b"x")
    return folder


def _installed(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(members)
    module.__spec__ = importlib.util.spec_from_loader(name, None)
    monkeypatch.setitem(sys.modules, name, module)


def _loud(samples: Any) -> bool:
    return bool(len(samples)) and float(np.abs(samples).mean()) > 0.01


class VoskModel:
    """One model, loaded from a folder."""

    loaded = 0

    def __init__(self, model_path: str) -> None:
        if not (Path(model_path) / "conf/model.conf").is_file():
            raise Exception("Failed to create a model")
        VoskModel.loaded += 1


class VoskRecogniser:
    """One utterance: says "你 好" once it has heard half a second, and ends a sentence at two seconds."""

    def __init__(self, model: VoskModel, rate: int) -> None:
        assert isinstance(model, VoskModel) and rate == 16_000
        self._loud = 0
        self._heard = 0
        self._ended = False

    def AcceptWaveform(self, data: bytes) -> int:
        """1 when a sentence has ended."""
        assert isinstance(data, bytes) and data and len(data) % 2 == 0 and not self._ended
        samples = np.frombuffer(data, "<i2") / 32_768
        self._heard += len(samples)
        self._loud += len(samples) if _loud(samples) else 0
        return 1 if self._heard >= 32_000 else 0

    def _text(self) -> str:
        return "你 好" if self._loud >= 8_000 else ""

    def Result(self) -> str:
        """The sentence that has ended."""
        text, self._loud, self._heard = self._text(), 0, 0
        return json.dumps({"text": text})

    def PartialResult(self) -> str:
        """What it has of the sentence under way."""
        return json.dumps({"partial": self._text()})

    def FinalResult(self) -> str:
        """The rest."""
        self._ended = True
        return json.dumps({"text": self._text()})


def stand_in_vosk(monkeypatch: pytest.MonkeyPatch) -> None:
    """`import vosk` gives this one."""
    VoskModel.loaded = 0
    _installed(monkeypatch, "vosk", Model=VoskModel, KaldiRecognizer=VoskRecogniser, SetLogLevel=lambda level: None)


class FunAsrModel:
    """Says "你好。" in the marks of SenseVoice."""

    made: list[dict[str, Any]] = []
    languages: list[str] = []

    def __init__(self, **options: Any) -> None:
        wanted = {"model", "device", "ncpu", "disable_update", "disable_pbar", "log_level"}
        assert set(options) == wanted and options["disable_update"] is True and options["ncpu"] == 1
        if (Path(options["model"]) / "config.yaml").read_bytes() == b"broken":
            raise AssertionError("model is not registered")
        FunAsrModel.made.append(options)
        self._busy = False

    def generate(self, **asked: Any) -> list[dict[str, str]]:
        """One result for one sound."""
        assert set(asked) == {"input", "cache", "language", "use_itn", "batch_size_s"}
        assert not self._busy, "two utterances at once"
        self._busy = True
        try:
            samples = asked["input"]
            assert isinstance(samples, np.ndarray) and samples.dtype == np.float32 and len(samples) >= 800
            FunAsrModel.languages.append(asked["language"])
            monkey.get_original("time", "sleep")(0.005)  # sleep: it computes, and another thread may come
            text = "你好。" if _loud(samples) else ""
            return [{"key": "x", "text": f"<|zh|><|HAPPY|><|Speech|><|withitn|>{text}"}]
        finally:
            self._busy = False


def stand_in_funasr(monkeypatch: pytest.MonkeyPatch) -> None:
    """`import funasr` gives this one."""
    monkeypatch.setattr(FunAsrModel, "made", [])
    monkeypatch.setattr(FunAsrModel, "languages", [])
    _installed(monkeypatch, "funasr", AutoModel=FunAsrModel)


def a_whisper_model(folder: Path) -> Path:
    """The files that make a folder look like a faster-whisper model."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("model.bin", "config.json", "vocabulary.txt"):
        (folder / name).write_bytes(b"x")
    return folder


@dataclass(slots=True)
class WhisperGeneration:
    """What the library gives back for one prompt."""

    sequences: list[list[str]]
    scores: list[float]
    no_speech_prob: float


class WhisperModel:
    """Hears "你好" in loud sound and nothing in silence; `script` says otherwise for the next calls: (pieces, score, no
    speech), and `others` what else it may have been: (pieces, score). `asked`: (frames, prompt) of each call, and
    `refused` the pieces that it must not write."""

    asked: list[tuple[int, list[str]]] = []
    refused: list[list[int]] = []
    script: list[tuple[list[str], float, float]] = []
    others: list[tuple[list[str], float]] = []
    language = "zh"
    loaded: list[dict[str, Any]] = []

    def __init__(self, model_path: str, **options: Any) -> None:
        assert options.keys() == {"device", "compute_type", "inter_threads", "intra_threads"}
        if (Path(model_path) / "model.bin").read_bytes() == b"broken":
            raise RuntimeError("Unsupported model binary version")
        WhisperModel.loaded.append(options)
        self.is_multilingual = (Path(model_path) / "config.json").read_bytes() != b"en"

    def encode(self, features: Any) -> Any:
        """As they are; the sound is in there."""
        assert features.shape[:2] == (1, 80) and features.dtype == np.float32 and features.shape[2] <= 3_000
        return features

    def detect_language(self, features: Any) -> list[list[tuple[str, float]]]:
        """One language."""
        return [[(f"<|{self.language}|>", 0.9), ("<|ja|>", 0.1)]]

    def generate(self, features: Any, prompts: list[list[str]], **options: Any) -> list[WhisperGeneration]:
        """One result for one prompt."""
        assert options["return_scores"] and options["return_no_speech_prob"] and options["max_length"] <= 448
        assert len(self.others) < options["num_hypotheses"] <= options["beam_size"]
        WhisperModel.asked.append((features.shape[2], prompts[0]))
        WhisperModel.refused.append(options["suppress_tokens"])
        if self.script:
            pieces, score, no_speech = self.script.pop(0)
        else:
            loud = float(features.max()) > 0
            pieces, score, no_speech = (["ä½ł", "å¥½", "<|endoftext|>"], -0.2, 0.0) if loud else ([], -2.0, 0.9)
        texts, scores = zip((pieces, score), *self.others, strict=True)
        return [WhisperGeneration([*texts], [*scores], no_speech)]


def stand_in_ctranslate2(monkeypatch: pytest.MonkeyPatch) -> type[WhisperModel]:
    """`import ctranslate2` gives this one."""
    for name in ("asked", "refused", "script", "others", "loaded"):
        monkeypatch.setattr(WhisperModel, name, [])
    storage = types.SimpleNamespace(from_array=lambda array: array)
    models = types.SimpleNamespace(Whisper=WhisperModel)
    _installed(monkeypatch, "ctranslate2", StorageView=storage, models=models)
    return WhisperModel
