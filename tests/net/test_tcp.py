"""Listening, and the options of device sockets."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from tests.waiting import PATIENCE_S
from xiaozhi.net.tcp import SocketLimits, configure, listen


def connect(host: str, port: int) -> None:
    with socket.create_connection((host, port), timeout=PATIENCE_S):
        pass


def test_ipv4() -> None:
    with closing(listen(("127.0.0.1", 0), backlog=5)) as listener:
        connect("127.0.0.1", listener.getsockname()[1])


def test_a_port_belongs_to_one_unless_it_is_shared() -> None:
    with closing(listen(("127.0.0.1", 0), backlog=5)) as listener, pytest.raises(OSError):
        listen(listener.getsockname(), backlog=5)
    with (
        closing(listen(("127.0.0.1", 0), backlog=5, reuse_port=True)) as first,
        closing(listen(first.getsockname(), backlog=5, reuse_port=True)) as second,
    ):
        assert first.getsockname() == second.getsockname()


def test_ipv6_and_both_at_once() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        listener = listen(("::", 0), backlog=5)
    except OSError:
        pytest.skip("no IPv6 here")
    with closing(listener):
        connect("127.0.0.1", listener.getsockname()[1])
        connect("::1", listener.getsockname()[1])


def test_an_address_of_another_machine() -> None:
    with pytest.raises(OSError):
        listen(("192.0.2.1", 0), backlog=5)


def test_options_that_a_system_lacks_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT", raising=False)
    with socket.socket() as sock:
        configure(sock, SocketLimits(send_buffer_bytes=8192, keepalive_idle=7))
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * 8192, "Linux doubles it"
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
