"""config/nginx/xiaozhi.conf in a real nginx, in front of workers that show what reached them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ops.backend import TLS, Backend, TlsFront
from tests.ops.programs import ROOT, need
from tests.waiting import wait_for

CONF = ROOT / "config/nginx/xiaozhi.conf"


class Front(TlsFront):
    """nginx with our file, its ports and certificates replaced by those of the test."""

    def __init__(self, nginx: str, directory: Path, backends: list[Backend]) -> None:
        super().__init__(directory, backends)
        text = CONF.read_text(encoding="utf-8")
        ports = iter([backend.port for backend in backends] * 2)
        text, upstreams = re.subn(r"(?<=server 127\.0\.0\.1:)\d+", lambda _: str(next(ports)), text)
        assert upstreams == 2 * len(backends)
        text = text.replace("/var/log/nginx/", f"{directory}/")
        for example, ours in {
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "/etc/ssl/xiaozhi/fullchain.pem": str(TLS / "cert.pem"),
            "/etc/ssl/xiaozhi/privkey.pem": str(TLS / "key.pem"),
        }.items():
            assert text.count(example) == 1
            text = text.replace(example, ours)
        (directory / "xiaozhi.conf").write_text(text, encoding="utf-8")
        paths = "".join(
            f"{kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (directory / "nginx.conf").write_text(
            f"daemon off;\nmaster_process off;\npid {directory}/pid;\nerror_log {directory}/error.log;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{paths}include {directory}/xiaozhi.conf;\n}}\n",
            encoding="utf-8",
        )
        self.run = [
            nginx,
            "-p",
            str(directory),
            "-c",
            str(directory / "nginx.conf"),
            "-e",
            str(directory / "error.log"),
        ]
        self.test = [*self.run, "-t"]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    nginx = need("nginx")
    backends = [Backend() for _ in range(4)]
    made = Front(nginx, tmp_path_factory.mktemp("nginx"), backends)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        for backend in backends:
            backend.stop()


@pytest.fixture(autouse=True)
def _all_willing(front: Front) -> None:
    for backend in front.backends:
        backend.refusing = False


def test_a_device_gets_the_same_worker_every_time(front: Front) -> None:
    devices = [f"02:00:00:00:00:{number:02x}" for number in range(40)]

    first = {device: front.worker_of(Device_Id=device) for device in devices}
    again = {device: front.worker_of(Device_Id=device) for device in devices}

    assert first == again
    assert len(Counter(first.values())) == 4


def test_a_device_that_says_who_it_is_in_the_query_too(front: Front) -> None:
    paths = [f"/xiaozhi/v1/?client-id=c&device-id=device{number}&token=x" for number in range(20)]

    first = [front.worker_of(path) for path in paths]

    assert first == [front.worker_of(path) for path in paths]
    assert len(set(first)) > 1
    assert front.worker_of(Device_Id="device3") == first[3]


def test_no_token_gets_into_a_log(front: Front) -> None:
    secret = "?device-id=a&authorization=Bearer%20hunter2"
    front.worker_of(f"/xiaozhi/v1/{secret}")
    assert front.ask(f"/xiaozhi/ota/{secret}")[0] == 200
    for backend in front.backends:
        backend.refusing = True
    front.upgrade(f"/xiaozhi/v1/{secret}")[0].close()

    def logged() -> str:
        return "".join(path.read_text() for path in front.directory.glob("*.log"))

    wait_for(lambda: logged().count('"GET /xiaozhi/v1/"') >= 2, "the lines")
    assert "hunter2" not in logged()


def test_the_tunnel_carries_bytes_both_ways(front: Front) -> None:
    tunnel, head = front.upgrade(Device_Id="a")
    with tunnel:
        assert head.startswith("HTTP/1.1 101 ")
        tunnel.sendall(b"\x82\x05hello")

        assert tunnel.recv(100) == b"\x82\x05hello"


def test_a_path_without_its_last_slash_is_the_device_port(front: Front) -> None:
    assert front.worker_of("/xiaozhi/v1", Device_Id="a") == front.worker_of(Device_Id="a")


def test_a_worker_that_refuses_is_not_the_last_word(front: Front) -> None:
    usual = front.worker_of(Device_Id="b")
    for backend in front.backends:
        backend.refusing = backend.port == usual

    assert front.worker_of(Device_Id="b") not in (0, usual)


def test_the_server_learns_who_asks_and_how(front: Front) -> None:
    status, seen = front.ask(
        "/xiaozhi/ota/", "POST", b"{}", Device_Id="a", Authorization="Bearer x", X_Forwarded_For="6.6.6.6"
    )

    assert status == 200
    headers = seen["headers"]
    assert headers["x-forwarded-for"] == "6.6.6.6, 127.0.0.1"
    assert headers["x-forwarded-proto"] == "https"
    assert headers["x-forwarded-host"] == f"localhost:{front.port}"
    assert headers["device-id"] == "a"
    assert headers["authorization"] == "Bearer x"
    assert "upgrade" not in headers


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz", "/admin/reload"])
def test_what_is_for_operators_stays_inside(front: Front, path: str) -> None:
    assert front.ask(path)[0] == 404


def test_pictures_pass_and_larger_things_do_not(front: Front) -> None:
    assert front.ask("/mcp/vision/explain", "POST", b"x" * 5_000_000)[0] == 200
    assert front.ask("/mcp/vision/explain", "POST", b"x" * 7_000_000)[0] == 413
    assert front.ask("/xiaozhi/ota/", "POST", b"x" * 100_000)[0] == 413


def test_a_flood_from_one_address_is_stopped_at_the_door(front: Front) -> None:
    before = sum(backend.requests for backend in front.backends)

    answers = Counter(front.ask("/mcp/vision/explain")[0] for _ in range(90))

    assert answers[429] > 0
    assert answers[200] >= 50 - 2
    assert sum(backend.requests for backend in front.backends) - before == answers[200]
