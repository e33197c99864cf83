"""Who a device is, once authentication is on: the first client id that may have a token as this device is written down,
and no other gets one without an operator.

Trust on first use: not a proof of who was first, but written down with its time, address and reason, for operators to
see. Kept in the database, so that a restart or another worker changes nothing; looked up whenever a device asks for its
address, which is once per start of a device."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from xiaozhi.errors import AuthError
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.runtime.logs import get_logger
from xiaozhi.storage import devices, enrolments
from xiaozhi.storage.database import Database, Transaction

log = get_logger(__name__)

Enroll = Literal["private", "open", "approve", "allowlist"]
"""Whom to enrol without asking: devices in private networks, all, none, those of a list only. The others of "private"
and "approve" wait for an operator."""
CODE_S: Final = 24 * 3600.0
"""How long a code is good for."""
MAX_WAITING: Final = 10_000
"""Devices that wait for approval. Further ones get no code: strangers may ask for as many as they like."""
_AT_HOME: Final = "in a private network"
_CODE_TRIES: Final = 20


@dataclass(frozen=True, slots=True)
class EnrolmentRules:
    """Whom to enrol. `allowed`: device ids, however they are written, that are enrolled from anywhere. `keys`: the
    secret (hex) that is burnt into a device, by its serial number."""

    enroll: Enroll = "private"
    allowed: frozenset[str] = frozenset()
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    guests_at_home: bool = False
    """Devices in private networks need no token, so nothing is gained by making one wait there."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for a token. `device_id` may be written in any way."""

    device_id: str
    client_id: str
    address: str = ""
    at_home: bool = False
    seems_at_home: bool = False
    """As far as can be told: a proxy that is not trusted may stand in between."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """`granted`: a token is due. Else `reason` says why not, and `code` and `challenge` are there when it may wait."""

    granted: bool
    reason: str = ""
    code: str = ""
    challenge: str = ""


class Enrolment:
    """`clock`: seconds since 1970."""

    def __init__(
        self, database: Database, rules: EnrolmentRules | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        rules = rules or EnrolmentRules()
        self._rules = rules
        self._allowed = frozenset(normal_device_id(device) for device in rules.allowed)
        self._database = database
        self._clock = clock

    def ask(self, asker: Asker) -> Ruling:
        """Whether this one may have a token as this device, from now on if it is the first. Blocks for the database.
        Raises StorageError, Overloaded."""
        if not asker.client_id:
            return Ruling(False, "it sends no Client-Id")
        device, now = normal_device_id(asker.device_id), self._clock()
        ruling = self._database.run(lambda connection: self._rule(connection, device, asker, now))
        if not ruling.granted:
            log.info(
                "no token for a device",
                device=device,
                peer=asker.address,
                reason=ruling.reason,
                **({"remedy": f"server.py devices approve {ruling.code}"} if ruling.code else {}),
            )
        return ruling

    def vouch(self, asker: Asker, how: str) -> bool:
        """Enrol a device for which an operator vouches, whatever the rules say; True if it was not enrolled before.
        Blocks for the database. Raises AuthError where it is enrolled with another client id or revoked, StorageError,
        Overloaded."""
        device, now = normal_device_id(asker.device_id), self._clock()

        def enrol(connection: Transaction) -> bool:
            if devices.standing_of(connection, device).revoked:
                raise AuthError("An operator has revoked this device.")
            known = enrolments.of(connection, device)
            client = enrolments.enrol(connection, device, asker.client_id, now, how=how, address=asker.address)
            if client != asker.client_id:
                raise AuthError("This device is enrolled with another client id.")
            if known is None:
                enrolments.stop_waiting(connection, device)
            return known is None

        return self._database.run(enrol)

    def activate(self, asker: Asker, challenge: str, serial_number: str, proof: str) -> bool | None:
        """A device that waits has come back. True: it is enrolled now. False: not yet. None: `proof`, the HMAC-SHA256
        (hex) of its challenge with the secret of its serial number, is wrong. Blocks and raises as `ask`."""
        device, now = normal_device_id(asker.device_id), self._clock()
        key = self._rules.keys.get(serial_number, "")

        def look(connection: Transaction) -> bool | None:
            enrolled = enrolments.of(connection, device)
            if enrolled is not None and enrolled.client == asker.client_id:
                return not devices.standing_of(connection, device).revoked
            waiting = enrolments.waiting(connection, device=device, client=asker.client_id)
            if not key or not waiting or not proof:
                return False
            if challenge != waiting[0].challenge or not _proves(key, challenge, proof):
                return None
            if devices.standing_of(connection, device).revoked:
                return False
            if enrolled is not None:
                return False  # genuine, but another client id's device: an operator decides
            enrolments.enrol(
                connection, device, asker.client_id, now, how=f"serial number {serial_number}", address=asker.address
            )
            enrolments.stop_waiting(connection, device)
            return True

        return self._database.run(look)

    def _rule(self, connection: Transaction, device: str, asker: Asker, now: float) -> Ruling:
        """On the storage thread."""
        if devices.standing_of(connection, device).revoked:
            return Ruling(False, "an operator has revoked it")
        enrolled = enrolments.of(connection, device)
        if enrolled is None:
            how = self._reason_to_enrol(device, asker)
            if how:
                enrolments.enrol(connection, device, asker.client_id, now, how=how, address=asker.address)
                return Ruling(True)
            reason = "it is not enrolled, and may not enrol by itself from there"
        elif enrolled.client == asker.client_id:
            # Both ids go over the air, so where it comes from goes on to count as long as nothing better is known.
            if enrolled.how not in ("", _AT_HOME) or self._reason_to_enrol(device, asker):
                return Ruling(True)
            reason = "it was enrolled in a private network and comes from elsewhere"
        else:
            reason = "it is enrolled with another client id"
        if self._rules.enroll == "allowlist" and device not in self._allowed:
            return Ruling(False, reason)
        if self._rules.guests_at_home and asker.seems_at_home:
            return Ruling(False, reason)
        return self._wait(connection, device, asker, reason, now)

    def _reason_to_enrol(self, device: str, asker: Asker) -> str:
        """Why this device may be enrolled without an operator; "" when it may not."""
        if device in self._allowed:
            return "in allowed_devices"
        if self._rules.enroll == "private" and asker.at_home:
            return _AT_HOME
        return "open to all" if self._rules.enroll == "open" else ""

    def _wait(self, connection: Transaction, device: str, asker: Asker, reason: str, now: float) -> Ruling:
        here = enrolments.waiting(connection, device=device, client=asker.client_id)
        if not here and enrolments.count_waiting(connection) >= MAX_WAITING:
            return Ruling(False, f"{reason}, and too many wait for approval")
        for _ in range(_CODE_TRIES):
            new = enrolments.Waiting(
                device,
                asker.client_id,
                f"{secrets.randbelow(1_000_000):06d}",
                secrets.token_hex(16),
                asker.address,
                now,
            )
            waiting = enrolments.wait(connection, new, now - CODE_S)
            if waiting.code:
                return Ruling(False, reason, waiting.code, waiting.challenge)
        return Ruling(False, f"{reason}, and there is no free code")


def _proves(key: str, challenge: str, proof: str) -> bool:
    try:
        secret = bytes.fromhex(key)
    except ValueError:
        return False
    expected = hmac.new(secret, challenge.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), proof.strip().lower().encode("utf-8", "replace"))
