"""Xinference: chat completions at the address that its users write. Source: inference.readthedocs.io, "Chat &
Generate"."""

from __future__ import annotations

from pydantic import AliasChoices, Field

from xiaozhi.providers.families.chat_llm import ChatLlm
from xiaozhi.providers.families.chat_options import ModelOptions
from xiaozhi.providers.families.http_options import HttpUrl
from xiaozhi.providers.families.openai import endpoint
from xiaozhi.providers.registry import provider


class XinferenceLlmOptions(ModelOptions):
    """`base_url` is the address of the server, with or without /v1 behind it."""

    base_url: HttpUrl = Field("http://localhost:9997", validation_alias=AliasChoices("base_url", "url"))
    frequency_penalty: float | None = Field(None, ge=-2, le=2)


@provider("llm", "xinference", XinferenceLlmOptions)
class XinferenceLlm(ChatLlm):
    """A model on somebody's own machine."""

    def __init__(self, options: XinferenceLlmOptions) -> None:
        base = options.base_url.removesuffix("/chat/completions").removesuffix("/v1")
        url = endpoint(f"{base}/v1", "chat/completions")
        super().__init__(
            options.client(url),
            url,
            options.fixed("frequency_penalty"),
            # The template of models that think by default has this switch; others do not look at it.
            switches=options.chosen(({"chat_template_kwargs": {"enable_thinking": False}},)),
            missing=f"launch {options.model_name} in Xinference; `model_name` is the model's UID there",
        )
