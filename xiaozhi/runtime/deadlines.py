"""A deadline around work that has deadlines, retries and fallbacks of its own inside.

`gevent.Timeout(seconds, error)` raises `error` in the innermost call. A guard there takes it for a failure of its
vendor and tries again, and the deadline is gone. `at_most` breaks the work off with what nobody inside catches, and
raises the error where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gevent


@contextmanager
def at_most(seconds: float, late: Exception) -> Iterator[None]:
    """Break the block off after `seconds` and raise `late`."""
    timer = gevent.Timeout.start_new(seconds)
    try:
        yield
    except gevent.Timeout as fired:
        if fired is not timer:
            raise
        raise late from None
    finally:
        timer.close()
