"""Any OpenAI-compatible chat completion: OpenAI, Qwen, Doubao, DeepSeek, GLM, Kimi, Spark, Groq, OpenRouter, LM Studio
and whatever else speaks it. What their hosts do differently is known (`families/thinking_switches.py`) or learnt from
their refusals (`families/learnt_limits.py`); no block has to say which of them it is.

Source: platform.openai.com/docs/api-reference/chat."""

from __future__ import annotations

from pydantic import AliasChoices, Field, SecretStr

from xiaozhi.providers.families.chat_llm import ChatLlm
from xiaozhi.providers.families.chat_options import ModelOptions
from xiaozhi.providers.families.http_options import ApiKey, HttpUrl
from xiaozhi.providers.families.openai import endpoint
from xiaozhi.providers.families.thinking_switches import thinking_switches
from xiaozhi.providers.registry import provider


class OpenAiLlmOptions(ModelOptions):
    """`base_url` (or `url`) is the base, such as https://api.openai.com/v1, or the full address of the endpoint.
    `api_key` of Spark is what its vendor, and the consoles' form for it, call APIPassword."""

    api_key: ApiKey = Field(SecretStr(""), validation_alias=AliasChoices("api_key", "api_password"))
    base_url: HttpUrl = Field(validation_alias=AliasChoices("base_url", "url"))
    frequency_penalty: float | None = Field(None, ge=-2, le=2)


@provider("llm", "openai", OpenAiLlmOptions)
class OpenAiLlm(ChatLlm):
    """A language model behind chat completions."""

    def __init__(self, options: OpenAiLlmOptions) -> None:
        url = endpoint(options.base_url, "chat/completions")
        switches = options.chosen(thinking_switches(url, options.model_name))
        super().__init__(options.client(url), url, options.fixed("frequency_penalty"), switches=switches)
