"""Several servers as processes of their own when something fails: a server that is killed behind HAProxy, one that is
restarted, a Redis that hangs, a network that parts one server from Redis."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from loadtest.vendors.openai_vendor import TTS, OpenAiVendor
from tests.e2e.stage import QUARTER, ask
from tests.lifecycle.child import Child
from tests.lifecycle.people import Person, balanced_servers, told_with
from tests.lifecycle.several import ANNA, BERT, come, heard, metric, servers
from tests.ops.haproxy import HaProxy
from tests.ops.programs import need
from tests.redis_server import RedisServer
from tests.tcp_line import tcp_line
from tests.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def balanced(tmp_path: Path, vendor: OpenAiVendor, redis: RedisServer) -> Iterator[tuple[HaProxy, list[Child]]]:
    """HAProxy and two servers behind it."""
    need("haproxy")
    with balanced_servers(tmp_path, vendor, redis, "one", "two") as found:
        yield found


def test_behind_a_balancer_the_devices_of_a_killed_server_go_on_at_another(
    vendor: OpenAiVendor, redis: RedisServer, balanced: tuple[HaProxy, list[Child]]
) -> None:
    front, found = balanced
    people = [Person(front, number) for number in range(6)]
    gevent.joinall([gevent.spawn(one.ask, f"the first of {one.device_id}") for one in people], raise_error=True)
    with redis.client() as client:
        wait_for(lambda: len(client.keys("*dialogue*")) == 6, "what was said to be shared")
    fullest = max(found, key=lambda server: metric(server, "xiaozhi_connections"))
    fullest.send(signal.SIGKILL)
    wait_for(lambda: not all(one.connected for one in people), "the loss")

    gevent.joinall([gevent.spawn(one.ask, f"the second of {one.device_id}") for one in people], raise_error=True)

    for one in people:
        assert told_with(vendor, one.asked[1]) == one.asked
        one.close()


def test_a_rolling_restart_loses_no_started_turn(
    vendor: OpenAiVendor, redis: RedisServer, balanced: tuple[HaProxy, list[Child]]
) -> None:
    front, found = balanced
    vendor.stand(TTS, QUARTER)
    people, over = [Person(front, number) for number in range(4)], gevent.event.Event()

    def talk(one: Person) -> None:
        while not over.is_set():
            one.ask(f"{one.device_id} asks for the {len(one.asked)}. time")

    talking = [gevent.spawn(talk, one) for one in people]
    for server in found:
        asked = [len(one.asked) for one in people]
        server.send(signal.SIGTERM)
        assert server.exit_code() == 0
        server.spawn()
        server.wait_ready(2)
        wait_for(lambda: front.up() == 4, "it to be taken back")
        wait_for(lambda asked=asked: all(len(one.asked) > n for one, n in zip(people, asked, strict=True)), "turns")
    over.set()
    gevent.joinall(talking, raise_error=True)

    assert not [lost for one in people for lost in one.lost]
    for one in people:
        assert told_with(vendor, one.asked[-1])[-5:] == one.asked[-5:]
        one.close()


def test_a_redis_that_hangs_keeps_nobody(tmp_path: Path, vendor: OpenAiVendor, redis: RedisServer) -> None:
    with servers(tmp_path, vendor, redis, "one") as (one,):
        device = come(one)
        ask(device, "tell me of the first thing")
        with redis.hung():
            for number in range(4):
                ask(device, f"tell me of number {number}")
            wait_for(lambda: metric(one, "xiaozhi_shared_store_up") == 0, "the loss to be noticed")
            asked = metric(one, "xiaozhi_shared_store_questions_total")
            for number in range(4, 8):
                ask(device, f"tell me of number {number}")
            assert metric(one, "xiaozhi_shared_store_questions_total") == asked, "nothing waits for an answer"
        wait_for(lambda: metric(one, "xiaozhi_shared_store_up") == 1, "it to be reached again")

        ask(device, "tell me of the last thing")
        assert heard(vendor)[0] == "tell me of the first thing" and device.closed is None
        with redis.client() as client:
            wait_for(lambda: b"number 7" in b"".join(client.get(k) for k in client.keys("*dialogue*")), "the rest")
        device.close()


def test_a_server_that_was_parted_from_redis_lets_go_of_who_went_elsewhere(
    tmp_path: Path, vendor: OpenAiVendor, redis: RedisServer
) -> None:
    with tcp_line(redis.port) as line:
        own = {"one": {"server": {"redis": f"redis://127.0.0.1:{line.port}"}}}
        with servers(tmp_path, vendor, redis, "one", "two", own=own) as (one, two):
            mover, stayer = come(one, ANNA), come(one, BERT)
            ask(mover, "the first thing")
            ask(stayer, "the thing of another")
            with redis.client() as client:
                wait_for(lambda: len(client.keys("*dialogue*")) == 2, "what was said to be shared")
            line.cut()
            wait_for(lambda: metric(one, "xiaozhi_shared_store_up") == 0, "the loss to be noticed")
            ask(mover, "the second thing, of which nobody else learns")
            ask(stayer, "and something more")

            moved = come(two, ANNA)
            ask(moved, "the third thing")
            assert heard(vendor) == ["the first thing", "the third thing"]
            assert mover.closed is None, "two servers believe to hold it"
            line.heal()

            assert mover.wait_closed() == (1000, "replaced")
            ask(stayer, "nobody moved me")
            assert heard(vendor)[-2:] == ["and something more", "nobody moved me"] and stayer.closed is None
            assert (metric(one, "xiaozhi_devices_lost_total"), metric(two, "xiaozhi_devices_lost_total")) == (1, 0)
            assert moved.closed is None
            with redis.client() as client:
                wait_for(
                    lambda: b"third" in b"".join(client.get(k) for k in client.keys("*dialogue*")), "it to be shared"
                )
            moved.close()
            again = come(one, ANNA)
            ask(again, "the fourth thing")
            assert heard(vendor) == ["the first thing", "the third thing", "the fourth thing"]
            for device in (stayer, again):
                device.close()
