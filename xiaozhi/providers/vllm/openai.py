"""Any OpenAI-compatible model that sees: a question and an image as a data URI. Source:
platform.openai.com/docs/guides/images-vision."""

from __future__ import annotations

import base64
from typing import Any

from pydantic import AliasChoices, Field

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError, VendorGarbage
from xiaozhi.providers.contracts.vllm import Vllm
from xiaozhi.providers.families.call_arguments import BadToolCall
from xiaozhi.providers.families.completion import Completion
from xiaozhi.providers.families.json_body import DONE, JsonBody, json_values
from xiaozhi.providers.families.learnt_limits import NO_TOOLS, LearntLimits, learn, merged, parameters
from xiaozhi.providers.families.openai import HttpUrl, OpenAiOptions, Timeouts, endpoint
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)


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
        self._limits = LearntLimits()

    @property
    def limitations(self) -> tuple[str, ...]:
        """See `Provider`."""
        return self._limits.names

    def describe(self, question: str, image: bytes, mime: str, context: CallContext) -> str:
        """The model's answer to `question` about `image`."""
        picture = f"data:{mime};base64,{base64.b64encode(image).decode()}"
        content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": picture}}]
        messages = [{"role": "user", "content": content}]
        limits = before = self._limits
        while True:
            body = {**parameters(self._fixed, limits), "messages": messages}
            try:
                text = self._ask(body)
            except BadToolCall as error:
                raise VendorGarbage(self._http.vendor, str(error)) from error
            except VendorError as error:
                learnt = learn(error, body, NO_TOOLS, limits)
                if learnt is None or parameters(self._fixed, learnt) == parameters(self._fixed, limits):
                    raise
                limits = learnt
                continue
            if limits is not before:
                self._limits = merged(self._limits, before, limits)
                log.warning("vendor limitation", provider=self.name, vendor=self._http.vendor, limitations=limits.names)
            return text

    def _ask(self, body: dict[str, Any]) -> str:
        vendor = self._http.vendor
        answer, parser = Completion(vendor), JsonBody()
        pieces: list[str] = []
        with self._http.stream("POST", self._url, json=body) as reply:
            for value in json_values(reply, parser):
                if value is DONE:
                    break
                retractions = answer.text.retractions
                pieces.append(answer.take(value))
                if answer.text.retractions != retractions:
                    del pieces[:-1]
            if not answer.heard:
                raise answer.nothing(parser.odd, reply.content_type)
        pieces += [piece for piece in answer.end() if isinstance(piece, str)]
        text = "".join(pieces).strip()
        if not text:
            raise VendorGarbage(vendor, "no text in the answer")
        return text

    def close(self) -> None:
        """Break off what runs."""
        self._http.close()
