"""The models that `server.py models fetch` knows: what each is for, its licence, its files, where they are published.

A table, no network. Checksums were taken from public listings (Git LFS pointers, lock files and manifests of other
projects that agree with each other) and not from downloads of our own; where none was found, `sha256` is "" and what a
download has is told after it. A mirror that carries other bytes is passed over, so a mirror need not be trusted.

Sources: the releases of k2-fsa/sherpa-onnx (tags asr-models, tts-models, vocoder-models), the repositories of
csukuangfj on Hugging Face, pengzhendong and iic on ModelScope, https://alphacephei.com/vosk/models."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from xiaozhi.models.entries import KnownModel, ModelFile, hub
from xiaozhi.models.speech import DEFAULT_SPEECH, OPTIONAL_SPEECH

FOLDER = Path("models")
"""Where models lie, seen from the server's folder: the blocks of existing configurations say `models/...`."""
DEFAULT = "default"
"""The name of the set of models that `make run` fetches."""
COMMAND = ".venv/bin/python server.py models fetch"


def _release(tag: str, name: str) -> str:
    return f"https://github.com/k2-fsa/sherpa-onnx/releases/download/{tag}/{name}"


def _archive(tag: str, folder: str, size: int, sha256: str) -> ModelFile:
    """The second source is a public proxy of GitHub for where that is slow; the checksum says whether it is honest."""
    name = f"{folder}.tar.bz2"
    address = _release(tag, name)
    return ModelFile(name, size, (address, f"https://gh-proxy.com/{address}"), sha256, unpack=True)


_SENSE_VOICE = "csukuangfj/sherpa-onnx-sense-voice-zh-en-ja-ko-yue-2024-07-17"
_SENSE_VOICE_MIRROR = "pengzhendong/sherpa-onnx-sense-voice-zh-en-ja-ko-yue"
_PARAFORMER = "csukuangfj/sherpa-onnx-paraformer-zh-small-2024-03-09"
_SENSE_VOICE_SMALL = "FunAudioLLM/SenseVoiceSmall"
_SENSE_VOICE_SMALL_REVISION = "3847d57b6bdf2dd8875cb1508d2af43d80a16bf7"


def _sense_voice_small(name: str, size: int, sha256: str) -> ModelFile:
    sources = hub(_SENSE_VOICE_SMALL, name, modelscope="iic/SenseVoiceSmall", revision=_SENSE_VOICE_SMALL_REVISION)
    return ModelFile(name, size, sources, sha256)


MODELS: tuple[KnownModel, ...] = (
    *DEFAULT_SPEECH,
    *OPTIONAL_SPEECH,
    KnownModel(
        "sense-voice-int8",
        "recognition, whole utterances, emotion; the first choice",
        "zh en ja ko yue",
        "FunASR Model License 1.1",
        "sherpa",
        "sherpa-onnx-sense-voice-zh-en-ja-ko-yue-2024-07-17",
        (
            ModelFile(
                "model.int8.onnx",
                239_233_841,
                hub(_SENSE_VOICE, "model.int8.onnx", modelscope=_SENSE_VOICE_MIRROR),
                "c71f0ce00bec95b07744e116345e33d8cbbe08cef896382cf907bf4b51a2cd51",
            ),
            ModelFile(
                "tokens.txt",
                315_894,
                hub(_SENSE_VOICE, "tokens.txt", modelscope=_SENSE_VOICE_MIRROR),
                "f449eb28dc567533d7fa59be34e2abca8784f771850c78a47fb731a31429a1dc",
            ),
        ),
    ),
    KnownModel(
        "paraformer-zh-small",
        "recognition, whole utterances; for small machines",
        "zh en",
        "FunASR Model License 1.1",
        "sherpa",
        "sherpa-onnx-paraformer-zh-small-2024-03-09",
        (
            ModelFile(
                "model.int8.onnx",
                81_828_675,
                hub(_PARAFORMER, "model.int8.onnx", modelscope=_PARAFORMER),
                "3ef6c19369b912f7caf3cef8e545c5ccd1a33d9d7ec792a46668dc41c4b229ec",
            ),
            ModelFile(
                "tokens.txt",
                75_352,
                hub(_PARAFORMER, "tokens.txt", modelscope=_PARAFORMER),
                "4b2d964e18b9cf139b473003b6698fb2ed9a2a5ec55b93daa677b28f578897aa",
            ),
        ),
    ),
    KnownModel(
        "zipformer-zh-streaming",
        "recognition while the user speaks",
        "zh",
        "Apache-2.0 (code; see the model's card)",
        "sherpa",
        "sherpa-onnx-streaming-zipformer-zh-int8-2025-06-30",
        (
            _archive(
                "asr-models",
                "sherpa-onnx-streaming-zipformer-zh-int8-2025-06-30",
                132_634_597,
                "5a2832047ea1f97dd0dc595b816c230c4bafad65cfc0341fa57517cadc50afd0",
            ),
        ),
    ),
    KnownModel(
        "zipformer-zh-en-streaming",
        "recognition while the user speaks, small (58 MB used of a large archive)",
        "zh en",
        "Apache-2.0",
        "sherpa",
        "sherpa-onnx-streaming-zipformer-small-bilingual-zh-en-2023-02-16",
        (
            _archive(
                "asr-models",
                "sherpa-onnx-streaming-zipformer-small-bilingual-zh-en-2023-02-16",
                458_187_351,
                "2b7c63322b32e5e0f2526043a1103366119ca58dd615cd7105a37c01db9553d7",
            ),
        ),
    ),
    KnownModel(
        "whisper-tiny",
        "recognition, whole utterances",
        "some 90",
        "MIT",
        "sherpa",
        "sherpa-onnx-whisper-tiny",
        (
            _archive(
                "asr-models",
                "sherpa-onnx-whisper-tiny",
                116_204_861,
                "c46116994e539aa165266d96b325252728429c12535eb9d8b6a2b10f129e66b1",
            ),
        ),
    ),
    KnownModel(
        "whisper-base",
        "recognition, whole utterances",
        "some 90",
        "MIT",
        "sherpa",
        "sherpa-onnx-whisper-base",
        (
            _archive(
                "asr-models",
                "sherpa-onnx-whisper-base",
                207_557_382,
                "911b2083efd7c0dca2ac3b358b75222660dc09fb716d64fbfc417ba6c99ff3de",
            ),
        ),
    ),
    KnownModel(
        "sense-voice-small",
        "recognition by FunASR (PyTorch): what `type: fun_local` had so far",
        "zh en ja ko yue",
        "FunASR Model License 1.1",
        "funasr",
        "SenseVoiceSmall",
        (
            _sense_voice_small(
                "model.pt", 936_291_369, "833ca2dcfdf8ec91bd4f31cfac36d6124e0c459074d5e909aec9cabe6204a3ea"
            ),
            _sense_voice_small(
                "config.yaml", 1_855, "f71e239ba36705564b5bf2d2ffd07eece07b8e3f2bbf6d2c99d8df856339ac19"
            ),
            _sense_voice_small(
                "configuration.json", 396, "02810a7f8e9e8aee10370a265f7e799728ce25b4c00cdbf4602b303ee395a38e"
            ),
            _sense_voice_small("am.mvn", 11_203, "29b3c740a2c0cfc6b308126d31d7f265fa2be74f3bb095cd2f143ea970896ae5"),
            _sense_voice_small(
                "chn_jpn_yue_eng_ko_spectok.bpe.model",
                377_341,
                "aa87f86064c3730d799ddf7af3c04659151102cba548bce325cf06ba4da4e6a8",
            ),
        ),
    ),
    KnownModel(
        "vosk-small-cn",
        "recognition while the user speaks",
        "zh",
        "Apache-2.0",
        "vosk",
        "vosk-model-small-cn-0.22",
        (
            ModelFile(
                "vosk-model-small-cn-0.22.zip",
                43_900_000,
                ("https://alphacephei.com/vosk/models/vosk-model-small-cn-0.22.zip",),
                "3af8b0e7e0f835ae9d414ce5df580237a3cfb08d586c9fbbb0f7ff29ad5b14ba",
                unpack=True,
            ),
        ),
    ),
    KnownModel(
        "vosk-small-en",
        "recognition while the user speaks",
        "en",
        "Apache-2.0",
        "vosk",
        "vosk-model-small-en-us-0.15",
        (
            ModelFile(
                "vosk-model-small-en-us-0.15.zip",
                41_205_931,
                ("https://alphacephei.com/vosk/models/vosk-model-small-en-us-0.15.zip",),
                "30f26242c4eb449f948e42cb302dd7a686cb29a3423a8367f99ff41780942498",
                unpack=True,
            ),
        ),
    ),
    KnownModel(
        "kokoro-zh-en-int8",
        "voice, 103 speakers",
        "zh en",
        "Apache-2.0",
        "sherpa",
        "kokoro-int8-multi-lang-v1_1",
        (
            _archive(
                "tts-models",
                "kokoro-int8-multi-lang-v1_1",
                147_031_220,
                "a1e94694776049035c4f2c6529f003aaece993c76aae9a78995831c3c4dcafc6",
            ),
        ),
    ),
    KnownModel(
        "kokoro-zh-en",
        "voice, 103 speakers, not quantised",
        "zh en",
        "Apache-2.0",
        "sherpa",
        "kokoro-multi-lang-v1_1",
        (
            _archive(
                "tts-models",
                "kokoro-multi-lang-v1_1",
                364_816_464,
                "a3f4c73d043860e3fd2e5b06f36795eb81de0fc8e8de6df703245edddd87dbad",
            ),
        ),
    ),
    KnownModel(
        "melo-zh-en",
        "voice (VITS), one speaker",
        "zh en",
        "MIT",
        "sherpa",
        "vits-melo-tts-zh_en",
        (
            _archive(
                "tts-models",
                "vits-melo-tts-zh_en",
                167_006_755,
                "e58351ed7149f290a54534538badd4077cdbe6fddc964b24d0bee870415d1514",
            ),
        ),
    ),
    KnownModel(
        "matcha-zh",
        "voice (Matcha), one speaker; the quickest",
        "zh",
        "not for commercial use (Baker data)",
        "sherpa",
        "matcha-icefall-zh-baker",
        (
            _archive(
                "tts-models",
                "matcha-icefall-zh-baker",
                75_463_442,
                "20de2ec034b55562609d6362771c934905dfe11d0f41ec103d593427ad9a7efb",
            ),
            ModelFile("vocos-22khz-univ.onnx", 53_884_024, (_release("vocoder-models", "vocos-22khz-univ.onnx"),)),
        ),
    ),
)


def known_model(name: str, models: Iterable[KnownModel] = MODELS) -> KnownModel | None:
    """The model of that name, or whose folder is called so."""
    return next((model for model in models if name in (model.name, model.folder)), None)


def named(name: str, models: Iterable[KnownModel] = MODELS) -> tuple[KnownModel, ...]:
    """The models that a command means: one by its name, or those of the set "default"; none for any other word."""
    if name == DEFAULT:
        return DEFAULT_SPEECH
    found = known_model(name, models)
    return () if found is None else (found,)


def command_for(folder: str, otherwise: str) -> str:
    """The command that brings the model of a `model_dir` there: the model whose folder is called so, else the one named
    `otherwise`."""
    path = Path(folder)
    found = known_model(path.name)
    if found is not None and path == FOLDER / found.folder:
        return f"{COMMAND} {found.name}"
    name = otherwise if found is None else found.name
    return f"{COMMAND} {name} --into {folder}" if folder else f"{COMMAND} {name}"
