"""A blocking TCP client for vendors without HTTP: deadlines on every wait, typed errors, `close` from any greenlet.

Not a protocol: bytes in, bytes out. `websocket_client.py` is the same for WebSockets."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import gevent

from xiaozhi.errors import VendorError, VendorRejected, VendorTimeout, VendorUnavailable

SEND_SECONDS = 5.0
READ_BYTES = 65_536

T = TypeVar("T")


class VendorTcp:
    """One connection. One greenlet may send while another receives; `close` may come from anywhere and wakes both.

    `connect` seconds cover the name and all of its addresses. Raises VendorError."""

    def __init__(self, vendor: str, host: str, port: int, *, connect: float = 5.0) -> None:
        self.vendor = vendor
        self._asked_at = f"tcp://{host}:{port}"
        self._closed = False
        self._socket: socket.socket | None = None
        self._socket = self._within(connect, "no connection", socket.create_connection, (host, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> VendorTcp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send all of it. Raises VendorError."""
        self._within(SEND_SECONDS, "not taken", self._open_socket().sendall, data)

    def receive(self, deadline: float) -> bytes:
        """What has come, at least one byte. Raises VendorTimeout after `deadline` seconds, VendorUnavailable when the
        connection ends."""
        data = self._within(deadline, "nothing heard", self._open_socket().recv, READ_BYTES)
        if not data:
            closed = self._closed
            self.close()
            raise self._told(VendorUnavailable(self.vendor, "closed" if closed else "the vendor closed the connection"))
        return data

    def close(self) -> None:
        """Idempotent, callable from any greenlet."""
        self._closed = True
        if self._socket is not None:
            self._socket.close()  # gevent's wakes whoever waits for it

    def _open_socket(self) -> socket.socket:
        if self._socket is None or self._closed:
            raise self._told(VendorUnavailable(self.vendor, "closed"))
        return self._socket

    def _within(self, seconds: float, what: str, function: Callable[..., T], *args: Any) -> T:
        timer = gevent.Timeout.start_new(seconds)
        try:
            return function(*args)
        except gevent.Timeout as fired:
            self.close()
            if fired is not timer:
                raise
            raise self._told(VendorTimeout(self.vendor, f"{what} within {seconds:g} s")) from None
        except (OSError, ValueError) as error:
            closed = self._closed
            self.close()
            if isinstance(error, ValueError):  # a name that can be no host's
                raise self._told(VendorRejected(self.vendor, f"unusable address: {error}")) from error
            raise self._told(VendorUnavailable(self.vendor, "closed" if closed else str(error))) from error
        except BaseException:
            self.close()
            raise
        finally:
            timer.close()

    def _told(self, error: VendorError) -> VendorError:
        error.asked_at = self._asked_at
        return error
