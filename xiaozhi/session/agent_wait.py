"""The time in which a device is connected and its agent is still being looked for.

Not the decision which agent that is (`AgentSource`). Here the source is asked, with a deadline; what the device sends
meanwhile is kept; and when the agent is known, or will not be, the session gets all of it in its order of arrival.

A device that has no agent now (nobody has bound it) is told so when it sends something, once a minute at most; what it
sends is dropped, and makes the source be asked again, so that it is served as soon as it has one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import gevent
from gevent.event import Event

from xiaozhi.errors import AuthError, ConnectionClosed, NotServed, Overloaded, XiaozhiError, forget_trace
from xiaozhi.protocol import close_codes
from xiaozhi.protocol import messages as wire
from xiaozhi.protocol.frames import Frame
from xiaozhi.runtime.logs import get_logger
from xiaozhi.session.agent import Agent, AgentSource
from xiaozhi.session.link import Link
from xiaozhi.session.pending_input import PendingInput
from xiaozhi.session.telemetry import Telemetry

log = get_logger(__name__)

ASK_AGAIN_S: Final = 5.0
"""Between two questions for the agent of a device that has none."""
TELL_AGAIN_S: Final = 60.0
"""Between two times that it is told so."""
_LOOK_S: Final = 60.0


class AgentWaiter(Protocol):
    """The session, as far as it waits. None of the methods waits for a vendor."""

    def agent_found(self, agent: Agent | None) -> None:
        """This is the agent; None: the default one stays. What has waited follows."""

    def tell(self, refusal: NotServed) -> None:
        """The device has no agent, and is to hear why."""

    def take_message(self, message: wire.DeviceMessage) -> None:
        """A message that has waited."""

    def take_sound(self, frame: Frame) -> None:
        """Sound that has waited."""

    def agent_settled(self) -> None:
        """Nothing waits any more."""


class AgentWait:
    """`run` it in a greenlet of the session. `seconds`: how long the source may take."""

    def __init__(
        self,
        source: AgentSource,
        link: Link,
        waiter: AgentWaiter,
        telemetry: Telemetry,
        *,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = gevent.sleep,
    ) -> None:
        self._source = source
        self._link = link
        self._waiter = waiter
        self._telemetry = telemetry
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._pending = PendingInput()
        self._arrived: Event | None = None
        """Set by what the device sends; made for one that has no agent."""

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def held_bytes(self) -> int:
        """About how much memory takes what waits."""
        return self._pending.held_bytes

    def add_message(self, message: wire.DeviceMessage, chars: int) -> None:
        """A message of `chars` characters has come; refused when too much waits already."""
        if not self._pending.add_message(message, chars):
            self._telemetry.dropped("waiting")
        self._note_arrival()

    def add_sound(self, frame: Frame) -> None:
        """Sound has come; when too much waits, the oldest goes."""
        for _ in range(self._pending.add_sound(frame)):
            self._telemetry.dropped("waiting")
        self._note_arrival()

    def drop_sound(self) -> None:
        """Give back memory."""
        self._pending.drop_sound()

    def start_anew(self) -> None:
        """The device has said hello again: what it sent before does not count any more."""
        self._pending.clear()

    def run(self, hello: wire.Hello | None) -> None:
        """Ask, tell the session, hand on what has waited. A device that must not talk now is closed instead."""
        try:
            agent = self._found(hello)
        except (Overloaded, AuthError) as refusal:
            log.warning("device refused", reason=str(refusal)[:200])
            self._link.close(close_codes.TRY_AGAIN_LATER, str(refusal))
            return
        waiter = self._waiter
        _attempt(waiter.agent_found, agent)
        while (waited := self._pending.take()) is not None:
            if isinstance(waited, Frame):
                _attempt(waiter.take_sound, waited)
            else:
                _attempt(waiter.take_message, waited)
        waiter.agent_settled()

    def _found(self, hello: wire.Hello | None) -> Agent | None:
        """As `_resolve`, but for a device without an agent: when it has one. Raises Overloaded, AuthError."""
        told_at: float | None = None
        while True:
            asked_at = self._clock()
            try:
                return self._resolve(hello)
            except NotServed as refusal:
                forget_trace(refusal)
                if self._arrived is None:
                    self._arrived = Event()
                    log.warning("device not served", reason=str(refusal)[:200])
                self._await_input()
                if told_at is None or self._clock() - told_at >= TELL_AGAIN_S:
                    told_at = self._clock()
                    _attempt(self._waiter.tell, refusal)
            self._pending.clear()
            self._sleep(max(0.0, asked_at + ASK_AGAIN_S - self._clock()))
            self._await_input()

    def _note_arrival(self) -> None:
        if self._arrived is not None:
            self._arrived.set()

    def _await_input(self) -> None:
        while not self._pending and self._arrived is not None:
            self._arrived.clear()
            self._arrived.wait(timeout=_LOOK_S)

    def _resolve(self, hello: wire.Hello | None) -> Agent | None:
        """The agent; None when there is none in time. Raises Overloaded, AuthError, NotServed."""
        reason = ""
        # Not a deadline with an error of its own: what the source does about errors must not swallow it.
        with gevent.Timeout(self._seconds, False):
            try:
                return self._source.resolve(self._link.identity, hello)
            except (Overloaded, AuthError, NotServed):
                raise
            except XiaozhiError as error:
                reason = str(error)[:500]
            except Exception:  # whatever it was, the device must get an answer
                log.exception("agent cannot be made")
                reason = "internal error"
        log.warning("the default agent answers", reason=reason or f"its own is not there after {self._seconds:g} s")
        return None


def _attempt(function: Callable[[Any], None], argument: object) -> None:
    try:
        function(argument)
    except ConnectionClosed:
        raise
    except Exception:  # what waits behind it must still be heard, as it would be when the reader brings it
        log.exception("session failed at what had waited")
