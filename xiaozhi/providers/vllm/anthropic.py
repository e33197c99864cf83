"""Claude looks at pictures. Source: platform.claude.com/docs/en/build-with-claude/vision; `families/anthropic.py` has
the form."""

from __future__ import annotations

from xiaozhi.providers.families.anthropic import AnthropicDialect, AnthropicOptions, messages_endpoint, switches_of
from xiaozhi.providers.families.chat_vllm import ChatVllm
from xiaozhi.providers.families.http_options import Timeouts
from xiaozhi.providers.registry import provider


class AnthropicVllmOptions(AnthropicOptions):
    """As for the language model."""

    # A picture is read before the first word.
    timeout: Timeouts = Timeouts(first_byte=45.0)


@provider("vllm", "anthropic", AnthropicVllmOptions)
class AnthropicVllm(ChatVllm):
    """A vision model behind the Messages API."""

    def __init__(self, options: AnthropicVllmOptions) -> None:
        url = messages_endpoint(options.base_url)
        super().__init__(
            options.client(url),
            url,
            options.fixed(),
            switches=options.chosen(switches_of(options.model_name)),
            dialect=AnthropicDialect(),
        )
