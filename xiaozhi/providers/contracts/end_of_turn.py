"""End of turn: the sound of somebody who pauses in, how likely it is that they have finished out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from xiaozhi.providers.contracts.provider import Provider, ProviderTraits


@dataclass(frozen=True, slots=True)
class EndOfTurnTraits(ProviderTraits):
    """How a model of the end of a turn is to be used."""

    languages: tuple[str, ...] = ()
    """ISO 639 codes of the languages in which its judgement counts; empty: all."""
    sound_ms: int = 8_000
    """So much of the end of the sound is all that it looks at."""


class EndOfTurn(Provider, ABC):
    """A model that hears whether somebody has finished."""

    kind: ClassVar[str] = "end_of_turn"
    traits: EndOfTurnTraits = EndOfTurnTraits()

    @classmethod
    def missing(cls, options: Any) -> str:
        """What has to be there before anybody is asked, and how it is had; "": nothing. Quick."""
        return ""

    @abstractmethod
    def judge(self, pcm: bytes) -> float | None:
        """The probability (0..1) that whoever spoke in `pcm` (s16le mono 16 kHz, up to the pause) has finished; None:
        there is no model yet. Asked at most once per pause; blocks for the model. Raises VendorError, Overloaded: then
        the silence decides as usual."""
