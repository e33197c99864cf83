"""Messages for devices, over several workers and one database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.waiting import wait_for
from xiaozhi.devices.delivery import NOT_CONNECTED, Reach, Way
from xiaozhi.devices.message_queue import MessageQueue, Progress
from xiaozhi.devices.messages import DeviceMessage, MessageKind, MessageState
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.devices.presence import Presence
from xiaozhi.storage.database import Database

ANNA, BEN = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
SPOKEN = Progress(MessageState.SPOKEN)


class FakeWays:
    """Devices that a worker reaches, and what becomes of messages there."""

    def __init__(self) -> None:
        self.reached: dict[str, Reach] = {}
        self.quiet: float | None = None
        self.progress: list[Progress | Exception] = []
        self.delivered: list[tuple[str, Way, str, bool]] = []
        self.stuck = False

    def reach(self, device: str) -> Reach:
        return self.reached.get(device, Reach())

    def quiet_until(self, device: str, now: float) -> float | None:
        return self.quiet

    def deliver(self, message: DeviceMessage, way: Way, text: str, *, at_once: bool) -> Iterator[Progress]:
        self.delivered.append((message.device, way, text, at_once))
        while self.stuck:
            yield Progress(MessageState.SPEAKING)
            wait_for(lambda: not self.stuck, "the message to go on")
        made = self.progress.pop(0) if self.progress else SPOKEN
        if isinstance(made, Exception):
            raise made
        yield made

    @property
    def texts(self) -> list[str]:
        return [text for _, _, text, _ in self.delivered]


class Worker:
    """One process's part of it."""

    def __init__(self, database: Database, clock: FakeClock) -> None:
        self.ways = FakeWays()
        self.notes = DeviceNotes(database, clock=clock)
        self.presence = Presence(database, self.notes, clock=clock)
        self.settled: list[tuple[str, str]] = []
        self.queue = MessageQueue(
            database,
            self.ways,
            worker=self.presence.worker,
            on_settled=lambda kind, state: self.settled.append((kind, state)),
            clock=clock,
        )
        self.presence.lookout = self.queue
        self.presence.start(FakeConnections())  # type: ignore[arg-type]

    def has(self, device: str, *, standing: bool = False) -> None:
        self.ways.reached[device] = Reach(not standing, standing)
        if standing:
            self.presence.stands(device, True)
            assert self.notes.flush()
        self.queue.comes(device, conversation=not standing)

    def close(self) -> None:
        self.queue.close(5)
        self.presence.close(5)


class FakeConnections:
    per_device = 1

    def __len__(self) -> int:
        return 0


@pytest.fixture
def clock() -> FakeClock:
    made = FakeClock()
    made.advance(1_000_000)
    return made


@pytest.fixture
def workers(database: Database, clock: FakeClock) -> Iterator[tuple[Worker, Worker]]:
    made = Worker(database, clock), Worker(database, clock)
    yield made
    for worker in made:
        worker.close()


def message(clock: FakeClock, text: str = "Dinner is ready.", device: str = ANNA, **changes: Any) -> DeviceMessage:
    fields: dict[str, Any] = {"kind": MessageKind.SAY, "due_at": clock(), "expires_at": clock() + 600, **changes}
    return DeviceMessage(device=device, text=text, **fields)


def state(worker: Worker, id: str) -> str:
    kept = worker.queue.of(id)
    assert kept is not None
    return kept.state


def test_said_where_the_device_is(workers: tuple[Worker, Worker], clock: FakeClock) -> None:
    here, there = workers
    here.ways.reached[ANNA] = Reach(conversation=True)

    result = here.queue.send(message(clock), wait_s=5)

    assert (result.state, result.settled) == (MessageState.SPOKEN, True)
    assert here.ways.delivered == [(ANNA, Way.SPEAK, "Dinner is ready.", False)]
    assert here.settled == [("say", "spoken")] and there.settled == []


def test_another_worker_has_the_device(workers: tuple[Worker, Worker], clock: FakeClock) -> None:
    here, there = workers
    there.has(ANNA, standing=True)

    result = here.queue.send(message(clock))
    assert (result.state, result.reason) == (MessageState.WAITING, "")
    there.presence.look()

    wait_for(lambda: state(here, result.id) == "spoken", "the other worker to deliver it")
    assert there.ways.texts == ["Dinner is ready."] and here.ways.texts == []


def test_waits_for_a_device_that_is_away_and_says_that_it_is_late(
    workers: tuple[Worker, Worker], clock: FakeClock
) -> None:
    here, _ = workers
    result = here.queue.send(message(clock, late_text="Dinner was ready a while ago."))
    assert (result.state, result.reason) == (MessageState.WAITING, NOT_CONNECTED)

    clock.advance(120)
    here.ways.reached[ANNA] = Reach(conversation=True)
    here.queue.comes(ANNA, conversation=False)

    wait_for(lambda: state(here, result.id) == "spoken", "it to be said")
    assert here.ways.texts == ["Dinner was ready a while ago."]
