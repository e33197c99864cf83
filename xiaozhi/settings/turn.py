"""The section `turn`: how far words and sound may move the silence that ends an utterance."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from xiaozhi.settings.fields import OffIsAWord, Section

WITH_WORDS: Final = ("en", "zh")
"""Languages with a table of words, see `speech/last_words.py`."""


class TurnSettings(Section):
    """When somebody who pauses has finished. The plain silence is `min_silence_duration_ms` of the selected VAD; one
    that is outside of these bounds is not moved towards them."""

    min_silence_ms: int = Field(
        default=250,
        ge=32,
        le=10_000,
        description="Silence that ends an utterance whose speaker has surely finished, ms.",
    )
    max_silence_ms: int = Field(
        default=1_500, ge=32, le=10_000, description="Silence that ends one whose speaker surely goes on, ms."
    )
    words: Annotated[Literal["all", "en", "zh", "off"], OffIsAWord] = Field(
        default="all", description="Languages in which the last words may move the silence: all that are known, or one."
    )

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639 codes of those languages."""
        return WITH_WORDS if self.words == "all" else () if self.words == "off" else (self.words,)
