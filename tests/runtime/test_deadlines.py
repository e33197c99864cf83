"""A deadline around guarded work: nobody inside takes it for a failure of its own."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from tests.waiting import PATIENCE_S
from xiaozhi.errors import VendorTimeout, VendorUnavailable
from xiaozhi.runtime.deadlines import at_most
from xiaozhi.runtime.resilience import Guard, RetryOptions

LATE = VendorTimeout("acme", "too late")


def test_a_guard_does_not_try_again_when_the_time_is_over() -> None:
    tries: list[int] = []

    def stall() -> None:
        tries.append(1)
        Event().wait(PATIENCE_S)

    guard = Guard("acme", retry=RetryOptions(attempts=3, first=0.0))

    with pytest.raises(VendorTimeout, match="too late"), at_most(0.02, LATE):
        guard.call(stall)

    assert tries == [1]


def test_retries_share_the_deadline() -> None:
    tries: list[int] = []

    def fail_or_stall() -> None:
        tries.append(1)
        if len(tries) < 2:
            raise VendorUnavailable("acme")
        Event().wait(PATIENCE_S)

    guard = Guard("acme", retry=RetryOptions(attempts=3, first=0.0))
    with pytest.raises(VendorTimeout, match="too late"), at_most(0.05, LATE):
        guard.call(fail_or_stall)
    assert len(tries) == 2


def test_work_in_time_and_other_peoples_deadlines_pass() -> None:
    with at_most(PATIENCE_S, LATE):
        assert 1 + 1 == 2
    with pytest.raises(KeyError), at_most(PATIENCE_S, LATE):
        raise KeyError("its own")
    with pytest.raises(gevent.Timeout) as outer, gevent.Timeout(0.01), at_most(PATIENCE_S, LATE):
        Event().wait(PATIENCE_S)
    assert not isinstance(outer.value, VendorTimeout)
