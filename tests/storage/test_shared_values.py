"""Dialogues, answers, phrases and counts in a real Redis: what comes back, what is bounded, what an absence does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from limits import RateLimitItemPerMinute

from tests.fakes.clock import FakeClock
from tests.redis_server import RedisServer, own_server
from tests.waiting import wait_for
from xiaozhi.errors import StorageUnavailable, TooOften
from xiaozhi.runtime.rates import Rates
from xiaozhi.settings.redis_address import read_address
from xiaozhi.storage.shared_counts import SharedCounts
from xiaozhi.storage.shared_store import SharedStore
from xiaozhi.storage.shared_values import DIALOGUE_BYTES, SharedAnswers, SharedDialogues, SharedSpeech

KITCHEN = "02:00:00:00:00:01"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    server = own_server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def store(server: RedisServer) -> Iterator[SharedStore]:
    store = SharedStore(read_address(server.url), deadline_s=2.0, check_s=0.02)
    store.start()
    yield store
    store.close()


@pytest.fixture
def other(server: RedisServer) -> Iterator[SharedStore]:
    store = SharedStore(read_address(server.url), deadline_s=2.0, check_s=0.02)
    store.start()
    yield store
    store.close()


def test_a_dialogue_is_found_by_another_server(server: RedisServer, store: SharedStore, other: SharedStore) -> None:
    mine, theirs = SharedDialogues(store, 120.0), SharedDialogues(other, 120.0)
    mine.start()
    mine.keep(KITCHEN, "client", b"first", 10.0)
    mine.keep(KITCHEN, "client", b"second", 11.0)
    mine.keep(KITCHEN, "too large", bytes(DIALOGUE_BYTES + 1), 11.0)

    wait_for(lambda: theirs.look_up(KITCHEN, "client") == (b"second", 11.0), "the dialogue")
    assert theirs.look_up(KITCHEN, "another client") is None
    assert theirs.look_up(KITCHEN, "too large") is None
    with server.client() as client:
        [name] = client.keys()
        assert 100 < client.ttl(name) <= 120 and b"client" not in name
    mine.close(5.0)


def test_dialogues_of_an_absence_are_handed_in_after_it(server: RedisServer, store: SharedStore) -> None:
    dialogues = SharedDialogues(store, 120.0)
    dialogues.start()
    server.kill()
    wait_for(lambda: not store.available, "the loss")
    dialogues.keep(KITCHEN, "client", b"meanwhile", 10.0)
    with pytest.raises(StorageUnavailable):
        dialogues.look_up(KITCHEN, "client")
    server.start()

    wait_for(lambda: store.available and dialogues.look_up(KITCHEN, "client") == (b"meanwhile", 10.0), "the dialogue")
    dialogues.close(5.0)


def test_what_was_said_last_counts_and_not_what_was_written_last(store: SharedStore, other: SharedStore) -> None:
    cut_off, theirs = SharedDialogues(store, 120.0), SharedDialogues(other, 120.0)
    cut_off.keep(KITCHEN, "client", b"older", 10.0)
    theirs.keep(KITCHEN, "client", b"newer", 11.0)
    assert theirs.flush() and cut_off.flush()

    assert cut_off.look_up(KITCHEN, "client") == (b"newer", 11.0)
    theirs.keep(KITCHEN, "client", b"newest", 12.0)
    assert theirs.flush() and cut_off.look_up(KITCHEN, "client") == (b"newest", 12.0)


def test_answers(server: RedisServer, store: SharedStore, other: SharedStore) -> None:
    mine, theirs = SharedAnswers(store, 60.0), SharedAnswers(other, 60.0)
    mine.start()
    mine.put("a", "Sixty-four 六十四")
    mine.put("long", "x" * 20_000)

    wait_for(lambda: theirs.get("a") == "Sixty-four 六十四", "the answer")
    assert theirs.get("b") == theirs.get("long") == ""
    mine.close(5.0)
    store.close()
    assert mine.get("a") == ""


def test_phrases_are_bounded_together(server: RedisServer, store: SharedStore, other: SharedStore) -> None:
    clock = FakeClock()
    mine, theirs = SharedSpeech(store, 1_000, clock=clock), SharedSpeech(other, 1_000, clock=clock)
    frames = (bytes(100), b"", bytes(150))
    assert mine.put(frames, "voice", "opus", 24_000, "hello")
    assert theirs.get("voice", "opus", 24_000, "hello") == frames
    assert theirs.get("voice", "opus", 16_000, "hello") is None
    assert not mine.put((bytes(2_000),), "voice", "too large") and not mine.put((), "voice", "nothing")

    for number in range(10):
        clock.advance(1)
        mine.put((bytes(250),), "voice", number)
        mine.put((bytes(250),), "voice", number)  # again: counted once

    kept = [number for number in range(10) if theirs.get("voice", number) is not None]
    assert kept == [7, 8, 9] and theirs.get("voice", "opus", 24_000, "hello") is None
    with server.client() as client:
        assert (
            int(
                client.hget("xiaozhi:1:sizes:{speech}:sizes", "total")
                or client.hget(client.keys("*sizes*")[0], "total")
            )
            <= 1_000
        )
        assert len(client.keys("*phrase*")) == 3


def test_what_is_no_sound_is_passed_over(server: RedisServer, store: SharedStore) -> None:
    speech = SharedSpeech(store)
    speech.put((b"abc",), "voice")
    with server.client() as client:
        [name] = client.keys("*phrase*")
        client.set(name, b"\xff\xffgarbage")
    assert speech.get("voice") is None


def test_counts_hold_at_all_servers_and_alone(server: RedisServer, store: SharedStore, other: SharedStore) -> None:
    clock = FakeClock()
    mine, theirs = (
        Rates(SharedCounts(store, clock=clock), clock=clock),
        Rates(SharedCounts(other, clock=clock), clock=clock),
    )
    for rates in (mine, theirs, mine):
        rates.ask(3, "OTA", "anna")
    with pytest.raises(TooOften) as refusal:
        theirs.ask(3, "OTA", "anna")
    assert 50 < refusal.value.retry_after <= 60
    theirs.ask(3, "OTA", "bert")

    server.kill()
    wait_for(lambda: not store.available, "the loss")
    mine.ask(3, "OTA", "anna")  # it knows of two of its own
    with pytest.raises(TooOften):
        mine.ask(3, "OTA", "anna")


def test_counts_are_forgotten_everywhere(store: SharedStore, other: SharedStore) -> None:
    mine, theirs = Rates(SharedCounts(store)), Rates(SharedCounts(other))
    limit = RateLimitItemPerMinute(1)
    mine.count(limit, "anna")
    assert theirs.wait(limit, "anna") > 0
    mine.forget(limit, "anna")
    assert theirs.wait(limit, "anna") == mine.wait(limit, "anna") == 0
