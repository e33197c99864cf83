"""Guard of intent providers."""

from __future__ import annotations

from collections.abc import Sequence

from xiaozhi.chat import CallContext, Message, ToolSpec
from xiaozhi.providers.contracts.intent import Intent, Intention
from xiaozhi.providers.wrappers.guarded import GuardedProvider
from xiaozhi.runtime.resilience import NO_RETRY


class GuardedIntent(GuardedProvider, Intent):
    """One place per question."""

    retry = NO_RETRY  # a question waits; the language model behind it retries by itself

    def classify(
        self, text: str, history: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Intention:
        """As the provider inside; raises VendorTimeout, CircuitOpen and Overloaded as well."""

        def ask() -> Intention:
            intention: Intention = self.inner.classify(text, history, tools, context)
            return intention

        return self.within_deadline(ask)
