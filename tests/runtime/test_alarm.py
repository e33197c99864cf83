from __future__ import annotations

import time

import gevent
import pytest

from tests.waiting import PATIENCE_S
from xiaozhi.runtime.alarm import HubAlarm
from xiaozhi.runtime.tasks import Tasks


def test_it_waits_as_long_as_asked() -> None:
    gevent.get_hub().loop.update_now()  # timers count from the loop's own idea of now, which may be some ms old
    began = time.monotonic()
    HubAlarm().wait(0.02)
    assert time.monotonic() - began >= 0.018


def test_a_ring_cuts_the_wait_short() -> None:
    alarm, tasks = HubAlarm(), Tasks()
    waiter = tasks.spawn("waiter", alarm.wait, 60)
    gevent.sleep(0)
    alarm.ring()
    alarm.ring()  # again is fine
    waiter.join(timeout=PATIENCE_S)
    assert waiter.successful()


def test_a_ring_that_nobody_waits_for_is_lost() -> None:
    alarm = HubAlarm()
    alarm.ring()
    gevent.get_hub().loop.update_now()  # timers count from the loop's own idea of now, which may be some ms old
    began = time.monotonic()
    alarm.wait(0.02)
    alarm.ring()
    assert time.monotonic() - began >= 0.018


def test_rings_and_timers_at_the_same_moment_disturb_no_later_wait() -> None:
    alarm, tasks, waits = HubAlarm(), Tasks(), []

    def wait() -> None:
        for _ in range(200):
            began = time.monotonic()
            alarm.wait(0.0005)
            gevent.sleep(0)  # another kind of wait, which a stray switch would end too early or break
            waits.append(time.monotonic() - began)

    waiter = tasks.spawn("waiter", wait)
    while not waiter.ready():
        alarm.ring()
        gevent.sleep(0.0003)  # sleep: about as long as the waiter waits, so that rings and timers meet
    assert waiter.successful() and len(waits) == 200


def test_a_killed_waiter_can_still_be_rung() -> None:
    alarm, tasks = HubAlarm(), Tasks()
    waiter = tasks.spawn("waiter", alarm.wait, 60)
    gevent.sleep(0)
    alarm.ring()
    waiter.kill()
    alarm.ring()
    for _ in range(3):  # the ring is delivered by a callback
        gevent.sleep(0)
    assert waiter.dead


def test_a_timeout_around_it_works() -> None:
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        HubAlarm().wait(60)
