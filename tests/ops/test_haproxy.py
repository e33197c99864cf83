"""config/haproxy/xiaozhi.cfg in a real HAProxy, in front of servers that show what reached them."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ops.backend import TLS, Backend, TlsFront
from tests.ops.programs import ROOT, check, need
from tests.waiting import PATIENCE_S, wait_for

CFG = ROOT / "config/haproxy/xiaozhi.cfg"


class Front(TlsFront):
    """HAProxy with our file, its addresses and certificate replaced by those of the test."""

    def __init__(self, haproxy: str, directory: Path, backends: list[Backend]) -> None:
        super().__init__(directory, backends)
        text = CFG.read_text(encoding="utf-8")
        ports = iter([backend.port for backend in backends] * 2)
        text, servers = re.subn(r"10\.0\.0\.\d+:80\d\d", lambda _: f"127.0.0.1:{next(ports)}", text)
        assert servers == 2 * len(backends)
        # What stands behind the device port and the HTTP port is one server here.
        text = text.replace("check port 8003", "check")
        whole = directory / "all.pem"
        whole.write_bytes((TLS / "cert.pem").read_bytes() + (TLS / "key.pem").read_bytes())
        for example, ours in {
            "maxconn 100000": "maxconn 1000",
            "bind :443": f"bind 127.0.0.1:{self.port}",
            "/etc/ssl/xiaozhi/all.pem": str(whole),
            "stats socket /run/haproxy/admin.sock": f"stats socket {directory}/admin.sock",
        }.items():
            assert text.count(example) == 1
            text = text.replace(example, ours)
        (directory / "haproxy.cfg").write_text(text, encoding="utf-8")
        self.run = [haproxy, "-f", str(directory / "haproxy.cfg"), "-db"]
        self.test = [*self.run[:-1], "-c"]

    def order(self, line: str) -> str:
        """Tell HAProxy something over its socket."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE_S)
            client.connect(f"{self.directory}/admin.sock")
            client.sendall(line.encode() + b"\n")
            return client.makefile().read()

    def up(self) -> int:
        """Servers that are taken to be ready, of both groups."""
        rows = [line.split(",") for line in self.order("show stat").splitlines() if line.startswith("xiaozhi_")]
        return sum(row[17] == "UP" for row in rows if row[1] not in ("FRONTEND", "BACKEND"))


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    haproxy = need("haproxy")
    backends = [Backend() for _ in range(3)]
    made = Front(haproxy, tmp_path_factory.mktemp("haproxy"), backends)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        for backend in backends:
            backend.stop()


@pytest.fixture(autouse=True)
def _all_ready(front: Front) -> None:
    for backend in front.backends:
        backend.refusing = False
    wait_for(lambda: front.up() == 6, "all servers to be ready")


def test_the_configuration_of_the_containers_is_one() -> None:
    check(need("haproxy"), "-c", "-f", str(CFG.parent / "compose.cfg"))


DEVICES = [f"02:00:00:00:00:{number:02x}" for number in range(40)]


def test_a_device_gets_the_same_server_every_time(front: Front) -> None:
    first = {device: front.worker_of(Device_Id=device) for device in DEVICES}

    assert first == {device: front.worker_of(Device_Id=device) for device in DEVICES}
    assert len(Counter(first.values())) == 3
    assert front.worker_of(Device_Id=DEVICES[3].upper()) == first[DEVICES[3]]


def test_a_device_that_says_who_it_is_in_the_query_too(front: Front) -> None:
    for device in DEVICES[:8]:
        by_query = front.worker_of(f"/xiaozhi/v1/?client-id=c&device-id={device.replace(':', '%3A')}&token=x")
        assert by_query == front.worker_of(Device_Id=device)


def test_one_that_is_not_ready_gets_nobody_and_only_its_share_moves(front: Front) -> None:
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


def test_a_server_is_drained_by_its_weight(front: Front) -> None:
    before = {device: front.worker_of(Device_Id=device) for device in DEVICES}
    one = front.backends[0].port

    front.order("set server xiaozhi_devices/one weight 0")
    try:
        after = {device: front.worker_of(Device_Id=device) for device in DEVICES}
    finally:
        front.order("set server xiaozhi_devices/one weight 100")

    assert one in before.values() and one not in after.values()
    assert {device: front.worker_of(Device_Id=device) for device in DEVICES} == before


def test_the_server_learns_who_asks_and_how(front: Front) -> None:
    status, seen = front.ask("/xiaozhi/ota/", "POST", b"{}", Device_Id="a", Authorization="Bearer x")

    headers = seen["headers"]
    assert status == 200 and headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "https" and headers["x-forwarded-host"] == f"localhost:{front.port}"
    assert headers["device-id"] == "a" and headers["authorization"] == "Bearer x"


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz", "/admin/reload", "/console"])
def test_what_is_for_operators_stays_inside(front: Front, path: str) -> None:
    assert front.ask(path)[0] == 404


def test_pictures_pass_and_larger_things_do_not(front: Front) -> None:
    assert front.ask("/mcp/vision/explain", "POST", b"x" * 5_000_000)[0] == 200
    for path, size in (("/mcp/vision/explain", 7_000_000), ("/xiaozhi/ota/", 100_000)):
        connection, answer = front.head(path, f"Content-Length: {size}", method="POST")
        connection.close()
        assert answer.startswith("HTTP/1.1 413 ")


def test_a_flood_from_one_address_is_stopped_at_the_door(front: Front) -> None:
    answers = Counter(front.ask("/xiaozhi/ota/")[0] for _ in range(1_100))
    assert answers[429] > 0 and answers[200] > 200
