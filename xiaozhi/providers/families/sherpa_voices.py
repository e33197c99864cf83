"""Voices of sherpa-onnx: which files of a folder make a model of a type, and how text becomes sound.

File names as the releases of k2-fsa/sherpa-onnx have them (tags tts-models, vocoder-models)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from xiaozhi.providers.families.model_files import first_of
from xiaozhi.providers.families.sherpa_library import SherpaModel

WANTED: Final = {
    "vits": "a model (.onnx), tokens.txt, and lexicon.txt or espeak-ng-data",
    "kokoro": "model.onnx, voices.bin, tokens.txt and espeak-ng-data",
    "matcha": "model-steps-*.onnx, tokens.txt, lexicon.txt or espeak-ng-data, and vocos*.onnx or hifigan*.onnx",
}
"""Type -> the files that its folder has, for people."""
FETCHED: Final = {"vits": "melo-zh-en", "kokoro": "kokoro-zh-en-int8", "matcha": "matcha-zh"}
"""Type -> the model of the catalogue to offer."""
_VOCODERS: Final = ("*vocos*.onnx", "*hifigan*.onnx", "*vocoder*.onnx")
_RULES: Final = ("phone", "date", "number", "new_heteronym")


def kind_of(folder: Path) -> str:
    """The type of the model in a folder, by its files."""
    if (folder / "voices.bin").is_file():
        return "kokoro"
    return "matcha" if first_of(folder, "model-steps-*.onnx") or first_of(folder, *_VOCODERS) else "vits"


def voice(kind: str, folder: Path, vocoder: Path | None = None) -> SherpaModel | None:
    """The model of type `kind` in `folder`; None when files are missing. `vocoder`: of Matcha, where it lies
    elsewhere."""
    tokens = first_of(folder, "tokens.txt")
    if tokens is None:
        return None
    spoken: dict[str, Any] = {"tokens": tokens, "lexicon": _lexicons(folder), "data_dir": ""}
    if (folder / "espeak-ng-data").is_dir():
        spoken["data_dir"] = folder / "espeak-ng-data"
    files = _files(kind, folder, vocoder)
    if files is None or (kind != "vits" and not (spoken["lexicon"] or spoken["data_dir"])):
        return None
    rules = ",".join(str(path.resolve()) for path in _rules(folder))
    return SherpaModel.of("OfflineTts", kind=kind, files={**files, **spoken}, rules=rules)


def _files(kind: str, folder: Path, vocoder: Path | None) -> dict[str, Any] | None:
    """What the model itself is made of."""
    if kind == "matcha":
        acoustic = first_of(folder, "model-steps-*.onnx", "model*.onnx")
        found = vocoder if vocoder is not None and vocoder.is_file() else first_of(folder, *_VOCODERS)
        return {"acoustic_model": acoustic, "vocoder": found} if acoustic and found else None
    model = first_of(folder, "model.onnx", "model.int8.onnx", "*.onnx")
    if kind == "kokoro":
        voices = first_of(folder, "voices.bin")
        return {"model": model, "voices": voices} if model and voices else None
    return {"model": model} if model else None


def _lexicons(folder: Path) -> str:
    """All of them; of English, the American one where there are two."""
    found = sorted(folder.glob("lexicon*.txt"))
    if any("us-en" in path.name for path in found):
        found = [path for path in found if "gb-en" not in path.name]
    return ",".join(str(path.resolve()) for path in found)


def _rules(folder: Path) -> list[Path]:
    """Rules by which numbers and dates are read, in the order in which they must be tried."""
    return [path for name in _RULES for path in (first_of(folder, f"{name}*.fst"),) if path is not None]


def spoken(model: Any, text: str, speaker: int, speed: float) -> tuple[bytes, int]:
    """(s16le mono PCM, its rate in Hz); no bytes when the model knows nothing of the text. In a pool thread."""
    made = model.generate(text, sid=speaker, speed=speed)
    samples = np.asarray(made.samples, dtype=np.float32)
    return (np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes(), int(made.sample_rate)


def speakers_of(model: Any) -> int:
    """How many speakers a model has; 1 where it does not say."""
    return max(1, int(model.num_speakers))
