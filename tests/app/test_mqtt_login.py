"""Who comes in by MQTT: the same devices as by WebSocket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import opened
from tests.fakes.clock import FakeClock
from xiaozhi.app.known_devices import KnownDevices
from xiaozhi.errors import AuthError, LockedOut
from xiaozhi.protocol.mqtt_login import Username, client_id_for, username_for
from xiaozhi.runtime.guesses import FREE, Guesses
from xiaozhi.session.link import Identity
from xiaozhi.settings import load
from xiaozhi.storage.database import Database
from xiaozhi.transport.mqtt_endpoint import Credentials

MAC, CLIENT = "11:22:33:44:55:66", "uuid"
NEIGHBOUR = Identity(MAC, CLIENT, "192.168.1.9", seems_at_home=True)
STRANGER = Identity(MAC, CLIENT, "203.0.113.9")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(tmp_path) as made:
        yield made


def known(database: Database, enabled: Any, clock: FakeClock) -> KnownDevices:
    settings = load(environ={}, overrides={"server": {"auth": {"enabled": enabled, "expire_seconds": 100}}}).settings
    return KnownDevices(settings, database, "a-secret-of-some-length", Guesses(), clock=clock)


def credentials(devices: KnownDevices, at: float) -> Credentials:
    """As OTA hands them out."""
    client_id = client_id_for("bread", MAC, CLIENT)
    username = username_for("192.168.1.9", Username(int(at)))
    return Credentials(client_id, username, devices.mqtt_passwords.issue(client_id, username))


@pytest.mark.parametrize(
    ("enabled", "identity", "proof", "outcome"),
    [
        (True, STRANGER, True, True),
        (True, NEIGHBOUR, False, None),
        ("home", STRANGER, False, None),
        ("home", STRANGER, True, True),
        ("home", NEIGHBOUR, False, False),
        ("home", NEIGHBOUR, True, True),
        (False, STRANGER, False, False),
    ],
)
def test_who_comes_in(database: Database, enabled: Any, identity: Identity, proof: bool, outcome: bool | None) -> None:
    """True: with a password of its own; None: not at all."""
    clock = FakeClock(1_000_000.0)
    devices = known(database, enabled, clock)
    shown = credentials(devices, clock()) if proof else Credentials("x", "y", "z")
    if outcome is None:
        with pytest.raises(AuthError):
            devices.admit_mqtt(identity, shown)
    else:
        assert devices.admit_mqtt(identity, shown) is outcome


def test_a_password_is_good_as_long_as_a_token(database: Database) -> None:
    clock = FakeClock(1_000_000.0)
    devices = known(database, True, clock)
    shown = credentials(devices, clock())
    clock.advance(100)
    assert devices.admit_mqtt(STRANGER, shown)
    clock.advance(1)
    with pytest.raises(AuthError, match="expired"):
        devices.admit_mqtt(STRANGER, shown)


def test_an_operator_decides_anew(database: Database) -> None:
    clock = FakeClock(1_000_000.0)
    devices = known(database, True, clock)
    shown = credentials(devices, clock())
    devices.directory.saw(MAC, {"client": CLIENT})
    assert devices.may_stay(MAC)
    clock.advance(10)
    devices.directory.revoke(MAC)
    devices.presence.look()
    assert not devices.may_stay(MAC)
    with pytest.raises(AuthError, match="revoked"):
        devices.admit_mqtt(STRANGER, shown)
    clock.advance(10)
    devices.directory.approve(MAC)
    devices.presence.look()
    assert devices.may_stay(MAC)
    with pytest.raises(AuthError, match="anew"):
        devices.admit_mqtt(STRANGER, shown)
    assert devices.admit_mqtt(STRANGER, credentials(devices, clock() + 1))


def test_who_guesses_has_to_wait(database: Database) -> None:
    clock = FakeClock(1_000_000.0)
    devices = known(database, True, clock)
    for _ in range(FREE):
        with pytest.raises(AuthError):
            devices.admit_mqtt(STRANGER, Credentials("x", "y", "z"))
    with pytest.raises(LockedOut):
        devices.admit_mqtt(STRANGER, Credentials("x", "y", "z"))
    assert devices.admit_mqtt(STRANGER, credentials(devices, clock())), "the right one is let in at any time"
