"""What the console says of the server itself: asked at the start and at every reload; the last good answer counts while
the console cannot be asked.

Never an empty configuration: without an answer and without a copy the server does not start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import gevent

from xiaozhi.errors import (
    ConsoleRefused,
    Fault,
    Overloaded,
    SettingsError,
    VendorError,
    VendorGarbage,
    VendorTimeout,
    XiaozhiError,
)
from xiaozhi.management.client import NAME, SECRET_WRONG, ConsoleClient
from xiaozhi.management.last_good import SERVER, LastGood
from xiaozhi.management.translate import server_base_part
from xiaozhi.runtime.deadlines import at_most
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.resilience import RetryOptions

log = get_logger(__name__)

PATIENCE_WITH_COPY_S: Final = 6.0
"""How long a start waits for a console whose last good answer is there."""
FIRST_PAUSE_S: Final = 0.5
NO_TEMPLATE: Final = 10183


class ServerBase:
    """`at_start` once, `refresh` as often as wanted; `tree` is what counts."""

    def __init__(self, client: ConsoleClient, copies: LastGood) -> None:
        self.tree: Mapping[str, Any] = {}
        """A layer of the configuration, see `server_base_part`."""
        self.stale = ""
        """Why it is the last good answer that counts; "" when the console has answered."""
        self._client = client
        self._copies = copies

    def at_start(
        self,
        *,
        attempts: int,
        longest_pause_s: float,
        say: Callable[[str], None],
        sleep: Callable[[float], None] = gevent.sleep,
        patience_with_copy_s: float = PATIENCE_WITH_COPY_S,
    ) -> None:
        """Ask, at most `attempts` times; with a copy, for a few seconds. `say`: tells the person who waits. Blocks, for
        the disk as well. Raises SettingsError when there is neither an answer nor a copy."""
        try:
            kept = self._copies.read(SERVER)
        except OSError as error:
            say(f"the last good settings of the console cannot be read ({error.strerror or error})")
            kept = None
        pauses = RetryOptions(attempts=attempts, first=FIRST_PAUSE_S, longest=longest_pause_s, jitter=0.0)
        attempt = 1
        while True:
            try:
                if kept is None:
                    self._ask()
                else:
                    with at_most(patience_with_copy_s, VendorTimeout(NAME, "no answer in time")):
                        self._ask()
                break
            except VendorError as error:
                if kept is not None:
                    self.tree, self.stale = kept, _reason(error)
                    say(f"{self.stale}; its last good settings are used until it answers")
                    return
                if isinstance(error, ConsoleRefused) or attempt >= attempts:
                    raise SettingsError([self._fault(error)]) from error
                say(f"{_reason(error)}; asking again ({attempt} of {attempts})")
            sleep(pauses.wait(attempt, 0.0))
            attempt += 1
        try:
            self._copies.write(SERVER, self.tree)
        except OSError as error:
            say(f"the settings of the console cannot be kept for later ({error.strerror or error})")

    def refresh(self, offload: Callable[[Callable[[], Any]], Any]) -> bool:
        """Ask once more; whether something has changed. `offload`: runs what blocks for the disk, off the hub.

        Raises SettingsError when the console refuses to answer, VendorError and Overloaded when it does not answer:
        what there is goes on counting."""
        before = self.tree
        try:
            self._ask()
        except ConsoleRefused as error:
            raise SettingsError([self._fault(error)]) from error
        except (VendorError, Overloaded) as error:
            self.stale = _reason(error)
            raise
        if self.tree == before:
            return False
        tree = self.tree
        try:
            offload(lambda: self._copies.write(SERVER, tree))
        except (XiaozhiError, OSError) as error:
            log.warning("the settings of the console cannot be kept for later", reason=str(error)[:200])
        return True

    def _ask(self) -> None:
        tree = server_base_part(self._client.server_base())
        if not tree:
            raise VendorGarbage(NAME, "server-base holds no settings")
        self.tree, self.stale = tree, ""

    def _fault(self, error: VendorError) -> Fault:
        if isinstance(error, ConsoleRefused) and error.code == SECRET_WRONG:
            return Fault(
                "manager-api.secret", "***", "must be the console's parameter server.secret: it refuses this one"
            )
        if isinstance(error, ConsoleRefused) and error.code == NO_TEMPLATE:
            return Fault("the console", "has no default agent", "an agent template, made in the console's own pages")
        return Fault("manager-api.url", self._client.url, f"must be the address of a console that answers ({error})")


def _reason(error: Exception) -> str:
    if isinstance(error, ConsoleRefused) and error.code == SECRET_WRONG:
        return "the console refuses manager-api.secret"
    return f"the console does not answer ({error})"
