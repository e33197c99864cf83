"""A read-only table of words and what is known of each, in a tenth of the memory of a dict of strings.

For lexicons: the words lie one behind the other, sorted, and are found by halving (about 10 us). Nothing of the entries
that it is made of is kept: one small object that stays keeps a whole arena of Python's memory."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping
from typing import Any


class PackedWords:
    """Made of `entries`: word -> anything that JSON can say."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        pairs = sorted(
            (word.encode(), json.dumps(value, ensure_ascii=False).encode()) for word, value in entries.items()
        )
        self._words = b"".join(word for word, _ in pairs)
        self._values = b"".join(value for _, value in pairs)
        self._ends = _ends(word for word, _ in pairs)
        self._value_ends = _ends(value for _, value in pairs)

    def get(self, word: str) -> Any:
        """What is known of it; None when nothing is."""
        wanted = word.encode("utf-8", "replace")
        low, high = 0, len(self._ends) - 1
        while low < high:
            middle = (low + high) // 2
            if self._words[self._ends[middle] : self._ends[middle + 1]] < wanted:
                low = middle + 1
            else:
                high = middle
        if low == len(self._ends) - 1 or self._words[self._ends[low] : self._ends[low + 1]] != wanted:
            return None
        return json.loads(self._values[self._value_ends[low] : self._value_ends[low + 1]])

    def __contains__(self, word: str) -> bool:
        return self.get(word) is not None


def _ends(parts: Iterable[bytes]) -> array[int]:
    ends = array("I", [0])
    for part in parts:
        ends.append(ends[-1] + len(part))
    return ends
