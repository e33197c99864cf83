"""A source of tools behind a connection that is kept: opened in the background, listed, watched, and opened again with
growing pauses when it is lost.

What MCP servers and MCP endpoints have in common; how they connect and call is theirs (`server_mcp.py`,
`mcp_endpoint.py`). One object serves all sessions. While a lost connection is being mended its tools stay on offer for
a moment, and a call waits for it, so that an answer under way does not lose what it was offered."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gevent
from gevent.event import Event

from xiaozhi.chat import ToolSpec
from xiaozhi.errors import Overloaded, ToolError, VendorError
from xiaozhi.net.http_errors import redact
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.resilience import RetryOptions
from xiaozhi.runtime.sidecar import NAME as SIDECAR
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.tools.base import SourceKind, Tool, ToolContext, ToolOutcome
from xiaozhi.tools.mcp_content import ListingLimits, ToolListing

log = get_logger(__name__)

RETRY = RetryOptions(attempts=0, first=1.0, longest=60.0)
PING_SECONDS = 30.0
"""Silence after which the peer is asked whether it is there."""
RELIST_SECONDS = 1.0
"""One listing serves all changes that are told within this time."""
OFFERED_SECONDS = 30.0
"""How long the tools of a lost connection stay on offer."""
WAIT_SECONDS = 5.0
"""How long a call waits for a connection that is being mended."""
STEADY_SECONDS = 60.0
"""A connection that has lasted so long was not refused."""


class ConnectedSource(ABC):
    """See the module. `start` once; `close` ends it.

    `peer`: what to call the other side, in errors that language models read and in logs. `call_seconds`: one tool
    call; None: what is usual. `late_after`: see Tool. `secrets` appear in no text."""

    def __init__(
        self,
        name: str,
        kind: SourceKind,
        *,
        peer: str,
        call_seconds: float | None = None,
        late_after: float | None = None,
        secrets: Sequence[str] = (),
        ping_seconds: float = PING_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.peer = peer
        self.call_seconds = call_seconds
        self.late_after = late_after
        self.fault = "is not connected yet"
        """Why it is not up; "" when it is."""
        self.restarts = 0
        self.left_out = 0
        """Tools of the last listing that were too many, too long, or none."""
        self._name = name
        self._kind = kind
        self._secrets = tuple(secrets)
        self._ping_seconds = ping_seconds
        self._clock = clock
        self._chance = chance
        self._tasks = Tasks()
        self._tools: tuple[ConnectedTool, ...] = ()
        self._up = Event()
        self._tried = Event()
        self._down_since = clock()
        self._news = Event()
        self._lost = ""
        self._changed = False
        self._closed = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def kind(self) -> SourceKind:
        return self._kind

    @property
    def up(self) -> bool:
        """Whether calls can be made now."""
        return bool(self._up.is_set())

    def tools(self) -> Sequence[Tool]:
        """What is on offer now."""
        if self.up or self._clock() - self._down_since < OFFERED_SECONDS:
            return self._tools
        return ()

    def start(self) -> None:
        """Connect in the background; returns at once."""
        self._tasks.spawn("tool-source", self._keep)

    def settle(self, seconds: float) -> bool:
        """Wait until the first attempt to connect has ended, however it did; False when it has not by then."""
        return bool(self._tried.wait(timeout=seconds))

    def close(self) -> None:
        """Hang up; returns at once. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._tools = ()
        self._tasks.kill(timeout=0)
        self._up.clear()
        self._hang_up()

    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        """Run one tool; blocks. Raises ToolError."""
        if not self._up.wait(timeout=WAIT_SECONDS):
            raise ToolError(f"{self.peer} is not available at the moment")
        try:
            return self._call(tool, arguments)
        except (VendorError, Overloaded, ToolError) as error:
            self._doubt()
            raise ToolError(self._shown(error) or f"{self.peer} reported an error") from error

    # --- what a kind of connection does -------------------------------------------------------------------------------

    @abstractmethod
    def _open(self) -> None:
        """Connect and shake hands; blocks. Raises VendorError, Overloaded, ToolError."""

    @abstractmethod
    def _page(self, cursor: str) -> Any:
        """One page of tools/list. Raises as `_open`."""

    @abstractmethod
    def _ping(self) -> None:
        """Return when the other side has answered, whatever it said. Raises as `_open`."""

    @abstractmethod
    def _call(self, tool: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        """tools/call; blocks. Raises as `_open`."""

    @abstractmethod
    def _hang_up(self) -> None:
        """Close what is open, if anything; returns at once. Idempotent."""

    def _connection_lost(self, reason: str) -> None:
        """To be called when the connection is gone."""
        self._lost = reason
        self._news.set()

    def _list_changed(self) -> None:
        """To be called when the other side has other tools now."""
        self._changed = True
        self._news.set()

    # --- keeping it ---------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        failures = 0
        while not self._closed:
            began = self._clock()
            self._lost, self._changed = "", False
            self._news.clear()
            try:
                self._open()
                self._list()
                self.fault = ""
                self._up.set()
                self._tried.set()
                self._stay()
            except (VendorError, Overloaded, ToolError) as error:
                self.fault = self._shown(error) or type(error).__name__
            finally:
                if self.up:
                    self._up.clear()
                    self._down_since = self._clock()
                self._tried.set()
            self._hang_up()
            failures = 1 if self._clock() - began > STEADY_SECONDS else failures + 1
            self.restarts += 1
            pause = RETRY.wait(failures, self._chance())
            log.warning("tool source lost", source=self.name, reason=self.fault, again_in=round(pause, 1))
            gevent.sleep(pause)

    def _stay(self) -> None:
        """Until the connection is lost, which is raised."""
        while True:
            told = self._news.wait(timeout=self._ping_seconds)
            self._news.clear()
            if self._lost:
                raise VendorError(self.peer, self._lost)
            if told and self._changed:
                gevent.sleep(RELIST_SECONDS)
                self._changed = False
                self._list()
            else:
                self._ping()

    def _doubt(self) -> None:
        """A call has failed: look whether the other side is still there."""
        self._news.set()

    def _list(self) -> None:
        listing = ToolListing(ListingLimits())
        cursor: str | None = ""
        while cursor is not None:
            cursor = listing.add(self._page(cursor))
        known = {tool.spec.name: tool for tool in self._tools}
        tools = []
        for name, spec in listing.specs.items():
            old = known.get(name)
            tools.append(old if old is not None and old.spec == spec else ConnectedTool(self, spec))
        self._tools = tuple(tools)
        self.left_out = listing.skipped
        say = log.warning if listing.skipped or not listing.whole else log.info
        say("tools", source=self.name, count=len(tools), left_out=listing.skipped, whole=listing.whole)

    def _shown(self, error: Exception) -> str:
        """What may be told of an error: to the model, in logs, in a table."""
        text = str(error)
        if isinstance(error, VendorError) and error.vendor in (SIDECAR, self.peer):
            text = text.removeprefix(f"{error.vendor}: ")  # which says nothing to whoever knows the source
        return redact(text, self._secrets)


class ConnectedTool(Tool):
    """One tool of such a source, under the other side's own name."""

    def __init__(self, source: ConnectedSource, spec: ToolSpec) -> None:
        self.spec = spec
        self.timeout = source.call_seconds
        self.late_after = source.late_after
        self._source = source

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        return self._source.call(self.spec.name, arguments)
