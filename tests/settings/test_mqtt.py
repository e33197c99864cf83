"""The `mqtt` section: what cannot work is a fault that says how to mend it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xiaozhi.errors import SettingsError
from xiaozhi.settings import load

TLS = Path(__file__).parents[1] / "web" / "tls"
FILES = {"certfile": str(TLS / "cert.pem"), "keyfile": str(TLS / "key.pem")}


@pytest.mark.parametrize(
    ("mqtt", "server", "key", "says"),
    [
        ({"port": 8000}, {}, "mqtt.port", "server.port"),
        ({"port": 8003}, {}, "mqtt.port", "server.http_port"),
        ({"port": 8883}, {}, "mqtt.port", "server.tls"),
        ({"port": 1883}, {"tls": FILES}, "mqtt.port", "8883"),
        ({"port": 8883, "endpoint": "a:1883"}, {"tls": FILES}, "mqtt.endpoint", "8883"),
        ({"port": 8883, "tls": True}, {}, "mqtt.tls", "certfile"),
        ({"port": 1883, "endpoint": "a:1883"}, {"mqtt_gateway": "a:1883"}, "mqtt.endpoint", "mqtt_gateway"),
        ({"endpoint": "a"}, {}, "mqtt.endpoint", "host:port"),
        ({"udp_host": "a:1"}, {}, "mqtt.udp_host", "host name"),
        ({"keepalive": 1}, {}, "mqtt.keepalive", "10"),
    ],
)
def test_faults(mqtt: dict[str, Any], server: dict[str, Any], key: str, says: str, config_dir: Path) -> None:
    with pytest.raises(SettingsError) as refusal:
        load(environ={}, overrides={"mqtt": mqtt, "server": server}, config_dir=config_dir)
    (fault,) = refusal.value.faults
    assert fault.key == key
    assert says in fault.expected


@pytest.mark.parametrize(
    ("mqtt", "server", "encrypted"),
    [
        ({"port": 1883}, {}, False),
        ({"port": 8883}, {"tls": FILES}, True),
        ({"port": 1883, "tls": False}, {"tls": FILES}, False),
        ({"port": 1884, "endpoint": "a:8883"}, {}, False),
        ({"port": 18883, "endpoint": "a:8883"}, {"tls": FILES}, True),
        ({"port": 1883}, {"mqtt_gateway": "192.168.1.7:1883"}, False),
    ],
)
def test_what_works(mqtt: dict[str, Any], server: dict[str, Any], encrypted: bool, config_dir: Path) -> None:
    settings = load(environ={}, overrides={"mqtt": mqtt, "server": server}, config_dir=config_dir).settings
    assert settings.mqtt.encrypted(settings.server.tls.enabled) is encrypted


def test_off_by_default(config_dir: Path) -> None:
    assert load(environ={}, config_dir=config_dir).settings.mqtt.port == 0
