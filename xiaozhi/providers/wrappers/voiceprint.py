"""Guard of speaker identification."""

from __future__ import annotations

from xiaozhi.providers.contracts.voiceprint import Speaker, Voiceprint
from xiaozhi.providers.wrappers.guarded import GuardedProvider
from xiaozhi.runtime.resilience import NO_RETRY


class GuardedVoiceprint(GuardedProvider, Voiceprint):
    """One place per utterance."""

    retry = NO_RETRY  # a name that comes late is of no use

    def identify(self, pcm: bytes) -> Speaker | None:
        """As the provider inside; raises VendorTimeout, CircuitOpen and Overloaded as well."""

        def ask() -> Speaker | None:
            speaker: Speaker | None = self.inner.identify(pcm)
            return speaker

        return self.within_deadline(ask)
