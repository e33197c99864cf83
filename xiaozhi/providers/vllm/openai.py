"""Any OpenAI-compatible model that sees: a question and an image as a data URI. Source:
platform.openai.com/docs/guides/images-vision."""

from __future__ import annotations

import base64
from typing import Any

from pydantic import AliasChoices, Field

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorGarbage
from xiaozhi.providers.contracts.vllm import Vllm
from xiaozhi.providers.families.openai import HttpUrl, OpenAiOptions, Timeouts, endpoint, error_in_answer
from xiaozhi.providers.families.openai_deltas import ThinkFilter
from xiaozhi.providers.registry import provider


class OpenAiVllmOptions(OpenAiOptions):
    """`base_url` (or `url`) is the base or the full address of the endpoint."""

    base_url: HttpUrl = Field(validation_alias=AliasChoices("base_url", "url"))
    model_name: str = Field(min_length=1, validation_alias=AliasChoices("model_name", "model"))
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    top_p: float | None = Field(None, ge=0, le=1)
    extra_body: dict[str, Any] = {}
    # The answer is not streamed: its first byte comes when it is complete.
    timeout: Timeouts = Timeouts(first_byte=45.0)


@provider("vllm", "openai", OpenAiVllmOptions)
class OpenAiVllm(Vllm):
    """One request per picture, answered in one piece: the caller reads the answer out as a whole anyway."""

    def __init__(self, options: OpenAiVllmOptions) -> None:
        self._url = endpoint(options.base_url, "chat/completions")
        self._http = options.client(self._url)
        given = options.model_dump(include={"temperature", "max_tokens", "top_p"}, exclude_none=True)
        self._fixed = {"model": options.model_name, "stream": False, **given, **options.extra_body}

    def describe(self, question: str, image: bytes, mime: str, context: CallContext) -> str:
        """The model's answer to `question` about `image`."""
        picture = f"data:{mime};base64,{base64.b64encode(image).decode()}"
        content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": picture}}]
        answer = self._http.json(
            "POST", self._url, json={**self._fixed, "messages": [{"role": "user", "content": content}]}
        )
        if isinstance(answer, dict) and answer.get("error"):
            raise error_in_answer(self._http.vendor, answer["error"])
        try:
            text = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            text = None
        if not isinstance(text, str):
            raise VendorGarbage(self._http.vendor, "no text in the answer")
        think = ThinkFilter()
        return (think.feed(text) + think.flush()).strip()

    def close(self) -> None:
        """Break off what runs."""
        self._http.close()
