"""Several providers that look like one: the next speaks up when the one before it fails before anything was heard of it.

`with_fallback([first, second])` is what the composition root calls for a block with `fallback: [Name]`. Retries and breakers are
inside, around each provider (`guarded.py`); an open breaker is what makes the change immediate.

For an answer of an Llm "before anything was heard" means before its first piece; for an utterance, any time, since its sound is kept;
for speech, per sentence: sentences whose sound has not begun are said again by the next provider, one that broke off in the middle is
not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.providers.base import Asr, BatchAsr, Llm, SentenceTts, Sound, Transcript, Tts, Vllm
from xiaozhi.providers.fallback_streams import Fallback, FallbackAsr, FallbackTts, marked


def with_fallback(providers: Sequence[Any]) -> Any:
    """One provider made of several of one kind, tried in this order; of the same contract as the first. One provider comes back as it is.

    A vendor that takes single sentences stays a SentenceTts as long as all of them are; mixed with streaming ones, all become streams.
    """
    if len(providers) < 2:
        return providers[0]
    for contracts, wrapper in (
        ((Llm,), FallbackLlm),
        ((Vllm,), FallbackVllm),
        ((BatchAsr,), FallbackBatchAsr),
        ((Asr,), FallbackAsr),
        ((SentenceTts,), FallbackSentenceTts),
        ((Tts,), FallbackTts),
    ):
        if all(isinstance(provider, contracts) for provider in providers):
            return wrapper(providers)
    raise TypeError(f"providers of different kinds: {[type(provider).__name__ for provider in providers]}")


class FallbackLlm(Fallback, Llm):
    """The next model answers when the one before failed without a word."""

    @property
    def calls_tools(self) -> bool:  # type: ignore[override]
        """As the first says; one that cannot ignores the tools."""
        return bool(self.providers[0].calls_tools)

    def chat(self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext) -> Iterator[str | ToolCall]:
        """The answer of the first that gives one."""
        return self.first_to_yield(lambda provider: provider.chat(messages, tools, context))


class FallbackVllm(Fallback, Vllm):
    """The next model looks when the one before failed."""

    def describe(self, question: str, image: bytes, mime: str, context: CallContext) -> str:
        """The answer of the first that gives one."""
        return str(self.first_that(lambda provider: provider.describe(question, image, mime, context)))


class FallbackBatchAsr(Fallback, BatchAsr):
    """The next recogniser gets the same utterance."""

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        """The text of the first that understands."""
        heard: Transcript = self.first_that(lambda provider: provider.transcribe(pcm, context))
        return heard


class FallbackSentenceTts(Fallback, SentenceTts):
    """The next voice says the same sentence."""

    def __init__(self, providers: Sequence[Any]) -> None:
        super().__init__(providers)
        self.sample_rate = self.providers[0].sample_rate

    @property
    def voice_key(self) -> str:
        """The first's: it is the voice that is meant."""
        return str(self.providers[0].voice_key)

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of the first that makes one."""
        return self.first_to_yield(
            lambda provider: marked(provider, provider.synthesize(sentence, context), substitute=provider is not self.providers[0])
        )
