"""A strict Qwen3-ASR-Flash: what the real one demands of a request, and its events. Source:
help.aliyun.com/zh/model-studio/qwen-asr-api-reference."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from loadtest.vendors.http_vendor import VendorAnswer, VendorRefusal, VendorRequest
from loadtest.vendors.openai_vendor import check_wav

PATH = "/api/v1/services/aigc/multimodal-generation/generation"
KEY = "secret-key"
MAX_BYTES = 10 * 1024 * 1024


def qwen_asr(
    text: str = "现在几点了？", *, language: str = "zh", emotion: str = "neutral"
) -> Callable[[VendorRequest], VendorAnswer]:
    """Hears `text`."""

    def answer(request: VendorRequest) -> VendorAnswer:
        _check(request)
        note = [{"type": "audio_info", "language": language, "emotion": emotion}]
        return VendorAnswer(_events(text, note), "text/event-stream;charset=UTF-8")

    return answer


def _events(text: str, note: list[dict[str, Any]]) -> Iterator[bytes]:
    steps = [text[:length] for length in range(len(text) // 4, len(text), max(1, len(text) // 4))]
    for number, heard in enumerate([*steps, text, text]):
        last = number == len(steps) + 1
        message = {"role": "assistant", "annotations": note, "content": [] if last else [{"text": heard}]}
        choice = {"message": message, "finish_reason": "stop" if last else "null"}
        event = orjson.dumps({"output": {"choices": [choice]}, "usage": {"seconds": 1}, "request_id": "r-1"})
        yield b"id:%d\nevent:result\n:HTTP_STATUS/200\ndata:%s\n\n" % (number + 1, event)


def _check(request: VendorRequest) -> None:
    if request.method != "POST" or request.path != PATH:
        raise VendorRefusal(404, f"nothing at {request.path}")
    if request.headers.get("authorization") != f"Bearer {KEY}":
        raise VendorRefusal(401, "Invalid API-key provided.")
    if request.headers.get("x-dashscope-sse") != "enable":
        raise VendorRefusal(400, "only streamed answers are tested here")
    body = request.json()
    if set(body) != {"model", "input", "parameters"} or not body["model"].startswith("qwen3-asr-flash"):
        raise VendorRefusal(400, f"Model not exist: {body.get('model')}")
    messages = body["input"]["messages"]
    *system, user = messages
    if [message["role"] for message in system] not in ([], ["system"]) or user["role"] != "user":
        raise VendorRefusal(400, "roles")
    if any(not message["content"][0].get("text") for message in system):
        raise VendorRefusal(400, "an empty context")
    head, _, sound = user["content"][0]["audio"].partition(",")
    if head != "data:audio/wav;base64" or len(sound) > MAX_BYTES:
        raise VendorRefusal(400, f"audio {head} of {len(sound)} bytes")
    try:
        check_wav(base64.b64decode(sound, validate=True))
    except binascii.Error as error:
        raise VendorRefusal(400, str(error)) from error
    options = body["parameters"].get("asr_options", {})
    if not {"enable_lid", "enable_itn", "language"} >= set(options):
        raise VendorRefusal(400, f"asr_options {options}")
    if any(type(options.get(key, False)) is not bool for key in ("enable_lid", "enable_itn")):
        raise VendorRefusal(400, f"asr_options {options}")
    if body["parameters"].get("result_format") != "message":
        raise VendorRefusal(400, "result_format")
