"""A TCP client for vendors: every wait has an end, every failure its type, and `close` wakes whoever waits."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.server import StreamServer

from tests.waiting import PATIENCE_S, take_turns, wait_for
from xiaozhi.errors import VendorError, VendorRejected, VendorTimeout, VendorUnavailable
from xiaozhi.net.tcp_client import VendorTcp


class Echo(StreamServer):
    """Echoes, unless it is deaf."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.talk)
        self.deaf = False
        self.left = Event()

    def talk(self, sock: Any, address: Any) -> None:
        try:
            while not self.deaf:
                data = sock.recv(1000)
                if data in (b"", b"bye"):
                    break
                sock.sendall(data)
            else:
                self.left.wait(PATIENCE_S)
        except OSError:
            pass
        finally:
            self.left.set()
            sock.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    server.start()
    yield server
    server.left.set()
    server.stop(timeout=0)


def test_bytes_go_and_come(echo: Echo) -> None:
    with VendorTcp("acme", "127.0.0.1", echo.server_port) as client:
        client.send(b"hello")
        assert client.receive(PATIENCE_S) == b"hello"
        client.send(b"bye")
        with pytest.raises(VendorUnavailable, match="closed the connection") as caught:
            client.receive(PATIENCE_S)
        assert caught.value.asked_at == f"tcp://127.0.0.1:{echo.server_port}"
    for late in (lambda: client.send(b"x"), lambda: client.receive(1)):
        with pytest.raises(VendorUnavailable):
            late()
    assert echo.left.wait(PATIENCE_S)


def test_silence_has_an_end_and_ends_the_connection(echo: Echo) -> None:
    client = VendorTcp("acme", "127.0.0.1", echo.server_port)
    with pytest.raises(VendorTimeout, match=r"nothing heard within 0\.02 s"):
        client.receive(0.02)
    assert echo.left.wait(PATIENCE_S)


def test_somebody_elses_deadline_passes_through_and_ends_the_connection(echo: Echo) -> None:
    client = VendorTcp("acme", "127.0.0.1", echo.server_port)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.02):
        client.receive(PATIENCE_S)
    assert echo.left.wait(PATIENCE_S)


@pytest.mark.parametrize("kill", [False, True])
def test_close_and_a_kill_wake_whoever_waits(echo: Echo, kill: bool) -> None:
    client = VendorTcp("acme", "127.0.0.1", echo.server_port)
    told: list[VendorError] = []

    def receive() -> None:
        try:
            client.receive(PATIENCE_S)
        except VendorError as error:
            told.append(error)

    reader = gevent.spawn(receive)
    take_turns()
    if kill:
        reader.kill()
    else:
        client.close()
        client.close()
        reader.join(PATIENCE_S)
        assert isinstance(told[0], VendorUnavailable)
    assert reader.ready()
    assert echo.left.wait(PATIENCE_S)


def test_a_peer_that_takes_nothing(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi.net.tcp_client.SEND_SECONDS", 0.05)
    echo.deaf = True
    client = VendorTcp("acme", "127.0.0.1", echo.server_port)
    with pytest.raises(VendorTimeout, match="not taken"):
        client.send(bytes(64 * 1024 * 1024))


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        with pytest.raises(VendorUnavailable, match="refused"):
            VendorTcp("acme", "127.0.0.1", port)
    with pytest.raises(VendorRejected, match="unusable address"):
        VendorTcp("acme", "a" * 70 + ".example", 1)


def test_a_connection_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda address: Event().wait(PATIENCE_S))
    with pytest.raises(VendorTimeout, match="no connection within"):
        VendorTcp("acme", "127.0.0.1", 1, connect=0.02)


def test_closing_while_it_connects_is_harmless(echo: Echo) -> None:
    connecting = gevent.spawn(VendorTcp, "acme", "127.0.0.1", echo.server_port)
    connecting.kill()
    wait_for(connecting.ready)
