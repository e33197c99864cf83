"""Presence: which worker a device is connected to. A device that connects to another worker is closed here (takeover),
and so is one that an operator has revoked.

Each worker writes connections and disconnections to the database (`notes.py`) and a heartbeat of its own. Every
`POLL_S` seconds it reads three things: which of its devices have connected to another worker, what operators have
decided, and which orders other workers behind the same address have got. These are small queries, whatever the number
of devices. Not who may connect (`enrolment.py`), and not the connections of this process (`runtime/connections.py`)."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gevent
from gevent import Greenlet

from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.errors import Overloaded, StorageError
from xiaozhi.protocol import close_codes
from xiaozhi.runtime import tasks
from xiaozhi.runtime.connections import Live
from xiaozhi.runtime.logs import get_logger
from xiaozhi.storage import devices, presences
from xiaozhi.storage.database import Database, Transaction
from xiaozhi.storage.devices import Standing
from xiaozhi.storage.presences import Visit

log = get_logger(__name__)

POLL_S = 0.5
OVERLAP_S = 10.0
"""Each poll reads so far back: clocks differ a little, and a transaction ends later than it began."""
HEARTBEAT_S = 10.0
ALIVE_S = 30.0
"""A worker without a heartbeat for so long is gone."""
DEADLINE_S = 5.0
SETTLING_S = 3.0
"""For so long after a device has connected, polls ask whether the worker that it left has more of its dialogue."""
NOBODY = Standing()


class Lookout(Protocol):
    """Adds a query of its own to each poll."""

    def read(self, connection: Transaction, now: float) -> Any:
        """On the storage thread, in the same transaction: small queries."""

    def told(self, found: Any) -> None:
        """On the hub, with what `read` has found. Does not wait."""


class Connections(Protocol):
    """The connections of this process. The methods do not wait."""

    @property
    def per_device(self) -> int:
        """Connections that a device may have."""

    def __len__(self) -> int:
        """All of them."""

    def replace(self, number: int) -> None:
        """Close one: its device has come again."""

    def of_device(self, device: str) -> Sequence[Live]:
        """Those of one device."""


class VisitListener(Protocol):
    """Who makes visits known to other servers (`whereabouts.py`). None of them waits."""

    def joined(self, visit: str, device: str) -> None:
        """A visit has begun."""

    def left(self, visit: str) -> None:
        """It has ended."""

    def stands(self, device: str, there: bool) -> None:
        """A standing connection has begun, or ended."""


@dataclass(slots=True)
class _Found:
    """What one look has found."""

    standings: dict[str, Standing] = field(default_factory=dict)
    moved: list[Visit] = field(default_factory=list)
    orders: dict[str, str] = field(default_factory=dict)
    dialogues: dict[tuple[str, str], tuple[bytes, float]] = field(default_factory=dict)
    looked: Any = None


class Presence:
    """`start`, then `joined` and `left` for each connection; `close`.

    `worker`: the name of this process among all, "" for one of its own. `websocket`: the address that leads to this
    worker, "" when it is not known: then it shares one with all such workers of this machine. `said_for`: seconds that
    dialogues are kept. `on_dialogue`: told what was said last with a device that has just come (device id, client id,
    snapshot, time). `clock`: seconds since 1970."""

    def __init__(
        self,
        database: Database,
        notes: DeviceNotes,
        *,
        worker: str = "",
        websocket: str = "",
        said_for: float = 0.0,
        on_dialogue: Callable[[str, str, bytes, float], None] = lambda device, client, snapshot, said_at: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.worker = worker or secrets.token_hex(8)
        """The name of this process among those that share the database."""
        self._database = database
        self._notes = notes
        self._websocket = websocket
        self._place = websocket or f"machine {socket.gethostname()}"
        self._said_for = said_for
        self._on_dialogue = on_dialogue
        self._clock = clock
        self._connections: Connections | None = None
        self.elsewhere: VisitListener | None = None
        """Told of each visit, if there is somebody."""
        self._visits: dict[int, Visit] = {}
        self._devices: dict[str, set[int]] = {}
        self._standing_since: dict[str, float] = {}
        self._standings: dict[str, Standing] = {}
        self.lookout: Lookout | None = None
        """Told with each look, if there is one."""
        self._orders: Mapping[str, Callable[[], object]] = {}
        self._orders_seen: frozenset[str] | None = None
        """Names of orders that are done with; None before the first look, whose orders were for somebody before."""
        self._looked_at = 0.0
        self._heartbeat_at = 0.0
        self.load: dict[str, int] = {}
        """Devices connected by WebSocket address, of workers that have given a sign lately."""
        self._failing = False
        self._poller: Greenlet | None = None
        self._beat = 0.0

    def start(self, connections: Connections, orders: Mapping[str, Callable[[], object]] | None = None) -> None:
        """Tell the others, learn whom operators have revoked, and begin to look. `orders`: what to do, without waiting,
        when another worker behind the same address was ordered to (`pass_on`). Blocks for the database; when that
        fails, it is tried again with the next look."""
        self._connections = connections
        self._orders = orders or {}
        self._notes.start()
        self.look()
        self.revive()

    @property
    def beat(self) -> float:
        """When the last look began, monotonic seconds."""
        return self._beat

    def revive(self) -> None:
        """Have somebody look, in the place of one who has failed or hangs."""
        if self._poller is not None:
            self._poller.kill(block=False)
        self._beat = time.monotonic()
        self._poller = tasks.spawn("presence", self._poll)

    def close(self, seconds: float) -> None:
        """This worker serves nobody any more. Blocks for at most about `seconds`. Idempotent."""
        if self._poller is None:
            return
        tasks.end(self._poller)
        self._poller = None
        self._notes.close(seconds)
        try:
            self._database.run(lambda connection: presences.gone(connection, self.worker), deadline=seconds)
        except (StorageError, Overloaded) as error:
            log.info("this worker stays listed until its last sign is old", error=str(error))

    # --- connections of this process ----------------------------------------------------------------------------------

    def joined(self, number: int, device: str) -> None:
        """Connection `number` has begun. Does not block."""
        visit = Visit(f"{self.worker}-{number}", device, self.worker, self._clock())
        self._visits[number] = visit
        self._devices.setdefault(device, set()).add(number)
        self._notes.arrived(visit)
        if self.elsewhere is not None:
            self.elsewhere.joined(visit.visit, device)

    def left(self, number: int) -> None:
        """Connection `number` has ended. Does not block."""
        visit = self._visits.pop(number, None)
        if visit is None:
            return
        here = self._devices[visit.device]
        here.discard(number)
        if not here:
            del self._devices[visit.device]
        self._notes.left(visit.visit)
        if self.elsewhere is not None:
            self.elsewhere.left(visit.visit)

    def lost(self, name: str) -> None:
        """The device of one of these visits is connected to another server now. Does not block."""
        if self._connections is None or self._connections.per_device > 1:
            return
        number = next((number for number, visit in self._visits.items() if visit.visit == name), None)
        if number is not None:
            self._connections.replace(number)

    def stands(self, device: str, there: bool) -> None:
        """Whether a device has a standing connection to this worker (`standing.py`). Does not block."""
        if there:
            self._standing_since[device] = self._clock()
        else:
            self._standing_since.pop(device, None)
        self._notes.stands(device, self.worker, self._standing_since.get(device))
        if self.elsewhere is not None:
            self.elsewhere.stands(device, there)

    def standing(self, device: str) -> Standing:
        """What operators have decided about a device, as of the last look. Does not block."""
        return self._standings.get(device, NOBODY)

    def pass_on(self, action: str) -> None:
        """This worker was ordered to do something that is meant for all behind its address. Blocks for the database;
        what that refuses is logged."""
        name, now = secrets.token_hex(8), self._clock()
        try:
            self._database.run(
                lambda connection: presences.order(connection, name, self.worker, self._place, action, now),
                deadline=DEADLINE_S,
            )
        except (StorageError, Overloaded) as error:
            log.warning("an order reaches this worker only", action=action, error=str(error))

    # --- the others ---------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Look now, and do what follows from it. Blocks for the database."""
        self._beat, now = time.monotonic(), self._clock()
        try:
            if now - self._heartbeat_at >= HEARTBEAT_S:
                self._send_heartbeat(now)
            since = self._looked_at - OVERLAP_S
            found = self._database.read(lambda connection: self._find(connection, since, now), deadline=DEADLINE_S)
        except (StorageError, Overloaded) as error:
            if not self._failing:
                log.warning("other workers and the decisions of operators are not seen", error=str(error))
            self._failing = True
            return
        if self._failing:
            self._say_again()
        self._failing, self._looked_at = False, now
        self._standings |= found.standings
        for device, standing in found.standings.items():
            if standing.revoked and device in self._devices and self._connections is not None:
                for live in self._connections.of_device(device):
                    log.info("connection revoked", device=device)
                    live.close(close_codes.POLICY_VIOLATION, "revoked")
        self._close_moved(found.moved)
        self._obey(found.orders)
        for (device, client), kept in found.dialogues.items():
            self._on_dialogue(device, client, *kept)
        if self.lookout is not None:
            self.lookout.told(found.looked)

    def _say_again(self) -> None:
        """Others may have taken this worker for gone, and have forgotten whom it serves."""
        for visit in self._visits.values():
            self._notes.arrived(visit)
        for device, since in self._standing_since.items():
            self._notes.stands(device, self.worker, since)

    def _obey(self, orders: Mapping[str, str]) -> None:
        seen, self._orders_seen = self._orders_seen, frozenset(orders)
        if seen is None:
            return
        for name, action in orders.items():
            if name not in seen and action in self._orders:
                log.info("another worker was ordered to", action=action)
                self._orders[action]()

    def _poll(self) -> None:
        while True:
            gevent.sleep(POLL_S)
            self.look()

    def _send_heartbeat(self, now: float) -> None:
        count = len(self._connections) if self._connections is not None else 0

        def write(connection: Transaction) -> dict[str, int]:
            presences.heartbeat(connection, self.worker, self._websocket, count, now)
            presences.tidy(connection, now - ALIVE_S, now - self._said_for)
            return presences.load(connection, now - ALIVE_S)

        self.load = self._database.run(write, deadline=DEADLINE_S)
        self._heartbeat_at = now

    def _find(self, connection: Transaction, since: float, now: float) -> _Found:
        """On the storage thread."""
        found = _Found(devices.standings(connection, since))
        if self._orders:
            found.orders = presences.orders(connection, self.worker, self._place)
        # Copied in one step: the hub goes on meanwhile.
        mine, visits = frozenset(self._devices.copy()), list(self._visits.values())
        if mine:
            found.moved = presences.of_devices_that_came_elsewhere(connection, self.worker, mine, since, now - ALIVE_S)
        fresh = {visit.device: visit.arrived_at for visit in visits if visit.arrived_at > now - SETTLING_S}
        if fresh and self._said_for:
            found.dialogues = presences.dialogues_of(connection, fresh, min(fresh.values()))
        if self.lookout is not None:
            found.looked = self.lookout.read(connection, now)
        return found

    def _close_moved(self, visits: list[Visit]) -> None:
        """Of each device the newest visits stay; those of this process beyond them are closed."""
        connections = self._connections
        if connections is None or not visits:
            return
        everywhere: dict[str, dict[str, Visit]] = {}
        for visit in visits:
            everywhere.setdefault(visit.device, {})[visit.visit] = visit
        for device, known in everywhere.items():
            mine = {self._visits[number].visit: number for number in self._devices.get(device, ())}
            # What ended here a moment ago may still stand in the database, and what began may not yet.
            all_of_it = {name: visit for name, visit in known.items() if visit.worker != self.worker}
            all_of_it |= {name: self._visits[number] for name, number in mine.items()}
            newest_first = sorted(all_of_it.values(), key=lambda visit: (visit.arrived_at, visit.visit), reverse=True)
            for visit in newest_first[connections.per_device :]:
                if visit.visit in mine:
                    connections.replace(mine[visit.visit])
