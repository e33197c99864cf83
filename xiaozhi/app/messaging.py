"""Messages for devices, put together: who can be reached here, the queue that all workers share, and what is told of
both.

Part of the composition root: made with the server, started and closed with it."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint

from xiaozhi.app.household import OwnDevices, household_rules
from xiaozhi.app.known_devices import KnownDevices
from xiaozhi.app.listeners import own_host
from xiaozhi.app.message_ways import MessageWays
from xiaozhi.app.notify_sounds import NotifySounds
from xiaozhi.devices.household import Household
from xiaozhi.devices.message_queue import MessageQueue
from xiaozhi.devices.standing import StandingConnections
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.session.agent import AgentSource
from xiaozhi.session.open_sessions import OpenSessions
from xiaozhi.settings import Settings
from xiaozhi.storage.database import Database
from xiaozhi.web import device_sounds, messages
from xiaozhi.web.addresses import ServerAddresses
from xiaozhi.web.admin_access import AdminAccess
from xiaozhi.web.messages import MessageHooks


class Messaging:
    """`queue` is the `MessageSender`; `sessions` are those of the process; whoever has standing connections to devices
    lets them join `standing`."""

    def __init__(
        self,
        database: Database,
        known: KnownDevices,
        metrics: Metrics,
        inference: InferencePool,
        *,
        agents: Callable[[], AgentSource],
        addresses: Callable[[], ServerAddresses],
        current: Callable[[], Settings],
    ) -> None:
        self._presence = known.presence
        self.sessions = OpenSessions(on_ready=lambda device: self.queue.comes(device, conversation=True))
        self.standing = StandingConnections(on_join=self._joins, on_leave=self._leaves)
        self.sounds = NotifySounds(
            database,
            known,
            inference,
            agents=agents,
            address=lambda standing, name: addresses().sound_for(standing.origin, own_host(current()), name),
            current=current,
        )
        ways = MessageWays(self.sessions, self.standing, known.directory, play=self.sounds.play, current=current)
        self.queue = MessageQueue(
            database,
            ways,
            worker=known.presence.worker,
            on_kept=lambda kind: metrics.messages_kept.labels(kind).inc(),
            on_away=known.nudge,
            on_settled=lambda kind, state: metrics.messages.labels(kind, state).inc(),
        )
        known.presence.lookout = self.queue
        self.household = Household(database, lambda: household_rules(current()))
        self.others = OwnDevices(self.household, self.queue, self.sessions, current=current)
        self._directory = known.directory

    def blueprints(self, access: AdminAccess) -> list[Blueprint]:
        """The routes for operators, and those that idle devices fetch sounds from."""
        hooks = MessageHooks(
            self.queue,
            self._directory,
            self.household.groups,
            lambda: [member.device for member in self.household.members()],
        )
        return [messages.create_blueprint(hooks, access), device_sounds.create_blueprint(self.sounds.fetch)]

    def close(self, seconds: float) -> None:
        """Deliver nothing any more. Idempotent."""
        self.queue.close(seconds)

    def _joins(self, device: str) -> None:
        self._presence.stands(device, True)
        self.queue.comes(device, conversation=False)

    def _leaves(self, device: str) -> None:
        self._presence.stands(device, False)
