"""TCP sockets: listening, and the options and limits that every device socket needs.

Not a protocol, and not TLS (`tls.py`). Tuned for Linux; options that another system lacks are left out."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Any, Final

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: closing drops what the kernel has not sent yet, and the peer gets a reset."""


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Bounds of one socket: bytes and seconds."""

    binary_bytes: int = 16_384
    text_bytes: int = 262_144
    send_timeout: float = 5.0
    """How long the peer may take to make room for one frame."""
    close_timeout: float = 2.0
    """How long the peer may take to answer a close frame."""
    send_buffer_bytes: int = 65_536
    """Kernel buffer for what was sent. Linux would let it grow to megabytes: minutes of speech for a device that has
    stopped reading."""
    keepalive_idle: int = 60
    keepalive_interval: int = 20
    keepalive_probes: int = 3
    user_timeout: float = 30.0
    """How long sent data may stay unacknowledged: so a device without power is noticed by the first sentence that is
    sent to it."""


def configure(sock: Any, limits: SocketLimits) -> None:
    """Set what every device socket needs: no delay for small frames, and probes by which the kernel notices that the
    peer is gone."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.send_buffer_bytes)
    for name, value in (
        ("TCP_KEEPIDLE", limits.keepalive_idle),
        ("TCP_KEEPINTVL", limits.keepalive_interval),
        ("TCP_KEEPCNT", limits.keepalive_probes),
        ("TCP_USER_TIMEOUT", int(limits.user_timeout * 1000)),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


class AddressError(OSError):
    """`address` (host, port) cannot be listened on."""

    def __init__(self, error: OSError, address: tuple[str, int]) -> None:
        super().__init__(error.errno, error.strerror or str(error))
        self.address = address


def listen(address: tuple[str, int], *, backlog: int, reuse_port: bool = False) -> socket.socket:
    """A listening, non-blocking TCP socket; a host with a colon is IPv6, and "::" takes IPv4 too. `reuse_port`: several
    processes share the port (SO_REUSEPORT). Raises AddressError."""
    host = address[0]
    listener: socket.socket | None = None
    try:
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if host == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise AddressError(error, address) from error
    return listener
