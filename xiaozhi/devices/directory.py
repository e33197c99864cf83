"""What is kept of each device, and what operators decide about it.

`look_up` is for a device that comes: its own settings, who it is enrolled as, what was said last, in one reading for
all that come at the same moment. The other methods are for operators: the commands `devices ...` and `/admin/devices`.
Not who may come in: that is `enrolment.py`, and `presence.py` for those who are here."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from cachetools import LRUCache
from gevent.event import AsyncResult

from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.devices.presence import ALIVE_S
from xiaozhi.errors import Overloaded, StorageError, StorageUnavailable, XiaozhiError
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger
from xiaozhi.storage import devices, enrolments, reminders, voices
from xiaozhi.storage.database import Database, Transaction
from xiaozhi.storage.devices import Arrival, DeviceRecord, SettingsVersion, Standing
from xiaozhi.storage.voices import KeptVoice

log = get_logger(__name__)

LOOK_UP_S = 2.0
"""How long a device waits for what is known of it; then it is served without."""
MAX_REMEMBERED = 20_000
KEPT_VERSIONS = 20
"""Earlier settings that are kept of each device."""
MAX_WAITING_SHOWN = 100


class UnknownDevice(XiaozhiError):
    """There is nothing to do it with; the message says what is missing."""


class DeviceDirectory:
    """`said_for`: seconds that dialogues are kept. `clock`: seconds since 1970."""

    def __init__(
        self,
        database: Database,
        notes: DeviceNotes,
        *,
        said_for: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._notes = notes
        self._said_for = said_for
        self._clock = clock
        self._asked: dict[tuple[str, str], AsyncResult[Arrival]] = {}
        self._reading = False
        self._enrolled: LRUCache[tuple[str, str], str] = LRUCache(MAX_REMEMBERED)

    # --- for devices that come ----------------------------------------------------------------------------------------

    def look_up(self, device: str, client: str, patience: float = LOOK_UP_S) -> Arrival:
        """What is known of a device that comes. Blocks for at most about `patience` seconds. Raises StorageError,
        Overloaded."""
        asked = self._asked.get((device, client))
        if asked is None:
            asked = self._asked[device, client] = AsyncResult()
        if not self._reading:
            self._reading = True
            tasks.spawn("device-look-up", self._read)
        found = asked.wait(timeout=patience)
        if isinstance(found, Arrival):
            return found
        raise StorageUnavailable(f"nothing is known of {device}: the database does not answer")

    def enrolled_client(self, device: str, client: str) -> str | None:
        """The client id that a device was enrolled with when it was looked up here last; "": with none; None: it was
        not looked up. Does not block."""
        known: str | None = self._enrolled.get((device, client))
        return known

    def _read(self) -> None:
        """Look up all who wait, until nobody does."""
        try:
            while self._asked:
                batch, self._asked = self._asked, {}
                found = self._find(tuple(batch))
                for pair, asked in batch.items():
                    arrival = found.get(pair)
                    if arrival is not None:
                        self._enrolled[pair] = arrival.client
                    asked.set(arrival)
        finally:
            self._reading = False

    def _find(self, pairs: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], Arrival]:
        since = self._clock() - self._said_for
        try:
            return self._database.read(lambda connection: devices.look_up(connection, pairs, since), deadline=LOOK_UP_S)
        except (StorageError, Overloaded) as error:
            log.warning("devices not looked up", count=len(pairs), error=str(error))
            return {}

    def saw(self, device: str, report: Mapping[str, Any]) -> None:
        """A device has asked or come, and said this of itself. Does not block."""
        self._notes.saw(device, report)

    # --- for operators: all of them block for the database and raise StorageError, Overloaded -------------------------

    def all(self) -> list[DeviceRecord]:
        """Every device that is known, those seen last first."""
        return self._database.read(lambda connection: devices.records(connection, self._clock() - ALIVE_S))

    def page(
        self, search: str, limit: int, offset: int, *, state: str = "", order: str = "seen"
    ) -> tuple[list[DeviceRecord], int]:
        """(some of the devices that are known; how many there are). See `storage.devices.page`."""
        alive = self._clock() - ALIVE_S

        def read(connection: Transaction) -> tuple[list[DeviceRecord], int]:
            names, total = devices.page(connection, search, limit, offset, alive_since=alive, state=state, order=order)
            found = {record.device: record for record in devices.records(connection, alive, names)}
            return [found[name] for name in names if name in found], total

        return self._database.read(read)

    def waiting(self) -> list[DeviceRecord]:
        """Devices as which somebody waits for approval; the first `MAX_WAITING_SHOWN`."""
        return self._database.read(
            lambda connection: devices.records(
                connection, self._clock() - ALIVE_S, devices.all_waiting(connection, MAX_WAITING_SHOWN)
            )
        )

    def pulse(self) -> tuple[int, str]:
        """(devices connected now, to all workers; a text that changes whenever there may be something new)."""
        return self._database.read(lambda connection: devices.pulse(connection, self._clock() - ALIVE_S))

    def name_it(self, device: str, label: str) -> None:
        """What its owner calls a device; "": nothing any more."""
        name = normal_device_id(device)
        self._database.run(lambda connection: devices.keep_label(connection, name, label))

    def labels(self, names: Collection[str]) -> Mapping[str, str]:
        """What owners call these devices (ids in their normal form), as far as they call them anything."""
        return self._database.read(lambda connection: devices.labels(connection, names))

    def keep_picture(self, device: str, picture: bytes) -> None:
        """A picture of a device's screen, in the place of the one before."""
        name, now = normal_device_id(device), self._clock()
        self._database.run(lambda connection: devices.keep_picture(connection, name, picture, now))

    def picture_of(self, device: str) -> tuple[bytes, float] | None:
        """The last picture of a device's screen, and when it came (seconds since 1970)."""
        name = normal_device_id(device)
        return self._database.read(lambda connection: devices.picture_of(connection, name))

    def versions_of(self, device: str) -> list[SettingsVersion]:
        """What a device's own settings were before their last changes, the latest change first."""
        name = normal_device_id(device)
        return self._database.read(lambda connection: devices.versions_of(connection, name))

    def of(self, device: str) -> DeviceRecord:
        """Everything that is kept of one device. Raises UnknownDevice."""
        name = normal_device_id(device)
        found = self._database.read(lambda connection: devices.records(connection, self._clock() - ALIVE_S, [name]))
        if not found:
            raise UnknownDevice(
                f"{device} is not known here: it has never asked or connected, and nothing was set for it"
            )
        return found[0]

    def settings_of(self, device: str) -> Mapping[str, Any]:
        """A device's own settings; empty when it has none."""
        name = normal_device_id(device)
        return self._database.read(lambda connection: devices.settings_of(connection, name)) or {}

    def change_settings(
        self, device: str, change: Callable[[Mapping[str, Any]], Mapping[str, Any]], *, who: str = ""
    ) -> Mapping[str, Any]:
        """Put what `change` makes of a device's own settings in their place; returns it. In force with its next
        visit. `change` may not wait, and may refuse by raising SettingsError. `who` has changed them: the settings of
        before are kept with it."""
        name, now = normal_device_id(device), self._clock()

        def write(connection: Transaction) -> Mapping[str, Any]:
            before = devices.settings_of(connection, name) or {}
            settings = change(before)
            if settings != before:
                devices.keep_version(connection, name, before, who, now, KEPT_VERSIONS)
            devices.keep_settings(connection, name, settings, now)
            return settings

        return self._database.run(write)

    def revoke(self, device: str) -> None:
        """The device may not talk, its tokens are void, and it is enrolled with nobody, until it is approved."""
        name, now = normal_device_id(device), self._clock()

        def write(connection: Transaction) -> None:
            devices.keep_standing(connection, name, Standing(True, now), now)
            enrolments.forget(connection, name)
            enrolments.stop_waiting(connection, name)

        self._database.run(write)
        log.warning("device revoked", device=name)

    def approve(self, code_or_device: str) -> str:
        """Let in who waits under a code, or (device id) the one who waits as this device; a device that was revoked
        may ask again. Returns a sentence that says what was done. Raises UnknownDevice."""
        text, now = code_or_device.strip(), self._clock()
        name = normal_device_id(text)

        def write(connection: Transaction) -> str:
            waiting = enrolments.waiting(connection, code=text) or enrolments.waiting(connection, device=name)
            if len(waiting) > 1:
                codes = ", ".join(one.code for one in waiting)
                raise UnknownDevice(f"{len(waiting)} wait as {name}; say which by its code: {codes}")
            if waiting:
                return _let_in(connection, waiting[0], now)
            if devices.standing_of(connection, name).revoked:
                devices.keep_standing(connection, name, Standing(False, now), now)
                return f"{name} may ask again; it is enrolled when it next starts."
            raise UnknownDevice(
                f"nobody waits under {text!r}: codes are good for a day, a device asks for a new one when it starts; "
                "`devices list` shows who waits"
            )

        done = self._database.run(write)
        log.info("device approved", what=done)
        return done

    def refuse(self, code: str) -> str:
        """Whoever waits under this code is not let in; the device's id. A device that nobody is enrolled as may not ask
        again until it is approved. Raises UnknownDevice."""
        now = self._clock()

        def write(connection: Transaction) -> str:
            waiting = enrolments.waiting(connection, code=code)
            if not waiting:
                raise UnknownDevice(f"nobody waits under {code!r} any more")
            name = waiting[0].device
            enrolments.stop_waiting(connection, name, waiting[0].client)
            if enrolments.of(connection, name) is None and not enrolments.waiting(connection, device=name):
                devices.keep_standing(connection, name, Standing(True, now), now)
            return name

        name = self._database.run(write)
        log.warning("device refused", device=name)
        return name

    def forget(self, device: str) -> bool:
        """Enrol the device anew when it asks again, void its tokens, and erase its reminders and the voices of its
        people; False when it was not enrolled."""
        name, now = normal_device_id(device), self._clock()

        def write(connection: Transaction) -> bool:
            known = enrolments.forget(connection, name)
            reminders.erase(connection, name)
            voices.erase_device(connection, name)
            if known:
                before = devices.standing_of(connection, name)
                devices.keep_standing(connection, name, Standing(before.revoked, now), now)
            return known

        return self._database.run(write)

    def remove(self, device: str) -> None:
        """Erase what is kept of a device: its name, its own settings, its messages and reminders, what is remembered of
        its people and their voices, its enrolment. Not what was said. Its tokens are void; one that is revoked stays
        so."""
        name, now = normal_device_id(device), self._clock()

        def write(connection: Transaction) -> None:
            enrolments.forget(connection, name)
            enrolments.stop_waiting(connection, name)
            reminders.erase(connection, name)
            voices.erase_device(connection, name)
            devices.erase(connection, name)
            before = devices.standing_of(connection, name)
            devices.keep_standing(connection, name, Standing(before.revoked, now), now)

        self._database.run(write)
        log.warning("device removed", device=name)

    def voices_of(self, device: str) -> list[KeptVoice]:
        """The voices of the people who use a device."""
        name = normal_device_id(device)
        return self._database.read(lambda connection: voices.of_device(connection, name))

    def forget_voice(self, device: str, owner: str, person: str) -> bool:
        """Erase the voice of a person who is known to a device under `owner`; False: there is none."""
        name = normal_device_id(device)

        def write(connection: Transaction) -> bool:
            if owner not in {kept.owner for kept in voices.of_device(connection, name)}:
                return False
            return bool(voices.erase(connection, owner, person))

        return bool(person) and self._database.run(write)


def _let_in(connection: Transaction, waiting: enrolments.Waiting, now: float) -> str:
    name, before = waiting.device, enrolments.of(connection, waiting.device)
    enrolments.replace(connection, name, waiting.client, now, how="approved by an operator", address=waiting.address)
    enrolments.stop_waiting(connection, name)
    if before is not None and before.client != waiting.client:
        # Whoever was enrolled before has a token that would be good for weeks.
        devices.keep_standing(connection, name, Standing(False, now), now)
    elif devices.standing_of(connection, name).revoked:
        devices.keep_standing(connection, name, Standing(False, now), now)
    return f"{name} is enrolled with the client id {waiting.client}; it gets its token when it asks next."
