"""A sentence for the time in which a tool works: silence of more than a few seconds sounds like a fault.

Here is only when it is said; the pipeline speaks it. It is no part of the answer, so the dialogue does not remember
it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xiaozhi.errors import VendorError
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)


@contextmanager
def meanwhile(seconds: float, say: Callable[[], None]) -> Iterator[None]:
    """Call `say` once, in a greenlet of its own, when the block takes longer than `seconds` (0: never)."""
    if not seconds:
        yield
        return
    waiting = tasks.spawn_later(seconds, "tool-filler", _say, say)
    try:
        yield
    finally:
        waiting.kill(block=False)


def _say(say: Callable[[], None]) -> None:
    try:
        say()
    except VendorError as error:
        log.debug("no words meanwhile", error=str(error)[:200])  # the turn itself meets it, too
