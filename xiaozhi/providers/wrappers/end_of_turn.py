"""Guard of models of the end of a turn."""

from __future__ import annotations

from xiaozhi.providers.contracts.end_of_turn import EndOfTurn
from xiaozhi.providers.wrappers.guarded import GuardedProvider
from xiaozhi.runtime.resilience import NO_RETRY


class GuardedEndOfTurn(GuardedProvider, EndOfTurn):
    """A failed judgement is not asked for again: by then the silence has decided."""

    retry = NO_RETRY

    def judge(self, pcm: bytes) -> float | None:
        """As the provider inside; raises VendorTimeout, CircuitOpen and Overloaded as well."""

        def ask() -> float | None:
            probability: float | None = self.inner.judge(pcm)
            return probability

        return self.within_deadline(ask)
