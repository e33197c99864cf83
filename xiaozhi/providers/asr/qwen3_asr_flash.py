"""Qwen3-ASR-Flash of DashScope: the whole utterance as a WAV inside one request, the text streamed back.

Source: help.aliyun.com/zh/model-studio/qwen-asr-api-reference. Each event of the answer holds all of the text so far;
language and emotion come beside it."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from pydantic import AliasChoices, Field

from xiaozhi.audio.pcm import wav_file
from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorGarbage
from xiaozhi.net.http import HttpReply
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, AsrTraits, BatchAsr, Transcript
from xiaozhi.providers.families.dashscope import DashscopeOptions, failure, language_code
from xiaozhi.providers.families.http_options import HttpOptions, HttpUrl
from xiaozhi.providers.registry import provider

PATH = "/api/v1/services/aigc/multimodal-generation/generation"
SHORTEST_BYTES = ASR_SAMPLE_RATE // 10 * 2
"""Nobody says anything in less than a tenth of a second."""


LONGEST_S = 230
"""A request holds 10 MB, written in base64."""


class Qwen3AsrFlashOptions(DashscopeOptions, HttpOptions):
    """`base_url` chooses the region by its host: existing files have the address of another protocol of the vendor
    there. `context`: names and terms that may be said. `language`: where only one is spoken."""

    base_url: HttpUrl = Field(
        "https://dashscope.aliyuncs.com/api/v1", validation_alias=AliasChoices("base_url", "url", "api_url")
    )
    model_name: str = Field("qwen3-asr-flash", validation_alias=AliasChoices("model_name", "model"))
    enable_lid: bool = True
    """Tell the language."""
    enable_itn: bool = True
    """Write numbers as digits."""
    language: str = ""
    context: str = ""


@provider("asr", "qwen3_asr_flash", Qwen3AsrFlashOptions)
class Qwen3AsrFlash(BatchAsr):
    """One request per utterance."""

    traits = AsrTraits(streaming=False, longest_s=LONGEST_S)

    def __init__(self, options: Qwen3AsrFlashOptions) -> None:
        self._options = options
        parts = urllib.parse.urlsplit(options.base_url)
        self._url = urllib.parse.urlunsplit((parts.scheme, parts.netloc, PATH, "", ""))
        self._http = options.http(parts.hostname or "dashscope", [options.api_key.get_secret_value()])
        self._headers = {**options.credentials(), "X-DashScope-SSE": "enable", "Accept": "text/event-stream"}

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        """The text of an utterance."""
        if len(pcm) < SHORTEST_BYTES:
            return Transcript("")
        heard: Transcript | None = None
        with self._http.stream("POST", self._url, json=self._request(pcm), headers=self._headers) as reply:
            for answer in self._answers(reply):
                told = self._heard(answer)
                if told is not None and (told.text or heard is None):  # the last event may have no text
                    heard = told
        if heard is None:
            raise VendorGarbage(self._http.vendor, "no text in the answer")
        return heard

    def close(self) -> None:
        """Break off what runs."""
        self._http.close()

    def _request(self, pcm: bytes) -> dict[str, Any]:
        options = self._options
        sound = base64.b64encode(wav_file(pcm, ASR_SAMPLE_RATE)).decode()
        messages = [{"role": "user", "content": [{"audio": f"data:audio/wav;base64,{sound}"}]}]
        if options.context:
            messages.insert(0, {"role": "system", "content": [{"text": options.context}]})
        asr_options: dict[str, Any] = {"enable_lid": options.enable_lid, "enable_itn": options.enable_itn}
        if language := language_code(options.language):
            asr_options["language"] = language
        return {
            "model": options.model_name,
            "input": {"messages": messages},
            "parameters": {"asr_options": asr_options, "result_format": "message"},
        }

    def _answers(self, reply: HttpReply) -> Iterator[Any]:
        if reply.content_type == "application/json":
            yield reply.json()
            return
        for data in reply.sse():
            try:
                yield orjson.loads(data)
            except orjson.JSONDecodeError:
                text = self._http.redact(data)
                raise VendorGarbage(self._http.vendor, f"an event that is no JSON: {text}") from None

    def _heard(self, answer: Any) -> Transcript | None:
        """What one event tells, None when it is about something else."""
        if not isinstance(answer, Mapping):
            raise VendorGarbage(self._http.vendor, "an event that is no object")
        if answer.get("code"):
            secrets = (self._options.api_key.get_secret_value(),)
            raise failure(self._http.vendor, str(answer["code"]), str(answer.get("message") or ""), secrets)
        try:
            message = answer["output"]["choices"][0]["message"]
            texts = [part["text"] for part in message["content"] if "text" in part]
            notes = [note for note in message.get("annotations") or () if note.get("type") == "audio_info"]
        except (KeyError, IndexError, TypeError, AttributeError):
            return None
        told = notes[-1] if notes else {}
        language, emotion = str(told.get("language") or ""), str(told.get("emotion") or "")
        return Transcript("".join(map(str, texts)).strip(), language, emotion)
