"""Guard of speaker identification."""

from __future__ import annotations

from xiaozhi.providers.contracts.voiceprint import HeardVoice, Voiceprint
from xiaozhi.providers.wrappers.guarded import GuardedProvider
from xiaozhi.runtime.resilience import NO_RETRY


class GuardedVoiceprint(GuardedProvider, Voiceprint):
    """One place per utterance."""

    retry = NO_RETRY  # a name that comes late is of no use

    def identify(self, pcm: bytes, owner: str) -> HeardVoice:
        """As the provider inside; raises VendorTimeout, CircuitOpen and Overloaded as well."""

        def ask() -> HeardVoice:
            heard: HeardVoice = self.inner.identify(pcm, owner)
            return heard

        return self.within_deadline(ask)
