"""Guard of memories."""

from __future__ import annotations

from collections.abc import Sequence

from xiaozhi.chat import Message
from xiaozhi.providers.contracts.memory import Memory
from xiaozhi.providers.wrappers.guarded import GuardedProvider
from xiaozhi.runtime.resilience import NO_RETRY


class GuardedMemory(GuardedProvider, Memory):
    """One place per call. A failed `save` is not repeated here: whoever keeps the messages does that."""

    retry = NO_RETRY  # a question waits for `recall`, and what `save` could not keep is kept by the caller

    def recall(self, device_id: str, query: str) -> str:
        """As the provider inside; raises VendorTimeout, CircuitOpen and Overloaded as well."""
        return self.within_deadline(lambda: str(self.inner.recall(device_id, query)))

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        """As the provider inside; raises VendorTimeout, CircuitOpen and Overloaded as well."""
        self.within_deadline(lambda: self.inner.save(device_id, messages, session_id))
