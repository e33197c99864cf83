"""A simulated device that is connected by MQTT and speaks over UDP, as firmware does: it asks OTA where to connect,
never subscribes, opens a voice channel with hello and closes it with goodbye.

The client's own reading of the wire, on purpose not the server's."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from loadtest.simulator.device import PATIENCE_S, HelloAnswer, SimulatedDevice
from loadtest.simulator.mqtt import DISCONNECT, MqttAccess, MqttWire, ask_ota, packet
from loadtest.simulator.wire import Closed

_HEAD = struct.Struct("!BBHIII")
"""type 1, flags, payload bytes, ssrc, timestamp ms, sequence"""
DATAGRAM_BYTES = 2_000


class VoiceChannel:
    """Sound over UDP for one conversation. `on_sound(packet)` is called in the channel's own greenlet."""

    def __init__(self, told: Mapping[str, Any], source_address: str, on_sound: Callable[[bytes], None]) -> None:
        self.refused = 0
        """Datagrams that are not the server's: their head is wrong, or they are old."""
        self.missing = 0
        """Sequences that did not come, or not in their order."""
        self._nonce = bytes.fromhex(told["nonce"])
        key = bytes.fromhex(told["key"])
        if len(self._nonce) != _HEAD.size or len(key) != 16:
            raise Closed(1002, "key and nonce of the voice channel are not of 16 bytes each")
        self._context = Cipher(algorithms.AES(key), modes.CTR(self._nonce)).encryptor()
        self._sent = self._received = 0
        self._on_sound = on_sound
        family = socket.AF_INET6 if ":" in told["server"] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        if source_address:
            self._socket.bind((source_address, 0))
        self._socket.connect((told["server"], int(told["port"])))
        self._reader = gevent.spawn(self._read)

    def send(self, sound: bytes) -> None:
        """Send one packet. Raises Closed."""
        self._sent += 1
        nonce = self._nonce
        head = nonce[:2] + len(sound).to_bytes(2, "big") + nonce[4:8] + self._sent.to_bytes(8, "big")
        self.transmit(head + self._apply(head, sound))

    def transmit(self, datagram: bytes) -> None:
        """Put a datagram on the socket. Raises Closed."""
        try:
            self._socket.send(datagram)
        except OSError as error:
            raise Closed(1006, str(error)) from error

    def close(self) -> None:
        """Neither send nor receive any more. Idempotent."""
        self._reader.kill(block=False)
        self._socket.close()

    def _apply(self, head: bytes, payload: bytes) -> bytes:
        self._context.reset_nonce(head)
        return self._context.update(payload)

    def _read(self) -> None:
        while True:
            try:
                data = self._socket.recv(DATAGRAM_BYTES)
            except OSError:
                return  # closed
            if len(data) < _HEAD.size:
                self.refused += 1
                continue
            kind, _, size, _, _, sequence = _HEAD.unpack_from(data)
            if kind != 1 or size != len(data) - _HEAD.size or sequence <= self._received:
                self.refused += 1
                continue
            self.missing += sequence - self._received - 1
            self._received = sequence
            self._on_sound(self._apply(data[: _HEAD.size], data[_HEAD.size :]))


class MqttDevice(SimulatedDevice):
    """`ota`: address of OTA; or `access`: what it would say. A device that has only connected idles; `hello`
    begins a conversation, and the server's goodbye counts as the end of the connection. The rest is as in
    SimulatedDevice."""

    TRANSPORT = "udp"
    CHANNEL = VoiceChannel
    """What carries its sound."""

    def __init__(
        self, ota: str = "", *, access: MqttAccess | None = None, board: str = "loadtest", **options: Any
    ) -> None:
        super().__init__(ota, **{**options, "protocol_version": 3})
        self._framing = self.microphone.form = "udp"
        self._access = access
        self._board = board
        self.channel: VoiceChannel | None = None
        """There is one during a conversation."""

    def ask_ota(self, timeout: float = PATIENCE_S) -> None:
        """Ask where to connect; once. `connect` does it too. Raises OSError."""
        if self._access is None:
            self._access = ask_ota(self.url, self.device_id, self.client_id, board=self._board, timeout=timeout)

    def hello(self, *args: Any, **more: Any) -> HelloAnswer:
        """See SimulatedDevice. Raises Closed too, when the answer does not open a voice channel."""
        reply = super().hello(*args, **more)
        self._hang_up()
        told = reply.data.get("udp")
        if reply.data.get("transport") != "udp" or not isinstance(told, dict):
            raise Closed(1002, "the server's hello has no voice channel")
        self.channel = self.CHANNEL(told, self._source_address, self._on_audio)
        return reply

    def goodbye(self) -> None:
        """End the conversation; the connection stays."""
        self.tell("goodbye")
        self._hang_up()

    def send_text(self, text: str) -> None:
        """Send any text."""
        if not isinstance(self._wire, MqttWire):
            raise Closed(*(self.closed or (1006, "not connected")))
        self.send_raw(self._wire.message(text.encode()))

    def send_binary(self, payload: bytes) -> None:
        """Send any packet of sound."""
        self._send_sound(payload)

    def _open(self, timeout: float) -> MqttWire:
        self.ask_ota(timeout)
        assert self._access is not None
        return MqttWire.connect(
            self._access, timeout=timeout, verify=self._verify_tls, source_address=self._source_address
        )

    def _send_sound(self, ready: bytes) -> None:
        if self.channel is None:
            raise Closed(*(self.closed or (1006, "no voice channel")))
        self.channel.send(ready)

    def _say_goodbye(self, code: int, reason: str) -> None:
        if self.channel is not None:
            self.goodbye()
        self.send_raw(packet(DISCONNECT, b""))
        if self._wire is not None:
            self._wire.shut_down()

    def _on_text(self, data: bytes) -> None:
        super()._on_text(data)
        if b'"goodbye"' in data and json.loads(data).get("type") == "goodbye":
            self._hang_up()
            self.replies.ended(1000, "goodbye")

    def _release(self, code: int, reason: str, *, shut_down: bool = True) -> None:
        self._hang_up()
        super()._release(code, reason, shut_down=shut_down)

    def _hang_up(self) -> None:
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close()
