"""Speech recognisers of sherpa-onnx: which files of a folder make a model of a type, and how sound becomes text.

File names as the releases of k2-fsa/sherpa-onnx have them; quantised files are preferred, except for the small decoder
of a transducer, as their documentation does. `heard` is for models that hear a whole utterance, `Listening` is one
utterance of a model that hears it while it is spoken. What computes runs in the inference pool.

Streams of several speakers are not decoded in one call: on one thread, a chain of int8 matrices as large as the
encoders of small Zipformers costs 1.5 ms for a chunk alone, 1.4 by twos, 1.3 by fours and 1.1 by eights (measured;
fp32: 4.6, 3.8, 3.3, 3.1), while a process hears one to three speakers at a time; and one call is one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, Transcript
from xiaozhi.providers.families.local_utterance import Hearing, readable
from xiaozhi.providers.families.model_files import first_of
from xiaozhi.providers.families.sensevoice_tags import transcript
from xiaozhi.providers.families.sherpa_library import SherpaModel

WANTED: Final = {
    "sense_voice": "model.int8.onnx (or model.onnx) and tokens.txt",
    "paraformer": "model.int8.onnx (or model.onnx; encoder and decoder for a streaming one) and tokens.txt",
    "whisper": "...-encoder.onnx, ...-decoder.onnx and ...-tokens.txt",
    "zipformer": "encoder, decoder and joiner (or model.onnx of a CTC model) and tokens.txt",
}
"""Type -> the files that its folder has, for people."""
FETCHED: Final = {
    "sense_voice": "sense-voice-int8",
    "paraformer": "paraformer-zh-small",
    "whisper": "whisper-base",
    "zipformer": "zipformer-zh-streaming",
}
"""Type -> the model of the catalogue to offer."""
SENSE_VOICE_LANGUAGES: Final = ("zh", "en", "ja", "ko", "yue")
STREAMING_TYPES: Final = ("paraformer", "zipformer")
TAIL_S: Final = 0.66
"""Silence behind an utterance: a streaming model says its last words only when it has heard what follows."""
WHISPER_S: Final = 28
"""Whisper hears 30 s at once, of which its padding takes some."""

Samples = npt.NDArray[np.float32]


def checked_language(kind: str, language: str) -> str:
    """`language` as `recogniser` takes it: "auto", or a code ("zh" of "zh-CN"). Raises ValueError for what a model of
    this type does not take."""
    code = language.strip().lower().replace("_", "-").partition("-")[0]
    if kind == "whisper" or code == "auto":
        return code
    if kind != "sense_voice":
        raise ValueError(f"auto: a {kind} model hears the languages that it was made for")
    if code not in SENSE_VOICE_LANGUAGES:
        raise ValueError(f"auto, {', '.join(SENSE_VOICE_LANGUAGES)}")
    return code


def recogniser(kind: str, folder: Path, *, language: str, itn: bool, streaming: bool) -> SherpaModel | None:
    """The model of type `kind` in `folder`; None when files are missing. `language`: "auto", or a code."""
    spoken = "" if language == "auto" else language
    tokens = first_of(folder, "tokens.txt", "*tokens.txt")
    if tokens is None:
        return None
    common = {"tokens": tokens, "num_threads": 1, "provider": "cpu"}
    single = first_of(folder, "model.int8.onnx", "model.onnx", "*.int8.onnx", "*.onnx")
    encoder = first_of(folder, "*encoder*.int8.onnx", "*encoder*.onnx")
    decoder = first_of(folder, "*decoder*.int8.onnx", "*decoder*.onnx")
    if kind == "sense_voice" and single:
        return SherpaModel.of(
            "OfflineRecognizer.from_sense_voice", model=single, language=spoken, use_itn=itn, **common
        )
    if kind == "whisper" and encoder and decoder:
        return SherpaModel.of(
            "OfflineRecognizer.from_whisper", encoder=encoder, decoder=decoder, language=spoken, **common
        )
    if kind == "paraformer" and streaming and encoder and decoder:
        return SherpaModel.of("OnlineRecognizer.from_paraformer", encoder=encoder, decoder=decoder, **common)
    if kind == "paraformer" and not streaming and single:
        return SherpaModel.of("OfflineRecognizer.from_paraformer", paraformer=single, **common)
    if kind == "zipformer":
        return _zipformer(folder, common, encoder, single, streaming=streaming)
    return None


def _zipformer(
    folder: Path, common: dict[str, Any], encoder: Path | None, single: Path | None, *, streaming: bool
) -> SherpaModel | None:
    joiner = first_of(folder, "*joiner*.int8.onnx", "*joiner*.onnx")
    decoder = first_of(folder, "*decoder*[0-9r].onnx", "*decoder*.onnx")
    owner = "OnlineRecognizer" if streaming else "OfflineRecognizer"
    if encoder and decoder and joiner:
        return SherpaModel.of(f"{owner}.from_transducer", encoder=encoder, decoder=decoder, joiner=joiner, **common)
    if single and not encoder:
        method = "from_zipformer2_ctc" if streaming else "from_zipformer_ctc"
        return SherpaModel.of(f"{owner}.{method}", model=single, **common)
    return None


def heard(model: Any, kind: str, pcm: bytes) -> Transcript:
    """The text of a whole utterance (s16le mono 16 kHz)."""
    longest = WHISPER_S * ASR_SAMPLE_RATE if kind == "whisper" else len(pcm) or 1
    samples = as_floats(pcm)
    parts = [_decoded(model, samples[start : start + longest]) for start in range(0, len(samples), longest)]
    if len(parts) == 1:
        return parts[0]
    language, emotion = (parts[0].language, parts[0].emotion) if parts else ("", "")
    return Transcript(readable(" ".join(part.text for part in parts)), language, emotion)


def _decoded(model: Any, samples: Samples) -> Transcript:
    stream = model.create_stream()
    stream.accept_waveform(ASR_SAMPLE_RATE, samples)
    model.decode_stream(stream)
    result = stream.result
    marks = "".join(mark for mark in (result.lang, result.emotion) if mark.startswith("<|"))
    language = "" if result.lang.startswith("<|") else result.lang
    return transcript(f"{marks}{readable(result.text)}", language=language)


class Listening(Hearing):
    """One utterance of a streaming model. The model is shared, the stream is not."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._stream: Any = None

    def hear(self, pcm: bytes) -> str:
        """Everything heard so far."""
        if self._stream is None:
            self._stream = self._model.create_stream()
        self._stream.accept_waveform(ASR_SAMPLE_RATE, as_floats(pcm))
        return self._read()

    def end(self, pcm: bytes) -> Transcript:
        """Hear the last of it; the text."""
        self.hear(pcm + bytes(2 * int(TAIL_S * ASR_SAMPLE_RATE)))
        self._stream.input_finished()
        return Transcript(self._read())

    def _read(self) -> str:
        while self._model.is_ready(self._stream):
            self._model.decode_stream(self._stream)
        return readable(str(self._model.get_result(self._stream)))


def as_floats(pcm: bytes) -> Samples:
    """s16le PCM -> -1..1."""
    samples: Samples = np.frombuffer(pcm, dtype="<i2", count=len(pcm) // 2).astype(np.float32)
    samples *= np.float32(1 / 32_768)
    return samples
