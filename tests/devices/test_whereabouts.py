"""Which server a device is connected to, with a real Redis and two servers' worth of parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.fakes.clock import FakeClock
from tests.redis_server import RedisServer, own_server, redis_server
from tests.waiting import wait_for
from xiaozhi.devices.whereabouts import Whereabouts, WorkerFacts
from xiaozhi.settings.redis_address import read_address
from xiaozhi.storage.message_bus import MessageBus
from xiaozhi.storage.shared_store import SharedStore

KITCHEN = "02:00:00:00:00:01"


@dataclass
class Worker:
    """One server, as far as devices are looked for."""

    name: str
    url: str
    clock: FakeClock = field(default_factory=FakeClock)
    lost: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = SharedStore(read_address(self.url), deadline_s=2.0, check_s=0.02)
        self.bus = MessageBus(self.store, self.name)
        self.devices = 0
        self.whereabouts = Whereabouts(
            self.store,
            self.bus,
            on_lost=self.lost.append,
            on_handed_in=lambda: self.told.append("handed in"),
            on_taken_over=lambda device: self.told.append(f"took over {device}"),
            facts=self.facts,
            clock=self.clock,
            beat_s=0.05,
        )

    def facts(self) -> WorkerFacts:
        return WorkerFacts(self.name, "machine", f"ws://{self.name}/", self.devices)

    def start(self) -> None:
        self.store.start()
        self.bus.start()
        self.whereabouts.start()
        wait_for(lambda: self.bus.listening and self.name in self.whereabouts.workers, "the worker")

    def join(self, visit: str, device: str = KITCHEN) -> None:
        self.devices += 1
        self.whereabouts.joined(visit, device)

    def cut_off(self) -> None:
        """It is alive and cannot reach the store any more."""
        self.whereabouts.close(0.0)
        self.bus.close()
        self.store.close()

    def stop(self) -> None:
        self.whereabouts.close(5.0)
        self.bus.close()
        self.store.close()


@contextmanager
def workers(url: str, *names: str) -> Iterator[list[Worker]]:
    found = [Worker(name, url) for name in names]
    for one in found:
        one.start()
    try:
        yield found
    finally:
        for one in found:
            one.stop()


def found_at(worker: Worker, device: str = KITCHEN) -> str:
    return worker.whereabouts.find(device)


def test_a_device_is_found_from_everywhere_and_released(request: pytest.FixtureRequest) -> None:
    with workers(redis_server(request.config).url, "one", "two") as (one, two):
        assert found_at(two) == ""
        one.join("one-1")
        wait_for(lambda: found_at(two) == "one", "the claim")

        one.whereabouts.left("one-1")
        wait_for(lambda: found_at(two) == "", "the release")
        assert one.lost == two.lost == []


def test_whoever_comes_to_another_server_leaves_the_first(request: pytest.FixtureRequest) -> None:
    with workers(redis_server(request.config).url, "one", "two") as (one, two):
        one.join("one-1")
        wait_for(lambda: found_at(two) == "one", "the claim")
        two.join("two-1")

        wait_for(lambda: one.lost == ["one-1"], "the first one to be told")
        assert found_at(one) == "two" and two.lost == one.told == two.told == []
        one.whereabouts.left("one-1")
        wait_for(lambda: two.told == [f"took over {KITCHEN}"], "the visit to be over")
        assert one.told == ["handed in"]
        one.join("one-2", "02:00:00:00:00:09")
        wait_for(lambda: found_at(two, "02:00:00:00:00:09") == "one", "what was written after the release")
        assert found_at(one) == "two", "a release of the older visit takes nothing from the newer"


def test_all_servers_are_known_with_what_they_say(request: pytest.FixtureRequest) -> None:
    with workers(redis_server(request.config).url, "one", "two") as (one, two):
        two.devices = 7
        wait_for(lambda: (seen := one.whereabouts.workers.get("two")) is not None and seen.devices == 7, "its figures")
        assert one.whereabouts.workers["two"].websocket == "ws://two/"

        two.whereabouts.close(5.0)
        wait_for(lambda: set(one.whereabouts.workers) == {"one"}, "it to be gone")


def test_a_server_without_a_sign_of_life_is_not_looked_for(request: pytest.FixtureRequest) -> None:
    server = redis_server(request.config)
    with workers(server.url, "one", "two") as (one, two), server.client() as client:
        one.join("one-1")
        wait_for(lambda: found_at(two) == "one", "the claim")
        one.cut_off()
        client.delete("xiaozhi:1:worker:{one}")  # as when its lease has ended

        assert found_at(two) == ""


@pytest.fixture
def own() -> Iterator[RedisServer]:
    server = own_server()
    server.start()
    yield server
    server.stop()


def test_claims_are_made_anew_when_the_store_has_lost_them(own: RedisServer) -> None:
    with workers(own.url, "one", "two") as (one, two):
        one.join("one-1")
        wait_for(lambda: found_at(two) == "one", "the claim")
        own.kill()
        wait_for(lambda: not one.store.available and not two.store.available, "the loss")
        own.start()

        wait_for(lambda: one.store.available and two.store.available, "the store")
        wait_for(lambda: found_at(two) == "one", "the claim to be renewed")
        assert one.lost == []


def test_the_fence_decides_between_two_that_believe_to_hold_a_device(request: pytest.FixtureRequest) -> None:
    with workers(redis_server(request.config).url, "one", "two") as (one, two):
        one.join("one-1")
        wait_for(lambda: found_at(two) == "one", "the claim")
        one.bus.close()  # it hears nothing of what follows
        two.join("two-1")
        wait_for(lambda: found_at(two) == "two", "the newer claim")
        assert one.lost == []

        one.whereabouts.renew()
        two.whereabouts.renew()

        assert (one.lost, two.lost) == (["one-1"], [])


def test_the_later_arrival_wins_though_the_store_has_forgotten_the_fence(own: RedisServer) -> None:
    with workers(own.url, "one", "two") as (one, two):
        for number in range(5):
            one.join(f"one-{number}")
            wait_for(lambda number=number: number_of_fence(own) == number + 1, "the claim")
        one.bus.close()
        own.empty()
        one.clock.advance(30)
        two.join("two-1")
        wait_for(lambda: found_at(two) == "two", "the newer claim")
        assert number_of_fence(own) == 1

        one.whereabouts.renew()

        assert "one-4" in one.lost and found_at(two) == "two" and two.lost == []


def test_whoever_is_claimed_first_after_a_loss_learns_who_came_later(own: RedisServer) -> None:
    with workers(own.url, "one", "two") as (one, two):
        one.join("one-1")
        wait_for(lambda: found_at(two) == "one", "the claim")
        with silent(one):
            one.clock.advance(30)
            two.join("two-1")
            wait_for(lambda: found_at(two) == "two", "the newer claim")
            own.empty()
            one.whereabouts.renew()
            assert number_of_fence(own) == 1 and one.lost == []
        wait_for(lambda: one.bus.listening, "it to hear again")

        two.whereabouts.renew()

        wait_for(lambda: one.lost == ["one-1"], "the first one to be told")
        wait_for(lambda: found_at(one) == "two", "the newer claim")
        assert two.lost == []


def test_a_server_that_hears_again_looks_whom_it_has_lost(request: pytest.FixtureRequest) -> None:
    with workers(redis_server(request.config).url, "one", "two") as (one, two):
        one.join("one-1")
        wait_for(lambda: found_at(two) == "one", "the claim")
        with silent(one):
            two.join("two-1")
            wait_for(lambda: found_at(two) == "two", "the newer claim")
            assert one.lost == []

        wait_for(lambda: one.lost == ["one-1"], "it to look")


def test_a_standing_connection_is_told_of_beside_the_conversation(request: pytest.FixtureRequest) -> None:
    with workers(redis_server(request.config).url, "one", "two", "three") as (one, two, three):
        looked: list[str] = []
        for worker in (one, two):
            worker.bus.handle("look", lambda sender, body, worker=worker: looked.append(worker.name))
        one.whereabouts.stands(KITCHEN, True)
        two.join("two-1")
        wait_for(lambda: (found_at(three), three.whereabouts.find_standing(KITCHEN)) == ("two", "one"), "both")

        three.whereabouts.tell(KITCHEN, "look")

        assert sorted(looked) == ["one", "two"] and one.lost == two.lost == []
        wait_for(lambda: (seen := three.whereabouts.workers.get("one")) and seen.standing == 1, "the count")
        two.whereabouts.stands(KITCHEN, True)
        wait_for(lambda: three.whereabouts.find_standing(KITCHEN) == "two", "it to stand elsewhere")
        one.whereabouts.stands(KITCHEN, False)
        one.whereabouts.stands("02:00:00:00:00:09", True)
        wait_for(lambda: three.whereabouts.find_standing("02:00:00:00:00:09") == "one", "what was written after it")
        assert three.whereabouts.find_standing(KITCHEN) == "two", "the older end takes nothing from the newer"


def test_standing_connections_are_known_again_when_the_store_has_lost_them(own: RedisServer) -> None:
    with workers(own.url, "one", "two") as (one, two):
        one.whereabouts.stands(KITCHEN, True)
        wait_for(lambda: two.whereabouts.find_standing(KITCHEN) == "one", "it")
        own.kill()
        wait_for(lambda: not one.store.available and not two.store.available, "the loss")
        own.start()

        wait_for(lambda: one.store.available and two.store.available, "the store")
        wait_for(lambda: two.whereabouts.find_standing(KITCHEN) == "one", "it to be known again")


def test_what_another_release_says_is_passed_over(request: pytest.FixtureRequest) -> None:
    server = redis_server(request.config)
    with server.client() as client:
        client.sadd("xiaozhi:1:{workers}", "newer", "garbage", "list")
        client.set("xiaozhi:1:worker:{newer}", b'{"machine":"m","devices":3,"mood":["fine"]}')
        client.set("xiaozhi:1:worker:{garbage}", b"\xff{")
        client.set("xiaozhi:1:worker:{list}", b'[{"devices":"many"}]')
        client.sadd("xiaozhi:2:{workers}", "of another version")
        client.hset(f"xiaozhi:2:claim:{{{KITCHEN}}}", "worker", "of another version")
        client.hset(f"xiaozhi:1:claim:{{{KITCHEN}}}", mapping={"visit": "v", "mood": "fine"})
    with workers(server.url, "one") as (one,):
        assert set(one.whereabouts.workers) == {"newer", "one"}
        assert one.whereabouts.workers["newer"].devices == 3
        one.join("one-1")
        wait_for(lambda: found_at(one) == "one", "the claim")


def number_of_fence(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.get(f"xiaozhi:1:fence:{{{KITCHEN}}}") or 0)


@contextmanager
def silent(worker: Worker) -> Iterator[None]:
    """Inside the block it hears nothing of the others; what they say is lost."""
    worker.bus.close()
    try:
        yield
    finally:
        worker.bus.start()


def test_an_arrival_that_was_written_late_takes_nothing_from_a_later_one(request: pytest.FixtureRequest) -> None:
    with workers(redis_server(request.config).url, "one", "two") as (one, two):
        two.join("two-1")
        wait_for(lambda: found_at(two) == "two", "the claim")
        one.clock.advance(-30)
        one.whereabouts.joined("one-1", KITCHEN)
        one.clock.advance(+30)

        wait_for(lambda: one.lost == ["one-1"], "the late one to be refused")
        assert found_at(one) == "two" and two.lost == []
