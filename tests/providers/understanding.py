"""What the offline assistant makes of a sentence, in one line that a test can compare."""

from __future__ import annotations

from xiaozhi.providers.families.offline_phrases import PhraseBook


def understood(book: PhraseBook, text: str) -> str:
    """The rule, and what stands in its slots; "" where there is none."""
    match = book.match(text)
    return " ".join((match.name, *map(str, match.values.values()))) if match is not None else ""
