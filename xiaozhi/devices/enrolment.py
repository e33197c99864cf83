"""Who a device is, once authentication is on: the first client id that asks for a token as this device is written down,
and no other gets one.

Not a proof of who was first, and not the question whether a device may be enrolled at all (`web/ota.py`). Kept in the
database, so that a restart or another worker changes nothing; looked up whenever a device asks for its address, which
is once per start of a device."""

from __future__ import annotations

import time
from collections.abc import Callable

from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.runtime.logs import get_logger
from xiaozhi.storage import enrolments
from xiaozhi.storage.database import Database

log = get_logger(__name__)


class Enrolment:
    """The client ids of devices. `clock`: seconds since 1970."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def enrol(self, device_id: str, client_id: str) -> bool:
        """True if the device is enrolled with this client id, from now on if it was with none. Blocks for the database.
        Raises StorageError, Overloaded."""
        device, now = normal_device_id(device_id), self._clock()
        enrolled = self._database.run(lambda connection: enrolments.enrol(connection, device, client_id, now))
        if enrolled != client_id:
            log.warning(
                "another client id asks for a device's token",
                device=device_id,
                remedy=f"if the device was set up anew: server.py devices forget {device_id}",
            )
        return enrolled == client_id

    def forget(self, device_id: str) -> bool:
        """Enrol the device anew when it asks again; False when it was not enrolled. Tokens that were given out stay
        good until they expire. Blocks and raises as `enrol`."""
        device = normal_device_id(device_id)
        return self._database.run(lambda connection: enrolments.forget(connection, device))
