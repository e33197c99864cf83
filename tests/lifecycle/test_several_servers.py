"""Servers as processes of their own, each with its database, that share one Redis and nothing else."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import requests

from loadtest.vendors.openai_vendor import CHAT, OpenAiVendor
from tests.databases import postgres_server
from tests.e2e.stage import ask
from tests.lifecycle.child import Child
from tests.lifecycle.several import ADMIN, ANNA, BERT, come, heard, metric, order, servers
from tests.redis_server import RedisServer
from tests.waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.slow


def test_a_device_whose_server_is_killed_goes_on_at_another(
    tmp_path: Path, vendor: OpenAiVendor, redis: RedisServer
) -> None:
    with servers(tmp_path, vendor, redis, "one", "two") as (one, two):
        before = come(one)
        ask(before, "tell me of the first thing")
        with redis.client() as client:
            wait_for(lambda: client.keys("*dialogue*"), "what was said to be shared")
        one.process.send_signal(signal.SIGKILL)
        before.wait_closed()

        after = come(two)
        ask(after, "tell me of the second thing")

        assert heard(vendor) == ["tell me of the first thing", "tell me of the second thing"]
        after.close()


def test_a_device_leaves_the_server_it_was_at(tmp_path: Path, vendor: OpenAiVendor, redis: RedisServer) -> None:
    with servers(tmp_path, vendor, redis, "one", "two") as (one, two):
        before = come(one)
        ask(before, "tell me of the first thing")
        with redis.client() as client:
            wait_for(lambda: client.keys("*dialogue*"), "what was said to be shared")
        after = come(two)

        assert before.wait_closed() == (1000, "replaced")
        ask(after, "tell me of the second thing")
        assert heard(vendor)[0] == "tell me of the first thing"
        assert metric(one, "xiaozhi_devices_lost_total") == 1 and after.closed is None
        wait_for(lambda: sorted(one["devices"] for one in listed(two)) == [0, 1], "the figures of both")
        assert sum(one["this"] for one in listed(two)) == 1 and len({one["worker"] for one in listed(two)}) == 2
        after.close()


def test_an_answer_is_shared_and_an_absence_is_told_and_survived(
    tmp_path: Path, vendor: OpenAiVendor, redis: RedisServer
) -> None:
    with servers(tmp_path, vendor, redis, "one", "two") as (one, two):
        first = come(one)
        ask(first, "how many legs has a spider")
        with redis.client() as client:
            wait_for(lambda: client.keys("*answer*"), "the answer to be shared")
        asked = sum(vendor.kind(request) == CHAT for request in vendor.requests)
        second = come(two, BERT)
        ask(second, "how many legs has a spider")
        assert sum(vendor.kind(request) == CHAT for request in vendor.requests) == asked

        redis.kill()
        wait_for(lambda: metric(two, "xiaozhi_shared_store_up") == 0, "the loss to be noticed")
        ask(second, "and what of a beetle")
        assert heard(vendor)[-1] == "and what of a beetle"
        page = requests.get(f"http://127.0.0.1:{two.http_port}/readyz", timeout=PATIENCE_S)
        assert page.status_code == 200 and "shared store cannot be reached" in page.text
        redis.start()
        wait_for(lambda: metric(two, "xiaozhi_shared_store_up") == 1, "it to be reached again")
        third = come(one, BERT)
        assert second.wait_closed() == (1000, "replaced"), "the claims are there again"
        for device in (first, third):
            device.close()


def test_what_one_server_is_told_reaches_all(
    tmp_path: Path, vendor: OpenAiVendor, redis: RedisServer, request: pytest.FixtureRequest
) -> None:
    database = {"url": postgres_server(request.config).new_url()}
    with servers(tmp_path, vendor, redis, "one", "two", storage=database) as (one, two):
        device = come(two)
        wait_for(lambda: redis_knows(redis) and is_known(one), "the device to be known")

        said = order(one, f"devices/{ANNA}/say", text="dinner is ready", wait_s=30)
        assert "spoken" in str(said)
        assert "dinner is ready" in device.collect_answer().sentences

        two.change({"prompt": "Be brief."})
        order(one, "reload")
        wait_for(lambda: metric(two, 'xiaozhi_reloads_total{result="accepted"}') == 1, "the other one to reload")

        order(one, f"devices/{ANNA}/revoke")
        assert device.wait_closed() == (1008, "revoked")


def listed(server: Child) -> list[dict[str, Any]]:
    """The servers that it knows."""
    address = f"http://127.0.0.1:{server.http_port}/admin/servers"
    found: list[dict[str, Any]] = requests.get(address, headers=ADMIN, timeout=PATIENCE_S).json()["servers"]
    return found


def redis_knows(redis: RedisServer) -> bool:
    with redis.client() as client:
        return bool(client.exists(f"xiaozhi:1:claim:{{{ANNA}}}"))


def is_known(server: Child) -> bool:
    address = f"http://127.0.0.1:{server.http_port}/admin/devices/{ANNA}"
    return requests.get(address, headers=ADMIN, timeout=PATIENCE_S).status_code == 200
