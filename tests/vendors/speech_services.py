"""Speech services that are asked by one HTTP request per sentence, each from its vendor's side.

A service is a function from a request to an answer; it refuses what the real one refuses. `SpeechService` serves one
at any path, so that the whole address can be looked at."""

from __future__ import annotations

import base64
import re
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import ormsgpack

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRefusal, VendorRequest
from loadtest.vendors.sounds import FORMATS, Sounds

SOUNDS = Sounds()
SOUNDS.prepare("mp3", "opus", longest=4.0)  # encoding would keep the event loop while a test runs
_AT = {rate: Sounds(rate) for rate in (32_000, 44_100)} | {SOUNDS.sample_rate: SOUNDS}
TTS = "tts"
KEY = "secret-key"
Service = Callable[[VendorRequest], VendorAnswer]


class SpeechService(HttpVendor):
    """One service; every request is of the kind `TTS`. A script's `answer` is sent in place of the service's."""

    def kind(self, request: VendorRequest) -> str:
        return TTS

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        return script.answer if isinstance(script.answer, VendorAnswer) else super().answer(request, script)


def sound(text: str, form: str, rate: int = 24_000) -> VendorAnswer:
    """`text` spoken."""
    return VendorAnswer(_AT[rate].body(form, SOUNDS.seconds_for(text)), FORMATS[form])


def demand(condition: Any, what: str, status: int = 400) -> None:
    """Refuse unless the condition holds."""
    if not condition:
        raise VendorRefusal(status, what)


def _body(request: VendorRequest, wanted: dict[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """The JSON object of a POST: keys that must be there, and nothing of another type."""
    demand(request.method == "POST", f"method {request.method}", 405)
    demand(request.headers.get("content-type") == "application/json", "no JSON", 415)
    body = request.json()
    for key, kind in wanted.items():
        demand(isinstance(body.get(key), kind), f"{key} is {body.get(key)!r}", 422)
    return dict(body)


def _bearer(request: VendorRequest) -> None:
    demand(request.headers.get("authorization") == f"Bearer {KEY}", "Incorrect API key", 401)


def siliconflow(request: VendorRequest) -> VendorAnswer:
    """docs.siliconflow.cn: rates by format, ranges of speed and gain."""
    _bearer(request)
    demand(request.path == "/v1/audio/speech", "no such path", 404)
    body = _body(request, {"model": str, "input": str, "voice": str, "response_format": str})
    rates = {"pcm": (8000, 16000, 24000, 32000, 44100), "mp3": (32000, 44100), "opus": (48000,)}
    rates["wav"] = rates["pcm"]
    form = body["response_format"]
    demand(form in rates, f"response_format {form}")
    rate = body.get("sample_rate", rates[form][-1])
    demand(rate in rates[form], f"sample_rate {rate} with {form}")
    demand(0.25 <= body.get("speed", 1.0) <= 4.0 and -10 <= body.get("gain", 0) <= 10, "speed or gain")
    demand(body["voice"].startswith((body["model"] + ":", "speech:")), f"no such voice: {body['voice']}")
    return sound(body["input"], form, rate if form in ("pcm", "wav") else 24_000)


def coze(request: VendorRequest) -> VendorAnswer:
    """www.coze.cn: numbers of voices are text, at most 1024 characters."""
    _bearer(request)
    demand(request.path == "/v1/audio/speech", "no such path", 404)
    body = _body(request, {"input": str, "voice_id": str, "response_format": str, "sample_rate": int})
    demand(len(body["input"]) <= 1024, "too long")
    demand(body["voice_id"].isdigit(), f"no such voice: {body['voice_id']}")
    demand(body["sample_rate"] in (8000, 16000, 22050, 24000, 32000, 44100, 48000), "sample_rate")
    demand(0.2 <= body.get("speed", 1) <= 3 and -50 <= body.get("loudness_rate", 0) <= 100, "speed or loudness_rate")
    forms = {"wav": "wav", "pcm": "pcm", "mp3": "mp3", "ogg_opus": "opus"}
    demand(body["response_format"] in forms, "response_format")
    return sound(body["input"], forms[body["response_format"]])


def index_tts(request: VendorRequest) -> VendorAnswer:
    """index-tts-vllm as it is published: a WAV, whatever is asked for."""
    body = _body(request, {"text": str, "character": str})
    demand(request.path == "/tts", "no such path", 404)
    demand(body["character"] in ("jay_klee", "xiao_he"), f"Speaker '{body['character']}' not found", 404)
    return sound(body["text"], "wav")


def index_tts_pcm(request: VendorRequest) -> VendorAnswer:
    """The same, by servers that stream raw samples."""
    index_tts(request)
    answer = sound(request.json()["text"], "pcm")
    answer.content_type = "application/octet-stream"
    return answer


_SOVITS_LANGUAGES = ("zh", "en", "ja", "ko", "yue", "auto", "auto_yue", "all_zh", "all_ja", "all_ko", "all_yue")


def sovits_v2(request: VendorRequest) -> VendorAnswer:
    """api_v2.py: what it calls required, its languages, its ways to cut."""
    demand(request.path == "/tts", "no such path", 404)
    numbers = dict.fromkeys(("top_p", "temperature", "batch_threshold", "speed_factor"), (int, float))
    switches = dict.fromkeys(("split_bucket", "parallel_infer", "return_fragment"), bool)
    body = _body(request, {"text": str, "top_k": int, "seed": int, "batch_size": int, **numbers, **switches})
    for key in ("text", "text_lang", "ref_audio_path", "prompt_lang"):
        demand(body.get(key), f"{key} is required")
    demand({body["text_lang"], body["prompt_lang"]} <= set(_SOVITS_LANGUAGES), "language is not supported")
    demand(body["media_type"] in ("wav", "raw", "ogg", "aac"), "media_type is not supported")
    demand(body["text_split_method"] in ("cut0", "cut1", "cut2", "cut3", "cut4", "cut5"), "text_split_method")
    demand(body["streaming_mode"] in (0, 1, 2, 3), "streaming_mode")
    demand(isinstance(body["aux_ref_audio_paths"], list), "aux_ref_audio_paths")
    return sound(body["text"], "wav", 32_000)


def sovits_v3(request: VendorRequest) -> VendorAnswer:
    """api.py: the recording by path, text and language together, or the one it was started with."""
    demand(request.path in ("/", ""), "no such path", 404)
    body = _body(
        request, {"text": str, "text_language": str, "cut_punc": str, "top_k": int, "inp_refs": list, "if_sr": bool}
    )
    demand(body["text_language"] in _SOVITS_LANGUAGES, "text_language")
    given = [bool(body.get(key)) for key in ("refer_wav_path", "prompt_text", "prompt_language")]
    demand(not all(given) or body["prompt_language"] in _SOVITS_LANGUAGES, "prompt_language")
    return sound(body["text"], "wav", 24_000)


def fish(request: VendorRequest) -> VendorAnswer:
    """fish-speech's tools/server: MessagePack, its schema and bounds, WAV only when it streams."""
    _bearer(request)
    demand(request.path == "/v1/tts", "no such path", 404)
    demand(request.headers.get("content-type") == "application/msgpack", "neither msgpack nor json", 415)
    body = ormsgpack.unpackb(request.body)
    demand(isinstance(body["text"], str) and body["text"], "text", 422)
    demand(body["format"] in ("wav", "pcm", "mp3", "opus"), "format", 422)
    demand(100 <= body["chunk_length"] <= 300 and isinstance(body["chunk_length"], int), "chunk_length", 422)
    demand(0.1 <= body["top_p"] <= 1 and 0.9 <= body["repetition_penalty"] <= 2, "top_p or repetition_penalty", 422)
    demand(body["use_memory_cache"] in ("on", "off") and body["streaming"] in (True, False), "switches", 422)
    demand(not body["streaming"] or body["format"] == "wav", "Streaming only supports WAV format")
    for reference in body["references"]:
        demand(isinstance(reference["audio"], bytes) and reference["audio"] and reference["text"], "reference", 422)
    return sound(body["text"], body["format"], 44_100 if body["format"] in ("wav", "pcm") else 24_000)


def elevenlabs(request: VendorRequest) -> VendorAnswer:
    """elevenlabs.io: the key's own header, the format in the address."""
    demand(request.headers.get("xi-api-key") == KEY and "authorization" not in request.headers, "invalid_api_key", 401)
    parts = urllib.parse.urlsplit(request.path)
    demand(re.fullmatch(r"/v1/text-to-speech/\w+/stream", parts.path), "no such path", 404)
    body = _body(request, {"text": str, "model_id": str})
    settings = body.get("voice_settings", {})
    demand(0.7 <= settings.get("speed", 1) <= 1.2, "speed")
    demand(re.fullmatch("[a-z]{2}", body.get("language_code", "en")), "language_code")
    asked = dict(urllib.parse.parse_qsl(parts.query))["output_format"]
    demand(asked in ("pcm_24000", "mp3_22050_32", "opus_48000_32"), "output_format", 403)
    return sound(body["text"], asked.partition("_")[0])


def kokoro(request: VendorRequest) -> VendorAnswer:
    """What the existing server's sample of a custom service talks to."""
    demand(request.path == "/v1/audio/speech", "no such path", 404)
    body = _body(request, {"input": str, "voice": str, "response_format": str, "speed": (int, float)})
    return sound(body["input"], body["response_format"])


def by_query(request: VendorRequest) -> VendorAnswer:
    """A service that is asked by GET."""
    demand(request.method == "GET" and not request.body, "method", 405)
    parts = urllib.parse.urlsplit(request.path)
    asked = dict(urllib.parse.parse_qsl(parts.query, strict_parsing=True))
    demand(parts.path == "/say" and asked["key"] == "1" and asked["text"], "no such path", 404)
    return sound(asked["text"], "wav")


def minimax(request: VendorRequest) -> VendorAnswer:
    """platform.minimaxi.com: its own codes in a 200, sound in events, the whole of it once more at the end."""
    parts = urllib.parse.urlsplit(request.path)
    demand(parts.path == "/v1/t2a_v2", "no such path", 404)
    if request.headers.get("authorization") != f"Bearer {KEY}" or parts.query != "GroupId=42":
        return minimax_refusal(1004, "token not match group")
    body = _body(request, {"model": str, "text": str, "stream": bool, "voice_setting": dict, "audio_setting": dict})
    voice, audio = body["voice_setting"], body["audio_setting"]
    mixed = body.get("timber_weights", [])
    if bool(voice["voice_id"]) == bool(mixed) or not (0.5 <= voice["speed"] <= 2 and 0 < voice["vol"] <= 10):
        return minimax_refusal(2013, "invalid params, voice_setting")
    if not isinstance(voice["pitch"], int) or abs(voice["pitch"]) > 12 or audio["format"] not in FORMATS:
        return minimax_refusal(2013, "invalid params")
    whole = SOUNDS.body(audio["format"], SOUNDS.seconds_for(body["text"]))
    repeats = not body.get("stream_options", {}).get("exclude_aggregated_audio")
    return VendorAnswer(_events(whole, repeats), "text/event-stream")


def _events(whole: bytes, repeats: bool) -> Iterator[bytes]:
    size = max(1, len(whole) // 6)
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    well = {"status_code": 0, "status_msg": ""}
    for piece in pieces:
        data = {"data": {"audio": piece.hex(), "status": 1}, "trace_id": "t", "base_resp": well}
        yield b"data: " + orjson.dumps(data) + b"\n\n"
    last = {"data": {"audio": whole.hex() if repeats else "", "status": 2}, "extra_info": {}, "base_resp": well}
    yield b"data: " + orjson.dumps(last) + b"\n\n"


def minimax_refusal(code: int, message: str) -> VendorAnswer:
    """How MiniMax refuses: HTTP 200 and a code."""
    return VendorAnswer(orjson.dumps({"base_resp": {"status_code": code, "status_msg": message}}))


def paddle_http(request: VendorRequest) -> VendorAnswer:
    """paddlespeech's /paddlespeech/tts: bounds of its tts_api.py, a WAV in base64."""
    demand(request.path == "/paddlespeech/tts", "no such path", 404)
    body = _body(request, {"text": str, "spk_id": int, "speed": (int, float), "volume": (int, float)})
    if not (0 < body["speed"] <= 3 and 0 < body["volume"] <= 3 and body["sample_rate"] in (0, 8000, 16000)):
        return VendorAnswer(orjson.dumps({"success": False, "code": 400, "message": {"global": "parameter error"}}))
    wav = base64.b64encode(SOUNDS.body("wav", SOUNDS.seconds_for(body["text"]))).decode()
    return VendorAnswer(orjson.dumps({"success": True, "code": 200, "result": {"audio": wav, "spk_id": 0}}))
