"""What several servers share through one Redis (`server.redis`), in one piece: made of settings, opened and closed with
the server. Where no Redis is named there is no such object, and everything is of this machine.

Part of the composition root. What each of the parts does stands in `storage/` and `devices/whereabouts.py`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Final

from xiaozhi.devices.whereabouts import Whereabouts, WorkerFacts, this_machine
from xiaozhi.errors import StorageError
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.runtime.watchdog import Watchdog
from xiaozhi.session.turns.answer_cache import KEPT_S
from xiaozhi.settings import Settings
from xiaozhi.settings.redis_address import read_address
from xiaozhi.storage.message_bus import Body, MessageBus
from xiaozhi.storage.shared_counts import SharedCounts
from xiaozhi.storage.shared_store import SharedStore, key
from xiaozhi.storage.shared_values import SharedAnswers, SharedDialogues, SharedSpeech

if TYPE_CHECKING:
    from redis import Redis

log = get_logger(__name__)

PULSE_S: Final = 30.0
"""A loop that has not run for so long is replaced."""
TOLD_S: Final = 86_400
"""How long it is known that all were told something."""
AWAY: Final = (
    "the shared store cannot be reached ({reason}): devices are served, but what was said at other servers is not "
    "known here, and limits count for each server alone"
)


class SharedState:
    """`join` the connections, `start`, `close`. Raises ValueError for an address that cannot be used."""

    def __init__(self, settings: Settings) -> None:
        self.worker = secrets.token_hex(8)
        """The name of this process among all."""
        self.store = SharedStore(read_address(settings.server.redis.get_secret_value()))
        self.bus = MessageBus(self.store, self.worker)
        self.dialogues = SharedDialogues(self.store, settings.conversation.resume_seconds)
        self.answers = SharedAnswers(self.store, KEPT_S)
        self.speech = SharedSpeech(self.store)
        self.counts = SharedCounts(self.store)
        self.whereabouts: Whereabouts | None = None
        self._orders: Mapping[str, Callable[[], object]] = {}
        self._known: dict[str, int] = {}
        """How often all were told of each action, as far as is known here."""
        self._untold: set[str] = set()
        """What could not be told to the others yet."""

    def join(
        self,
        *,
        on_lost: Callable[[str], None],
        on_taken_over: Callable[[str], None],
        devices: Callable[[], int],
        websocket: str,
    ) -> Whereabouts:
        """Where the connections of this process are made known. `on_lost`, `on_taken_over`: see Whereabouts; `devices`:
        how many there are; `websocket`: the address that leads here, and nowhere else."""
        self.whereabouts = Whereabouts(
            self.store,
            self.bus,
            on_lost=on_lost,
            on_handed_in=self.dialogues.flush,
            on_taken_over=on_taken_over,
            facts=lambda: WorkerFacts(self.worker, this_machine(), websocket, devices()),
        )
        return self.whereabouts

    def start(self, watchdog: Watchdog, orders: Mapping[str, Callable[[], object]]) -> None:
        """Reach the others. `orders`: what to do, without waiting, when another server tells all to. Blocks for a
        moment."""
        self._orders = orders
        for action in orders:
            self.bus.handle(action, partial(self._told, action=action))
        self.store.on_back += [self._tell_untold, self._catch_up]
        self.bus.on_listening.append(lambda: tasks.spawn("orders", self._catch_up))
        self.store.start()
        self.bus.start()
        self.dialogues.start()
        self.answers.start()
        watchdog.expect("shared store", lambda: self.store.beat, PULSE_S, self.store.revive)
        watchdog.expect("message bus", lambda: self.bus.beat, PULSE_S, self.bus.revive)
        if self.whereabouts is not None:
            whereabouts = self.whereabouts
            whereabouts.start()
            watchdog.expect("whereabouts", lambda: whereabouts.beat, PULSE_S, whereabouts.revive)

    def tell_all(self, action: str) -> None:
        """Have every other server do something, see `start`; one that cannot be told now is told later."""
        self._untold.add(action)
        try:
            self._tell_untold()
        except StorageError as error:
            log.warning("other servers are told when the shared store is back", action=action, reason=str(error))

    def _tell_untold(self) -> None:
        for action in sorted(self._untold):
            number = self._known[action] = self.store.ask(lambda store: _count(store, action))  # noqa: B023
            self.bus.tell_all(action, {"number": number})
            self._untold.discard(action)

    def _told(self, sender: str, body: Body, action: str) -> Body:
        log.info("another server says", action=action)
        if isinstance(number := body.get("number"), int):
            self._known[action] = number
        self._orders[action]()
        return {}

    def _catch_up(self) -> None:
        """This worker has not listened for a while, or never: do what the others were told to do meanwhile."""
        for action, function in self._orders.items():
            try:
                number = int(self.store.ask(lambda store: store.get(key("told", action))) or 0)  # noqa: B023
            except StorageError as error:
                log.debug("what others were told is not known", action=action, reason=str(error))
                continue
            if number > self._known.setdefault(action, number):
                log.info("other servers were told meanwhile", action=action)
                function()
            self._known[action] = number

    def servers(self) -> list[dict[str, object]]:
        """All that have given a sign lately, this one included, as of their last sign."""
        known = self.whereabouts.workers if self.whereabouts is not None else {}
        return [asdict(known[name]) | {"this": name == self.worker} for name in sorted(known)]

    def failing(self) -> list[str]:
        """What to tell operators; nothing while all is well."""
        return [] if self.store.available else [AWAY.format(reason=self.store.reason)]

    def watch(self, metrics: Metrics) -> None:
        """Have metrics read what there is to count."""
        store, bus = self.store, self.bus
        metrics.watch("xiaozhi_shared_store_up", "1 while Redis can be reached.", lambda: int(store.available))
        metrics.watch_total("xiaozhi_shared_store_questions", "Questions asked so far.", lambda: store.questions)
        metrics.watch_total(
            "xiaozhi_shared_store_refused", "Questions not asked, as it was away.", lambda: store.refused
        )
        metrics.watch_total("xiaozhi_shared_store_failures", "Times it was found to be away.", lambda: store.failures)
        metrics.watch_total("xiaozhi_bus_messages", "Messages of other servers so far.", lambda: bus.received)
        metrics.watch_total("xiaozhi_bus_dropped", "Of these, those that nobody had time for.", lambda: bus.dropped)
        metrics.watch_total(
            "xiaozhi_devices_lost", "Connections closed because their device went to another server.", self._lost
        )

    def close(self, seconds: float) -> None:
        """Hand in what waits, within about `seconds` for each kind, and be gone. Idempotent."""
        if self.whereabouts is not None:
            self.whereabouts.close(seconds)
        self.dialogues.close(seconds)
        self.answers.close(seconds)
        self.bus.close()
        self.store.close()

    def _lost(self) -> int:
        return self.whereabouts.lost if self.whereabouts is not None else 0


def shared_state(settings: Settings) -> SharedState | None:
    """That of a configuration; None where it names no Redis."""
    return SharedState(settings) if settings.server.redis.get_secret_value().strip() else None


def _count(store: Redis, action: str) -> int:
    """How often all were told, this time included."""
    with store.pipeline(transaction=False) as pipeline:
        pipeline.incr(key("told", action))
        pipeline.expire(key("told", action), TOLD_S)
        return int(pipeline.execute()[0])
