"""Voices that are one HTTP request per sentence: a block of each as files have it, and its service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from loadtest.vendors.http_vendor import Script
from tests.contract.speaking import pcm_of
from tests.fakes.inference import InlineInference
from tests.vendors.speech_services import (
    KEY,
    TTS,
    Service,
    SpeechService,
    coze,
    elevenlabs,
    fish,
    index_tts,
    kokoro,
    minimax,
    paddle_http,
    siliconflow,
    sovits_v2,
    sovits_v3,
)
from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build

CONTEXT = CallContext(device_id="aa:bb")
SAMPLES: dict[str, dict[str, Any]] = {
    "siliconflow": {
        "type": "siliconflow",
        "model": "FunAudioLLM/CosyVoice2-0.5B",
        "voice": "FunAudioLLM/CosyVoice2-0.5B:alex",
        "output_dir": "tmp/",
        "access_token": KEY,
        "response_format": "wav",
    },
    "cozecn": {
        "type": "cozecn",
        "voice": 7426720361733046281,
        "output_dir": "tmp/",
        "access_token": KEY,
        "response_format": "wav",
    },
    "fishspeech": {
        "type": "fishspeech",
        "output_dir": "tmp/",
        "response_format": "wav",
        "reference_id": None,
        "normalize": True,
        "max_new_tokens": 1024,
        "chunk_length": 200,
        "top_p": 0.7,
        "repetition_penalty": 1.2,
        "temperature": 0.7,
        "streaming": False,
        "use_memory_cache": "on",
        "seed": None,
        "channels": 1,
        "rate": 44100,
        "api_key": KEY,
    },
    "gpt_sovits_v2": {
        "type": "gpt_sovits_v2",
        "output_dir": "tmp/",
        "text_lang": "auto",
        "ref_audio_path": "demo.wav",
        "prompt_text": "",
        "prompt_lang": "zh",
        "top_k": 5,
        "top_p": 1,
        "temperature": 1,
        "text_split_method": "cut0",
        "batch_size": 1,
        "batch_threshold": 0.75,
        "split_bucket": True,
        "return_fragment": False,
        "speed_factor": 1.0,
        "streaming_mode": False,
        "seed": -1,
        "parallel_infer": True,
        "repetition_penalty": 1.35,
        "aux_ref_audio_paths": [],
    },
    "gpt_sovits_v3": {
        "type": "gpt_sovits_v3",
        "output_dir": "tmp/",
        "text_language": "auto",
        "refer_wav_path": "caixukun.wav",
        "prompt_language": "zh",
        "prompt_text": "",
        "top_k": 15,
        "top_p": 1.0,
        "temperature": 1.0,
        "cut_punc": "",
        "speed": 1.0,
        "inp_refs": [],
        "sample_steps": 32,
        "if_sr": False,
    },
    "minimax_httpstream": {
        "type": "minimax_httpstream",
        "output_dir": "tmp/",
        "group_id": 42,
        "api_key": KEY,
        "model": "speech-01-turbo",
        "voice_id": "female-shaonv",
    },
    "custom": {
        "type": "custom",
        "method": "POST",
        "params": {
            "input": "{prompt_text}",
            "response_format": "mp3",
            "download_format": "mp3",
            "voice": "zf_xiaoxiao",
            "lang_code": "z",
            "return_download_link": True,
            "speed": 1,
            "stream": False,
        },
        "headers": None,
        "format": "mp3",
        "output_dir": "tmp/",
    },
    "index_stream": {"type": "index_stream", "audio_format": "pcm", "voice": "jay_klee", "output_dir": "tmp/"},
    "paddle_speech": {
        "type": "paddle_speech",
        "protocol": "http",
        "spk_id": 0,
        "speed": 1.0,
        "volume": 1.0,
        "save_path": None,
    },
    "elevenlabs": {"type": "elevenlabs", "api_key": KEY, "voice_id": "anna"},
}
"""The blocks of the existing server's config.yaml without their addresses, keys filled in; one of ours at the end."""

SERVICES: dict[str, tuple[Service, str, str]] = {
    "siliconflow": (siliconflow, "api_url", "/v1/audio/speech"),
    "cozecn": (coze, "api_url", "/v1/audio/speech"),
    "fishspeech": (fish, "api_url", "/v1/tts"),
    "gpt_sovits_v2": (sovits_v2, "url", "/tts"),
    "gpt_sovits_v3": (sovits_v3, "url", ""),
    "minimax_httpstream": (minimax, "api_url", "/v1/t2a_v2"),
    "custom": (kokoro, "url", "/v1/audio/speech"),
    "index_stream": (index_tts, "api_url", "/tts"),
    "paddle_speech": (paddle_http, "url", "/paddlespeech/tts"),
    "elevenlabs": (elevenlabs, "base_url", ""),
}

Speak = Callable[..., tuple[float, Any]]


def speaking() -> Iterator[Speak]:
    """`spoken = pytest.fixture(speaking)`; spoken(type, script=..., key=value, ...) -> (seconds of sound, the vendor);
    faults of the client are asserted."""
    open_vendors: list[SpeechService] = []

    def speak(type_name: str, *, script: Script | None = None, service: Service | None = None, **block: Any) -> Any:
        answer, key, path = SERVICES[type_name]
        vendor = SpeechService(service or answer)
        vendor.start()
        open_vendors.append(vendor)
        if script is not None:
            vendor.script(TTS, script)
        whole = {**SAMPLES[type_name], key: vendor.url + path, **block}
        tts = build("tts", "Mine", whole, Services(inference=InlineInference()))  # type: ignore[arg-type]
        try:
            sounds = list(tts.synthesize("今天天气怎么样？", CONTEXT))
        finally:
            tts.close()
        assert vendor.refusals == []
        return pcm_of(sounds, tts.traits.sample_rate)[1], vendor

    yield speak
    for vendor in open_vendors:
        vendor.stop()


def asked(vendor: SpeechService) -> Any:
    return vendor.requests[0].json()
