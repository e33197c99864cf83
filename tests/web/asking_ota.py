"""A client of the OTA address, as a device asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from xiaozhi.protocol.token import DeviceTokens
from xiaozhi.web.app import WebConfig, create_app
from xiaozhi.web.ota import OtaConfig, OtaHooks, create_blueprint

NOW = 1_757_567_894.012


DEVICE = "11:22:33:44:55:66"


CLIENT = "7b94d69a-9808-4c59-9c9b-704333b38aff"


HEADERS = {"Device-Id": DEVICE, "Client-Id": CLIENT, "Host": "192.168.1.5:8003"}


BODY = {"application": {"name": "xiaozhi", "version": "2.0.0"}, "board": {"type": "bread-compact-wifi"}}


TOKENS = DeviceTokens("secret")


ABROAD = "203.0.113.7"


def client(
    config: OtaConfig | None = None, hooks: OtaHooks | None = None, peer: str = "127.0.0.1", **web: Any
) -> FlaskClient:
    """Somebody who asks from the address `peer`."""
    blueprint = create_blueprint(
        config or OtaConfig(firmware_dir=Path("/nonexistent")), TOKENS, hooks, clock=lambda: NOW
    )
    made = create_app([blueprint], WebConfig(**web)).test_client()
    made.environ_base["REMOTE_ADDR"] = peer
    return made


def check(device: FlaskClient, headers: dict[str, str] | None = None, body: Any = BODY, **more: str) -> dict[str, Any]:
    reply = device.post("/xiaozhi/ota/", headers={**HEADERS, **(headers or {}), **more}, json=body)
    assert reply.status_code == 200, reply.text
    assert reply.content_type == "application/json"
    answer: dict[str, Any] = reply.get_json()
    return answer
