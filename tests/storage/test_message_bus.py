"""Workers that talk to each other through a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import pytest

from tests.redis_server import own_server, redis_server
from tests.tcp_line import tcp_line
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import StorageError, StorageTimeout, StorageUnavailable
from xiaozhi.settings.redis_address import read_address
from xiaozhi.storage.message_bus import MAX_BYTES, Body, MessageBus
from xiaozhi.storage.shared_store import SharedStore


@contextmanager
def workers(url: str, *names: str) -> Iterator[list[MessageBus]]:
    """One bus each, all listening."""
    stores = [SharedStore(read_address(url), deadline_s=2.0, check_s=0.05) for _ in names]
    buses = [MessageBus(store, name) for store, name in zip(stores, names, strict=True)]
    for store, bus in zip(stores, buses, strict=True):
        store.start()
        bus.start()
    try:
        for bus in buses:
            wait_for(lambda bus=bus: bus.listening, "the bus to listen")
        yield buses
    finally:
        for bus in buses:
            bus.close()
        for store in stores:
            store.close()


def refuse(sender: str, body: Body) -> Body:
    raise StorageError("I will not")


def fail(sender: str, body: Body) -> Body:
    raise RuntimeError("a bug")


def test_a_call_and_its_answer(request: pytest.FixtureRequest) -> None:
    with workers(redis_server(request.config).url, "one", "two") as (one, two):
        two.handle("add", lambda sender, body: {"sum": body["a"] + body["b"], "for": sender})

        assert one.call("two", "add", {"a": 2, "b": 3}) == {"sum": 5, "for": "one"}


def test_what_may_go_wrong_with_a_call(request: pytest.FixtureRequest) -> None:
    with workers(redis_server(request.config).url, "one", "two") as (one, two):
        stuck = gevent.event.Event()
        two.handle("refuse", refuse)
        two.handle("fail", fail)
        two.handle("wait", lambda sender, body: {"done": stuck.wait(PATIENCE_S)})

        with pytest.raises(StorageError, match="I will not"):
            one.call("two", "refuse", {})
        with pytest.raises(StorageError, match="internal error"):
            one.call("two", "fail", {})
        with pytest.raises(StorageError, match="cannot do fly now"):
            one.call("two", "fly", {})
        with pytest.raises(StorageUnavailable, match="not listening"):
            one.call("three", "add", {})
        with pytest.raises(StorageTimeout) as late:
            one.call("two", "wait", {}, seconds=0.05)
        with pytest.raises(StorageError, match="at most"):
            one.call("two", "add", {"text": "x" * MAX_BYTES})
        assert late.value.undecided
        stuck.set()


def test_news_for_all(request: pytest.FixtureRequest) -> None:
    heard: list[tuple[str, str, Body]] = []

    def hear(name: str) -> None:
        buses[name].handle("reload", lambda sender, body: heard.append((name, sender, body)))

    with workers(redis_server(request.config).url, "one", "two", "three") as found:
        buses = {bus.name: bus for bus in found}
        for name in buses:
            hear(name)
        buses["one"].tell_all("reload", {"why": "test"})

        wait_for(lambda: len(heard) == 2, "both others")
    assert sorted(heard) == [("three", "one", {"why": "test"}), ("two", "one", {"why": "test"})]


def test_garbage_is_dropped(request: pytest.FixtureRequest) -> None:
    server = redis_server(request.config)
    with workers(server.url, "one", "two") as (one, two), server.client() as client:
        two.handle("add", lambda sender, body: {"sum": 1})
        for garbage in (b"", b"{", b"[]", b"7", b'{"call":"add"}', b"\xff" * 100, b'{"from":"x","to":"nobody"}'):
            client.publish("xiaozhi:1:worker:two", garbage)
        client.publish("xiaozhi:1:worker:two", b'{"from":"x","call":"unknown","id":"","body":3}')

        assert one.call("two", "add", {}) == {"sum": 1}
        wait_for(lambda: two.dropped == 7, "all of it to be counted")


def test_the_bus_listens_again_after_a_restart_of_redis() -> None:
    server = own_server()
    server.start()
    try:
        with workers(server.url, "one", "two") as (one, two):
            two.handle("add", lambda sender, body: {"sum": 1})
            told: list[int] = []
            two.on_listening.append(lambda: told.append(1))
            server.kill()
            with pytest.raises(StorageUnavailable):
                one.call("two", "add", {})
            wait_for(lambda: not two.listening, "the loss")
            server.start()
            wait_for(lambda: told, "the bus to listen again")

            wait_for(lambda: _sum(one) == 1, "an answer")
    finally:
        server.stop()


def _sum(bus: MessageBus) -> int:
    try:
        return int(bus.call("two", "add", {})["sum"])
    except StorageError:
        return 0


def test_a_connection_that_was_lost_without_a_word_is_replaced(request: pytest.FixtureRequest) -> None:
    with tcp_line(redis_server(request.config).port) as line:
        store = SharedStore(read_address(f"redis://127.0.0.1:{line.port}"), deadline_s=2.0, check_s=0.05)
        bus = MessageBus(store, "one", silence_s=0.05)
        store.start()
        told: list[int] = []
        bus.on_listening.append(lambda: told.append(1))
        bus.start()
        wait_for(lambda: told, "the bus to listen")
        line.heal()

        wait_for(lambda: len(told) == 2, "it to listen anew")
        bus.close()
        store.close()
