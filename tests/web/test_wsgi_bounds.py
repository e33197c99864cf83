"""What clients may not do: bodies, headers, idle and slow connections."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterable
from typing import Any

import gevent
import pytest
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.waiting import PATIENCE_S, wait_for
from tests.web.wsgi_client import CERTIFICATE, FILE_BYTES, KEY, Views, connect, exchange, get, read_all, serving
from xiaozhi.net.proxies import TrustedProxies
from xiaozhi.net.tls import TlsFiles
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.web.http_connection import PAUSE_BYTES
from xiaozhi.web.wsgi import WebLimits


def read_some(sock: socket.socket) -> bytes:
    """What comes next."""
    return sock.recv(65536)


def test_one_connection_too_many_is_told_so() -> None:
    views = Views()
    with serving(views.app, limits=WebLimits(connections=1)) as server:
        holder = connect(server)
        holder.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        assert views.entered.wait(PATIENCE_S)

        refused = exchange(server, b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 2\r\n" in refused
        assert server.counts.refused == 1

        views.gate.set()
        holder.close()


def test_a_full_house_still_tells_how_it_is() -> None:
    """Its requests under way keep their places, whoever waits makes room, and health has places of its own."""
    views = Views()
    with serving(views.app, limits=WebLimits(connections=2, per_address=2, reserve=1)) as server:
        holders = [connect(server) for _ in range(2)]
        for holder in holders:
            holder.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: server.counts.requests == 2)

        def all_places_for_health_are_free() -> bool:
            return server.seats.reserved == 0

        for path in ("/healthz", "/readyz"):
            for _ in range(3):
                reply = exchange(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert reply.startswith(b"HTTP/1.1 200 ")
                assert b"Connection: close" in reply
                wait_for(all_places_for_health_are_free)
        silent = connect(server)
        wait_for(lambda: server.seats.reserved == 1)
        assert get(server, "/healthz")[0] == 200, "silence does not keep the place for health"
        wait_for(all_places_for_health_are_free)
        dripping = connect(server)
        dripping.sendall(b"POST /body HTTP/1.1\r\nX: y\r\n")
        wait_for(lambda: server.seats.reserved == 1)
        assert get(server, "/healthz")[0] == 200, "nor does a head that drips"
        wait_for(all_places_for_health_are_free)
        busy = connect(server)
        busy.sendall(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        assert busy.recv(12) == b"HTTP/1.1 503"
        assert get(server, "/healthz")[0] == 200, "nor does who was refused and stays"
        for path in ("/hello", "/healthz/x", "/"):
            refused = exchange(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert refused.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 2\r\n" in refused
        views.gate.set()
        assert all(read_some(holder).startswith(b"HTTP/1.1 200 ") for holder in holders)
        for sock in (*holders, silent, dripping, busy):
            sock.close()
        wait_for(lambda: not server.connections)
        assert (server.seats.public, server.seats.reserved) == (0, 0)


def test_silent_sockets_keep_nobody_out() -> None:
    with serving(Views().app, limits=WebLimits(connections=20, per_address=20)) as server:
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(connect(server)) for _ in range(20)]
            wait_for(lambda: server.seats.public == 20)
            assert get(server, "/hello")[0] == 200
            assert silent[0].recv(1) == b"", "the oldest one made room"
            kept = http.client.HTTPConnection(*server.address, timeout=PATIENCE_S)
            kept.request("GET", "/hello")
            assert kept.getresponse().read()
            for _ in range(5):
                stack.enter_context(connect(server))
            kept.request("GET", "/hello")
            assert kept.getresponse().read(), "who has asked before goes last"
            kept.close()
        wait_for(lambda: not server.connections)


def test_silent_tls_sockets_keep_nobody_out() -> None:
    context = ssl.create_default_context(cafile=CERTIFICATE)
    limits = WebLimits(connections=3, per_address=3)
    with serving(Views().app, tls=TlsFiles(CERTIFICATE, KEY), limits=limits) as server:
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(connect(server))
            wait_for(lambda: server.seats.public == 3)
            connection = http.client.HTTPSConnection(*server.address, timeout=PATIENCE_S, context=context)
            connection.request("GET", "/hello")
            assert connection.getresponse().status == 200
            connection.close()
        wait_for(lambda: not server.connections)


@pytest.mark.parametrize("trusted", [False, True])
def test_one_address_has_a_share_and_behind_a_proxy_the_client_has(trusted: bool) -> None:
    views = Views()
    proxies = TrustedProxies(["127.0.0.0/8"] if trusted else [])
    with serving(views.app, limits=WebLimits(per_address=1), trusted=proxies) as server, connect(server) as holder:
        holder.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
        assert views.entered.wait(PATIENCE_S)
        assert get(server, "/hello", **{"X-Forwarded-For": "192.0.2.1"})[0] == 503
        assert get(server, "/hello", **{"X-Forwarded-For": "192.0.2.1, 192.0.2.2"})[0] == (200 if trusted else 503)
        views.gate.set()
        assert read_some(holder)
        assert get(server, "/hello", **{"X-Forwarded-For": "192.0.2.1"})[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        b"Content-Length: 2\r\nContent-Length: 2\r\n",
        b"Content-Length: 2\r\nCONTENT-LENGTH: 5\r\n",
        b"Content-Length: +2\r\n",
        b"Content-Length: 0x2\r\n",
        b"Content-Length: 2_0\r\n",
        b"Content-Length: 2, 2\r\n",
        b"Content-Length:\r\n",
        b"Content-Length : 2\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Host : x\r\n",
        b"Host: a\r\nHost: b\r\n",
        b"Device-Id: a\r\nDevice-Id: b\r\n",
        b"Client-Id: a\r\nclient-id: a\r\n",
        b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
        b"Origin: http://a\r\nOrigin: http://localhost\r\n",
        b"X: a\r\n folded: b\r\n",
        b" X: a\r\n",
        b"X\x00: a\r\n",
        b"X: a\rContent-Length: 9\r\n",
        b"X: a\x00b\r\n",
        b": a\r\n",
        b"X\r\n",
    ],
)
def test_heads_that_can_be_read_in_two_ways_are_refused(head: bytes) -> None:
    views = Views()
    with serving(views.app) as server:
        reply = exchange(server, b"POST /body HTTP/1.1\r\n" + head + b"\r\n" + b"0\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 400 ")
        assert reply.count(b"HTTP/1.1") == 1
    assert views.bodies == []


@pytest.mark.parametrize(
    "framing", [b"content-length:3\r\n\r\nabc", b"TRANSFER-ENCODING: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
)
def test_ordinary_heads_are_not(framing: bytes) -> None:
    views = Views()
    with serving(views.app) as server:
        head = b"POST /body HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Empty:\r\nAccept: a\r\nAccept: b\r\n"
        assert exchange(server, head + framing).startswith(b"HTTP/1.1 200 ")
    assert views.bodies == [b"abc"]


def test_others_have_their_turn_within_a_long_answer() -> None:
    """The client reads all the time, so that no write waits for it."""
    group = Tasks()
    turns = 0
    done = Event()

    def others() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            gevent.sleep(0)  # sleep: one turn of the loop

    with serving(Views().app) as server:
        other = group.spawn("others", others)
        got = exchange(server, b"GET /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        done.set()
        other.join(PATIENCE_S)
    assert len(got) > FILE_BYTES
    assert turns >= FILE_BYTES // PAUSE_BYTES


def test_who_reads_a_little_now_and_then_is_let_go() -> None:
    """Each piece is taken within its deadline, all together are not."""
    limits = WebLimits(send_seconds=0.2, bytes_per_second=1e9)
    with serving(Views().app, limits=limits) as server, connect(server) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        taken = 0
        with contextlib.suppress(OSError):
            while server.connections and taken < 8 * 1024 * 1024:
                taken += len(sock.recv(16_384))
                gevent.sleep(0.02)  # sleep: a lazy reader
        wait_for(lambda: not server.connections)
        assert taken < 8 * 1024 * 1024


@pytest.mark.parametrize("headers", [b"X: " + b"a" * 20_000 + b"\r\n", b"X: y\r\n" * 5000, b"X" * 100_000])
def test_large_headers_are_refused(headers: bytes) -> None:
    with serving(Views().app) as server:
        assert exchange(server, b"GET /hello HTTP/1.1\r\n" + headers + b"\r\n").startswith(
            (b"HTTP/1.1 431 ", b"HTTP/1.1 400 ")
        )
        assert get(server, "/hello")[0] == 200


def test_a_long_request_line_is_refused() -> None:
    with serving(Views().app) as server:
        assert b" 414 " in exchange(server, b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n").split(b"\r\n")[0]


def test_a_head_that_never_ends_is_given_up() -> None:
    with serving(Views().app, limits=WebLimits(head_seconds=0.05)) as server:
        assert exchange(server, b"GET /hello HTTP/1.1\r\nHost: x\r\n").startswith(b"HTTP/1.1 408 ")
        assert server.counts.too_slow == 1


def test_dripping_does_not_win_time() -> None:
    with serving(Views().app, limits=WebLimits(head_seconds=0.1)) as server, connect(server) as sock:
        sock.sendall(b"GET /hello HTTP/1.1\r\n")
        with contextlib.suppress(OSError):
            for _ in range(1000):
                sock.sendall(b"X: y\r\n")
                gevent.sleep(0.005)  # sleep: it drips
                if server.counts.too_slow:
                    break

        assert server.counts.too_slow == 1


def test_a_silent_connection_is_closed() -> None:
    with serving(Views().app, limits=WebLimits(idle_seconds=0.05)) as server:
        assert exchange(server, b"") == b""
        assert exchange(server, b"GET /hel") == b""


def test_a_body_that_does_not_come_is_given_up() -> None:
    with serving(Views().app, limits=WebLimits(body_seconds=0.05)) as server:
        for framing in (b"Content-Length: 100\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc"):
            reply = exchange(server, b"POST /body HTTP/1.1\r\nHost: x\r\n" + framing)
            assert reply.startswith(b"HTTP/1.1 408 ")
            assert b"body did not arrive" in reply


def test_a_refused_body_is_not_read_to_its_end() -> None:
    views = Views()
    with serving(views.app) as server, connect(server) as sock:
        sock.sendall(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n")
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 64 * 1024 * 1024:
                sent += sock.send(b"x" * 65536)
        reply = read_all(sock)

    assert sent < 32 * 1024 * 1024
    assert reply.startswith(b"HTTP/1.1 413 ") or reply == b""
    assert views.bodies == []


def test_the_answer_to_a_small_refused_body_arrives_and_the_connection_lives_on() -> None:
    with serving(Views().app) as server:
        connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE_S)
        for path, status in (("/refuse", 403), ("/body", 200)):
            connection.request("POST", path, body=b"x" * 50_000)
            reply = connection.getresponse()
            assert reply.status == status
            reply.read()
        assert server.connections == 1
        connection.close()


def test_chunked_bodies_are_bounded_too() -> None:
    views = Views()
    with serving(views.app) as server:
        chunks = (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 20 + b"0\r\n\r\n"
        reply = exchange(
            server,
            b"POST /body HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks,
        )

    assert reply.startswith(b"HTTP/1.1 413 ")
    assert views.bodies == []


def test_expect_continue_is_only_granted_when_the_body_is_wanted() -> None:
    with serving(Views().app) as server:
        head = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        assert exchange(server, b"POST /body" + head % 3 + b"abc").startswith(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "
        )
        assert exchange(server, b"POST /body" + head % 99_000_000).startswith(b"HTTP/1.1 413 ")


def test_an_application_that_hangs_is_answered_for() -> None:
    views = Views()
    with serving(views.app, limits=WebLimits(application_seconds=0.05)) as server:
        status, body = get(server, "/wait")

    assert status == 504
    assert json.loads(body)["success"] is False
    assert server.counts.too_slow == 1


def test_a_client_that_does_not_read_is_let_go() -> None:
    with serving(Views().app, limits=WebLimits(send_seconds=0.1)) as server, connect(server) as sock:
        sock.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: not server.connections)


def test_a_failing_view_is_a_500_without_secrets() -> None:
    with serving(Views().app) as server:
        status, body = get(server, "/fail")

    assert status == 500
    assert b"secret" not in body


def test_a_broken_application_is_a_500_too() -> None:
    def broken(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        raise RuntimeError("secret")

    with serving(broken) as server:
        status, body = get(server, "/")

    assert status == 500
    assert b"secret" not in body


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"\x00\xff\xfe\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / FTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_harms_nobody(data: bytes) -> None:
    with serving(Views().app) as server:
        assert exchange(server, data).startswith(b"HTTP/1.1 400 ")
        assert server.counts.bad_requests == 1
        assert get(server, "/hello")[0] == 200


@settings(max_examples=60)
@given(
    st.binary(max_size=300)
    | st.binary(max_size=100).map(lambda tail: b"POST /body HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + tail)
)
def test_random_bytes_harm_nobody(data: bytes) -> None:
    with serving(Views().app) as server:
        exchange(server, data, half_close=True)
        assert get(server, "/hello")[0] == 200


def test_a_client_that_vanishes_leaves_nothing_behind() -> None:
    views = Views()
    with serving(views.app) as server:
        for data in (
            b"",
            b"GET /hel",
            b"GET /hello HTTP/1.1\r\nHost",
            b"POST /body HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc",
        ):
            with connect(server) as sock:
                sock.sendall(data)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        wait_for(lambda: not server.connections)
        assert get(server, "/hello")[0] == 200
