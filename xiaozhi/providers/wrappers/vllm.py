"""Guard and fallback of models that look at pictures."""

from __future__ import annotations

from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.vllm import Vllm
from xiaozhi.providers.wrappers.fallback import FallbackProvider
from xiaozhi.providers.wrappers.guarded import GuardedProvider


class GuardedVllm(GuardedProvider, Vllm):
    """One place per picture."""

    def describe(self, question: str, image: bytes, mime: str, context: CallContext) -> str:
        """As the provider inside; raises CircuitOpen and Overloaded as well."""
        return self.guard.call(lambda: str(self.inner.describe(question, image, mime, context)))


class FallbackVllm(FallbackProvider, Vllm):
    """The next model looks when the one before failed."""

    def describe(self, question: str, image: bytes, mime: str, context: CallContext) -> str:
        """The answer of the first that gives one."""
        return str(self.first_that(lambda provider: provider.describe(question, image, mime, context)))
