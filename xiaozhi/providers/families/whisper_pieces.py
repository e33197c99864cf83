"""The pieces that Whisper's text is made of: read from the vocabulary of a model, and put together to text. Pure, but
for reading the file.

The vocabulary is that of GPT-2: a piece is written with a character for every byte, and pieces were merged in the order
in which they stand there. Sources: openai/whisper and openai/tiktoken."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from xiaozhi.providers.families.model_files import first_of

_WORD = re.compile(r" ?[^\W\d_]+| ?\d+| ?[^\s\w]+|\s+")


def read_vocabulary(folder: Path) -> list[str]:
    """The pieces of a model in the order of their numbers: `vocabulary.txt`, a line each, or `vocabulary.json`, a
    list. Raises OSError, ValueError."""
    file = first_of(folder, "vocabulary.*")
    if file is None:
        raise ValueError(f"{folder} has no vocabulary")
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".json":
        return text.split("\n")
    pieces: Any = json.loads(text)
    if not isinstance(pieces, list):
        raise ValueError(f"{file.name} is no list")
    return [str(piece) for piece in pieces]


def digits_of(vocabulary: Sequence[str]) -> list[int]:
    """The numbers of all pieces with a digit or a percent sign; marks such as <|0.00|> are none."""
    return [
        number
        for number, piece in enumerate(vocabulary)
        if not piece.startswith("<|") and any(letter in "0123456789%" for letter in piece)
    ]


def pieces_of_text(text: str, vocabulary: Sequence[str]) -> list[str]:
    """`text` in pieces, as the model was taught to cut it."""
    order = {piece: number for number, piece in enumerate(vocabulary) if not piece.startswith("<|")}
    characters = {byte: character for character, byte in _bytes_of_characters().items()}
    found: list[str] = []
    for word in _WORD.findall(text):
        pieces = [characters[byte] for byte in word.encode()]
        while len(pieces) > 1:
            merged = [order.get(one + other, len(order)) for one, other in pairwise(pieces)]
            first = min(range(len(merged)), key=merged.__getitem__)
            if merged[first] == len(order):
                break
            pieces[first : first + 2] = ["".join(pieces[first : first + 2])]
        found += pieces
    return found


def text_of(pieces: Sequence[str]) -> str:
    """The text of pieces. Marks such as <|en|> say nothing."""
    table = _bytes_of_characters()
    spoken = "".join(piece for piece in pieces if not (piece.startswith("<|") and piece.endswith("|>")))
    return bytes(table[character] for character in spoken if character in table).decode("utf-8", "replace").strip()


@cache
def _bytes_of_characters() -> Mapping[str, int]:
    """GPT-2's: bytes that are printable characters stand for themselves, the others for those from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + at): byte for at, byte in enumerate(others)}}
