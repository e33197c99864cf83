"""Calls of tools that take longer than anybody waits for: the conversation goes on without them, and what they found is
told when it is there.

Here is when a call becomes late, how many may be so, and how they end. How the result is told is the business of the
`LateTeller`, and which tools may be late is the toolbox's. Not for tools that are `uninterruptible`: nobody waits for
what those find."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import orjson
from gevent import Greenlet

from xiaozhi.chat import ToolCall, ToolSpec
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.tools.base import Action, SourceKind, Tool, ToolContext, ToolOutcome

log = get_logger(__name__)

MAX_OF_A_DEVICE: Final = 3
MAX_IN_ALL: Final = 64
"""Each holds a session, ended or not, and perhaps a connection with a vendor."""
GOES_ON: Final = (
    "{tool} is still at work and goes on in the background. There is no result yet, so do not make one up and do not "
    "call it again. Tell the user in one sentence that you will say what it finds as soon as it is there."
)
STOPPED: Final = "{tool} was not done yet when the server had to be stopped."
CUT_SHORT: Final = "{tool} was cut short."


class LateResult(NamedTuple):
    """What a late call has found."""

    device_id: str
    client_id: str
    language: str
    question: str
    call: ToolCall
    outcome: ToolOutcome
    seconds: float
    """From its beginning."""


class LateTeller(Protocol):
    """Who tells the user of one session."""

    def begins(self) -> None:
        """A call has become late; `ends` follows once. Returns at once."""

    def ends(self, result: LateResult | None) -> None:
        """Tell it; None: nobody wants to know any more. Blocks. Raises nothing."""


@dataclass(frozen=True, slots=True)
class LateAnswering:
    """Late calls as one toolbox makes them."""

    calls: LateCalls
    teller: LateTeller
    after: float
    """Seconds after which a call becomes late, where its tool does not say otherwise; 0: never."""
    limit: float
    """Longest life of a late call whose tool has no `timeout`, seconds."""


class _Key(NamedTuple):
    device: str
    tool: str
    arguments: bytes


@dataclass(slots=True)
class _Late:
    worker: Greenlet
    began: float
    unwanted: bool = False


class LateCalls:
    """See the module. One object per process; `stop` ends it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tasks = Tasks()
        self._late: dict[_Key, _Late] = {}
        """Until their results have been told."""
        self._stopping = False

    def __len__(self) -> int:
        """Those whose results have not been told yet."""
        return len(self._late)

    def of_device(self, device_id: str) -> int:
        """The same of one device."""
        return sum(key.device == device_id for key in self._late)

    def run(
        self,
        call: ToolCall,
        context: ToolContext,
        work: Callable[[], ToolOutcome],
        *,
        after: float,
        patience: float,
        teller: LateTeller,
    ) -> ToolOutcome | None:
        """Run `work`, which keeps its own deadline. After `after` seconds the outcome is that it goes on; where there
        is no room for that, it is waited for until `patience` seconds are over: None. One that goes on already is not
        begun again."""
        key = _Key(context.device_id, call.name, orjson.dumps(call.arguments, default=str, option=orjson.OPT_SORT_KEYS))
        if key in self._late:
            return ToolOutcome(Action.ASK_LLM, GOES_ON.format(tool=call.name))
        late = _Late(tasks.spawn("tool-call", work), self._clock())
        goes_on = False
        try:
            late.worker.join(timeout=after)
            goes_on = not late.worker.dead and self._has_room(key)
            if not goes_on:
                late.worker.join(timeout=patience - after)
                return _outcome(late.worker, call.name) if late.worker.dead else None
            self._late[key] = late
            teller.begins()
            self._tasks.spawn("late-answer", self._follow, key, late, call, context, teller)
            log.info("tool call goes on", tool=call.name)
            return ToolOutcome(Action.ASK_LLM, GOES_ON.format(tool=call.name))
        finally:
            if not goes_on:
                late.worker.kill(block=False)

    def cancel(self, device_id: str) -> int:
        """Give up the calls of a device, and tell nothing of them; how many there were."""
        unwanted = [late for key, late in self._late.items() if key.device == device_id and not late.unwanted]
        for late in unwanted:
            late.unwanted = True
            late.worker.kill(block=False)
        return len(unwanted)

    def stop(self, seconds: float) -> bool:
        """The server stops: give up what is under way and tell that; blocks at most about `seconds`. False when not
        all of it could be told."""
        self._stopping = True
        for late in self._late.values():
            late.worker.kill(block=False)
        told = self._tasks.join(seconds)
        self._tasks.kill()
        return told

    def _has_room(self, key: _Key) -> bool:
        if self._stopping or key in self._late:
            return False
        return len(self._late) < MAX_IN_ALL and self.of_device(key.device) < MAX_OF_A_DEVICE

    def _follow(self, key: _Key, late: _Late, call: ToolCall, context: ToolContext, teller: LateTeller) -> None:
        result = None
        try:
            late.worker.join()  # its own deadline ends it
            if not late.unwanted:
                outcome = _outcome(late.worker, call.name, STOPPED if self._stopping else CUT_SHORT)
                seconds, question = self._clock() - late.began, context.question.text
                log.info("late tool call ended", tool=call.name, outcome=outcome.action.value, seconds=round(seconds))
                result = LateResult(
                    context.device_id,
                    context.client_id,
                    context.language,
                    question,
                    call,
                    outcome,
                    seconds,
                )
        finally:
            try:
                teller.ends(result)
            finally:
                late.worker.kill(block=False)
                del self._late[key]


class LateSource:
    """A source of tools: the one tool to give up late calls, on offer while there are any of its device."""

    def __init__(self, calls: LateCalls, device_id: str) -> None:
        self._calls = calls
        self._device_id = device_id
        self._tools = (_Cancel(calls),)

    @property
    def name(self) -> str:
        return "late"

    @property
    def kind(self) -> SourceKind:
        return SourceKind.PLUGINS

    def tools(self) -> Sequence[Tool]:
        """See ToolSource."""
        return self._tools if self._calls.of_device(self._device_id) else ()


class _Cancel(Tool):
    late_after = 0.0
    spec = ToolSpec(
        "cancel_late_answers",
        "Gives up what is still being looked for in the background. Only when the user says that they do not want to "
        "know it any more.",
    )

    def __init__(self, calls: LateCalls) -> None:
        self._calls = calls

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        count = self._calls.cancel(context.device_id)
        return ToolOutcome(Action.ASK_LLM, f"{count} given up; nothing more will be said of it.")


def _outcome(worker: Greenlet, tool: str, otherwise: str = CUT_SHORT) -> ToolOutcome:
    """Of a worker that has ended; one that was killed has none."""
    value = worker.value
    return value if isinstance(value, ToolOutcome) else ToolOutcome(Action.ERROR, otherwise.format(tool=tool))
