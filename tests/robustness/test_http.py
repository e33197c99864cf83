"""Both ports, abused with HTTP: bytes that are none, heads that drip, bodies that never end. Somebody always answers,
or hangs up."""

from __future__ import annotations

import json
import random
import socket
import time
from typing import Any

import gevent
import pytest

from tests.e2e.stage import Stage
from tests.robustness.conftest import Talking, busy
from tests.robustness.logbook import SAID, SECRET
from tests.robustness.rawhttp import request, status, talk, upload
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.web import http_connection
from xiaozhi.web.http_connection import WebLimits

IMPATIENT = WebLimits(
    connections=60, idle_seconds=0.5, head_seconds=0.5, body_seconds=0.5, application_seconds=1.0, send_seconds=0.5
)


@pytest.fixture(scope="module")
def stage_settings() -> dict[str, Any]:
    """An operator's token, and little patience."""
    return {"server": {"connection_timeout": 0.5, "admin_token": f"{SECRET}-admin-token"}}


@pytest.fixture(autouse=True)
def _impatient(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The HTTP port waits for half a second where it would wait for half a minute."""
    monkeypatch.setattr(stage.server.web, "limits", IMPATIENT)
    monkeypatch.setattr(http_connection, "LINGER_SECONDS", 0.3)


MAC = "Device-Id: 02:00:00:00:00:09\r\n"
ODD_REQUESTS: dict[str, tuple[bytes, set[int]]] = {
    "bad method": (request("BREW", "/"), {405, 400, 501}),
    "long method": (request("G" * 5000, "/"), {400, 405, 501}),
    "delete": (request("DELETE", "/xiaozhi/ota/"), {405}),
    "trace": (request("TRACE", "/"), {405, 400, 501}),
    "no such path": (request("GET", "/../../etc/passwd"), {404}),
    "encoded way up": (request("GET", "/xiaozhi/ota/download/..%2f..%2fserver.py"), {404}),
    "NUL in a path": (request("GET", "/xiaozhi/ota/download/a%00.bin"), {404, 400}),
    "long path": (request("GET", "/" + "a" * 20_000), {414, 431, 400, 404}),
    "many headers": (request("GET", "/", "".join(f"X-{number}: y\r\n" for number in range(2000))), {400, 431}),
    "long header": (request("GET", "/", f"X: {'y' * 100_000}\r\n"), {400, 431}),
    "header without a colon": (request("GET", "/", "Nonsense\r\n"), {400}),
    "two lengths": (
        request("POST", "/xiaozhi/ota/", f"{MAC}Content-Length: 2\r\nContent-Length: 5\r\n", b"{}xxx"),
        {400},
    ),
    "length and chunks": (
        request("POST", "/xiaozhi/ota/", f"{MAC}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        {400},
    ),
    "negative length": (request("POST", "/xiaozhi/ota/", f"{MAC}Content-Length: -5\r\n"), {400}),
    "length that is no number": (request("POST", "/xiaozhi/ota/", f"{MAC}Content-Length: five\r\n"), {400}),
    "HTTP/0.9": (b"GET /\r\n\r\n", {0, 200, 400}),
    "HTTP/3.0": (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", {400, 505}),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n", {0, 400}),
    "not JSON": (upload("/xiaozhi/ota/", b"\xff\xfe{", Device_Id="02:00:00:00:00:09"), {400}),
    "deep JSON": (upload("/xiaozhi/ota/", b"[" * 60_000, Device_Id="02:00:00:00:00:09"), {400}),
    "JSON of odd types": (
        upload("/xiaozhi/ota/", b'{"application": 5, "board": [], "mac": {}}', Device_Id="02:00:00:00:00:09"),
        {200},
    ),
    "no device": (upload("/xiaozhi/ota/", b"{}"), {400}),
    "device that is none": (upload("/xiaozhi/ota/", b"{}", Device_Id="x' OR 1=1"), {400}),
    "picture of a stranger": (upload("/mcp/vision/explain", b"x" * 100_000, Authorization=f"Bearer {SECRET}"), {401}),
    "reload by a stranger": (upload("/admin/reload", b"", Authorization=f"Bearer {SECRET}"), {401}),
    "reload with half a token": (upload("/admin/reload", b"", Authorization=f"Bearer {SECRET}-admi"), {401}),
    "reload with an odd token": (upload("/admin/reload", b"", Authorization="Bearer \xff\xfe"), {401}),
}


def test_odd_requests_are_answered(stage: Stage, witness: Talking) -> None:
    wrong = []
    with witness():
        for name, (data, expected) in ODD_REQUESTS.items():
            answer = talk(stage.server.http_port, data)
            if status(answer) not in expected:
                wrong.append(f"{name}: {status(answer)} {answer[:200]!r}, not {expected}")
            assert SECRET.encode() not in answer
            assert b"Traceback" not in answer
    assert not wrong, "\n".join(wrong)
    assert stage.count("xiaozhi_reloads_total", result="accepted") == 0


DEVICE_PORT: dict[str, tuple[bytes, set[int]]] = {
    "POST": (upload("/xiaozhi/v1/", b"{}"), {405}),
    "POST of a megabyte": (upload("/xiaozhi/v1/", bytes(1 << 20)), {405}),
    "other path": (request("GET", "/elsewhere", "Upgrade: websocket\r\n"), {404}),
    "no upgrade": (request("GET", "/xiaozhi/v1/"), {200}),
    "half an upgrade": (request("GET", "/xiaozhi/v1/", f"Upgrade: websocket\r\n{MAC}"), {400, 426}),
    "odd key": (
        request(
            "GET", "/xiaozhi/v1/", f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ?\r\n{MAC}"
        ),
        {400},
    ),
    "old version": (
        request("GET", "/xiaozhi/v1/", f"Upgrade: websocket\r\nSec-WebSocket-Version: 8\r\n{MAC}"),
        {400, 426},
    ),
    "long headers": (request("GET", "/xiaozhi/v1/", f"X: {'y' * 50_000}\r\n"), {431, 400}),
    "many headers": (request("GET", "/xiaozhi/v1/", "".join(f"X-{number}: y\r\n" for number in range(500))), {431}),
    "endless parameters": (request("GET", "/xiaozhi/v1/?" + "a=b&" * 1000), {400, 414}),
    "id of a kilobyte": (request("GET", "/xiaozhi/v1/", f"Upgrade: websocket\r\nDevice-Id: {'x' * 1000}\r\n"), {400}),
    "id with an escape": (request("GET", "/xiaozhi/v1/", "Upgrade: websocket\r\nDevice-Id: \x1b[2J\r\n"), {400}),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n", {400}),
    "nothing": (b"\r\n\r\n", {400}),
}


def test_the_device_port_answers_http(stage: Stage, witness: Talking) -> None:
    wrong = []
    with witness():
        for name, (data, expected) in DEVICE_PORT.items():
            answer = talk(stage.server.port, data)
            if status(answer) not in expected:
                wrong.append(f"{name}: {status(answer)} {answer[:200]!r}, not {expected}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("which", ["http", "devices"])
def test_bytes_at_random(stage: Stage, witness: Talking, which: str) -> None:
    """Three hundred connections of noise; each ends, with an answer or without."""
    port = stage.server.http_port if which == "http" else stage.server.port
    statuses = set()
    with witness():
        for seed in range(150):
            chance = random.Random(seed)
            noise = chance.randbytes(chance.randrange(1, 3000))
            pieces = (noise, b"\r\n\r\n") if seed % 2 else (b"GET / HTTP/1.1\r\n" + noise, b"\r\n\r\n")
            statuses.add(status(talk(port, *pieces, end=True)))
    assert statuses <= {0, 400, 404, 405, 414, 431, 505, 200}, statuses


def test_heads_and_bodies_that_drip(stage: Stage, witness: Talking) -> None:
    """All places of the HTTP port taken by clients that say nothing more: they make room or are sent away, health is
    told meanwhile, and nobody on the device port notices."""
    begun = [
        b"",
        b"G",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nX: y\r\n",
        request("POST", "/xiaozhi/ota/", f"{MAC}Content-Length: 50\r\n"),
    ]
    port = stage.server.http_port
    with witness():
        slow = [gevent.spawn(talk, port, begun[number % len(begun)]) for number in range(IMPATIENT.connections)]
        wait_for(lambda: busy(stage).get("http", 0) >= IMPATIENT.connections, "all places to be taken")
        for path in ("/healthz", "/readyz"):
            assert status(talk(port, request("GET", path))) == 200
        gevent.joinall(slow, raise_error=True)

        assert {status(greenlet.value) for greenlet in slow} == {0, 408}
        assert status(talk(port, request("GET", "/healthz"))) == 200


def test_bodies_that_are_too_large(stage: Stage, witness: Talking) -> None:
    """Promised, sent, or in chunks without end: refused, and no more is read than a little."""
    port = stage.server.http_port
    chunk = b"10000\r\n" + bytes(65_536) + b"\r\n"
    head = request("POST", "/xiaozhi/ota/", f"{MAC}Transfer-Encoding: chunked\r\n")
    with witness():
        sent: dict[str, tuple[tuple[bytes, ...], set[int]]] = {
            "promised": ((request("POST", "/xiaozhi/ota/", f"{MAC}Content-Length: 10000000000\r\n"),), {413, 408}),
            "sent": ((upload("/xiaozhi/ota/", bytes(3 << 20), Device_Id="02:00:00:00:00:09"),), {413, 0}),
            "in chunks": ((head, *[chunk] * 60), {413, 0}),
            "odd chunks": ((head, b"zz\r\nnot a chunk\r\n"), {400, 408}),
            "half a chunk": ((head, b"5\r\nab"), {400, 408}),
        }
        answers = {name: gevent.spawn(talk, port, *pieces) for name, (pieces, _) in sent.items()}
        gevent.joinall(list(answers.values()), raise_error=True)
        for name, (_, expected) in sent.items():
            assert status(answers[name].value) in expected, name


def test_clients_that_never_read(stage: Stage, witness: Talking) -> None:
    """Pages asked for by the hundred on connections that nobody reads: let go after the send deadline."""
    port = stage.server.http_port
    many = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 40
    with witness():
        deaf = []
        for _ in range(3):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.connect(("127.0.0.1", port))
            sock.sendall(many)
            deaf.append(sock)
        wait_for(lambda: not busy(stage).get("http", 0), "them to be let go")
    for sock in deaf:
        sock.close()


def test_requests_by_the_hundred_on_one_connection(stage: Stage, witness: Talking) -> None:
    """All sent at once and all read: whoever does that gets its answers between those of others."""
    count = 1500
    many = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * (count - 1) + request("GET", "/healthz")
    with witness():
        assert talk(stage.server.http_port, many).count(b"HTTP/1.1 200 OK") == count


def test_what_devices_ask_first_while_all_that_happens(stage: Stage, witness: Talking) -> None:
    """OTA answers between connections of garbage."""
    port = stage.server.http_port
    with witness():
        for number in range(40):
            talk(port, random.Random(number).randbytes(200), end=True)
            answer = talk(
                port, upload("/xiaozhi/ota/", b'{"application": {"version": "1.0"}}', Device_Id="02:00:00:00:00:09")
            )
            assert status(answer) == 200
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["firmware"]["version"] == "1.0"
    assert SAID not in answer.decode()


def test_a_head_that_drips_does_not_buy_time(stage: Stage, witness: Talking) -> None:
    """Byte by byte, on either port."""

    def drip(port: int) -> float:
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as sock:
            sock.settimeout(0.05)
            try:
                for byte in b"GET / HTTP/1.1\r\nX: " + b"y" * 80:
                    sock.sendall(bytes((byte,)))
                    try:
                        sock.recv(4096)
                        break  # it has answered, or hung up
                    except TimeoutError:
                        continue
            except OSError:
                pass  # it has hung up
        return time.monotonic() - began

    with witness():
        dripping = [gevent.spawn(drip, port) for port in (stage.server.port, stage.server.http_port)]
        gevent.joinall(dripping, raise_error=True)
    assert max(greenlet.value for greenlet in dripping) < 4
