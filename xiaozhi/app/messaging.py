"""Messages for devices, put together: who can be reached here, the queue that all workers share, and what is told of
both.

Part of the composition root: made with the server, started and closed with it."""

from __future__ import annotations

from collections.abc import Callable

from xiaozhi.app.known_devices import KnownDevices
from xiaozhi.app.message_ways import MessageWays
from xiaozhi.devices.message_queue import MessageQueue
from xiaozhi.devices.standing import StandingConnections
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.session.open_sessions import OpenSessions
from xiaozhi.settings import Settings
from xiaozhi.storage.database import Database


class Messaging:
    """`queue` is the `MessageSender`; `sessions` are those of the process; whoever has standing connections to devices
    lets them join `standing`."""

    def __init__(
        self,
        database: Database,
        known: KnownDevices,
        metrics: Metrics,
        *,
        current: Callable[[], Settings],
    ) -> None:
        self._presence = known.presence
        self.sessions = OpenSessions(on_ready=lambda device: self.queue.comes(device, conversation=True))
        self.standing = StandingConnections(on_join=self._joins, on_leave=self._leaves)
        ways = MessageWays(self.sessions, self.standing, known.directory, current=current)
        self.queue = MessageQueue(
            database,
            ways,
            worker=known.presence.worker,
            on_kept=lambda kind: metrics.messages_kept.labels(kind).inc(),
            on_settled=lambda kind, state: metrics.messages.labels(kind, state).inc(),
        )
        known.presence.lookout = self.queue

    def close(self, seconds: float) -> None:
        """Deliver nothing any more. Idempotent."""
        self.queue.close(seconds)

    def _joins(self, device: str) -> None:
        self._presence.stands(device, True)
        self.queue.comes(device, conversation=False)

    def _leaves(self, device: str) -> None:
        self._presence.stands(device, False)
