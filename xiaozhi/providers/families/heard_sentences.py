"""Sentences that a recogniser gives one by one -> one text. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from xiaozhi.speech.tidy import is_wide


def joined_sentences(sentences: Iterable[str]) -> str:
    """With a space between two of them where the script has spaces: Latin, Cyrillic, Korean and others, not Chinese or
    Japanese."""
    text = ""
    for sentence in map(str.strip, sentences):
        if text and sentence and not (is_wide(text[-1]) or is_wide(sentence[0])):
            text += " "
        text += sentence
    return text
