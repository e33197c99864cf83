"""Names whose servers do not answer, and what they may not delay."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import monkey
from gevent.threadpool import ThreadPool

from tests.fakes.clock import FakeClock
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.net.name_lookup import FAILURE_KEPT_S, SLOW_S, NameResolver

THREADS = 4
# Native: patched ones would make a hub in the pool's threads.
_Event = monkey.get_original("threading", "Event")


class Names:
    """A system's look-up: names that begin with "dead" keep their thread until `give_up`."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.asked: list[str] = []
        self.give_up = _Event()

    def __call__(self, host: str, port: int, family: int, type: int, proto: int, flags: int) -> list[Any]:
        if flags & socket.AI_NUMERICHOST:
            if host[0].isdigit():
                return [(host, port)]
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        self.asked.append(host)
        if host.startswith("dead"):
            self.give_up.wait(PATIENCE_S)
            self.clock.advance(10 * SLOW_S)
        if host.startswith(("dead", "no-such")):
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [("10.0.0.1", port)]


class Hub:
    """What a resolver needs of a hub."""

    NOT_ERROR: tuple[Any, ...] = (socket.gaierror,)

    def __init__(self) -> None:
        self.threadpool = ThreadPool(THREADS)


Ask = Callable[[str], Any]


@pytest.fixture
def names() -> Names:
    return Names(FakeClock())


@pytest.fixture
def ask(names: Names) -> Iterator[Ask]:
    """Asks for a name in a greenlet; its value is the answer, or the error."""
    hub = Hub()
    resolver = NameResolver(hub, THREADS, look_up=names, clock=names.clock)

    def look_up(name: str) -> Any:
        try:
            return resolver.getaddrinfo(name, 80)
        except OSError as error:
            return error

    yield lambda name: gevent.spawn(look_up, name)
    names.give_up.set()
    hub.threadpool.kill()


def test_a_dead_name_takes_one_thread_whoever_asks_for_it(names: Names, ask: Ask) -> None:
    """As a context source does for each device."""
    waiting = [ask("dead.example") for _ in range(40)]
    wait_for(lambda: names.asked, "the look-up")

    assert ask("vendor.example").get(timeout=PATIENCE_S) == [("10.0.0.1", 80)]
    assert names.asked == ["dead.example", "vendor.example"]

    names.give_up.set()
    assert all(isinstance(asker.get(timeout=PATIENCE_S), socket.gaierror) for asker in waiting)


def test_names_that_were_slow_leave_threads_to_the_others(names: Names, ask: Ask) -> None:
    dead = [f"dead-{number}.example" for number in range(THREADS)]
    names.give_up.set()
    for asker in [ask(name) for name in dead]:
        asker.get(timeout=PATIENCE_S)
    names.clock.advance(FAILURE_KEPT_S + 1)
    names.give_up.clear()
    names.asked.clear()

    waiting = [ask(name) for name in dead]
    wait_for(lambda: len(names.asked) == THREADS // 2, "the look-ups")

    assert ask("vendor.example").get(timeout=PATIENCE_S) == [("10.0.0.1", 80)]
    assert len(names.asked) == THREADS // 2 + 1
    names.give_up.set()
    gevent.joinall(waiting, timeout=PATIENCE_S)


def test_slow_failures_are_remembered_for_a_while_and_quick_ones_are_not(names: Names, ask: Ask) -> None:
    names.give_up.set()
    for _ in range(2):
        for name in ("dead.example", "no-such.example"):
            assert isinstance(ask(name).get(timeout=PATIENCE_S), socket.gaierror)
    assert names.asked == ["dead.example", "no-such.example", "no-such.example"]

    names.clock.advance(FAILURE_KEPT_S + 1)
    ask("dead.example").get(timeout=PATIENCE_S)
    assert names.asked[-1] == "dead.example"


def test_addresses_need_no_thread(names: Names, ask: Ask) -> None:
    for number in range(THREADS):
        ask(f"dead-{number}.example")
    wait_for(lambda: len(names.asked) == THREADS, "the look-ups")
    assert ask("127.0.0.1").get(timeout=PATIENCE_S) == [("127.0.0.1", 80)]


def test_who_gives_up_waiting_does_not_spoil_it_for_the_others(names: Names, ask: Ask) -> None:
    first, second = ask("dead.example"), ask("dead.example")
    wait_for(lambda: names.asked, "the look-up")
    first.kill()
    names.give_up.set()
    assert isinstance(second.get(timeout=PATIENCE_S), socket.gaierror)


def test_the_real_look_up() -> None:
    resolver = NameResolver(gevent.get_hub(), THREADS)
    assert resolver.getaddrinfo("127.0.0.1", 80, 0, socket.SOCK_STREAM)[0][4] == ("127.0.0.1", 80)
    assert resolver.getaddrinfo("localhost", 80, socket.AF_INET, socket.SOCK_STREAM)[0][4] == ("127.0.0.1", 80)
    assert resolver.getaddrinfo(None, 80, socket.AF_INET, socket.SOCK_STREAM)
    with pytest.raises(socket.gaierror):
        resolver.getaddrinfo("256.256.256.256", 80, 0, 0, 0, socket.AI_NUMERICHOST)
