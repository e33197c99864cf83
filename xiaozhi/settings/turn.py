"""The section `turn`: how far words and sound may move the silence that ends an utterance."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from xiaozhi.settings.fields import Section, Words

WITH_WORDS: Final = ("en", "zh")
"""Languages with a table of words, see `speech/last_words.py`."""


def _known(languages: tuple[str, ...]) -> tuple[str, ...]:
    for language in languages:
        if language not in WITH_WORDS:
            raise ValueError(f"must be of {', '.join(WITH_WORDS)}; for {language!r} there is no table of words")
    return languages


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
    words: Annotated[Words, AfterValidator(_known)] = Field(
        default=WITH_WORDS, description="Languages in which the last words may decide which of the two; empty: none."
    )
