"""Claude, and whatever else speaks Anthropic's Messages API. Source: platform.claude.com/docs/en/api/messages;
`families/anthropic.py` has the form."""

from __future__ import annotations

from xiaozhi.providers.families.anthropic import (
    KNOWN,
    AnthropicDialect,
    AnthropicOptions,
    messages_endpoint,
    switches_of,
)
from xiaozhi.providers.families.chat_llm import ChatLlm
from xiaozhi.providers.registry import provider


@provider("llm", "anthropic", AnthropicOptions)
class AnthropicLlm(ChatLlm):
    """A language model behind the Messages API."""

    def __init__(self, options: AnthropicOptions) -> None:
        url = messages_endpoint(options.base_url)
        super().__init__(
            options.client(url),
            url,
            options.fixed(),
            switches=options.chosen(switches_of(options.model_name)),
            dialect=AnthropicDialect(),
            known=KNOWN,
        )
