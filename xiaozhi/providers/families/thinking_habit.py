"""Whether a vendor's answers begin inside a thought whose opening mark stands in the prompt, so that only `</think>` is
ever seen. Learnt from the answers; no clock of its own."""

from __future__ import annotations

import re
from typing import Final

_UNKNOWN_S: Final = 0.06
"""How long the first text is held back while the habit is not known: what has arrived by then is seen as a whole."""
_MISSES: Final = 3
# Models whose own template opens the thought.
_NAMES: Final = re.compile(r"(?i)(?:^|[^a-z])(?:r1|qwq|thinking|reasoner|glm-z1|exaone-deep|or1|reasoning)(?:[^a-z]|$)")


class ThinkingHabit:
    """One per vendor block. `model`: its name, by which models that always do so are known before their first
    answer."""

    def __init__(self, model: str) -> None:
        self._thinks: bool | None = True if _NAMES.search(model) else None
        self._misses = 0

    @property
    def hold_seconds(self) -> float:
        """How long text is to be held back for an end of thought that may still come; infinite: until it comes, or the
        answer ends."""
        if self._thinks is None:
            return _UNKNOWN_S
        return float("inf") if self._thinks else 0.0

    @property
    def known(self) -> bool:
        """Text before an end of thought has been seen."""
        return self._thinks is True and self._misses == 0

    def answered(self, *, lone_end: bool) -> None:
        """An answer has ended; `lone_end`: it had an end of thought without a beginning."""
        if lone_end:
            self._thinks, self._misses = True, 0
        elif self._thinks is None:
            self._thinks = False
        elif self._thinks:
            self._misses += 1
            if self._misses >= _MISSES:
                self._thinks = False
