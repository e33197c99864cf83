"""Waiting in tests: for a condition, with a deadline that only a failure ever reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import gevent

PATIENCE_S = 60.0
"""Long enough for a machine that is busy with something else. How long a thing may take is never tested by it."""

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str = "the condition", *, within: float = PATIENCE_S) -> T:
    """Ask until the answer is true, and return it; other greenlets run meanwhile.

    Raises AssertionError, which names `what` was waited for, after `within` seconds.
    """
    deadline = time.monotonic() + within
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {within:g} s for {what}"
        gevent.sleep(0.002)  # sleep: between two looks
    return answer


def take_turns(times: int = 20) -> None:
    """Every greenlet goes as far as it goes without time passing or anything arriving from outside."""
    for _ in range(times):
        gevent.sleep(0)
