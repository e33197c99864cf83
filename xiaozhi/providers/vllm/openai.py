"""Any OpenAI-compatible model that sees: a question and an image as a data URI. Source:
platform.openai.com/docs/guides/images-vision."""

from __future__ import annotations

from pydantic import AliasChoices, Field

from xiaozhi.providers.families.chat_options import ModelOptions
from xiaozhi.providers.families.chat_vllm import ChatVllm
from xiaozhi.providers.families.http_options import HttpUrl, Timeouts
from xiaozhi.providers.families.openai import endpoint
from xiaozhi.providers.families.thinking_switches import thinking_switches
from xiaozhi.providers.registry import provider


class OpenAiVllmOptions(ModelOptions):
    """`base_url` (or `url`) is the base or the full address of the endpoint."""

    base_url: HttpUrl = Field(validation_alias=AliasChoices("base_url", "url"))
    # The answer is not streamed: its first byte comes when it is complete.
    timeout: Timeouts = Timeouts(first_byte=45.0)


@provider("vllm", "openai", OpenAiVllmOptions)
class OpenAiVllm(ChatVllm):
    """A vision model behind chat completions."""

    def __init__(self, options: OpenAiVllmOptions) -> None:
        url = endpoint(options.base_url, "chat/completions")
        switches = options.chosen(thinking_switches(url, options.model_name))
        super().__init__(options.client(url), url, options.fixed(stream=False), switches=switches)
