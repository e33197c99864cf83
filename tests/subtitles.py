"""What a screen shows of a sentence, for tests that compare subtitles with texts they know by name."""

from __future__ import annotations

from xiaozhi.speech.sentences import Sentence


def shown(sentence: str) -> str:
    """`sentence` as a subtitle: no comma, full stop or dash at its ends."""
    return Sentence(sentence, "").subtitle
