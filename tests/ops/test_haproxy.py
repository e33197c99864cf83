"""config/haproxy/xiaozhi.cfg in a real HAProxy, in front of servers that show what reached them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.ops.backend import Backend
from tests.ops.haproxy import CFG, HaProxy
from tests.ops.programs import check, need
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HaProxy]:
    haproxy = need("haproxy")
    backends = [Backend() for _ in range(3)]
    # What stands behind the device port and the HTTP port is one server here.
    ports = [(backend.port, backend.port) for backend in backends]
    made = HaProxy(haproxy, tmp_path_factory.mktemp("haproxy"), ports, backends)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        for backend in backends:
            backend.stop()


@pytest.fixture(autouse=True)
def _all_ready(front: HaProxy) -> None:
    for backend in front.backends:
        backend.refusing = False
    wait_for(lambda: front.up() == 6, "all servers to be ready")


def test_the_configuration_of_the_containers_is_one() -> None:
    check(need("haproxy"), "-c", "-f", str(CFG.parent / "compose.cfg"))


DEVICES = [f"02:00:00:00:00:{number:02x}" for number in range(40)]


def test_a_device_gets_the_same_server_every_time(front: HaProxy) -> None:
    first = {device: front.worker_of(Device_Id=device) for device in DEVICES}

    assert first == {device: front.worker_of(Device_Id=device) for device in DEVICES}
    assert len(Counter(first.values())) == 3
    assert front.worker_of(Device_Id=DEVICES[3].upper()) == first[DEVICES[3]]


def test_a_device_that_says_who_it_is_in_the_query_too(front: HaProxy) -> None:
    for device in DEVICES[:8]:
        by_query = front.worker_of(f"/xiaozhi/v1/?client-id=c&device-id={device.replace(':', '%3A')}&token=x")
        assert by_query == front.worker_of(Device_Id=device)


def test_one_that_is_not_ready_gets_nobody_and_only_its_share_moves(front: HaProxy) -> None:
    before = {device: front.worker_of(Device_Id=device) for device in DEVICES}
    tunnel, _ = front.upgrade(Device_Id=DEVICES[0])
    gone = next(backend for backend in front.backends if backend.port == before[DEVICES[0]])
    gone.refusing = True
    wait_for(lambda: front.up() == 4, "the refusal to be noticed")

    after = {device: front.worker_of(Device_Id=device) for device in DEVICES}

    assert gone.port not in after.values()
    assert all(after[device] == before[device] for device in DEVICES if before[device] != gone.port)
    with tunnel:  # who is connected stays
        tunnel.sendall(b"\x82\x05hello")
        assert tunnel.recv(100) == b"\x82\x05hello"


def test_a_server_is_drained_by_its_weight(front: HaProxy) -> None:
    before = {device: front.worker_of(Device_Id=device) for device in DEVICES}
    one = front.backends[0].port

    front.order("set server xiaozhi_devices/one weight 0")
    try:
        after = {device: front.worker_of(Device_Id=device) for device in DEVICES}
    finally:
        front.order("set server xiaozhi_devices/one weight 100")

    assert one in before.values() and one not in after.values()
    assert {device: front.worker_of(Device_Id=device) for device in DEVICES} == before


def test_the_server_learns_who_asks_and_how(front: HaProxy) -> None:
    status, seen = front.ask("/xiaozhi/ota/", "POST", b"{}", Device_Id="a", Authorization="Bearer x")

    headers = seen["headers"]
    assert status == 200 and headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "https" and headers["x-forwarded-host"] == f"localhost:{front.port}"
    assert headers["device-id"] == "a" and headers["authorization"] == "Bearer x"


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz", "/admin/reload", "/console"])
def test_what_is_for_operators_stays_inside(front: HaProxy, path: str) -> None:
    assert front.ask(path)[0] == 404


def test_pictures_pass_and_larger_things_do_not(front: HaProxy) -> None:
    assert front.ask("/mcp/vision/explain", "POST", b"x" * 5_000_000)[0] == 200
    for path, size in (("/mcp/vision/explain", 7_000_000), ("/xiaozhi/ota/", 100_000)):
        connection, answer = front.head(path, f"Content-Length: {size}", method="POST")
        connection.close()
        assert answer.startswith("HTTP/1.1 413 ")


def test_a_flood_from_one_address_is_stopped_at_the_door(front: HaProxy) -> None:
    answers = Counter(front.ask("/xiaozhi/ota/")[0] for _ in range(1_100))
    assert answers[429] > 0 and answers[200] > 200
