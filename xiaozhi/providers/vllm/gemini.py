"""Google Gemini looks at pictures. Source: ai.google.dev/gemini-api/docs/image-understanding; `families/gemini.py`
has the form."""

from __future__ import annotations

from xiaozhi.providers.families.chat_vllm import ChatVllm
from xiaozhi.providers.families.gemini import GeminiDialect, GeminiOptions, stream_endpoint, switches_of
from xiaozhi.providers.families.http_options import Timeouts
from xiaozhi.providers.registry import provider


class GeminiVllmOptions(GeminiOptions):
    """As for the language model."""

    # A picture is read before the first word.
    timeout: Timeouts = Timeouts(first_byte=45.0)


@provider("vllm", "gemini", GeminiVllmOptions)
class GeminiVllm(ChatVllm):
    """A vision model behind generateContent."""

    def __init__(self, options: GeminiVllmOptions) -> None:
        url = stream_endpoint(options.base_url, options.model_name)
        super().__init__(
            options.client(url),
            url,
            options.fixed("top_k"),
            switches=options.chosen(switches_of(options.model_name)),
            dialect=GeminiDialect(options.model_name),
        )
