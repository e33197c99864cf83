"""What the parts of the composition root that serve people (the console, operators' addresses) need of a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xiaozhi.app.console_settings import Preview
from xiaozhi.app.gauges import Watched
from xiaozhi.app.generations import Generation
from xiaozhi.app.history import History
from xiaozhi.app.known_devices import KnownDevices
from xiaozhi.app.management import ManagementConsole
from xiaozhi.app.messaging import Messaging
from xiaozhi.app.shared_state import SharedState
from xiaozhi.app.telemetry import Observer
from xiaozhi.app.vendor_health import VendorHealth
from xiaozhi.errors import Fault
from xiaozhi.reminders.book import ReminderBook
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.web.addresses import ServerAddresses


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerParts:
    """`current`: what is in force. `reload`: the faults for which the configuration as it is now was refused.
    `preview`: what it would read with another config/local.yaml; None: that cannot be changed here. `secret`: what
    devices' tokens are signed with."""

    watched: Watched
    metrics: Metrics
    observer: Observer
    known: KnownDevices
    vendors: VendorHealth
    history: History
    addresses: ServerAddresses
    messaging: Messaging
    management: ManagementConsole | None
    shared: SharedState | None
    reminders: ReminderBook
    current: Callable[[], Generation]
    reload: Callable[[], Sequence[Fault]]
    preview: Preview | None
    secret: str
