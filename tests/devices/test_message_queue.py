"""Messages for devices, over several workers and one database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.waiting import wait_for
from xiaozhi.devices.delivery import NOT_CONNECTED, QUIET_HOURS, Reach, Way
from xiaozhi.devices.message_queue import KEPT_S, LEASE_S, MAX_PER_DEVICE, MessageQueue, Progress
from xiaozhi.devices.messages import DeviceMessage, MessageKind, MessageState
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.devices.presence import Presence
from xiaozhi.errors import Overloaded, VendorError
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


def test_a_key_counts_once_for_each_device(workers: tuple[Worker, Worker], clock: FakeClock) -> None:
    here, there = workers
    first = here.queue.send(message(clock, key="dinner"))
    second = there.queue.send(message(clock, "Something else.", key="dinner"))
    other = here.queue.send(message(clock, device=BEN, key="dinner"))
    assert first.id == second.id != other.id

    assert there.queue.cancel(first.id) and not here.queue.cancel(first.id)
    assert here.queue.send(message(clock, key="dinner")).state is MessageState.CANCELLED, "and when it has settled"
    assert there.settled == [("say", "cancelled")]

    clock.advance(KEPT_S + 1)
    here.presence.look()
    wait_for(lambda: here.queue.of(first.id) is None, "it to be forgotten")
    assert here.queue.send(message(clock, key="dinner")).state is MessageState.WAITING


def test_what_nobody_hears_in_time_expires(workers: tuple[Worker, Worker], clock: FakeClock) -> None:
    here, there = workers
    result = here.queue.send(message(clock))
    clock.advance(601)
    there.presence.look()
    wait_for(lambda: state(here, result.id) == "expired", "its end")
    assert here.queue.of(result.id).reason == f"its time is over: {NOT_CONNECTED}"  # type: ignore[union-attr]
    assert there.settled == [("say", "expired")]


def test_a_worker_that_dies_with_a_message_loses_it_to_another(
    workers: tuple[Worker, Worker], clock: FakeClock
) -> None:
    here, there = workers
    here.ways.reached[ANNA] = Reach(conversation=True)
    here.ways.stuck = True
    result = here.queue.send(message(clock))
    wait_for(lambda: state(here, result.id) == "speaking", "the first worker to speak")
    assert not there.queue.cancel(result.id), "somebody is at it"

    # As seen from outside a worker that was killed says nothing more: its lease ends.
    clock.advance(LEASE_S + 1)
    there.ways.reached[ANNA] = Reach(conversation=True)
    there.presence.look()
    wait_for(lambda: state(there, result.id) == "waiting", "the lease to end")
    there.presence.look()
    wait_for(lambda: state(there, result.id) == "spoken", "the other worker to say it")

    here.ways.stuck = False
    wait_for(lambda: here.ways.progress == [], "the first one to go on")
    assert here.settled == [] and there.settled == [("say", "spoken")], "whoever lost it changes nothing"


def test_a_worker_that_stops_hands_over_at_once(workers: tuple[Worker, Worker], clock: FakeClock) -> None:
    here, there = workers
    here.ways.reached[ANNA] = Reach(conversation=True)
    here.ways.stuck = True
    result = here.queue.send(message(clock))
    wait_for(lambda: state(here, result.id) == "speaking", "the first worker to speak")

    here.queue.close(5)

    there.ways.reached[ANNA] = Reach(conversation=True)
    there.presence.look()
    wait_for(lambda: state(there, result.id) == "spoken", "the other worker to say it")


def test_a_restart_loses_nothing(database: Database, clock: FakeClock) -> None:
    before = Worker(database, clock)
    result = before.queue.send(message(clock))
    before.close()

    after = Worker(database, clock)
    after.has(ANNA, standing=True)
    wait_for(lambda: state(after, result.id) == "spoken", "it to be delivered")
    assert after.ways.delivered == [(ANNA, Way.NOTIFY, "Dinner is ready.", False)]
    after.close()


def test_quiet_hours_are_the_reason_and_their_end_is_the_moment(
    workers: tuple[Worker, Worker], clock: FakeClock
) -> None:
    here, _ = workers
    here.ways.reached[ANNA] = Reach(standing=True)
    here.ways.quiet = clock() + 0.3
    waits = here.queue.send(message(clock))
    alarm = here.queue.send(message(clock, "Wake up.", in_quiet_hours=True), wait_s=5)
    assert alarm.state is MessageState.SPOKEN, "what waits for the morning is in nobody's way"
    wait_for(lambda: here.queue.of(waits.id).reason == QUIET_HOURS, "the reason")  # type: ignore[union-attr]

    here.ways.quiet = None
    clock.advance(61)
    here.queue.comes(ANNA, conversation=False)
    wait_for(lambda: state(here, waits.id) == "spoken", "the morning")


def test_what_could_not_be_delivered_waits_and_what_failed_does_not(
    workers: tuple[Worker, Worker], clock: FakeClock
) -> None:
    here, _ = workers
    here.ways.reached[ANNA] = Reach(conversation=True)
    here.ways.progress = [Progress(MessageState.WAITING, "the session is over", again=True), SPOKEN]
    again = here.queue.send(message(clock))
    wait_for(lambda: here.queue.of(again.id).reason == "the session is over", "it to be put back")  # type: ignore[union-attr]
    clock.advance(10)
    here.queue.comes(ANNA, conversation=False)
    wait_for(lambda: state(here, again.id) == "spoken", "the second try")

    here.ways.progress = [VendorError("TTS.Acme", "is down"), ValueError("a fault of ours")]
    vendor = here.queue.send(message(clock), wait_s=5)
    ours = here.queue.send(message(clock), wait_s=5)
    assert vendor.state is ours.state is MessageState.FAILED
    assert "is down" in vendor.reason and "fault of ours" not in ours.reason


def test_the_second_of_two_that_do_not_wait_does_not_cut_the_first_short(
    workers: tuple[Worker, Worker], clock: FakeClock
) -> None:
    here, _ = workers
    here.ways.reached[ANNA] = Reach(conversation=True)
    here.ways.stuck = True
    here.queue.send(message(clock, "First.", interrupts=True))
    wait_for(lambda: len(here.ways.delivered) == 1, "the first")
    here.queue.send(message(clock, "Second.", interrupts=True))
    wait_for(lambda: len(here.ways.delivered) == 2, "the second")
    here.ways.stuck = False
    assert [(text, at_once) for _, _, text, at_once in here.ways.delivered] == [("First.", True), ("Second.", False)]


def test_the_newest_standing_connection_delivers(workers: tuple[Worker, Worker], clock: FakeClock) -> None:
    """The one before may not have noticed yet that its device has gone."""
    here, there = workers
    here.has(ANNA, standing=True)
    clock.advance(1)
    there.has(ANNA, standing=True)

    result = here.queue.send(message(clock))
    there.presence.look()
    wait_for(lambda: state(here, result.id) == "spoken", "the new one")
    assert here.ways.delivered == []


def test_there_is_room_for_so_many(workers: tuple[Worker, Worker], clock: FakeClock) -> None:
    here, _ = workers
    results = here.queue.send_all([message(clock, str(number)) for number in range(MAX_PER_DEVICE + 1)])
    assert [result.state for result in results[-2:]] == [MessageState.WAITING, MessageState.FAILED]
    assert here.queue.send(message(clock, device=BEN)).state is MessageState.WAITING
    with pytest.raises(Overloaded):
        here.queue.send(message(clock))
    assert len(here.queue.page(device=ANNA)) == MAX_PER_DEVICE
    assert len(here.queue.page(limit=5)) == 5


def test_while_no_message_waits_devices_come_for_free(
    workers: tuple[Worker, Worker], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = workers
    here.presence.look()
    asked: list[str] = []
    monkeypatch.setattr(here.ways, "reach", lambda device: asked.append(device) or Reach(conversation=True))
    here.queue.comes(ANNA, conversation=True)
    assert asked == []

    there.queue.send(message(clock))
    here.presence.look()
    wait_for(lambda: here.ways.texts == ["Dinner is ready."], "the look to find it")
