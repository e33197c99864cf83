"""Transcriptions: what is uploaded, what comes back, in all the forms compatible servers have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer
from loadtest.vendors.openai_vendor import ASR, OpenAiVendor, check_wav, parsed_form
from loadtest.vendors.sounds import Sounds, hum
from xiaozhi.audio.pcm import wav_file
from xiaozhi.chat import CallContext
from xiaozhi.errors import SettingsError, VendorGarbage, VendorRejected
from xiaozhi.providers.asr.openai import OpenAiAsr
from xiaozhi.providers.contracts.asr import Transcript
from xiaozhi.providers.families.sensevoice_tags import transcript
from xiaozhi.providers.registry import validate

SOUNDS = Sounds()
PCM = hum(1.0, 16_000)


@pytest.fixture
def vendor() -> Iterator[OpenAiVendor]:
    with OpenAiVendor(sounds=SOUNDS) as running:
        yield running
        assert running.refusals == []


def asr_for(url: str, **block: Any) -> OpenAiAsr:
    return OpenAiAsr(validate("asr", "A", {"type": "openai", "base_url": url, "model_name": "whisper-1", **block}))  # type: ignore[arg-type]


def test_what_is_uploaded(vendor: OpenAiVendor) -> None:
    asr = asr_for(vendor.base_url, api_key="k", language="zh", prompt="小智", temperature=0, output_dir="tmp/")
    assert asr.transcribe(PCM, CallContext()) == Transcript("what time is it")
    request = vendor.requests[0]
    assert request.path == "/v1/audio/transcriptions"
    assert request.headers["authorization"] == "Bearer k"
    fields = parsed_form(request)
    name, content = fields.pop("file")
    assert name == "utterance.wav" and content == wav_file(PCM, 16_000)
    check_wav(content)
    assert {key: value.decode() for key, (_, value) in fields.items()} == {
        "model": "whisper-1",
        "language": "zh",
        "prompt": "小智",
        "temperature": "0.0",
    }
    asr.close()


def test_the_full_address_of_existing_files(vendor: OpenAiVendor) -> None:
    asr = asr_for(f"{vendor.url}/openai/v1/audio/transcriptions")
    for _ in range(3):
        assert asr.transcribe(PCM, CallContext()).text
    assert vendor.requests[0].path == "/openai/v1/audio/transcriptions"
    assert vendor.connections == 1
    asr.close()


def test_too_little_sound_is_not_sent(vendor: OpenAiVendor) -> None:
    asr = asr_for(vendor.base_url)
    assert asr.transcribe(PCM[:3000], CallContext()) == Transcript("")
    assert not vendor.requests


def test_tags_and_languages(vendor: OpenAiVendor) -> None:
    asr = asr_for(vendor.base_url)
    vendor.script(
        ASR,
        Script(answer="<|en|><|NEUTRAL|><|Speech|>Hello."),
        Script(answer={"text": " 你好 ", "language": "chinese"}),
        Script(answer=""),
    )
    assert asr.transcribe(PCM, CallContext()) == Transcript("Hello.", "en", "neutral")
    assert asr.transcribe(PCM, CallContext()) == Transcript("你好", "chinese")
    assert asr.transcribe(PCM, CallContext()) == Transcript("")
    asr.close()


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"hello there\n", "text/plain; charset=utf-8", Transcript("hello there")),
        (b'{"text": "hi"}', "application/octet-stream", Transcript("hi")),
        (b'{"result": "hi"}', "application/json", VendorGarbage),
        (b'["hi"]', "application/json", VendorGarbage),
        (b'{"text": 5}', "application/json", VendorGarbage),
        (b'{"error": {"message": "no", "type": "invalid_request_error"}}', "application/json", VendorRejected),
        (b"<html>", "text/html", VendorGarbage),
        (b'{"text": null}', "application/json", Transcript("")),
        (b'{"text": null, "language": "en"}', "application/json", Transcript("", "en")),
        (b'{"text": "hi", "error": null}', "application/json", Transcript("hi")),
        (b'{"text": null, "error": {"message": "no", "code": "invalid"}}', "application/json", VendorRejected),
        (b'{"text": "hi"}', "text/plain", Transcript("hi")),
        (b'\xef\xbb\xbf\n{"text": "hi"}', "text/plain; charset=utf-8", Transcript("hi")),
        (b'{"error": {"message": "no", "code": "invalid"}}', "text/plain", VendorRejected),
        (b'"hi"', "application/json", Transcript("hi")),
        (b'"hi"', "text/plain", Transcript("hi")),
        (b'""', "application/json", Transcript("")),
        (b"hello there", "application/json", Transcript("hello there")),
        (b"<|en|><|HAPPY|>hello", "text/plain", Transcript("hello", "en", "happy")),
        (b"42", "text/plain", Transcript("42")),
        (b"null", "application/json", Transcript("")),
        (b"\n", "text/plain", Transcript("")),
        (b"", "application/json", VendorGarbage),
        (b"", "", VendorGarbage),
        (b'{"tex', "text/plain", VendorGarbage),
        (b'{"transcript": "hi"}', "application/json", Transcript("hi")),
        (
            b'data: {"type": "transcript.text.delta", "delta": "h"}\n\ndata: {"type": "transcript.text.delta", '
            b'"delta": "i"}\n\ndata: {"type": "transcript.text.done", "text": "hi!"}\n\ndata: [DONE]\n\n',
            "application/json",
            Transcript("hi!"),
        ),
        (b'event: x\ndata: {"delta": "h"}\n\ndata:\n\ndata: {"delta": "i"}\n\n', "text/event-stream", Transcript("hi")),
        (b'data: {"error": {"message": "no", "code": "invalid"}}\n\n', "text/event-stream", VendorRejected),
        (b"data: [DONE]\n\n", "text/event-stream", VendorGarbage),
    ],
)
def test_answers_of_all_forms(body: bytes, content_type: str, expected: Any) -> None:
    with HttpVendor(lambda request: VendorAnswer(body, content_type)) as vendor:
        asr = asr_for(vendor.url)
        if isinstance(expected, Transcript):
            assert asr.transcribe(PCM, CallContext()) == expected
        else:
            with pytest.raises(expected):
                asr.transcribe(PCM, CallContext())
        asr.close()


def _segment(text: str, silence: float, likelihood: float | None = None) -> dict[str, Any]:
    return {"text": text, "no_speech_prob": silence} | ({"avg_logprob": likelihood} if likelihood is not None else {})


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"text": " Thank you.", "segments": [_segment(" Thank you.", 0.97)]}, ""),
        ({"text": " Thank you.", "segments": [_segment(" Thank you.", 0.97, -0.2)]}, ""),
        ({"text": " Thank you.", "no_speech_prob": 0.97}, ""),
        ({"text": " Mhm.", "segments": [_segment(" Mhm.", 0.7, -1.2)]}, ""),
        ({"text": " Hello.", "segments": [_segment(" Hello.", 0.7, -0.3)]}, "Hello."),
        ({"text": " Hello.", "segments": [_segment(" Hello.", 0.1, -1.5)]}, "Hello."),
        ({"text": " Hello. Bye.", "segments": [_segment(" Hello.", 0.1, -0.3), _segment(" Bye.", 0.95)]}, "Hello."),
        ({"text": None, "segments": [_segment(" Hello.", 0.1), _segment(" You.", 0.1)]}, "Hello. You."),
        ({"segments": [_segment(" Hello.", 0.1)]}, "Hello."),
        ({"text": "Hello.", "segments": []}, "Hello."),
        ({"text": "Hello.", "segments": [1, {"text": None}]}, "Hello."),
        ({"text": "Hello.", "segments": None}, "Hello."),
    ],
)
def test_what_whisper_itself_takes_for_silence(vendor: OpenAiVendor, answer: dict[str, Any], text: str) -> None:
    vendor.script(ASR, Script(answer=answer))
    asr = asr_for(vendor.base_url)
    assert asr.transcribe(PCM, CallContext()).text == text
    asr.close()


def test_a_block_without_model_or_address_is_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        validate("asr", "A", {"type": "openai", "api_key": "你的OpenAI API密钥"})
    assert {fault.key for fault in caught.value.faults} == {"ASR.A.base_url", "ASR.A.model_name", "ASR.A.api_key"}


def test_tags_that_are_none() -> None:
    assert transcript("a <|b") == Transcript("a <|b")
    assert transcript("<|nospeech|><|EMO_UNKNOWN|>") == Transcript("")
