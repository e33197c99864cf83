"""Client ids, usernames and passwords of MQTT: what OTA makes is what the port understands."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.errors import AuthError, ProtocolError
from xiaozhi.protocol.mqtt_login import (
    MqttName,
    MqttPasswords,
    Username,
    client_id_for,
    gateway_username,
    name_in,
    read_username,
    username_for,
)

MAC = "11:22:33:44:55:66"
SAID = Username(1_757_567_894, "http://192.168.1.5:8003", proxied=True)


@pytest.mark.parametrize(
    ("client_id", "name"),
    [
        (client_id_for("bread", MAC, "uuid"), MqttName(MAC, "uuid", "bread")),
        (client_id_for("bread", MAC, ""), MqttName(MAC, "", "bread")),
        ("GID_x@@@AA_BB_CC_DD_EE_FF@@@a@@@b", MqttName("aa:bb:cc:dd:ee:ff", "a@@@b", "x")),
        ("GID_x@@@aa-bb-cc-dd-ee-ff", MqttName("aa:bb:cc:dd:ee:ff", "", "x")),
        ("GID_x@@@my_kitchen", MqttName("my_kitchen", "", "x")),
        ("Kitchen", MqttName("kitchen")),
        ("11-22-33-44-55-66", MqttName(MAC)),
    ],
)
def test_client_ids(client_id: str, name: MqttName) -> None:
    assert name_in(client_id) == name


@pytest.mark.parametrize(
    "client_id", ["", "a|b", "GID_x@@@", f"GID_x@@@{MAC}@@@a|b", f"GID_x@@@{MAC}@@@{'c' * 129}", "a" * 385, "a\nb"]
)
def test_no_client_ids(client_id: str) -> None:
    with pytest.raises(ProtocolError):
        name_in(client_id)


def test_usernames() -> None:
    assert read_username(username_for("192.168.1.9", SAID)) == SAID
    assert read_username(gateway_username("192.168.1.9")) == Username()


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode()))
def test_whatever_stands_in_a_username(username: str) -> None:
    assert isinstance(read_username(username), Username)


def test_passwords() -> None:
    passwords = MqttPasswords("secret", expire_seconds=60)
    client_id, username = client_id_for("bread", MAC, "uuid"), username_for("192.168.1.9", SAID)
    password = passwords.issue(client_id, username)

    assert passwords.check(client_id, username, password, now=SAID.issued_at + 60) == SAID.issued_at
    with pytest.raises(AuthError, match="expired"):
        passwords.check(client_id, username, password, now=SAID.issued_at + 61)
    for wrong in (
        (client_id_for("bread", "11:22:33:44:55:67", "uuid"), username, password),
        (client_id, username_for("192.168.1.9", Username(SAID.issued_at + 1)), password),
        (client_id, username, ""),
        (client_id, username, MqttPasswords("other").issue(client_id, username)),
    ):
        with pytest.raises(AuthError, match="does not belong"):
            passwords.check(*wrong, now=SAID.issued_at)
    with pytest.raises(ValueError, match="empty"):
        MqttPasswords("")
