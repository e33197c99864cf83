"""Sentences that a recogniser gives one by one -> one text. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from xiaozhi.speech.tidy import is_wide


def joined_sentences(sentences: Iterable[str]) -> str:
    """With a space between two of them where the script has spaces: Latin, Cyrillic, Korean and others, not Chinese or
    Japanese."""
    text = ""
    for sentence in map(str.strip, sentences):
        if text and sentence and not (_is_unspaced(text[-1]) or _is_unspaced(sentence[0])):
            text += " "
        text += sentence
    return text


def _is_unspaced(char: str) -> bool:
    return is_wide(char) and not "\uac00" <= char <= "\ud7a3"  # Korean has spaces
