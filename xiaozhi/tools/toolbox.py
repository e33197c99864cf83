"""The tools on offer in one visit, and the one way to call them.

Not where tools come from: sources are added and removed while the visit runs (a device lists its own seconds after it
connected), and the offer is read from them anew each time. Names are made fit for language models (letters, digits,
"_", "-", at most 64) and mapped back; a name once given to a tool stays with it as long as its source is here, so that
an answer in progress still finds what it was offered.

A call never raises: every failure becomes a `ToolOutcome` that the model can be told about. Deadlines are kept here,
not by the tools. A tool that declares itself `uninterruptible` runs in a greenlet of its own, which outlives the turn;
how many may run so, and for how long, is bounded."""

from __future__ import annotations

import difflib
import re
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gevent
from gevent import Greenlet

from xiaozhi.chat import ToolCall, ToolSpec
from xiaozhi.errors import ConnectionClosed, Overloaded, ToolError, VendorError
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.tools.arguments import fit_arguments
from xiaozhi.tools.base import Action, Tool, ToolContext, ToolOutcome, ToolSource

log = get_logger(__name__)

MAX_NAME_CHARS = 64
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")

SpawnFunction = Callable[..., Greenlet]


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


@dataclass(slots=True)
class ToolCounts:
    """What became of the calls."""

    called: int = 0
    failed: int = 0
    timed_out: int = 0
    not_found: int = 0
    refused: int = 0
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    """As offered."""
    source: str
    tool: Tool
    spec: ToolSpec


class Toolbox:
    """`sources` in order of precedence: the first one keeps a name that two would have.

    `observe(source_name, seconds, action)` is told of every call, for metrics (of the source, as tool names are without
    bound). `spawn` starts uninterruptible calls; give the `spawn` of a process-wide group to be able to wait for them
    at shutdown."""

    def __init__(
        self,
        *sources: ToolSource,
        limits: ToolLimits | None = None,
        spawn: SpawnFunction = tasks.spawn,
        observe: Callable[[str, float, Action], None] | None = None,
    ) -> None:
        self._limits = limits or ToolLimits()
        self._spawn = spawn
        self._observe = observe
        self._sources: list[ToolSource] = []
        self._given: dict[tuple[str, str], str] = {}
        self._seen: list[Tool] = []
        self._entries: dict[str, _Entry] = {}
        self._raw: dict[str, _Entry] = {}
        self._detached: set[Greenlet] = set()
        self.counts = ToolCounts()
        for source in sources:
            self.add(source)

    # --- what is on offer ---

    def add(self, source: ToolSource) -> None:
        """Offer the tools of `source` too; one of the same name is replaced."""
        self.remove(source.name)
        self._sources.append(source)

    def remove(self, source_name: str) -> None:
        """Offer the tools of this source no longer. Unknown names are ignored."""
        self._sources = [source for source in self._sources if source.name != source_name]
        self._given = {key: name for key, name in self._given.items() if key[0] != source_name}

    def specs(self) -> list[ToolSpec]:
        """What to show to a language model now, with safe and distinct names."""
        self._refresh()
        return [entry.spec for entry in self._entries.values()]

    def find(self, name: str) -> Tool | None:
        """The tool that is offered as `name`, or whose own name it is."""
        entry = self._lookup(name)
        return entry.tool if entry else None

    def offered_name(self, raw_name: str) -> str | None:
        """The name under which the tool that its source calls `raw_name` is offered; None when there is none."""
        self._refresh()
        entry = self._raw.get(raw_name)
        return entry.name if entry else None

    def is_uninterruptible(self, name: str) -> bool:
        """Whether this tool, once begun, runs to its end; False for unknown names."""
        tool = self.find(name)
        return tool is not None and tool.uninterruptible

    @property
    def detached(self) -> int:
        """Uninterruptible calls under way."""
        return len(self._detached)

    # --- calling ---

    def call(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        """Run one call to its end, its deadline, or its failure; blocks. Raises nothing; kills and deadlines of the
        caller pass."""
        began = time.monotonic()
        self.counts.called += 1
        entry = self._lookup(call.name)
        if entry is None:
            self.counts.not_found += 1
            outcome = ToolOutcome(Action.NOT_FOUND, self._no_such_tool(call.name))
        else:
            outcome = self._bounded(self._outcome(entry, call, context))
        if outcome.action is Action.ERROR:
            self.counts.failed += 1
        if self._observe is not None:
            self._observe(entry.source if entry else "none", time.monotonic() - began, outcome.action)
        return outcome

    def call_many(self, calls: Sequence[ToolCall], context: ToolContext) -> list[ToolOutcome]:
        """Run calls side by side and return their outcomes in the order of `calls`. A kill ends all that may be
        interrupted."""
        if len(calls) == 1:
            return [self.call(calls[0], context)]
        outcomes = [ToolOutcome(Action.ERROR, "The call was not made.")] * len(calls)
        waiting = iter(range(len(calls)))

        def work() -> None:
            for index in waiting:
                outcomes[index] = self.call(calls[index], context)

        group = Tasks()
        try:
            workers = [group.spawn("tool-calls", work) for _ in range(min(len(calls), self._limits.parallel))]
            gevent.joinall(workers)
        finally:
            group.kill(timeout=0)
        return outcomes

    def _outcome(self, entry: _Entry, call: ToolCall, context: ToolContext) -> ToolOutcome:
        tool = entry.tool
        try:
            arguments = fit_arguments(tool.spec.parameters, call.arguments)
        except ToolError as error:
            return ToolOutcome(Action.ERROR, f"{entry.name} was not called: {error}.")
        seconds = tool.timeout if tool.timeout is not None else self._limits.call_timeout
        if not tool.uninterruptible:
            return self._with_deadline(entry, arguments, context, seconds)
        return self._detach(entry, arguments, context, seconds)

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
            self.counts.refused += 1
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
        except ToolError as error:
            return ToolOutcome(Action.ERROR, str(error) or f"{entry.name} failed.")
        except (VendorError, Overloaded) as error:
            log.warning("tool failed", tool=entry.name, source=entry.source, error=str(error)[:200])
            return ToolOutcome(Action.ERROR, f"{entry.name} is not available at the moment.")
        except ConnectionClosed:
            return ToolOutcome(Action.ERROR, f"{entry.name} failed: the device has disconnected.")
        except Exception:
            log.exception("tool failed", tool=entry.name, source=entry.source)
            return ToolOutcome(Action.ERROR, f"{entry.name} failed.")
        if not isinstance(outcome, ToolOutcome):
            log.error("tool returned no outcome", tool=entry.name, source=entry.source, type=type(outcome).__name__)
            return ToolOutcome(Action.ERROR, f"{entry.name} failed.")
        return outcome

    def _timed_out(self, entry: _Entry, seconds: float) -> ToolOutcome:
        self.counts.timed_out += 1
        log.warning("tool timed out", tool=entry.name, source=entry.source, seconds=seconds)
        return ToolOutcome(Action.ERROR, f"{entry.name} gave no result within {seconds:g} seconds.")

    def _no_such_tool(self, name: str) -> str:
        near = difflib.get_close_matches(safe_name(name), list(self._entries), n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        return f"There is no tool called {safe_name(name)}.{hint}"

    def _bounded(self, outcome: ToolOutcome) -> ToolOutcome:
        most = self._limits.result_chars
        if len(outcome.text) <= most:
            return outcome
        self.counts.truncated += 1
        text = f"{outcome.text[:most]}... ({len(outcome.text) - most} more characters)"
        return ToolOutcome(outcome.action, text, outcome.data)

    # --- names ---

    def _lookup(self, name: str) -> _Entry | None:
        self._refresh()
        # A model (or a hand-written rule) may know a device's tool by the name the device gave it.
        return self._entries.get(name) or self._raw.get(name) or self._entries.get(safe_name(name))

    def _refresh(self) -> None:
        found = [(source, tool) for source in self._sources for tool in source.tools()][: self._limits.tools]
        tools = [tool for _, tool in found]
        if len(tools) == len(self._seen) and all(new is old for new, old in zip(tools, self._seen, strict=True)):
            return
        if len(self._given) > 4 * self._limits.tools:
            # A device that keeps inventing names; those it still uses are given out again below.
            self._given = {}
        named: dict[str, tuple[str, Tool]] = {}
        for source, tool in found:
            named.setdefault(self._name_for(source.name, tool.spec.name), (source.name, tool))
        renamed: dict[str, str] = {}
        for name, (_, tool) in named.items():
            if tool.spec.name != name:
                renamed.setdefault(tool.spec.name, name)
        self._entries = {
            name: _Entry(name, source, tool, _presented(tool.spec, name, renamed))
            for name, (source, tool) in named.items()
        }
        self._raw = {}
        for entry in self._entries.values():
            self._raw.setdefault(entry.tool.spec.name, entry)
        self._seen = tools

    def _name_for(self, source: str, raw: str) -> str:
        known = self._given.get((source, raw))
        if known is not None:
            return known
        taken = set(self._given.values())
        name = base = safe_name(raw)
        number = 2
        while name in taken:
            suffix = f"_{number}"
            name = base[: MAX_NAME_CHARS - len(suffix)] + suffix
            number += 1
        self._given[source, raw] = name
        return name


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
