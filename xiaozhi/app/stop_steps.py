"""How a server stops step by step: a step that fails keeps no other from being taken.

Part of the composition root."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent

from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)


class StopSteps:
    """Call it once for each step, then `over`."""

    def __init__(self) -> None:
        self._ended_by: BaseException | None = None
        """What wanted to end the process meanwhile."""

    def __call__(self, what: str, function: Callable[..., Any], *args: object) -> Any:
        """What the step returns, None when it fails, which is logged."""
        try:
            return function(*args)
        except (Exception, gevent.Timeout):  # a Timeout: of a library, as nobody has set one around this
            log.exception("not stopped as it should be", what=what)
        except (SystemExit, KeyboardInterrupt) as error:  # raised again when the rest has been stopped
            log.exception("not stopped as it should be", what=what)
            self._ended_by = error
        return None

    def over(self) -> None:
        """Raises the SystemExit or KeyboardInterrupt that has come meanwhile, if one has."""
        if self._ended_by is not None:
            raise self._ended_by
