"""Access tokens of vendors that exchange a pair of keys for one that lives some hours or days.

There is one token per pair of keys in the whole process, whatever number of blocks and devices use it. It is fetched
when it is first wanted and renewed in the background long before it expires, so that nobody waits but those who come
before there is one; they wait for the same request. A renewal that fails is tried again, and the old token is used as
long as it is good.

    token = access_tokens.lend(keys, lambda: AccessToken("acme", fetch))     in a provider's constructor
    token.get()                                                              for each request
    access_tokens.give_back(keys)                                            in its `close`
"""

from __future__ import annotations

import contextvars
import copy
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from gevent import Greenlet
from gevent.event import Event

from xiaozhi.errors import VendorError, VendorTimeout, VendorUnavailable
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks

log = get_logger(__name__)

RENEW_AT = 0.8
"""Part of its life after which a token is renewed."""
RETRY_S = 60.0
"""Between two tries to renew one."""
FETCH_S = 15.0
"""A caller waits no longer for the first token."""


@dataclass(frozen=True, slots=True)
class GrantedToken:
    """What a vendor gave for the keys: a token that is good for `seconds`."""

    token: str
    seconds: float


@dataclass(slots=True)
class _Fetch:
    """A request for a token under way."""

    over: Event = field(default_factory=Event)
    error: VendorError | None = None


class AccessToken:
    """The token of one pair of keys. `fetch` asks the vendor for a new one: blocks, raises VendorError."""

    def __init__(
        self,
        vendor: str,
        fetch: Callable[[], GrantedToken],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vendor = vendor
        self._ask = fetch
        self._clock = clock
        self._token = ""
        self._good_until = 0.0
        self._fetch: _Fetch | None = None
        self._renewal: Greenlet | None = None
        """Waits for its time."""
        self._closed = False
        self._tasks = Tasks()

    def get(self) -> str:
        """A token that is good. Waits for the vendor only when there is none. Raises VendorError."""
        if self._is_good():
            return self._token
        if self._closed:
            raise VendorUnavailable(self._vendor, "closed")
        fetch = self._fetch
        if fetch is None:
            fetch = self._fetch = _Fetch()
            # It works for all devices: the log lines must not bear the name of the one that came first.
            contextvars.Context().run(self._tasks.spawn, "access-token", self._run, fetch)
        if not fetch.over.wait(timeout=FETCH_S):
            raise VendorTimeout(self._vendor, f"no access token within {FETCH_S:g} s")
        if fetch.error is not None:
            raise copy.copy(fetch.error)  # each caller's guard writes its own block into it
        return self._token

    def refused(self, token: str) -> None:
        """The vendor did not accept `token`: the next caller fetches another."""
        if token == self._token:
            self._good_until = 0.0

    def close(self) -> None:
        """Stop renewing. Idempotent."""
        self._closed = True
        self._tasks.kill()

    def _is_good(self) -> bool:
        return bool(self._token) and self._clock() < self._good_until

    def _run(self, fetch: _Fetch) -> None:
        fetch.error = VendorUnavailable(self._vendor, "closed")  # unless it comes to an end
        try:
            granted = self._ask()
        except VendorError as error:
            fetch.error = error
            if self._is_good():
                log.warning("an access token was not renewed", vendor=self._vendor, error=str(error))
                self._renew_in(RETRY_S)
        else:
            fetch.error = None
            self._token = granted.token
            self._good_until = self._clock() + granted.seconds
            self._renew_in(granted.seconds * RENEW_AT)
        finally:
            self._fetch = None
            fetch.over.set()

    def _renew_in(self, seconds: float) -> None:
        if self._renewal is not None:
            self._renewal.kill(block=False)
        self._renewal = self._tasks.spawn_later(seconds, "access-token", self._renew)

    def _renew(self) -> None:
        self._renewal = None
        if self._fetch is None:
            self._fetch = _Fetch()
            self._run(self._fetch)


class SharedTokens:
    """The tokens of this process by the keys that they were given for."""

    def __init__(self) -> None:
        self._lent: dict[Hashable, tuple[AccessToken, int]] = {}

    def lend(self, keys: Hashable, make: Callable[[], AccessToken]) -> AccessToken:
        """The token for `keys`, made on first use; to be given back."""
        token, users = self._lent.get(keys) or (make(), 0)
        self._lent[keys] = token, users + 1
        return token

    def give_back(self, keys: Hashable) -> None:
        """One user less; with the last one the token is forgotten."""
        token, users = self._lent[keys]
        if users > 1:
            self._lent[keys] = token, users - 1
        else:
            del self._lent[keys]
            token.close()


access_tokens = SharedTokens()
