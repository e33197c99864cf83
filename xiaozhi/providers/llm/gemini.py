"""Google Gemini. Source: ai.google.dev/api/generate-content; `families/gemini.py` has the form."""

from __future__ import annotations

from xiaozhi.providers.families.chat_llm import ChatLlm
from xiaozhi.providers.families.gemini import KNOWN, GeminiDialect, GeminiOptions, stream_endpoint, switches_of
from xiaozhi.providers.registry import provider


@provider("llm", "gemini", GeminiOptions)
class GeminiLlm(ChatLlm):
    """A language model behind generateContent."""

    def __init__(self, options: GeminiOptions) -> None:
        url = stream_endpoint(options.base_url, options.model_name)
        super().__init__(
            options.client(url),
            url,
            options.fixed("top_k"),
            switches=options.chosen(switches_of(options.model_name)),
            dialect=GeminiDialect(options.model_name),
            known=KNOWN,
        )
