"""A provider behind a guard: the same contract with a concurrency window, a circuit breaker and retries in front of it,
and reports for metrics. This is what the guards of all kinds share; each kind's own is in its file here.

A place in the window is held for as long as the vendor works: one request for Llm, Vllm, BatchAsr and SentenceTts; the
whole stream for vendors that are connected while the user speaks (Asr) or the answer is spoken (Tts).

Retried is only what nobody has heard anything of: until the first output of an answer or a sentence, until the opening
of a stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import gevent

from xiaozhi.errors import VendorTimeout
from xiaozhi.providers.contracts.provider import Provider
from xiaozhi.runtime.resilience import Guard, RetryOptions

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class VendorLimits:
    """`ai_providers.<kind>` of the configuration. `max_concurrent` 0: no limit. `timeout`: seconds a request may wait
    for its place and for retries; the provider's own deadlines come on top."""

    max_concurrent: int = 0
    queue_size: int = 50
    enable_queue: bool = True
    timeout: float = 30.0
    one_per_device: bool = True
    """Llm only: a device's second request waits until its first has ended."""


class GuardedProvider(Provider):
    """What all wrappers share: they are called like the provider inside and pass its life cycle on."""

    retry: ClassVar[RetryOptions] = RetryOptions()
    counts_tries: ClassVar[bool] = True
    """See `Guard`."""

    def __init__(self, inner: Any, guard: Guard, limits: VendorLimits) -> None:
        self.inner = inner
        self.guard = guard
        self.name = inner.name
        self.traits = inner.traits
        self._limits = limits

    @property
    def limitations(self) -> tuple[str, ...]:
        """Those of the provider inside."""
        found: tuple[str, ...] = self.inner.limitations
        return found

    def warm_up(self) -> None:
        """Pass on."""
        self.inner.warm_up()

    def close(self) -> None:
        """Pass on."""
        self.inner.close()

    def within_deadline(self, function: Callable[[], T]) -> T:
        """Run `function` under the guard, for kinds whose vendors need not have deadlines of their own: after the
        limits' `timeout`, waiting and retries included, it is broken off. Raises VendorTimeout, CircuitOpen,
        Overloaded, and what `function` raises."""
        seconds = self._limits.timeout
        until = self.guard.clock() + seconds

        def bounded() -> T:
            left = max(0.0, until - self.guard.clock())
            with gevent.Timeout(left, VendorTimeout(self.guard.name, f"no answer within {seconds:g} s")):
                return function()

        return self.guard.call(bounded)
