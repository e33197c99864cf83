"""An inference pool without threads: the function runs at once in the caller, so a test is neither slow nor racy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from xiaozhi.errors import Overloaded

T = TypeVar("T")


class InlineInference:
    """Has `run` like `runtime.inference.InferencePool`; records (kind, function, deadline) and refuses while `full`."""

    def __init__(self) -> None:
        self.full = False
        self.hearing = False
        self.calls: list[tuple[str, Callable[..., Any], float]] = []

    slow_workers = 1

    def seconds_since(self, kind: str) -> float:
        """`hearing`: as if a device were listened to right now."""
        return 0.0 if kind == "vad" and self.hearing else math.inf

    def run(self, function: Callable[..., T], *args: Any, kind: str = "other", deadline: float, cost: float = 0.0) -> T:
        """Run `function(*args)` here and now."""
        if self.full:
            raise Overloaded("inference pool")
        self.calls.append((kind, function, deadline))
        return function(*args)
