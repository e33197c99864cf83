"""The door to the wrappers: `guard` puts limits around a provider, `with_fallback` makes one provider of several,
`open_speech` and `by_sentence` make one kind of TTS of the other.

Each kind's wrappers are in a file of their own here; whoever is outside `providers/` imports this door and nothing
behind it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import gevent

from xiaozhi.errors import VendorError
from xiaozhi.providers.contracts.asr import Asr, BatchAsr
from xiaozhi.providers.contracts.end_of_turn import EndOfTurn
from xiaozhi.providers.contracts.intent import Intent
from xiaozhi.providers.contracts.llm import Llm
from xiaozhi.providers.contracts.memory import Memory
from xiaozhi.providers.contracts.tts import SentenceTts, StreamingTts, Tts
from xiaozhi.providers.contracts.vllm import Vllm
from xiaozhi.providers.contracts.voiceprint import LearningVoiceprint, Voiceprint
from xiaozhi.providers.registry import block_key
from xiaozhi.providers.remedies import Remedies
from xiaozhi.providers.wrappers import asr, end_of_turn, intent, llm, memory, tts, vllm, voiceprint
from xiaozhi.providers.wrappers.guarded import VendorLimits
from xiaozhi.providers.wrappers.sentence_stream import by_sentence, open_speech
from xiaozhi.runtime.resilience import Breaker, BreakerOptions, Clock, Guard, Observer, RetryOptions, Window

__all__ = ["VendorLimits", "by_sentence", "guard", "open_speech", "with_fallback"]

# Contract, guard, fallback (None: there is none of its own); the narrower contract first: a BatchAsr is an Asr as well.
# Every Tts is of one of the two kinds, and a mixture of them is streamed.
_WRAPPERS: tuple[tuple[type, Any, Any], ...] = (
    (Llm, llm.GuardedLlm, llm.FallbackLlm),
    (Vllm, vllm.GuardedVllm, vllm.FallbackVllm),
    (BatchAsr, asr.GuardedBatchAsr, asr.FallbackBatchAsr),
    (Asr, asr.GuardedAsr, asr.FallbackAsr),
    (SentenceTts, tts.GuardedSentenceTts, tts.FallbackSentenceTts),
    (StreamingTts, tts.GuardedStreamingTts, tts.FallbackStreamingTts),
    (Tts, None, tts.FallbackStreamingTts),
    (Memory, memory.GuardedMemory, None),
    (Intent, intent.GuardedIntent, None),
    (LearningVoiceprint, voiceprint.GuardedLearningVoiceprint, None),
    (Voiceprint, voiceprint.GuardedVoiceprint, None),
    (EndOfTurn, end_of_turn.GuardedEndOfTurn, None),
)


def guard(
    kind: str,
    provider: Any,
    limits: VendorLimits = VendorLimits(),  # noqa: B008  frozen
    *,
    retry: RetryOptions | None = None,
    breaker: Breaker | BreakerOptions | None = BreakerOptions(),  # noqa: B008  frozen
    observer: Observer | None = None,
    explain: Callable[[VendorError], None] | None = None,
    clock: Clock = time.monotonic,
    sleep: Callable[[float], None] = gevent.sleep,
    chance: Callable[[], float] = random.random,
) -> Any:
    """`provider` behind a guard, of the same kind. Offline providers and kinds without a wrapper come back as they are.

    `explain`: makes a vendor's error one that a person can act on; None: it is only given the name of the block.
    `retry`: None: as is usual for the kind. `breaker`: options for one of its own, a Breaker shared with others at the
    same endpoint, or None. The guard is `provider.guard`."""
    wrapper = next((guarded for contract, guarded, _ in _WRAPPERS if isinstance(provider, contract)), None)
    if provider.traits.offline or wrapper is None:
        return provider
    name = block_key(kind, provider.name or provider.type_name)
    window = Window(name, limits.max_concurrent, limits.queue_size if limits.enable_queue else 0, clock=clock)
    own = Breaker(name, breaker, clock=clock) if isinstance(breaker, BreakerOptions) else breaker
    made = Guard(
        name,
        window=window,
        breaker=own,
        retry=wrapper.retry if retry is None else retry,
        counts_tries=wrapper.counts_tries,
        timeout=limits.timeout,
        observer=observer,
        limitations=lambda: provider.limitations,
        explain=explain or Remedies(name).explain,
        clock=clock,
        sleep=sleep,
        chance=chance,
    )
    return wrapper(provider, made, limits)


def with_fallback(providers: Sequence[Any]) -> Any:
    """One provider made of several of one kind, tried in this order; of the same contract as the first. One provider
    comes back as it is.

    A vendor that takes single sentences stays a SentenceTts as long as all of them are; mixed with streaming ones, all
    become streams."""
    if len(providers) < 2:
        return providers[0]
    for contract, _, fallback in _WRAPPERS:
        if fallback is not None and all(isinstance(provider, contract) for provider in providers):
            return fallback(providers)
    raise TypeError(f"providers of different kinds: {[type(provider).__name__ for provider in providers]}")
