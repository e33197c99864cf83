"""Firmware that speaks MQTT + UDP, played with paho-mqtt, an MQTT client of others: it never subscribes, takes a
message whatever its topic, says hello, sends and hears sound by UDP.

In blocking style. What it is sent lies in `messages` and `packets`, in order of arrival."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from typing import Any

import gevent
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from tests.waiting import wait_for
from xiaozhi.runtime.tasks import end, spawn

AUDIO = {"format": "opus", "sample_rate": 16_000, "channels": 1, "frame_duration": 60}
TOPIC = "device-server"


class MqttDevice:
    """One device. Use as a context manager: `connect` first."""

    def __init__(
        self,
        port: int,
        client_id: str,
        *,
        username: str = "",
        password: str = "",
        host: str = "127.0.0.1",
    ) -> None:
        self.messages: list[dict[str, Any]] = []
        self.packets: list[bytes] = []
        self.refused: list[str] = []
        self.session_id = ""
        self.connected = False
        self.keepalive = 240
        self._address = (host, port)
        client = Client(CallbackAPIVersion.VERSION2, client_id, clean_session=True)
        if username:
            client.username_pw_set(username, password)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        self._client: Client | None = client
        self._udp: Any = None
        self._offer: dict[str, Any] = {}
        self._sequence = 0
        self._greenlets: list[gevent.Greenlet] = []

    def __enter__(self) -> MqttDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def connect(self) -> MqttDevice:
        """Connect, and wait for the answer."""
        client = self._client
        assert client is not None
        client.connect(*self._address, keepalive=self.keepalive)
        self._greenlets.append(spawn("mqtt-device", self._loop, client))
        wait_for(lambda: self.connected or self.refused, "CONNACK")
        return self

    def leave(self, *, politely: bool = True) -> None:
        """Disconnect, or just be gone."""
        client, self._client = self._client, None
        if client is None:
            return
        if politely:
            client.disconnect()
        for greenlet in self._greenlets:
            end(greenlet)
        self._greenlets.clear()
        self._close_channel()
        self.connected = False
        # It closes its sockets when it is freed, and at no other time.
        client.on_connect = client.on_disconnect = client.on_message = None

    # --- messages -----------------------------------------------------------------------------------------------------

    def tell(self, kind: str, **fields: Any) -> None:
        """Publish a message; with the id of the session, where there is one."""
        own = {"session_id": self.session_id} if self.session_id else {}
        self.publish(json.dumps({**own, "type": kind, **fields}))

    def publish(self, payload: str | bytes, *, qos: int = 0, topic: str = TOPIC) -> None:
        """Publish anything."""
        assert self._client is not None
        assert self._client.publish(topic, payload, qos=qos).rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def hello(self, **features: Any) -> dict[str, Any]:
        """Open the channel for sound, as firmware does; the server's answer."""
        self._close_channel()
        self.session_id = ""
        before = len(self.messages)
        self.tell("hello", version=3, transport="udp", features={"mcp": False, **features}, audio_params=AUDIO)
        answer = wait_for(
            lambda: next((one for one in self.messages[before:] if one["type"] == "hello"), None), "the answer to hello"
        )
        assert answer is not None
        assert answer["transport"] == "udp"
        self.session_id = answer["session_id"]
        self._offer = answer["udp"]
        self._sequence = 0
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.connect((self._offer["server"], self._offer["port"]))
        self._greenlets.append(spawn("udp-device", self._hear))
        return answer

    def goodbye(self) -> None:
        """Close the channel."""
        self._close_channel()
        self.tell("goodbye")

    def until(self, kind: str, state: str | None = None, *, since: int = 0) -> list[dict[str, Any]]:
        """All messages from number `since` on up to this one."""

        def found() -> list[dict[str, Any]] | None:
            for at, message in enumerate(self.messages[since:], since):
                if message["type"] == kind and (state is None or message.get("state") == state):
                    return self.messages[since : at + 1]
            return None

        heard = wait_for(found, f"{kind} {state or ''}")
        assert heard is not None
        return heard

    def settle(self) -> None:
        """Until the session has read all messages so far."""
        since = len(self.messages)
        self.tell("ping")
        self.until("pong", since=since)

    # --- sound --------------------------------------------------------------------------------------------------------

    def send_sound(self, *packets: bytes, change: Callable[[bytes], bytes] = lambda datagram: datagram) -> None:
        """Send Opus packets. `change` may spoil a datagram."""
        for packet in packets:
            self._sequence += 1
            nonce = bytes.fromhex(self._offer["nonce"])
            head = nonce[:2] + struct.pack("!H", len(packet)) + nonce[4:8]
            head += struct.pack("!II", 60 * self._sequence, self._sequence)
            self._udp.send(change(head + self._crypt(head, packet)))

    def _hear(self) -> None:
        udp = self._udp
        while True:
            try:
                datagram = udp.recv(4096)
            except OSError:
                return
            head, body = datagram[:16], datagram[16:]
            assert len(body) == struct.unpack("!H", head[2:4])[0]
            self.packets.append(self._crypt(head, body))

    def _crypt(self, counter: bytes, data: bytes) -> bytes:
        cipher = Cipher(algorithms.AES(bytes.fromhex(self._offer["key"])), modes.CTR(counter)).encryptor()
        return cipher.update(data) + cipher.finalize()

    def _close_channel(self) -> None:
        udp, self._udp = self._udp, None
        if udp is not None:
            udp.close()

    # --- paho ---------------------------------------------------------------------------------------------------------

    def _loop(self, client: Client) -> None:
        while client.loop(timeout=0.05) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            pass

    def _on_connect(self, client: Client, userdata: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.is_failure:
            self.refused.append(str(code))
        else:
            self.connected = True

    def _on_disconnect(self, *_: Any) -> None:
        self.connected = False

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        self.messages.append(json.loads(message.payload))
