"""Everything that this server keeps of devices, in one piece: notes, presence, enrolment, dialogues to resume.

Part of the composition root: made of settings and the database, opened and closed with the server. What each of them
does stands in `devices/`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from cachetools import TTLCache

from xiaozhi.devices.boards import KnownBoards
from xiaozhi.devices.dialogues import ResumeStore
from xiaozhi.devices.directory import DeviceDirectory
from xiaozhi.devices.enrolment import Enrolment, EnrolmentRules
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.devices.presence import Connections, Presence
from xiaozhi.devices.report import BOARD_NAMES, report_of
from xiaozhi.errors import AuthError, Overloaded, StorageError
from xiaozhi.net.proxies import one_client
from xiaozhi.protocol.mqtt_login import MqttPasswords
from xiaozhi.protocol.token import DeviceTokens, bearer, issued_at
from xiaozhi.runtime.guesses import Guesses
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.watchdog import Watchdog
from xiaozhi.session.link import Identity
from xiaozhi.settings import Settings
from xiaozhi.storage.database import Database
from xiaozhi.storage.devices import Arrival
from xiaozhi.transport.mqtt_endpoint import Credentials
from xiaozhi.web.ota import OtaRequest

log = get_logger(__name__)

FORESEE_S = 0.5
"""How long a device waits at the door for what is known of it; then it is looked up when it speaks."""
FORESEEN_FOR_S = 30.0
PULSE_S = 90.0
"""A look at the other workers that takes so long has failed."""
MAX_FORESEEN = 20_000
REVOKED = "An operator has revoked this device."
_NOT_SEEN: Mapping[str, Any] = {}


class KnownDevices:
    """See the module. `secret` signs device tokens; `guesses` counts wrong ones."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        secret: str,
        guesses: Guesses,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        auth, said_for = settings.server.auth, settings.conversation.resume_seconds
        self._auth = auth.enabled
        self._choice = settings.server.websocket_choice
        self.tokens = DeviceTokens(secret, expire_seconds=auth.expire_seconds)
        self.mqtt_passwords = MqttPasswords(secret, expire_seconds=auth.expire_seconds)
        self.boards = KnownBoards()
        self.guesses = guesses
        self._clock = clock
        self._foreseen: TTLCache[tuple[str, str], Mapping[str, Any] | None] = TTLCache(MAX_FORESEEN, FORESEEN_FOR_S)
        """The own settings of devices that have just been let in."""
        self.notes = DeviceNotes(database, clock=clock)
        self.resume = ResumeStore(seconds=said_for, notes=self.notes, today=clock)
        self.directory = DeviceDirectory(database, self.notes, said_for=said_for, clock=clock)
        self.presence = Presence(
            database,
            self.notes,
            websocket=settings.server.own_websocket,
            said_for=said_for,
            on_dialogue=self.resume.learn,
            clock=clock,
        )
        self.enrolment = Enrolment(database, enrolment_rules(settings), clock=clock)

    def start(
        self, connections: Connections, watchdog: Watchdog, orders: Mapping[str, Callable[[], object]] | None = None
    ) -> None:
        """Begin to write and to look at what others do. `orders`: see `Presence.start`."""
        presence = self.presence
        presence.start(connections, orders)
        watchdog.expect("presence", lambda: presence.beat, PULSE_S, presence.revive)

    def admit(self, identity: Identity, authorization: str) -> bool:
        """Whether the device may connect: True when it has shown a token of its own. It is looked up at once, which
        blocks for `FORESEE_S` at most, so that a session need not wait for it. Raises AuthError, LockedOut."""
        proved = self._check(identity, lambda now: self._check_token(identity, bearer(authorization), now))
        self.foresee(identity)
        return proved

    def admit_mqtt(self, identity: Identity, shown: Credentials) -> bool:
        """Like `admit`, for a device that connects by MQTT; it is looked up when a conversation begins (`foresee`).
        Does not block."""
        return self._check(
            identity,
            lambda now: self.mqtt_passwords.check(shown.client_id, shown.username, shown.password, now=now),
        )

    def may_stay(self, device: str) -> bool:
        """Whether a device that is connected may be. Does not block."""
        return not self.presence.standing(device).revoked

    def foresee(self, identity: Identity) -> None:
        """Look a device up that is about to speak. Blocks for `FORESEE_S` at most."""
        try:
            found = self.directory.look_up(identity.device_id, identity.client_id, FORESEE_S)
        except (StorageError, Overloaded) as error:
            log.debug("a device will be looked up when it speaks", reason=str(error))
        else:
            self._learn(identity, found)
            self._foreseen[identity.device_id, identity.client_id] = found.settings

    def _check_token(self, identity: Identity, token: str, now: float) -> int:
        """When it was issued. Raises AuthError."""
        self.tokens.check(token, identity.client_id, identity.device_id, now=now, written_id=identity.written_id)
        return issued_at(token)

    def _check(self, identity: Identity, proof: Callable[[float], int]) -> bool:
        """`proof` says of a time when what the device shows was issued. Raises AuthError, LockedOut."""
        standing, now = self.presence.standing(identity.device_id), self._clock()
        if standing.revoked:
            raise AuthError(REVOKED)
        if self._auth is False:
            return False
        try:
            if proof(now) < int(standing.tokens_from):
                raise AuthError("the token was issued before an operator decided anew about this device")
        except AuthError:
            if self._auth == "home" and identity.seems_at_home:
                return False
            client = one_client(identity.peer_ip)
            self.guesses.refuse_guesser("device_token", client)
            self.guesses.add("device_token", client)
            raise
        return True

    def met(self, identity: Identity) -> None:
        """A device has connected. Does not block."""
        self.directory.saw(identity.device_id, {"client": identity.client_id, "address": identity.peer_ip})

    def reported(self, asked: OtaRequest) -> None:
        """A device has asked at its start. Does not block."""
        said = {
            **report_of(asked.body),
            "board": asked.model,
            BOARD_NAMES: list(asked.board_names),
            "firmware": asked.version,
            "client": asked.client_id,
            "address": asked.client_ip,
            "asked_at": self._clock(),
        }
        if asked.language:
            said["language"] = asked.language
        self.directory.saw(asked.device_id, {key: value for key, value in said.items() if value != ""})

    def activate(self, asked: OtaRequest) -> bool | None:
        """A device that waits for approval has come back, see `OtaHooks.activate`. Blocks for the database."""
        answer = asked.body
        return self.enrolment.activate(asked.asker, answer["challenge"], answer["serial_number"], answer["hmac"])

    def address_for_a_device(self, addresses: tuple[str, ...]) -> str:
        """Which of several WebSocket addresses a device is told: any, or the one with least devices, of those that
        workers are known to serve."""
        load = self.presence.load
        served = [address for address in addresses if address in load]
        if self._choice == "random" or not served:
            return random.choice(addresses)
        chosen = min(served, key=lambda address: load[address])
        load[chosen] += 1  # until the workers count anew: a crowd is not to be sent to one of them
        return chosen

    def has_nothing_own(self, identity: Identity) -> bool:
        """Whether it was seen at the door that a device has no settings of its own; counts for this visit. Does not
        block."""
        pair = identity.device_id, identity.client_id
        if self._foreseen.get(pair, _NOT_SEEN) is not None:
            return False
        self._foreseen.pop(pair, None)
        return True

    def arrive(self, identity: Identity) -> Mapping[str, Any] | None:
        """A device's own settings, None when it has none. Blocks for the database unless the device was looked up at
        the door, and goes on without when that fails."""
        pair = identity.device_id, identity.client_id
        foreseen: Mapping[str, Any] | None = self._foreseen.pop(pair, _NOT_SEEN)
        if foreseen is not _NOT_SEEN:
            return foreseen
        try:
            found = self.directory.look_up(identity.device_id, identity.client_id)
        except (StorageError, Overloaded) as error:
            log.warning("a device is served without what is kept of it", reason=str(error))
            return None
        self._learn(identity, found)
        return found.settings

    def _learn(self, identity: Identity, found: Arrival) -> None:
        if found.dialogue is not None:
            self.resume.learn(identity.device_id, identity.client_id, *found.dialogue)
        names = (found.report or {}).get(BOARD_NAMES)
        if isinstance(names, list) and not self.boards.names(identity.device_id):
            self.boards.learn(identity.device_id, [str(name) for name in names])

    def remembered_as(self, identity: Identity) -> str:
        """The name under which the memory knows the user of this device. With authentication on, somebody who uses a
        device's id without being enrolled as it gets a memory of his own. Does not block."""
        if self._auth is False or identity.proved:
            return identity.device_id
        enrolled = self.directory.enrolled_client(identity.device_id, identity.client_id)
        if enrolled in ("", identity.client_id):
            return identity.device_id
        return f"{identity.device_id}@{identity.client_id}"

    def close(self, seconds: float) -> None:
        """Write what is left, and tell the others that this worker stops."""
        self.presence.close(seconds)


def enrolment_rules(settings: Settings) -> EnrolmentRules:
    """Whom to enrol, by the settings."""
    auth = settings.server.auth
    return EnrolmentRules(
        enroll=auth.enroll,
        allowed=frozenset(auth.allowed_devices),
        keys={serial: key.get_secret_value() for serial, key in auth.device_keys.items()},
        guests_at_home=auth.enabled == "home",
    )
