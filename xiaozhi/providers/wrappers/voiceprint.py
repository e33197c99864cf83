"""Guard of speaker identification."""

from __future__ import annotations

from collections.abc import Sequence

from xiaozhi.providers.contracts.voiceprint import HeardVoice, LearningVoiceprint, Voiceprint
from xiaozhi.providers.wrappers.guarded import GuardedProvider
from xiaozhi.runtime.resilience import NO_RETRY
from xiaozhi.speech.voice_likeness import VoiceSample


class GuardedVoiceprint(GuardedProvider, Voiceprint):
    """One place per utterance."""

    retry = NO_RETRY  # a name that comes late is of no use

    def identify(self, pcm: bytes, owner: str) -> HeardVoice:
        """As the provider inside; raises VendorTimeout, CircuitOpen and Overloaded as well."""

        def ask() -> HeardVoice:
            heard: HeardVoice = self.inner.identify(pcm, owner)
            return heard

        return self.within_deadline(ask)


class GuardedLearningVoiceprint(GuardedVoiceprint, LearningVoiceprint):
    """The same of one that learns voices: behind the guard it still does."""

    def remember(self, owner: str, name: str, samples: Sequence[VoiceSample], consent: str) -> None:
        """As the provider inside."""
        self.within_deadline(lambda: self.inner.remember(owner, name, samples, consent))

    def forget(self, owner: str, name: str = "") -> list[str]:
        """As the provider inside."""

        def ask() -> list[str]:
            gone: list[str] = self.inner.forget(owner, name)
            return gone

        return self.within_deadline(ask)

    def names(self, owner: str) -> list[str]:
        """As the provider inside."""

        def ask() -> list[str]:
            known: list[str] = self.inner.names(owner)
            return known

        return self.within_deadline(ask)
