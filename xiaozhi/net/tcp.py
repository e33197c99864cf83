"""Sockets as the kernel knows them: listening, TLS, and the options every device socket needs.

Not a protocol. Linux is what this is tuned for; options that another system lacks are left out.
"""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Any, Final

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: closing drops what the kernel still holds, and tells the peer by a reset."""


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
    """Kernel buffer. Left to itself Linux grows it to megabytes, and minutes of speech would vanish there before
    anybody notices."""
    keepalive_idle: int = 60
    keepalive_interval: int = 20
    keepalive_probes: int = 3
    user_timeout: float = 30.0
    """How long sent data may stay unacknowledged: a device without power is noticed by the first sentence it is
    sent."""


def configure(sock: Any, limits: SocketLimits) -> None:
    """Set what every device socket needs: no delay for small frames, and ways for the kernel to notice that the peer is
    gone."""
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


def listen(address: tuple[str, int], *, backlog: int, reuse_port: bool) -> socket.socket:
    """A listening, non-blocking socket; a host with a colon is IPv6. Raises OSError."""
    listener = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def server_tls(certfile: str, keyfile: str) -> ssl.SSLContext:
    """TLS 1.2 or newer with a certificate chain and its key, both PEM files. Raises OSError, of which SSLError is
    one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # so that writing never has to wait for reading
    context.load_cert_chain(certfile, keyfile)
    return context
