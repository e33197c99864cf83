"""The tools that one session offers to its language model, and the one way to call them.

Not where tools come from: sources are added and removed while the session runs (a device lists its own tools seconds
after it connected), and the offer is read from them anew each time. There is one namespace: of two tools of one name
the one of the higher kind of source is offered (`SourceKind`), within a kind the first. Names are made fit for language
models (letters, digits, "_", "-", at most 64) and mapped back; a name once given stays as long as its tool is on offer,
so that an answer in progress still finds what it was offered.

A call never raises: every failure becomes a `ToolOutcome` that the model can be told about. Deadlines are kept here,
not by the tools. A tool that declares itself `uninterruptible` runs in a greenlet of its own, which outlives the turn;
how many may run so, and for how long, is bounded. A slow one may go on behind the conversation (`late_calls.py`)."""

from __future__ import annotations

import difflib
import re
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import gevent
from gevent import Greenlet

from xiaozhi.chat import ToolCall, ToolSpec
from xiaozhi.errors import ConnectionClosed, Overloaded, ToolError, VendorError, forget_trace
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.tools.arguments import fit_arguments
from xiaozhi.tools.base import Action, Tool, ToolContext, ToolOutcome, ToolSource
from xiaozhi.tools.late_calls import LateAnswering

log = get_logger(__name__)

MAX_NAME_CHARS = 64
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")

SpawnFunction = Callable[..., Greenlet]
CallNote = Callable[[int, ToolOutcome | None], None]
"""(index of the call, its outcome; None: it begins)."""


def _unnoted(index: int, outcome: ToolOutcome | None) -> None:
    """Nobody is told."""


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """Bounds of one toolbox."""

    call_timeout: float = 30.0
    """Seconds a call may take where the tool does not say otherwise (`tool_call_timeout`)."""
    result_chars: int = 8000
    """Longest result text; the rest is cut off, visibly."""
    parallel: int = 8
    """Calls of one `call_many` under way at once; the others wait."""
    detached: int = 8
    """Uninterruptible calls under way at once; one more is refused."""
    detached_seconds: float = 120.0
    """Longest life of an uninterruptible call nobody waits for any more."""
    tools: int = 200
    """Tools on offer at once; sources added later lose."""


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    """As offered."""
    source: str
    tool: Tool
    spec: ToolSpec


class Toolbox:
    """`sources`: those there from the start.

    `observe(source_name, seconds, action)` is told of every call, for metrics (of the source, as the number of tool
    names has no bound). `spawn` starts uninterruptible calls; give the `spawn` of a process-wide group to be able to
    wait for them at shutdown. `late`: how slow calls go on; None: they are waited for."""

    def __init__(
        self,
        *sources: ToolSource,
        limits: ToolLimits | None = None,
        spawn: SpawnFunction = tasks.spawn,
        observe: Callable[[str, float, Action], None] | None = None,
        late: LateAnswering | None = None,
    ) -> None:
        self._limits = limits or ToolLimits()
        self._spawn = spawn
        self._observe = observe
        self._late = late
        self._sources: list[ToolSource] = []
        self._names: dict[str, str] = {}
        """Offered names, by the names the tools have in their sources."""
        self._seen: list[Tool] = []
        self._offer: dict[str, _Entry] = {}
        """By offered name."""
        self._detached: set[Greenlet] = set()
        for source in sources:
            self.add(source)

    # --- what is on offer ---

    def add(self, source: ToolSource) -> None:
        """Offer the tools of `source` too; a source of the same name is replaced."""
        self.remove(source.name)
        self._sources.append(source)
        self._sources.sort(key=lambda known: known.kind)

    def remove(self, source_name: str) -> None:
        """Offer the tools of this source no longer. Unknown names are ignored."""
        self._sources = [source for source in self._sources if source.name != source_name]

    def specs(self, after_tools: bool = False) -> list[ToolSpec]:
        """What to show to a language model now, with safe and distinct names.

        `after_tools`: without the tools that only carry an answer (`Tool.answers_directly`). A model that has results
        and is asked for words would call them for ever."""
        self._refresh()
        return [entry.spec for entry in self._offer.values() if not (after_tools and entry.tool.answers_directly)]

    def offered(self) -> list[tuple[str, str, Tool]]:
        """(name as offered, source, tool) of everything on offer now."""
        self._refresh()
        return [(entry.name, entry.source, entry.tool) for entry in self._offer.values()]

    def direct_text(self, call: ToolCall) -> str | None:
        """The answer that `call` carries, where its tool does nothing else (`Tool.answers_directly`): speak it instead
        of running the call. None for every other tool, and for a call that was not understood."""
        entry = None if call.fault else self._lookup(call.name)
        argument = entry.tool.answers_directly if entry is not None else ""
        return str(call.arguments.get(argument) or "").strip() if argument else None

    # --- calling ---

    def call(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        """Run one call to its end, its deadline, or its failure; blocks. Raises nothing; kills and deadlines of the
        caller pass."""
        began = time.monotonic()
        entry = self._lookup(call.name)
        if entry is None:
            outcome = ToolOutcome(Action.NOT_FOUND, self._no_such_tool(call.name))
        else:
            outcome = self._bounded(self._outcome(entry, call, context))
        if self._observe is not None:
            self._observe(entry.source if entry else "none", time.monotonic() - began, outcome.action)
        return outcome

    def call_many(
        self, calls: Sequence[ToolCall], context: ToolContext, note: CallNote = _unnoted
    ) -> list[ToolOutcome]:
        """Run calls side by side and return their outcomes in the order of `calls`. `note` is told of each when it
        begins and when it has ended, so that it is known what was begun when a kill ends all that may be
        interrupted."""
        outcomes = [ToolOutcome(Action.ERROR, "The call was not made.")] * len(calls)
        waiting = iter(range(len(calls)))

        def work() -> None:
            for index in waiting:
                note(index, None)
                outcome = outcomes[index] = self.call(calls[index], context)
                note(index, outcome)

        if len(calls) == 1:
            work()
            return outcomes
        group = Tasks()
        try:
            workers = [group.spawn("tool-calls", work) for _ in range(min(len(calls), self._limits.parallel))]
            gevent.joinall(workers)
        finally:
            group.kill(timeout=0)
        return outcomes

    def _outcome(self, entry: _Entry, call: ToolCall, context: ToolContext) -> ToolOutcome:
        tool = entry.tool
        if call.fault:
            return ToolOutcome(Action.ERROR, f"{entry.name} was not called: {call.fault}.")
        try:
            arguments = fit_arguments(tool.spec.parameters, call.arguments)
        except ToolError as error:
            return ToolOutcome(Action.ERROR, f"{entry.name} was not called: {error}.")
        seconds = tool.timeout if tool.timeout is not None else self._limits.call_timeout
        if tool.uninterruptible:
            return self._detach(entry, arguments, context, seconds)
        late = self._late
        if late is not None:
            after = tool.late_after if tool.late_after is not None else late.after
            if 0 < after < seconds:
                return self._maybe_late(late, entry, arguments, context, after, seconds)
        return self._with_deadline(entry, arguments, context, seconds)

    def _maybe_late(
        self,
        late: LateAnswering,
        entry: _Entry,
        arguments: dict[str, Any],
        context: ToolContext,
        after: float,
        seconds: float,
    ) -> ToolOutcome:
        life = max(late.limit, seconds) if entry.tool.timeout is None else seconds
        outcome = late.calls.run(
            ToolCall("late", entry.name, arguments),
            context,
            lambda: self._bounded(self._with_deadline(entry, arguments, context, life)),
            after=after,
            patience=seconds,
            teller=late.teller,
        )
        return outcome if outcome is not None else self._timed_out(entry, seconds)

    def _with_deadline(
        self, entry: _Entry, arguments: dict[str, Any], context: ToolContext, seconds: float
    ) -> ToolOutcome:
        deadline = gevent.Timeout(seconds)
        try:
            with deadline:
                return self._run(entry, arguments, context)
        except gevent.Timeout as expired:
            # Only this deadline: one of the caller's own must reach the caller.
            if expired is not deadline:
                raise
            return self._timed_out(entry, seconds)

    def _detach(self, entry: _Entry, arguments: dict[str, Any], context: ToolContext, seconds: float) -> ToolOutcome:
        if len(self._detached) >= self._limits.detached:
            return ToolOutcome(
                Action.ERROR, f"{entry.name} was not called: too many earlier actions are still under way."
            )
        life = max(seconds, self._limits.detached_seconds)
        worker = self._spawn(f"tool-{entry.name}", self._with_deadline, entry, arguments, context, life)
        self._detached.add(worker)
        worker.rawlink(self._detached.discard)
        # join, not get: a worker that was killed at shutdown has no outcome.
        worker.join(timeout=seconds)
        if not worker.dead:
            return self._timed_out(entry, seconds)
        return (
            worker.value
            if isinstance(worker.value, ToolOutcome)
            else ToolOutcome(Action.ERROR, f"{entry.name} was cut short.")
        )

    def _run(self, entry: _Entry, arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        try:
            outcome = entry.tool.run(arguments, context)
        except Exception as error:  # noqa: BLE001  `_failed` logs it
            failed = self._failed(entry, error)
            forget_trace(error)
            return failed
        if not isinstance(outcome, ToolOutcome):
            log.error("tool returned no outcome", tool=entry.name, source=entry.source, type=type(outcome).__name__)
            return ToolOutcome(Action.ERROR, f"{entry.name} failed.")
        return outcome

    def _failed(self, entry: _Entry, error: Exception) -> ToolOutcome:
        match error:
            case ToolError():
                return ToolOutcome(Action.ERROR, str(error) or f"{entry.name} failed.")
            case VendorError() | Overloaded():
                log.warning("tool failed", tool=entry.name, source=entry.source, error=str(error)[:200])
                return ToolOutcome(Action.ERROR, f"{entry.name} is not available at the moment.")
            case ConnectionClosed():
                return ToolOutcome(Action.ERROR, f"{entry.name} failed: the device has disconnected.")
        log.exception("tool failed", tool=entry.name, source=entry.source)
        return ToolOutcome(Action.ERROR, f"{entry.name} failed.")

    def _timed_out(self, entry: _Entry, seconds: float) -> ToolOutcome:
        log.warning("tool timed out", tool=entry.name, source=entry.source, seconds=seconds)
        text = (
            f"{entry.name} was started and gave no result within {seconds:g} seconds; whether it was done is unknown."
        )
        return ToolOutcome(Action.ERROR, text)

    def _no_such_tool(self, name: str) -> str:
        near = difflib.get_close_matches(safe_name(name), list(self._offer), n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        return f"There is no tool called {safe_name(name)}.{hint}"

    def _bounded(self, outcome: ToolOutcome) -> ToolOutcome:
        most = self._limits.result_chars
        if len(outcome.text) <= most:
            return outcome
        text = f"{outcome.text[:most]}... ({len(outcome.text) - most} more characters)"
        return ToolOutcome(outcome.action, text, outcome.data)

    # --- names ---

    def _lookup(self, name: str) -> _Entry | None:
        self._refresh()
        # A model (or a hand-written rule) may know a device's tool by the name the device gave it.
        offer = self._offer
        known = offer.get(name) or offer.get(self._names.get(name, "")) or offer.get(safe_name(name))
        return known or next((entry for entry in offer.values() if name and entry.tool.also_called == name), None)

    def _refresh(self) -> None:
        found = [(source, tool) for source in self._sources for tool in source.tools()][: self._limits.tools]
        tools = [tool for _, tool in found]
        if len(tools) == len(self._seen) and all(new is old for new, old in zip(tools, self._seen, strict=True)):
            return
        chosen: dict[str, tuple[ToolSource, Tool]] = {}
        for source, tool in found:
            other = chosen.get(tool.spec.name)
            if other is None or source.kind > other[0].kind:
                chosen[tool.spec.name] = (source, tool)
        self._names = self._named(chosen)
        renamed = {raw: name for raw, name in self._names.items() if raw != name}
        self._offer = {
            name: _Entry(name, chosen[raw][0].name, chosen[raw][1], _presented(chosen[raw][1].spec, name, renamed))
            for raw, name in self._names.items()
        }
        self._seen = tools

    def _named(self, raws: Iterable[str]) -> dict[str, str]:
        """Safe and distinct names; those given before stay."""
        taken = {self._names[raw] for raw in raws if raw in self._names}
        names: dict[str, str] = {}
        for raw in raws:
            name = self._names.get(raw)
            if name is None:
                name = base = safe_name(raw)
                number = 2
                while name in taken:
                    suffix = f"_{number}"
                    name = base[: MAX_NAME_CHARS - len(suffix)] + suffix
                    number += 1
                taken.add(name)
            names[raw] = name
        return names


def safe_name(raw: str) -> str:
    """A name that every vendor's function calling accepts; the same for the same `raw`, not necessarily unique."""
    name = _UNSAFE.sub("_", raw)
    if not name.strip("_-"):
        # Nothing readable is left of it, as of a name in Chinese.
        return f"tool_{zlib.crc32(raw.encode('utf-8', 'surrogatepass')):08x}"
    if len(name) > MAX_NAME_CHARS:
        return f"{name[: MAX_NAME_CHARS - 9]}_{zlib.crc32(raw.encode('utf-8', 'surrogatepass')):08x}"
    return name


def _presented(spec: ToolSpec, name: str, renamed: dict[str, str]) -> ToolSpec:
    """The spec under its offered name, with the names of other tools in its description changed likewise."""
    description = spec.description
    if renamed:
        # Longest first, so that `self.light` does not spoil `self.light.on`.
        for raw in sorted((raw for raw in renamed if len(raw) > 2 and raw in description), key=len, reverse=True):
            description = description.replace(raw, renamed[raw])
    return ToolSpec(name, description, spec.parameters)
