"""Speaker identification: the sound of one utterance in, who spoke out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from xiaozhi.providers.contracts.provider import Provider, ProviderTraits
from xiaozhi.speech.voice_likeness import VoiceSample


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who spoke."""

    id: str
    name: str
    description: str = ""
    similarity: float = 0.0


@dataclass(frozen=True, slots=True)
class HeardVoice:
    """What an utterance's sound told. `speaker`: None for somebody who is not known. `sample`: what the voice can be
    remembered by; None where there was too little of it, or where voices are not learnt."""

    speaker: Speaker | None
    sample: VoiceSample | None = None
    comparable: bool = True
    """False: there was nothing to compare it with (nobody is known, or too little was heard): "somebody unknown" would
    be no news."""


@dataclass(frozen=True, slots=True)
class VoiceprintTraits(ProviderTraits):
    """What a speaker identification can do: the common traits only."""


class Voiceprint(Provider, ABC):
    """Speaker identification."""

    kind: ClassVar[str] = "voiceprint"
    traits: VoiceprintTraits = VoiceprintTraits()

    @abstractmethod
    def identify(self, pcm: bytes, owner: str) -> HeardVoice:
        """Who spoke an utterance (s16le mono 16 kHz). `owner`: the name under which the user of the device is
        remembered; where a provider keeps people by user, only this user's are looked for. Raises VendorError."""


class LearningVoiceprint(Voiceprint, ABC):
    """One that keeps voices itself, by user (`owner`), and can be told new ones while the server runs. Its methods
    block for the database and raise VendorError."""

    @abstractmethod
    def remember(self, owner: str, name: str, samples: Sequence[VoiceSample], consent: str) -> None:
        """Keep a person's voice, in the place of the one of the same name. `samples`: at least one. `consent`: how it
        was given, for the record. Raises VendorRejected when there are too many."""

    @abstractmethod
    def forget(self, owner: str, name: str = "") -> list[str]:
        """Erase a person's voice, or with "" all of this user; the names that are gone."""

    @abstractmethod
    def names(self, owner: str) -> list[str]:
        """The people whose voices are kept for this user."""
