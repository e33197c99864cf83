"""What OTA tells devices of MQTT: to whom, of which port, and with what they may come in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xiaozhi.net.origin import Origin
from xiaozhi.protocol.mqtt_login import MqttPasswords, Username, name_in, read_username
from xiaozhi.web.addresses import ServerAddresses
from xiaozhi.web.ota_mqtt import MqttAsker, MqttGateway, OwnMqtt, mqtt_block

NOW = 1_757_567_894.5
ASKER = MqttAsker("11:22:33:44:55:66", "uuid", "bread", "192.168.1.9")
DIRECT = Origin("http", "192.168.1.5", 8003, "192.168.1.9")
PROXIED = Origin("https", "voice.example.com", None, "1.2.3.4", proxied=True)
PASSWORDS = MqttPasswords("secret")
OWN = OwnMqtt(PASSWORDS, 1883)
NAMED = replace(OWN, endpoint="mqtt.example.com:8883")
GATEWAY = MqttGateway("192.168.1.7:1883", "key")


def endpoint(
    transport: str,
    origin: Origin = DIRECT,
    own: OwnMqtt | None = OWN,
    gateway: MqttGateway | None = None,
    addresses: ServerAddresses | None = None,
    asker: MqttAsker = ASKER,
) -> str:
    """The address that a device is told; "" when it is told of none."""
    block = mqtt_block(
        asker, transport, origin, own=own, gateway=gateway, addresses=addresses or ServerAddresses(), now=NOW
    )
    return str(block["endpoint"]) if block is not None else ""


def test_what_a_device_comes_in_with() -> None:
    block = mqtt_block(ASKER, "auto", DIRECT, own=OWN, gateway=None, addresses=ServerAddresses(), now=NOW)
    assert block is not None
    assert {name: block[name] for name in ("endpoint", "keepalive", "publish_topic", "subscribe_topic")} == {
        "endpoint": "192.168.1.5:1883",
        "keepalive": 240,
        "publish_topic": "device-server",
        "subscribe_topic": "devices/p2p/11_22_33_44_55_66",
    }
    name = name_in(block["client_id"])
    assert (name.device, name.client, name.model) == ("11:22:33:44:55:66", "uuid", "bread")
    assert read_username(block["username"]) == Username(int(NOW), "http://192.168.1.5:8003")
    assert PASSWORDS.check(block["client_id"], block["username"], block["password"], now=NOW) == int(NOW)


@pytest.mark.parametrize(
    ("origin", "addresses", "told"),
    [
        (DIRECT, ServerAddresses(), True),
        (DIRECT, ServerAddresses(websocket="ws://192.168.1.5:8000/xiaozhi/v1/"), True),
        (DIRECT, ServerAddresses(websocket="wss://192.168.1.5/xiaozhi/v1/"), False),
        (DIRECT, ServerAddresses(websocket="ws://192.168.1.6:8000/xiaozhi/v1/"), False),
        (DIRECT, ServerAddresses(public_url="https://voice.example.com"), False),
        (replace(DIRECT, scheme="https"), ServerAddresses(tls=True), True),
        (PROXIED, ServerAddresses(), False),
        (replace(DIRECT, host="[fd00::5]"), ServerAddresses(), False),
    ],
)
def test_auto_is_for_who_has_reached_this_machine(origin: Origin, addresses: ServerAddresses, told: bool) -> None:
    """Firmware that is told of MQTT tries nothing else: behind a proxy that does not know of it, it would be lost."""
    assert bool(endpoint("auto", origin, addresses=addresses)) is told
    assert endpoint("auto", origin, NAMED, addresses=addresses) == NAMED.endpoint


def test_who_says_so_is_told_in_any_case() -> None:
    assert endpoint("mqtt", PROXIED) == endpoint("both", PROXIED) == "voice.example.com:1883"


@pytest.mark.parametrize(
    ("transport", "own", "told"),
    [
        ("auto", OWN, "192.168.1.5:1883"),
        ("mqtt", OWN, "192.168.1.5:1883"),
        ("gateway", OWN, GATEWAY.endpoint),
        ("websocket", OWN, ""),
        ("auto", None, GATEWAY.endpoint),
        ("both", None, GATEWAY.endpoint),
        ("mqtt", None, GATEWAY.endpoint),
        ("websocket", None, ""),
    ],
)
def test_beside_a_gateway(transport: str, own: OwnMqtt | None, told: str) -> None:
    assert endpoint(transport, own=own, gateway=GATEWAY) == told


def test_who_has_no_mac_address_is_not_told() -> None:
    assert endpoint("mqtt", asker=replace(ASKER, device_id="kitchen")) == ""
    assert endpoint("gateway") == "", "where there is none"
