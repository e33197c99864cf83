"""Where each device is connected, over all servers that share a store: who comes to one leaves the other at once, and
what is meant for a device finds it.

The database knows it, too, for the workers that share one (`presence.py`), some tenths of a second later. Here each
arrival is a claim that gets a number, the fence, which only rises. A worker keeps its claims by a sign of life every
BEAT_S; one that has given none for LEASE_S is not looked for any more. When it comes back it claims anew what it holds,
and whatever has been claimed with a higher number meanwhile it has lost: that connection is closed.

Standing connections (`standing.py`) are known besides, so that messages find a device that idles; nobody is closed for
them.

Conversations are never in its way: claims are written behind, and while the store is away each server serves whom it
has."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import gevent
import orjson
from gevent import Greenlet
from gevent.event import Event

from xiaozhi.errors import StorageError
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger
from xiaozhi.storage.message_bus import Body, MessageBus
from xiaozhi.storage.shared_store import WRITE_S, SharedStore, key
from xiaozhi.storage.write_behind import WriteBehind

if TYPE_CHECKING:
    from redis import Redis

log = get_logger(__name__)

T = TypeVar("T")

BEAT_S: Final = 5.0
LEASE_S: Final = 15.0
GATHER_S: Final = 0.02
KEPT_S: Final = 86_400
"""How long a claim is remembered that nobody has renewed; all are renewed every RENEW_S."""
RENEW_S: Final = 3_600.0
HAND_IN_S: Final = 1.0
"""How long a worker that is asked for a device waits for its visit to end."""
CHUNK: Final = 200
"""Claims that are renewed in one question."""
SLACK_MS: Final = 1_000
"""Of two devices that came so close together, the one that was claimed later counts: a claim may have been on its way
for a while."""

# KEYS: the claim, the fence. ARGV: worker, visit, ms since the device has come, seconds, our fence (0: not claimed),
# ms that two times may differ and mean nothing. Times are those of the store, as clocks of servers differ. Answers the
# fence, 0 when somebody has it who came later, and who has had it so far. The time decides where the fence cannot: a
# store that has lost what it held begins to count anew.
_CLAIM: Final = """
local time = redis.call('TIME')
local at, mine = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[3], tonumber(ARGV[5])
local before = redis.call('HMGET', KEYS[1], 'worker', 'visit', 'at', 'fence')
local other = before[2] and before[2] ~= ARGV[2]
local other_at, other_fence = tonumber(before[3] or '0') or 0, tonumber(before[4] or '0') or 0
if other and (other_at > at + ARGV[6] or mine > 0 and other_fence > mine) then
  return {0, before[1] or '', before[2]}
end
local fence = tonumber(redis.call('GET', KEYS[2]) or '0')
if fence < mine then fence = mine end
if other or mine == 0 then fence = fence + 1 end
redis.call('SET', KEYS[2], fence, 'EX', ARGV[4])
redis.call('HSET', KEYS[1], 'worker', ARGV[1], 'visit', ARGV[2], 'fence', fence, 'at', string.format('%.0f', at))
redis.call('EXPIRE', KEYS[1], ARGV[4])
return {fence, before[1] or '', before[2] or ''}
"""
# KEYS: the claim. ARGV: visit.
_RELEASE: Final = """
if redis.call('HGET', KEYS[1], 'visit') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
# KEYS: the standing connection. ARGV: worker.
_END: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker says of itself."""

    worker: str
    machine: str
    websocket: str
    """The address that leads to it and to no other, "" when it is not known."""
    devices: int
    standing: int = 0
    """Devices with a standing connection (MQTT)."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A visit that this worker serves. `arrived_at` on its clock; `fence` 0: not claimed yet."""

    device: str
    arrived_at: float
    fence: int = 0

    def age_ms(self, now: float) -> int:
        return max(0, round((now - self.arrived_at) * 1000))


class Whereabouts:
    """`start`; `joined` and `left` for each connection, `stands` for the standing ones; `find` and `tell` from any
    greenlet; `close`.

    `on_lost`: (visit) its device is somewhere else now; may not wait. `on_handed_in`: what was said with it is to be
    shared now; may block for a moment. `on_taken_over`: (device) another worker had it and has handed in what was said;
    may block for a moment. `facts`: this worker's."""

    def __init__(
        self,
        store: SharedStore,
        bus: MessageBus,
        *,
        on_lost: Callable[[str], None],
        on_handed_in: Callable[[], object] = lambda: None,
        on_taken_over: Callable[[str], object] = lambda device: None,
        facts: Callable[[], WorkerFacts],
        clock: Callable[[], float] = time.monotonic,
        beat_s: float = BEAT_S,
    ) -> None:
        self.lost = 0
        """Connections that were closed because another worker had claimed their device."""
        self.workers: dict[str, WorkerFacts] = {}
        """All that have given a sign lately, this one included, as of its last sign."""
        self.load: dict[str, int] = {}
        """Devices by WebSocket address, of those whose address leads to them alone."""
        self._store = store
        self._bus = bus
        self._on_lost = on_lost
        self._on_handed_in = on_handed_in
        self._on_taken_over = on_taken_over
        self._facts = facts
        self._clock = clock
        self._beat_s = beat_s
        self._held: dict[str, _Held] = {}
        self._claims: WriteBehind[str, bool] = WriteBehind(
            "claims", store, self._write, on_written=self._claimed, gather=GATHER_S
        )
        self._leaving: dict[str, Event] = {}
        """Set when the visit has ended."""
        self._devices_of: dict[str, str] = {}
        """Device by visit, of those that have ended and are not released yet."""
        self._standing: set[str] = set()
        """Devices with a standing connection to this worker."""
        self._stands: WriteBehind[str, bool] = WriteBehind(
            "standing connections", store, self._write_standing, gather=GATHER_S
        )
        self._renewed_at = clock()
        self._greenlet: Greenlet | None = None
        self._beat = 0.0
        bus.handle("moved", self._moved)
        store.on_back += [self._claims.flush, self._stands.flush, self.renew]
        bus.on_listening.append(self._renew_soon)

    def start(self) -> None:
        """Give signs of life and write claims. Does not block."""
        self._claims.start()
        self._stands.start()
        self.revive()

    @property
    def beat(self) -> float:
        """When the last round began, monotonic seconds."""
        return self._beat

    def revive(self) -> None:
        """Have somebody give signs, in the place of one that has failed or hangs."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
        self._beat = time.monotonic()
        self._greenlet = tasks.spawn("whereabouts", self._work)

    def close(self, seconds: float) -> None:
        """Release what is left, within about `seconds`, and be gone. Idempotent."""
        if self._greenlet is None:
            return
        tasks.end(self._greenlet)
        self._greenlet = None
        self._claims.close(seconds)
        self._stands.close(seconds)
        try:
            self._store.ask(self._forget_worker)
        except StorageError as error:
            log.debug("this worker is listed until its lease has ended", reason=str(error))

    # --- connections of this process ----------------------------------------------------------------------------------

    def joined(self, visit: str, device: str) -> None:
        """A connection has begun: claim its device. Does not block."""
        self._held[visit] = _Held(device, self._clock())
        self._claims.put(visit, True)

    def left(self, visit: str) -> None:
        """It has ended. Does not block."""
        held = self._held.pop(visit, None)
        if visit in self._leaving:
            self._leaving[visit].set()
        if held is not None:
            self._devices_of[visit] = held.device
            if not self._claims.put(visit, False):
                del self._devices_of[visit]

    def stands(self, device: str, there: bool) -> None:
        """A standing connection has begun or ended. Does not block."""
        (self._standing.add if there else self._standing.discard)(device)
        self._stands.put(device, there)

    def renew(self) -> None:
        """Claim anew what this worker holds, and part with what it has lost. Raises StorageError."""
        held = [visit for visit, one in self._held.items() if one.fence]
        for start in range(0, len(held), CHUNK):
            visits = dict.fromkeys(held[start : start + CHUNK], True)
            self._claimed(visits, self._in_background(lambda store: self._write(store, visits)))  # noqa: B023
        standing = list(self._standing)
        for start in range(0, len(standing), CHUNK):
            there = dict.fromkeys(standing[start : start + CHUNK], True)
            self._in_background(lambda store: self._write_standing(store, there))  # noqa: B023
        self._renewed_at = self._clock()

    # --- everybody's --------------------------------------------------------------------------------------------------

    def find(self, device: str) -> str:
        """The worker that a device is connected to; "" when none is known, or it has given no sign lately. Raises
        StorageError."""
        return self._store.ask(lambda store: _alive(store, store.hget(_claim(device), "worker")))

    def find_standing(self, device: str) -> str:
        """The worker that has its standing connection, likewise."""
        return self._store.ask(lambda store: _alive(store, store.get(_standing(device))))

    def tell(self, device: str, action: str) -> None:
        """Have the workers that a device is connected to, in a conversation or with a standing connection, do
        something, if they are others; those that cannot be told are not."""
        for find in (self.find, self.find_standing):
            try:
                worker = find(device)
                if worker and worker != self._bus.name:
                    self._bus.call(worker, action, {"device": device})
            except StorageError as error:
                log.debug("the worker of a device was not told", action=action, reason=str(error))

    def _work(self) -> None:
        while True:
            self._beat = time.monotonic()
            try:
                self._give_sign()
                if self._clock() - self._renewed_at >= RENEW_S:
                    self.renew()
            except StorageError as error:
                log.debug("no sign of life given", reason=str(error))
            gevent.sleep(self._beat_s)

    def _in_background(self, question: Callable[[Redis], T]) -> T:
        """Nobody waits for it: that it takes long says nothing yet about the store."""
        return self._store.run(question, deadline=WRITE_S)

    def _renew_soon(self) -> None:
        """What other workers have said meanwhile has not been heard."""
        if self._held or self._standing:
            tasks.spawn("renew-claims", self._renew_quietly)

    def _renew_quietly(self) -> None:
        try:
            self.renew()
        except StorageError as error:
            log.debug("claims are renewed when the store is back", reason=str(error))

    def _give_sign(self) -> None:
        facts = replace(self._facts(), standing=len(self._standing))
        said = {name: value for name, value in asdict(facts).items() if name != "worker"}

        def tell(store: Redis) -> list[Any]:
            with store.pipeline(transaction=False) as pipeline:
                pipeline.set(_worker(facts.worker), orjson.dumps(said), px=int(LEASE_S * 1000))
                pipeline.sadd(_WORKERS, facts.worker)
                pipeline.expire(_WORKERS, KEPT_S)
                pipeline.smembers(_WORKERS)
                return list(pipeline.execute())

        names = sorted(name.decode() for name in self._in_background(tell)[-1])
        told = self._in_background(lambda store: _read_all(store, [_worker(name) for name in names]))
        read = {name: _facts_of(name, data) for name, data in zip(names, told, strict=True) if data}
        alive = {name: facts for name, facts in read.items() if facts is not None}
        if gone := [name for name in names if name not in read]:
            self._in_background(lambda store: store.srem(_WORKERS, *gone))
        self.workers = alive
        self.load = {}
        for one in alive.values():
            if one.websocket:
                self.load[one.websocket] = self.load.get(one.websocket, 0) + one.devices

    def _forget_worker(self, store: Redis) -> None:
        name = self._facts().worker
        store.delete(_worker(name))
        store.srem(_WORKERS, name)

    def _write(self, store: Redis, batch: Mapping[str, bool]) -> list[Any]:
        worker, now = self._facts().worker, self._clock()
        with store.pipeline(transaction=False) as pipeline:
            for visit, there in batch.items():
                held = self._held.get(visit)
                if there and held is not None:
                    keys = _claim(held.device), _fence(held.device)
                    age_ms = held.age_ms(now)
                    pipeline.eval(_CLAIM, 2, *keys, worker, visit, age_ms, KEPT_S, held.fence, SLACK_MS)
                else:
                    pipeline.eval(_RELEASE, 1, _claim(self._devices_of.get(visit, "")), visit)
            return list(pipeline.execute())

    def _claimed(self, batch: Mapping[str, bool], answers: list[Any]) -> None:
        for (visit, _), answer in zip(batch.items(), answers, strict=True):
            held = self._held.get(visit)
            if held is None:
                self._devices_of.pop(visit, None)
            if not isinstance(answer, list) or held is None:
                continue
            fence, worker, before = int(answer[0]), answer[1].decode(), answer[2].decode()
            if not fence:
                self._lose(visit, held.device)
                continue
            self._held[visit] = _Held(held.device, held.arrived_at, fence)
            if before and before != visit and worker != self._bus.name:
                tasks.spawn("tell-moved", self._tell_moved, worker, before, fence, held.device)

    def _write_standing(self, store: Redis, batch: Mapping[str, bool]) -> None:
        worker = self._facts().worker
        with store.pipeline(transaction=False) as pipeline:
            for device, there in batch.items():
                if there:
                    pipeline.set(_standing(device), worker, ex=KEPT_S)
                else:
                    pipeline.eval(_END, 1, _standing(device), worker)
            pipeline.execute()

    def _tell_moved(self, worker: str, visit: str, fence: int, device: str) -> None:
        try:
            self._bus.call(worker, "moved", {"visit": visit, "fence": fence})
        except StorageError as error:
            # It is gone, or learns it when it comes back.
            log.debug("a device has left another worker, which was not told", reason=str(error))
        else:
            self._on_taken_over(device)

    def _moved(self, sender: str, body: Body) -> Body:
        """Answers when what was said has been shared, or after HAND_IN_S."""
        visit = str(body.get("visit", ""))
        held = self._held.get(visit)
        if held is not None and int(body.get("fence", 0)) > held.fence:
            ended = self._leaving.setdefault(visit, Event())  # two may ask: it has moved on already
            try:
                self._lose(visit, held.device)
                ended.wait(timeout=HAND_IN_S)
            finally:
                self._leaving.pop(visit, None)
            self._on_handed_in()
        return {}

    def _lose(self, visit: str, device: str) -> None:
        self.lost += 1
        log.info("a device is connected elsewhere now", device=device)
        self._on_lost(visit)


def this_machine() -> str:
    """Its name."""
    return socket.gethostname()


def _facts_of(worker: str, data: bytes) -> WorkerFacts | None:
    """What another release says besides is passed over; None: it says nothing that can be read."""
    try:
        said = orjson.loads(data)
        return WorkerFacts(
            worker,
            str(said.get("machine", "")),
            str(said.get("websocket", "")),
            int(said.get("devices", 0)),
            int(said.get("standing", 0)),
        )
    except (ValueError, TypeError, AttributeError):
        return None


def _alive(store: Redis, worker: object) -> str:
    """Its name, "" when it has given no sign lately."""
    name = worker.decode() if isinstance(worker, bytes) else ""
    return name if name and store.exists(_worker(name)) else ""


def _read_all(store: Redis, names: Sequence[str]) -> list[Any]:
    # Not MGET: a cluster has them on several nodes.
    with store.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.get(name)
        return list(pipeline.execute())


_WORKERS: Final = key("workers")


def _worker(name: str) -> str:
    return key("worker", name)


def _claim(device: str) -> str:
    return key("claim", device)


def _fence(device: str) -> str:
    return key("fence", device)


def _standing(device: str) -> str:
    return key("standing", device)
