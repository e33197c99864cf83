"""Where each device is connected, over all servers that share a store: who comes to one leaves the other at once, and
what is meant for a device finds it.

The database knows it, too, for the workers that share one (`presence.py`), some tenths of a second later. Here each
arrival is a claim that gets a number, the fence, which only rises. A worker keeps its claims by a sign of life every
BEAT_S; one that has given none for LEASE_S is not looked for any more. When it comes back it claims anew what it holds,
and whatever has been claimed with a higher number meanwhile it has lost: that connection is closed.

Conversations are never in its way: claims are written behind, and while the store is away each server serves whom it
has."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import gevent
import orjson
from gevent import Greenlet
from gevent.event import Event

from xiaozhi.errors import StorageError
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger
from xiaozhi.storage.message_bus import Body, MessageBus
from xiaozhi.storage.shared_store import SharedStore, key
from xiaozhi.storage.write_behind import WriteBehind

if TYPE_CHECKING:
    from redis import Redis

log = get_logger(__name__)

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

# KEYS: the claim, the fence. ARGV: worker, visit, ms since the device has come, seconds. Times are those of the store,
# as clocks of servers differ. Fence 0: somebody has claimed it who came later.
_CLAIM: Final = """
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[3]
local before = redis.call('HMGET', KEYS[1], 'worker', 'visit', 'at')
if before[2] and before[2] ~= ARGV[2] and before[1] ~= ARGV[1] and tonumber(before[3]) > at then
  return {0, before[1], before[2]}
end
local fence = redis.call('INCR', KEYS[2])
redis.call('EXPIRE', KEYS[2], ARGV[4])
redis.call('HSET', KEYS[1], 'worker', ARGV[1], 'visit', ARGV[2], 'fence', fence, 'at', string.format('%.0f', at))
redis.call('EXPIRE', KEYS[1], ARGV[4])
return {fence, before[1] or '', before[2] or ''}
"""
# KEYS: the claim. ARGV: visit.
_RELEASE: Final = """
if redis.call('HGET', KEYS[1], 'visit') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
# KEYS: the claim, the fence. ARGV: worker, visit, ms since the device has come, seconds, our fence. 0: somebody else
# has it with a higher one.
_RENEW: Final = """
local fence, mine = tonumber(redis.call('HGET', KEYS[1], 'fence') or '0'), tonumber(ARGV[5])
if fence > mine or (fence == mine and redis.call('HGET', KEYS[1], 'visit') ~= ARGV[2]) then return 0 end
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[3]
redis.call('HSET', KEYS[1], 'worker', ARGV[1], 'visit', ARGV[2], 'fence', mine, 'at', string.format('%.0f', at))
redis.call('EXPIRE', KEYS[1], ARGV[4])
if tonumber(redis.call('GET', KEYS[2]) or '0') < mine then redis.call('SET', KEYS[2], mine) end
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 1
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
    """`start`; `joined` and `left` for each connection; `find` from any greenlet; `close`.

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
        self._renewed_at = clock()
        self._greenlet: Greenlet | None = None
        self._beat = 0.0
        bus.handle("moved", self._moved)
        store.on_back += [self._claims.flush, self.renew]

    def start(self) -> None:
        """Give signs of life and write claims. Does not block."""
        self._claims.start()
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

    def renew(self) -> None:
        """Claim anew what this worker holds, and part with what it has lost. Raises StorageError."""
        held = [(visit, one) for visit, one in self._held.items() if one.fence]
        for start in range(0, len(held), CHUNK):
            chunk = held[start : start + CHUNK]
            for (visit, one), kept in zip(chunk, self._store.ask(lambda store: self._renew(store, chunk)), strict=True):  # noqa: B023
                if not kept and self._held.get(visit) is one:
                    self._lose(visit, one.device)
        self._renewed_at = self._clock()

    # --- everybody's --------------------------------------------------------------------------------------------------

    def find(self, device: str) -> str:
        """The worker that a device is connected to; "" when none is known, or it has given no sign lately. Raises
        StorageError."""

        def ask(store: Redis) -> str:
            worker = store.hget(_claim(device), "worker")
            name = worker.decode() if isinstance(worker, bytes) else ""
            return name if name and store.exists(_worker(name)) else ""

        return self._store.ask(ask)

    def tell(self, device: str, action: str) -> None:
        """Have the worker that a device is connected to do something, if it is another one; when that cannot be said,
        nothing is."""
        try:
            worker = self.find(device)
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

    def _give_sign(self) -> None:
        facts = self._facts()
        said = {name: value for name, value in asdict(facts).items() if name != "worker"}

        def tell(store: Redis) -> list[Any]:
            with store.pipeline(transaction=False) as pipeline:
                pipeline.set(_worker(facts.worker), orjson.dumps(said), px=int(LEASE_S * 1000))
                pipeline.sadd(_WORKERS, facts.worker)
                pipeline.expire(_WORKERS, KEPT_S)
                pipeline.smembers(_WORKERS)
                return list(pipeline.execute())

        names = sorted(name.decode() for name in self._store.ask(tell)[-1])
        told = self._store.ask(lambda store: _read_all(store, [_worker(name) for name in names]))
        alive = {name: _facts_of(name, data) for name, data in zip(names, told, strict=True) if data}
        if gone := [name for name in names if name not in alive]:
            self._store.ask(lambda store: store.srem(_WORKERS, *gone))
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
                    pipeline.eval(_CLAIM, 2, *keys, worker, visit, held.age_ms(now), KEPT_S)
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
            ended = self._leaving[visit] = Event()
            try:
                self._lose(visit, held.device)
                ended.wait(timeout=HAND_IN_S)
            finally:
                del self._leaving[visit]
            self._on_handed_in()
        return {}

    def _lose(self, visit: str, device: str) -> None:
        self.lost += 1
        log.info("a device is connected elsewhere now", device=device)
        self._on_lost(visit)

    def _renew(self, store: Redis, chunk: list[tuple[str, _Held]]) -> list[Any]:
        worker, now = self._facts().worker, self._clock()
        with store.pipeline(transaction=False) as pipeline:
            for visit, one in chunk:
                keys = _claim(one.device), _fence(one.device)
                pipeline.eval(_RENEW, 2, *keys, worker, visit, one.age_ms(now), KEPT_S, one.fence)
            return list(pipeline.execute())


def this_machine() -> str:
    """Its name."""
    return socket.gethostname()


def _facts_of(worker: str, data: bytes) -> WorkerFacts:
    """What another release tells besides is passed over."""
    said = orjson.loads(data)
    return WorkerFacts(
        worker,
        str(said.get("machine", "")),
        str(said.get("websocket", "")),
        int(said.get("devices", 0)),
        int(said.get("standing", 0)),
    )


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
