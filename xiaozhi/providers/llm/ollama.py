"""Ollama, by its own API. Source: docs.ollama.com/api/chat; `families/ollama.py` has the form and says why not the
OpenAI-compatible one.

A model that is not loaded answers after ten seconds or a minute. It is loaded when the server starts, without anybody
waiting for it, and stays loaded for `keep_alive` behind each answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import AliasChoices, Field

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import VendorError, VendorTimeout
from xiaozhi.providers.families.chat_llm import ChatLlm
from xiaozhi.providers.families.chat_options import ModelOptions
from xiaozhi.providers.families.http_options import HttpUrl, Timeouts
from xiaozhi.providers.families.ollama import OllamaDialect, base_of, switches_of
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks

log = get_logger(__name__)

LOADING_S = 300.0
"""A large model from a slow disk."""


class OllamaLlmOptions(ModelOptions):
    """`base_url` is the address of the server, with or without /v1 behind it."""

    base_url: HttpUrl = Field("http://localhost:11434", validation_alias=AliasChoices("base_url", "url"))
    # A model that is not loaded takes its time.
    timeout: Timeouts = Timeouts(first_byte=60.0, total=120.0)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    keep_alive: int | str = "30m"
    """How long the model stays loaded after its last answer: "10m", or seconds; -1: for ever."""
    num_ctx: int | None = Field(None, ge=512)
    """Tokens of prompt, dialogue and answer. What is longer loses its beginning; unset: Ollama's own default."""
    options: dict[str, Any] = {}
    """Ollama's other options, as its model files have them."""

    @property
    def stay(self) -> int | str:
        """`keep_alive` as Ollama reads it: "-1" is nothing to it."""
        text = str(self.keep_alive).strip()
        return int(text) if text.lstrip("-").isdecimal() else text


@provider("llm", "ollama", OllamaLlmOptions)
class OllamaLlm(ChatLlm):
    """A model on somebody's own machine."""

    def __init__(self, options: OllamaLlmOptions) -> None:
        url = f"{base_of(options.base_url)}/api/chat"
        own = {**({"num_ctx": options.num_ctx} if options.num_ctx is not None else {}), **options.options}
        fixed = options.fixed("frequency_penalty") | {"keep_alive": options.stay} | ({"options": own} if own else {})
        self._loader = options.model_copy(
            update={"timeout": options.timeout.model_copy(update={"first_byte": LOADING_S, "total": LOADING_S})}
        ).client(url)
        self._loading = Tasks()
        super().__init__(
            options.client(url),
            url,
            fixed,
            switches=options.chosen(switches_of(options.model_name)),
            dialect=OllamaDialect(),
            missing=f"run `ollama pull {options.model_name}` on its machine",
        )

    def warm_up(self) -> None:
        """Have the model loaded; nobody waits for that."""
        if not self._loading:
            self._loading.spawn("load-model", self._load)

    def chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        """See `ChatLlm`."""
        try:
            yield from super().chat(messages, tools, context)
        except VendorTimeout:
            # Ollama stops loading a model when nobody waits for it any more.
            self.warm_up()
            raise

    def close(self) -> None:
        """Break off what runs."""
        self._loading.kill()
        self._loader.close()
        super().close()

    def _load(self) -> None:
        # With the options of the answers: others would have it loaded once more.
        body = OllamaDialect().request({**self._fixed, "stream": False, "messages": []})
        try:
            self._loader.json("POST", self._url, json=body)
        except VendorError as error:
            log.warning("model not loaded", provider=self.name, error=str(error))
