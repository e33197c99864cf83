"""Several servers as processes of their own that share a Redis, and what is asked of them from outside."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import requests

from loadtest.simulator.device import SimulatedDevice
from loadtest.vendors.openai_vendor import CHAT, OpenAiVendor
from tests.e2e.stage import merged
from tests.lifecycle.child import Child
from tests.redis_server import RedisServer
from tests.waiting import PATIENCE_S, wait_for

ANNA, BERT = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
ADMIN = {"Authorization": "Bearer operators-only-0123456789abcdef"}
SETTINGS: Mapping[str, Any] = {
    "server": {"auth_key": "the same secret at every server 0123456789", "admin_token": ADMIN["Authorization"][7:]},
    "conversation": {"llm_cache": True},
}


@contextmanager
def servers(
    folder: Path,
    vendor: OpenAiVendor,
    redis: RedisServer,
    *names: str,
    own: Mapping[str, Mapping[str, Any]] | None = None,
    **more: Any,
) -> Iterator[list[Child]]:
    """Some of them, each sees the others. `own`: settings of single ones by name; `more`: of all."""
    common = merged({**SETTINGS, "server": {**SETTINGS["server"], "redis": redis.url}}, more)
    with ExitStack() as stack:
        found = []
        for name in names:
            (folder / name).mkdir()
            child = Child(folder / name, vendor, merged(common, (own or {}).get(name, {})))
            stack.callback(child.end)
            child.spawn()
            found.append(child)
        for child in found:
            child.wait_ready()
        wait_listed(redis, len(names))
        yield found


def wait_listed(redis: RedisServer, count: int) -> None:
    """Until so many have given a sign."""
    with redis.client() as client:
        wait_for(lambda: client.scard("xiaozhi:1:{workers}") == count, "all servers to be listed")


def free_port() -> int:
    """A port for a server that is to have the same one after a restart."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def come(server: Child, device_id: str = ANNA) -> SimulatedDevice:
    """The device, connected to this server."""
    device = SimulatedDevice(server.url, device_id=device_id).connect()
    device.hello()
    return device


def heard(vendor: OpenAiVendor) -> list[str]:
    """What the user has said, as the language model is told with the last question."""
    return said_in([request.json() for request in vendor.requests if vendor.kind(request) == CHAT][-1])


def said_in(body: Mapping[str, Any]) -> list[str]:
    """What the user has said, in one request to the language model."""
    return [message["content"] for message in body["messages"] if message["role"] == "user"]


def metric(server: Child, name: str) -> float:
    """One figure of a server."""
    page = requests.get(f"http://127.0.0.1:{server.http_port}/metrics", timeout=PATIENCE_S).text
    return float(next(line for line in page.splitlines() if line.startswith(f"{name} ")).split()[1])


def order(server: Child, path: str, **body: Any) -> dict[str, Any]:
    """What an operator's tool asks of one server."""
    address = f"http://127.0.0.1:{server.http_port}/admin/{path}"
    answer = requests.post(address, json=body, headers=ADMIN, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
