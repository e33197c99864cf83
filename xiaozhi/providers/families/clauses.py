"""A sentence in the pieces that a slow voice speaks one after the other: the first sound comes when the first piece is
done, and whoever interrupts waits for one piece at most."""

from __future__ import annotations

import re

SHORTEST = 6
"""Characters of a first piece, as far as there is a choice: a single "Well," gains nothing and costs a pause."""
LONGEST = 100
"""Characters of a piece; more is cut where a word ends."""
_MARKS = re.compile(r"[，。！？；：、…,.!?;:](?=\s|[^\x00-\x7f]|$)[”’」』\"')）】]*\s*")


def clauses(sentence: str) -> list[str]:
    """`sentence` cut behind punctuation; nothing is lost but white space at the cuts."""
    pieces: list[str] = []
    start = 0
    for mark in _MARKS.finditer(sentence):
        if len(sentence[start : mark.end()].strip()) >= SHORTEST:
            pieces.append(sentence[start : mark.end()])
            start = mark.end()
    rest = sentence[start:]
    if pieces and len(rest.strip()) < SHORTEST:
        pieces[-1] += rest
    else:
        pieces.append(rest)
    return [part for piece in pieces for part in _bounded(piece.strip()) if part]


def _bounded(piece: str) -> list[str]:
    parts = []
    while len(piece) > LONGEST:
        cut = piece.rfind(" ", LONGEST // 2, LONGEST) + 1 or LONGEST
        parts.append(piece[:cut].strip())
        piece = piece[cut:].strip()
    return [*parts, piece]
