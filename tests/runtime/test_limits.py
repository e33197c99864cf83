"""Admission and rates, with a clock that is turned by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import FakeClock
from xiaozhi.errors import Overloaded
from xiaozhi.runtime.limits import (
    DEVICE_OVERLAP,
    FLOOD_SECONDS,
    FORGIVE_SECONDS,
    MAX_ADDRESSES,
    Admission,
    AdmissionLimits,
    FloodGuard,
    Flow,
    Permit,
    TokenBucket,
)


def admission(**limits: float) -> tuple[Admission, FakeClock]:
    clock = FakeClock()
    return Admission(AdmissionLimits(**limits), clock=clock), clock  # type: ignore[arg-type]


def refused(cause: str, door: Admission, *arguments: str, exempt: bool = False) -> Overloaded:
    before = door.refused[cause]
    with pytest.raises(Overloaded) as refusal:
        (door.check_handshake if len(arguments) == 1 else door.enter)(*arguments, exempt=exempt)
    assert door.refused[cause] == before + 1
    assert refusal.value.retry_after > 0
    return refusal.value


# --- token bucket ---


def test_a_bucket_is_full_at_first_and_fills_at_its_rate() -> None:
    bucket = TokenBucket(2.0, 3.0, 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.wait() == pytest.approx(0.5)
    assert not bucket.take(0.4)
    assert bucket.take(0.5)
    assert not bucket.take(0.6)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False], "no more is saved up than the burst"


@given(st.floats(0.5, 100), st.floats(1, 50), st.lists(st.floats(0, 2), max_size=60))
def test_a_bucket_never_gives_more_than_burst_and_rate(rate: float, burst: float, pauses: list[float]) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    now = 0.0
    given_out = 0
    for pause in pauses:
        now += pause
        given_out += bucket.take(now)
    assert given_out <= burst + rate * now + 1e-6


# --- floods ---


def test_excess_is_dropped_and_a_flood_ended() -> None:
    guard = FloodGuard(10.0, 0.0)
    passed = sum(guard.take(0.0) for _ in range(100))
    assert passed == 20, "two seconds' worth at once"
    verdicts = [guard.excess(0.0) for _ in range(int(10 * FLOOD_SECONDS) + 1)]
    assert set(verdicts[:-1]) == {Flow.DROP}
    assert verdicts[-1] is Flow.CLOSE
    assert guard.dropped == len(verdicts)


def test_a_flood_is_forgiven_after_a_while() -> None:
    guard = FloodGuard(1.0, 0.0)
    for _ in range(int(FLOOD_SECONDS)):
        assert guard.excess(0.0) is Flow.DROP
    assert guard.excess(FORGIVE_SECONDS + 0.1) is Flow.DROP
    assert guard.dropped == FLOOD_SECONDS + 1


def test_without_a_limit_nothing_is_excess() -> None:
    guard = FloodGuard(0.0, 0.0)
    assert all(guard.take(0.0) for _ in range(10_000))


def test_a_rate_below_one_message_still_lets_one_through() -> None:
    assert FloodGuard(0.1, 0.0).take(0.0)


# --- places ---


def test_no_more_than_there_are_places() -> None:
    door, _ = admission(max_connections=2)
    first, _second = door.enter("a", "1.1.1.1"), door.enter("b", "1.1.1.2")
    refused("places", door, "c", "1.1.1.3")
    assert door.total == 2
    first.release()
    first.release()
    assert door.total == 1, "a permit counts once, however often it is released"
    door.enter("c", "1.1.1.3")


def test_a_device_that_comes_back_needs_no_free_place() -> None:
    """Its old connection is dead and will be replaced; to refuse the new one would lock the device out until a
    timeout."""
    door, _ = admission(max_connections=1)
    old = door.enter("a", "1.1.1.1")
    new = door.enter("a", "1.1.1.1")
    old.release()
    refused("places", door, "b", "1.1.1.2")
    new.release()
    door.enter("b", "1.1.1.2")


def test_one_device_cannot_pile_up_connections() -> None:
    door, _ = admission(max_connections=100, per_device=1)
    permits = [door.enter("a", "1.1.1.1") for _ in range(1 + DEVICE_OVERLAP)]
    refused("device places", door, "a", "1.1.1.1")
    permits[0].release()
    door.enter("a", "1.1.1.1")


def test_connections_of_one_address() -> None:
    door, _ = admission(per_ip=2)
    door.enter("a", "1.1.1.1")
    door.enter("b", "1.1.1.1")
    refused("address places", door, "c", "1.1.1.1")
    door.enter("c", "1.1.1.1", exempt=True)
    door.enter("d", "1.1.1.2")
    door.enter("a", "1.1.1.1")  # replaces its own


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["1.1.1.1", "1.1.1.2"]), st.booleans()), max_size=60))
def test_all_places_come_back(visits: list[tuple[str, str, bool]]) -> None:
    door, _ = admission(max_connections=4, per_ip=3)
    inside: list[Permit] = []
    for device, ip, leaves in visits:
        try:
            inside.append(door.enter(device, ip))
        except Overloaded:
            pass
        if leaves and inside:
            inside.pop(0).release()
        assert door.total == len(inside)
    for permit in inside:
        permit.release()
    assert door.total == 0
    assert door.remembered[:2] == (0, 0), "nothing is remembered of those who left"


# --- rates ---


def test_handshakes_of_everybody_together() -> None:
    door, clock = admission(max_connections=5, handshakes_per_second=10, ip_handshakes_per_second=0)
    for number in range(10):
        door.check_handshake(f"1.1.1.{number}")
    assert refused("rate", door, "1.1.1.99").retry_after == pytest.approx(0.1)
    clock.now += 0.1
    door.check_handshake("1.1.1.99")


def test_after_a_restart_everybody_may_come_at_once() -> None:
    door, _ = admission(max_connections=500, handshakes_per_second=10, ip_handshakes_per_second=5)
    for _ in range(500):
        door.check_handshake("1.1.1.1")
    refused("rate", door, "1.1.1.1")


def test_handshakes_of_one_address() -> None:
    door, clock = admission(max_connections=1, handshakes_per_second=0, ip_handshakes_per_second=2)
    door.check_handshake("1.1.1.1")
    door.check_handshake("1.1.1.1")
    refused("address rate", door, "1.1.1.1")
    door.check_handshake("1.1.1.1", exempt=True)
    door.check_handshake("1.1.1.2")
    clock.now += 0.5
    door.check_handshake("1.1.1.1")


def test_addresses_are_not_collected_for_ever() -> None:
    door, _ = admission(handshakes_per_second=0)
    for number in range(MAX_ADDRESSES + 100):
        door.check_handshake(f"address {number}")
    assert door.remembered == (0, 0, MAX_ADDRESSES)


# --- shutting the door ---


def test_a_shut_door() -> None:
    door, _ = admission()
    inside = door.enter("a", "1.1.1.1")
    door.shut("overloaded", retry_after=7.0)
    assert refused("closed", door, "1.1.1.1").retry_after == 7.0
    inside.release()
    door.open()
    door.check_handshake("1.1.1.1")


def test_other_limits_keep_those_who_are_in() -> None:
    door, _ = admission(max_connections=2)
    door.enter("a", "1.1.1.1")
    door.enter("b", "1.1.1.2")
    door.adopt(AdmissionLimits(max_connections=1))
    refused("places", door, "c", "1.1.1.3")
    door.adopt(AdmissionLimits(max_connections=3))
    door.enter("c", "1.1.1.3")


def test_no_limits_at_all() -> None:
    door, _ = admission(max_connections=math.inf, handshakes_per_second=0, ip_handshakes_per_second=0)
    for _ in range(5000):
        door.check_handshake("1.1.1.1")
    assert not door.refused
