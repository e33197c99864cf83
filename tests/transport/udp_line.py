"""A device's end of a UDP voice channel, and a network between the two that loses, repeats and delays: for tests.

The device's own reading of the wire, on purpose not the server's."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.waiting import PATIENCE_S

_HEAD = struct.Struct("!BBHIII")
LOOPBACK = "127.0.0.1"


class UdpDevice:
    """`key`, `nonce`: as the server told them. `close` in the end."""

    def __init__(self, key: bytes, nonce: bytes, port: int) -> None:
        self.sequence = 0
        self.sock = self._socket()
        self._key, self._nonce, self._server = key, nonce, (LOOPBACK, port)

    @staticmethod
    def _socket() -> Any:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((LOOPBACK, 0))
        sock.settimeout(PATIENCE_S)
        return sock

    def datagram(self, payload: bytes, sequence: int = 0, timestamp: int = 0) -> bytes:
        """The next packet, or the one with this sequence."""
        if not sequence:
            sequence = self.sequence = self.sequence + 1
        head = self._nonce[:2] + struct.pack("!H", len(payload)) + self._nonce[4:8]
        head += struct.pack("!II", timestamp, sequence)
        return head + self._apply(head, payload)

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.sock.sendto(datagram, self._server)

    def say(self, *payloads: bytes) -> None:
        """The next packets."""
        self.send(*[self.datagram(payload) for payload in payloads])

    def receive(self) -> tuple[int, int, bytes]:
        """(sequence, timestamp, payload) of the next packet from the server."""
        data = self.sock.recv(2_000)
        kind, _, size, ssrc, timestamp, sequence = _HEAD.unpack_from(data)
        assert kind == 1
        assert size == len(data) - 16
        assert ssrc == int.from_bytes(self._nonce[4:8], "big")
        return sequence, timestamp, self._apply(data[:16], data[16:])

    def move(self) -> None:
        """From now on come from another port, as behind a router that has forgotten."""
        self.sock.close()
        self.sock = self._socket()

    def close(self) -> None:
        self.sock.close()

    def _apply(self, head: bytes, payload: bytes) -> bytes:
        return Cipher(algorithms.AES(self._key), modes.CTR(head)).encryptor().update(payload)


def bad_network(
    datagrams: Iterable[bytes],
    *,
    seed: int,
    every_s: float = 0.06,
    lost: float = 0.2,
    repeated: float = 0.05,
    late: float = 0.1,
    jitter_s: float = 0.02,
) -> Iterator[tuple[float, bytes]]:
    """(when it arrives (s), datagram), in the order of arrival, of datagrams that are sent every `every_s`: shares of
    them are lost, repeated, and overtaken by the next."""
    chance = random.Random(seed)
    arrivals = []
    for number, datagram in enumerate(datagrams):
        if chance.random() < lost:
            continue
        at = number * every_s + chance.uniform(0, jitter_s)
        if chance.random() < late:
            at += every_s * 1.2
        arrivals.append((at, datagram))
        if chance.random() < repeated:
            arrivals.append((at + chance.uniform(0, 0.1), datagram))
    arrivals.sort()
    yield from arrivals
