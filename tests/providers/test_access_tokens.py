"""Tokens that are given for keys: one request for everybody, renewed before its time, kept while it is good."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent.event import Event

from tests.fakes.clock import FakeClock
from tests.waiting import wait_for
from xiaozhi.errors import VendorRejected, VendorUnavailable
from xiaozhi.providers.access_tokens import RENEW_AT, AccessToken, GrantedToken, SharedTokens


class Grants:
    """A vendor that gives numbered tokens; `fails` with this error instead, `gate` holds its answers up."""

    def __init__(self, seconds: float = 3_600.0) -> None:
        self.seconds = seconds
        self.asked = 0
        self.fails: Exception | None = None
        self.gate = Event()
        self.gate.set()

    def __call__(self) -> GrantedToken:
        self.asked += 1
        number = self.asked
        self.gate.wait()
        if self.fails is not None:
            raise self.fails
        return GrantedToken(f"token-{number}", self.seconds)


@pytest.fixture
def grants() -> Grants:
    return Grants()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def made(grants: Grants, clock: FakeClock) -> Iterator[Callable[[], AccessToken]]:
    tokens: list[AccessToken] = []

    def make() -> AccessToken:
        tokens.append(AccessToken("acme", grants, clock=clock))
        return tokens[-1]

    yield make
    for token in tokens:
        token.close()


def test_all_who_come_first_wait_for_one_request(grants: Grants, made: Callable[[], AccessToken]) -> None:
    token = made()
    grants.gate.clear()
    callers = [gevent.spawn(token.get) for _ in range(20)]
    wait_for(lambda: grants.asked, "the vendor to be asked")
    grants.gate.set()
    gevent.joinall(callers, timeout=5, raise_error=True)
    assert {caller.value for caller in callers} == {"token-1"}
    assert token.get() == "token-1"
    assert grants.asked == 1


def test_a_caller_who_gives_up_does_not_take_the_request_along(grants: Grants, made: Callable[[], AccessToken]) -> None:
    token = made()
    grants.gate.clear()
    first, second = gevent.spawn(token.get), gevent.spawn(token.get)
    wait_for(lambda: grants.asked, "the vendor to be asked")
    first.kill()
    grants.gate.set()
    assert second.get(timeout=5) == "token-1"
    assert grants.asked == 1


def test_it_is_renewed_before_it_expires_and_nobody_waits(
    grants: Grants, clock: FakeClock, made: Callable[[], AccessToken]
) -> None:
    grants.seconds = 0.05 / RENEW_AT  # of real time; the clock that decides what is good stands still
    token = made()
    assert token.get() == "token-1"
    grants.gate.clear()
    wait_for(lambda: grants.asked == 2, "a renewal")
    assert token.get() == "token-1", "the old one is good while the new one comes"
    grants.gate.set()
    wait_for(lambda: token.get() != "token-1", "the new one")


def test_a_renewal_that_fails_leaves_the_old_one_as_long_as_it_is_good(
    grants: Grants, clock: FakeClock, made: Callable[[], AccessToken]
) -> None:
    grants.seconds = 0.02
    token = made()
    assert token.get() == "token-1"
    grants.fails = VendorUnavailable("acme", "down")
    wait_for(lambda: grants.asked == 2, "a renewal")
    gevent.sleep(0)  # sleep: its turn to fail
    assert token.get() == "token-1"
    clock.advance(0.03)
    with pytest.raises(VendorUnavailable, match="down"):
        token.get()
    grants.fails = None
    assert token.get() == f"token-{grants.asked}"


def test_each_waits_for_its_own_error(grants: Grants, made: Callable[[], AccessToken]) -> None:
    token = made()
    grants.fails = VendorRejected("acme", "no such key", details="more", status=401)
    grants.gate.clear()
    callers = [gevent.spawn(token.get) for _ in range(2)]
    wait_for(lambda: grants.asked, "the vendor to be asked")
    grants.gate.set()
    gevent.joinall(callers, timeout=5)
    errors = [caller.exception for caller in callers]
    assert [(type(error), str(error), error.status, error.details) for error in errors] == 2 * [
        (VendorRejected, "acme: no such key", 401, "more")
    ]
    errors[0].blame("ASR.One", "see the key")
    assert errors[1].vendor == "acme", "what one block writes into its error is not in the other's"


def test_one_that_was_refused_is_not_given_again(grants: Grants, made: Callable[[], AccessToken]) -> None:
    token = made()
    assert token.get() == "token-1"
    token.refused("token-0")
    assert token.get() == "token-1", "that was an older one"
    token.refused("token-1")
    assert token.get() == "token-2"


def test_who_waits_when_it_is_closed_gets_an_error(grants: Grants, made: Callable[[], AccessToken]) -> None:
    token = made()
    grants.gate.clear()
    caller = gevent.spawn(token.get)
    wait_for(lambda: grants.asked, "the vendor to be asked")
    token.close()
    token.close()
    with pytest.raises(VendorUnavailable, match="closed"):
        caller.get(timeout=5)
    with pytest.raises(VendorUnavailable, match="closed"):
        token.get()


def test_tokens_are_shared_by_keys_until_the_last_one_leaves(made: Callable[[], AccessToken]) -> None:
    shared = SharedTokens()
    one, same, other = shared.lend("a", made), shared.lend("a", made), shared.lend("b", made)
    assert one is same is not other
    shared.give_back("a")
    assert one.get() == "token-1"
    shared.give_back("a")
    assert shared.lend("a", made) is not one
