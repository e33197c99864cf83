"""What several servers share while they run: one Redis, asked by greenlets, with a deadline that a conversation does
not notice.

Not the database: what is kept there is for good, what is kept here has a lifetime and may be lost. Nobody waits for a
Redis that is slow or gone: a lost connection, or MAX_LATE questions in a row without an answer within the deadline,
settle that it is away, and from then on every question is refused at once, until the keeper (one greenlet) has reached
it again. One late answer alone may be this process's own fault. Whoever has local
state goes on with it, and is told by `on_back` when what has changed meanwhile can be handed in.

Keys are made by `key`: they begin with the version of what stands behind them, so that two releases can run side by
side, and are grouped by the word in braces, which a cluster keeps on one node."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from gevent import Greenlet
from gevent.event import Event

from xiaozhi.errors import StorageError, StorageTimeout, StorageUnavailable
from xiaozhi.runtime import tasks
from xiaozhi.runtime.deadlines import at_most
from xiaozhi.runtime.logs import get_logger
from xiaozhi.settings.redis_address import RedisAddress
from xiaozhi.storage.redis_client import connect, translated

if TYPE_CHECKING:
    from redis import Redis

log = get_logger(__name__)

T = TypeVar("T")

VERSION: Final = 1
"""Of the keys and what stands behind them. A release that reads them differently counts on, and so begins with none."""
DEADLINE_S: Final = 0.1
"""For one question."""
WRITE_S: Final = 1.0
"""For a batch that nobody waits for."""
CONNECT_S: Final = 2.0
"""For the keeper, which may take longer than a question."""
MAX_LATE: Final = 2
CHECK_S: Final = 1.0
"""Between two looks of the keeper."""


def key(*words: str, group: str = "") -> str:
    """The name of a value. `words` say what it is and whose; `group`: what a script touches together, by default the
    last word."""
    *kind, whose = words
    return ":".join(("xiaozhi", str(VERSION), *kind, f"{{{group}}}:{whose}" if group else f"{{{whose}}}"))


class SharedStore:
    """`start`, then `ask` from any greenlet, then `close`.

    `on_back` and `on_away` hold what is called when it can be reached (again) and when it cannot any more: in the
    keeper's greenlet and wherever that was found out; the latter may not wait. Functions of `on_back` may `ask`."""

    def __init__(
        self,
        address: RedisAddress,
        *,
        deadline_s: float = DEADLINE_S,
        check_s: float = CHECK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address
        self.away_since: float | None = clock()
        """On the clock; None: it is there."""
        self.reason = "not asked yet"
        """Why it is away, for operators."""
        self.questions = 0
        self.refused = 0
        """Questions that were not asked, as it was known to be away."""
        self.failures = 0
        self.on_back: list[Callable[[], object]] = []
        self.on_away: list[Callable[[], object]] = []
        self._deadline_s = deadline_s
        self._check_s = check_s
        self._clock = clock
        self._client: Redis | None = None
        self._keeper: Greenlet | None = None
        self._look = Event()
        self._late = 0
        """Questions in a row that were not answered in time."""
        self._answered = 0
        """Questions that were, since the keeper's last look."""
        self._beat = 0.0

    @property
    def available(self) -> bool:
        """Whether questions are asked at all now."""
        return self.away_since is None

    @property
    def beat(self) -> float:
        """When the keeper last began a round, monotonic seconds."""
        return self._beat

    def start(self) -> None:
        """Try to reach it, and keep looking. Blocks for at most about CONNECT_S; when it cannot be reached that is
        logged, and the server goes on without."""
        self._check()
        if not self.available:
            log.warning("shared store away", address=str(self.address), reason=self.reason)
        self.revive()

    def revive(self) -> None:
        """Have a keeper, in the place of one that has failed or hangs."""
        if self._keeper is not None:
            self._keeper.kill(block=False)
        self._beat = time.monotonic()
        self._keeper = tasks.spawn("shared-store", self._keep)

    def close(self) -> None:
        """Ask nothing any more. Idempotent."""
        if self._keeper is not None:
            tasks.end(self._keeper)
            self._keeper = None
        self.away_since = self.away_since or self._clock()
        self.reason = "closed"
        self._drop()

    def ask(self, question: Callable[[Redis], T], *, deadline_s: float | None = None) -> T:
        """What `question` returns, which it gets with the client; it may ask several things in one pipeline or script.
        Raises StorageUnavailable at once while it is away, after the deadline when it becomes so; StorageError when
        Redis refuses what it was asked."""
        client = self._client
        if client is None or self.away_since is not None:
            self.refused += 1
            raise StorageUnavailable(f"the shared store is away ({self.reason})")
        self.questions += 1
        seconds = self._deadline_s if deadline_s is None else deadline_s
        try:
            answer = _asked(client, question, seconds)
        except StorageTimeout as error:
            self._late += 1
            if self._late >= MAX_LATE and client is self._client:
                self._gone(str(error))
            raise StorageUnavailable(str(error)) from None
        except StorageUnavailable as error:
            if client is self._client:  # else it is another one by now
                self._gone(str(error))
            raise
        self._late = 0
        self._answered += 1
        return answer

    def run(self, work: Callable[[Redis], T], *, deadline: float) -> T:
        """As `ask`, for `WriteBehind`."""
        return self.ask(work, deadline_s=min(deadline, WRITE_S))

    def new_client(self) -> Redis:
        """A client of one's own, for connections that last (`MessageBus`); the caller closes it. Raises
        StorageError."""
        with translated():
            return connect(self.address, CONNECT_S)

    def _keep(self) -> None:
        while True:
            self._look.wait(timeout=self._check_s)
            self._look.clear()
            self._beat = time.monotonic()
            self._check()

    def _check(self) -> None:
        """Look whether it is there, and tell those who want to know."""
        was_away = self.away_since is not None
        answered, self._answered = self._answered, 0
        if answered and not was_away and not self._late:
            return  # others have seen that it is there
        try:
            if self._client is None:
                self._client = self.new_client()
            if was_away:
                _asked(self._client, lambda client: client.ping(), CONNECT_S)
            # One that is reached and slow stays away: else a question or two would wait for it every other second.
            _asked(self._client, lambda client: client.ping(), self._deadline_s * 2)
        except StorageError as error:
            self._gone(str(error))
            return
        if was_away:
            self.away_since = None
            self._late = 0
            log.info("shared store reached", address=str(self.address))
            for function in self.on_back:
                try:
                    function()
                except StorageError as error:
                    log.warning("not handed in to the shared store", reason=str(error))

    def _gone(self, reason: str) -> None:
        self.failures += 1
        self.reason = reason
        self._drop()
        if self.away_since is None:
            self.away_since = self._clock()
            self._look.set()
            log.warning("shared store away", address=str(self.address), reason=reason)
            for function in self.on_away:
                function()

    def _drop(self) -> None:
        """Its connections may be in the middle of an answer, or lead to a server that was replaced."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _asked(client: Redis, question: Callable[[Redis], T], seconds: float) -> T:
    with translated(), at_most(seconds, StorageTimeout(f"no answer within {seconds * 1000:.0f} ms")):
        return question(client)
