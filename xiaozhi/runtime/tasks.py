"""The only place that spawns greenlets: named, context-carrying, failures logged, groups that stop.

Not a scheduler and not a supervisor: what should be restarted after a failure asks `runtime/watchdog.py`.
`gevent.spawn` neither inherits contextvars nor tells anybody that a greenlet died; both are mended here, once.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent import Greenlet
from gevent.pool import Group

from xiaozhi.errors import ConnectionClosed, TurnClosed, forget_trace
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

# gevent would walk ten frames of the stack at every spawn, and keep them, for a tree of greenlets that nobody here
# prints.
gevent.config.track_greenlet_tree = False

# Ways for a task to end that need no attention: the peer left, or the turn it worked for is over.
_QUIET = (ConnectionClosed, TurnClosed)


@dataclass(slots=True)
class Census:
    """All tasks of this process, counted for metrics: to find them in the heap would take as long as a garbage
    collection."""

    live: int = 0
    """Begun and not ended; those that wait for `spawn_later` have not begun."""
    started: int = 0
    failed: int = 0
    """Ended by an error that nobody expected."""
    by_name: dict[str, int] = field(default_factory=dict)
    """Live ones by name. Names are constants of the code, so there are a few dozen."""


census = Census()


def spawn(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Greenlet:
    """Run `function` in a greenlet called `name` that carries the caller's contextvars; a failure is logged, never
    lost."""
    greenlet = _prepare(name, function, args, kwargs)
    greenlet.start()
    return greenlet


def spawn_later(seconds: float, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Greenlet:
    """Like `spawn`, after `seconds`."""
    greenlet = _prepare(name, function, args, kwargs)
    greenlet.start_later(seconds)
    return greenlet


def end(greenlet: Greenlet, timeout: float = 2.0) -> bool:
    """Kill a greenlet and wait at most `timeout` seconds for it to unwind; True when it has. Raises nothing: who ends
    something goes on with what comes next."""
    return _end([greenlet], timeout)


def _end(greenlets: Sequence[Greenlet], timeout: float) -> bool:
    # Not `killall(timeout=...)`: it raises gevent.Timeout, which passes every `except Exception` of a stop.
    gevent.killall(greenlets, block=False)
    if timeout > 0:
        gevent.joinall(greenlets, timeout=timeout)
    return all(greenlet.dead for greenlet in greenlets)


class Tasks:
    """A group of greenlets that live and stop together. `kill` is idempotent; a task may kill its own group."""

    def __init__(self) -> None:
        self._group: Group = Group()

    def __len__(self) -> int:
        return len(self._group)

    def spawn(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Greenlet:
        """Spawn into the group; see the module's `spawn`."""
        greenlet = _prepare(name, function, args, kwargs)
        self._group.add(greenlet)
        greenlet.start()
        return greenlet

    def spawn_later(
        self, seconds: float, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Greenlet:
        """Spawn into the group after `seconds`; killing the group before then cancels it."""
        greenlet = _prepare(name, function, args, kwargs)
        self._group.add(greenlet)
        greenlet.start_later(seconds)
        return greenlet

    def join(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for all to end of their own accord; True when none is left."""
        self._group.join(timeout=timeout)
        return len(self._group) == 0

    def kill(self, timeout: float = 2.0) -> bool:
        """Kill all but the caller, waiting at most `timeout` seconds for them to unwind; True when none is left.
        Raises nothing."""
        me = gevent.getcurrent()
        others = [greenlet for greenlet in self._group if greenlet is not me]
        return not others or _end(others, timeout)


def _prepare(name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Greenlet:
    context = contextvars.copy_context()
    greenlet = Greenlet(context.run, _guarded, name, function, args, kwargs)
    greenlet.name = name
    return greenlet


def _guarded(name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    by_name = census.by_name
    census.live += 1
    census.started += 1
    by_name[name] = by_name.get(name, 0) + 1
    try:
        return function(*args, **kwargs)
    except gevent.GreenletExit:
        # As gevent itself ends a killed greenlet, but without the traceback: its frames would keep whoever holds the
        # greenlet in a cycle with it.
        return gevent.GreenletExit()
    except _QUIET as ended:
        log.debug("task ended", task=name, reason=str(ended))
        forget_trace(ended)
    except (Exception, SystemExit, gevent.Timeout) as error:
        # gevent raises a SystemExit again in the main greenlet: a `sys.exit()` in somebody's library would end the
        # server. A Timeout that comes here is nobody's any more.
        census.failed += 1
        log.exception("task failed", task=name)
        forget_trace(error)
    finally:
        census.live -= 1
        by_name[name] -= 1
    return None
