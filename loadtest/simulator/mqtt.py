"""The client's end of MQTT 3.1.1, as much of it as firmware uses: connect, publish with QoS 0, pings; and what OTA says
of where to connect.

The client's own reading of the protocol, on purpose not the server's. A device never subscribes: it takes every PUBLISH
that comes on its connection. Blocking style; under gevent a blocked call costs a greenlet."""

from __future__ import annotations

import json
import socket
import struct
import urllib.request
from dataclasses import dataclass

from loadtest.simulator.wire import TEXT, Closed, WireFrame, trust

CONNECT, CONNACK, PUBLISH, PINGREQ, DISCONNECT = 1, 2, 3, 12, 14
TLS_PORT = 8883
"""Firmware speaks TLS on this port, which is also the one it takes when none is named, and on no other."""
KEEPALIVE_S = 240
RECEIVE_BYTES = 16 * 1024


class MqttRefused(OSError):
    """The server did not take the connection; `code` as in MQTT 3.1.1, table 3.1."""

    def __init__(self, code: int) -> None:
        super().__init__(f"MQTT connection refused with code {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class MqttAccess:
    """What OTA hands out."""

    endpoint: str
    """host[:port]"""
    client_id: str
    username: str
    password: str
    topic: str
    keepalive: int = KEEPALIVE_S

    @property
    def address(self) -> tuple[str, int]:
        """(host, port)"""
        host, _, port = self.endpoint.partition(":")
        return host, int(port or TLS_PORT)


def ask_ota(url: str, device_id: str, client_id: str, *, board: str = "loadtest", timeout: float = 30.0) -> MqttAccess:
    """Ask the OTA address as a device does that starts. Raises OSError, also when it is told
    nothing of MQTT."""
    body = {"version": 2, "mac_address": device_id, "board": {"type": board}, "application": {"version": "1.0.0"}}
    headers = {"Device-Id": device_id, "Client-Id": client_id, "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        told = json.load(answer).get("mqtt")
    if not isinstance(told, dict):
        raise OSError(f"{url} says nothing of MQTT")
    return MqttAccess(
        told["endpoint"],
        told["client_id"],
        told["username"],
        told["password"],
        told["publish_topic"],
        int(told.get("keepalive") or KEEPALIVE_S),
    )


def packet(kind: int, body: bytes, flags: int = 0) -> bytes:
    """A control packet: type, length (seven bits to a byte), body."""
    size, length = len(body), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return bytes([kind << 4 | flags]) + bytes(length) + body


def text(value: str) -> bytes:
    """A string on the wire."""
    data = value.encode()
    return struct.pack("!H", len(data)) + data


def take_packet(buffer: bytearray) -> tuple[int, bytes] | None:
    """Cut one complete packet (its first byte, its body) off the front of `buffer`, or leave it as it is."""
    size = shift = 0
    for at in range(1, min(len(buffer), 5)):
        size |= (buffer[at] & 127) << shift
        shift += 7
        if buffer[at] < 128:
            end = at + 1 + size
            if len(buffer) < end:
                return None
            found = buffer[0], bytes(buffer[at + 1 : end])
            del buffer[:end]
            return found
    return None


class MqttWire:
    """One connection, to be used like `Wire`: what is received are text frames. `receive` also keeps the connection
    alive."""

    def __init__(self, connected: socket.socket, access: MqttAccess) -> None:
        self.socket = connected
        self._buffer = bytearray()
        self._topic = text(access.topic)
        connected.settimeout(access.keepalive * 0.75)

    @classmethod
    def connect(cls, access: MqttAccess, *, timeout: float, verify: bool = True, source_address: str = "") -> MqttWire:
        """Open a TCP (or TLS) connection and introduce the device. Raises OSError, MqttRefused, Closed."""
        host, port = access.address
        source = (source_address, 0) if source_address else None
        plain = socket.create_connection((host, port), timeout=timeout, source_address=source)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected = trust(verify).wrap_socket(plain, server_hostname=host) if port == TLS_PORT else plain
            # Protocol level 4; user name, password, clean session.
            body = text("MQTT") + struct.pack("!BBH", 4, 0xC2, access.keepalive)
            connected.sendall(
                packet(CONNECT, body + text(access.client_id) + text(access.username) + text(access.password))
            )
            wire = cls(connected, access)
            connected.settimeout(timeout)
            first, answer = wire._next()
            if first >> 4 != CONNACK or len(answer) != 2 or answer[1]:
                raise MqttRefused(answer[1] if len(answer) == 2 else 0)
            connected.settimeout(access.keepalive * 0.75)
        except BaseException:
            plain.close()
            raise
        return wire

    def message(self, payload: bytes) -> bytes:
        """A message for the server, ready for `send`."""
        return packet(PUBLISH, self._topic + payload)

    def send(self, ready: bytes) -> None:
        """Put bytes on the socket. Raises Closed."""
        try:
            self.socket.sendall(ready)
        except OSError as error:
            raise Closed(1006, str(error)) from error

    def receive(self) -> WireFrame:
        """The next message. Raises Closed when the stream ends."""
        while True:
            try:
                first, body = self._next()
            except TimeoutError:
                self.send(packet(PINGREQ, b""))
                continue
            except OSError as error:
                raise Closed(1006, str(error)) from error
            if first >> 4 == PUBLISH:
                topic_bytes = 2 + int.from_bytes(body[:2], "big")
                return WireFrame(TEXT, body[topic_bytes + (2 if first & 6 else 0) :])

    def shut_down(self) -> None:
        """Tell the peer that nothing more will come, and wake whoever receives."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it was gone before

    def close(self) -> None:
        """Give the socket back. Idempotent."""
        self.socket.close()

    def _next(self) -> tuple[int, bytes]:
        while (found := take_packet(self._buffer)) is None:
            data = self.socket.recv(RECEIVE_BYTES)
            if not data:
                raise Closed(1006, "the peer went away")
            self._buffer += data
        return found
