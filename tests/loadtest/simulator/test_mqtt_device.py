"""The simulated device's own MQTT and UDP, byte by byte, and against a server that is as wrong as can be."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import gevent
import pytest
from gevent.server import StreamServer

from loadtest.simulator import speech
from loadtest.simulator.inbox import DeviceTimeout
from loadtest.simulator.mqtt import MqttAccess, MqttRefused, ask_ota, packet, take_packet, text
from loadtest.simulator.mqtt_device import MqttDevice, VoiceChannel
from loadtest.simulator.wire import Closed
from tests.waiting import wait_for
from xiaozhi.protocol.frames import UdpCodec
from xiaozhi.transport.udp import UdpChannel, UdpPort

CODEC = UdpCodec()
ACCEPTED = b"\x20\x02\x00\x00"


@pytest.mark.parametrize(
    "size,head",
    [(0, "c000"), (127, "c07f"), (128, "c08001"), (16_383, "c0ff7f"), (16_384, "c0808001")],
)
def test_lengths_are_those_of_the_standard(size: int, head: str) -> None:
    whole = packet(12, bytes(size))
    assert whole[: len(head) // 2].hex() == head
    buffer = bytearray()
    for at in range(len(whole)):
        assert take_packet(buffer) is None
        buffer += whole[at : at + 1]
    buffer += b"\xd0"
    assert take_packet(buffer) == (0xC0, bytes(size))
    assert buffer == b"\xd0"


class Endpoint:
    """One MQTT connection, by hand."""

    def __init__(self, connected: Any) -> None:
        self.socket = connected
        self._buffer = bytearray()

    def take(self) -> tuple[int, bytes]:
        while (found := take_packet(self._buffer)) is None:
            data = self.socket.recv(4_096)
            if not data:
                return 0, b""
            self._buffer += data
        return found

    def message(self) -> dict[str, Any]:
        _, body = self.take()
        return json.loads(body[2 + int.from_bytes(body[:2], "big") :])

    def tell(self, flags: int = 0, **message: Any) -> None:
        head = text("any/topic") + (b"\0\7" if flags & 6 else b"")
        self.socket.sendall(packet(3, head + json.dumps(message).encode(), flags))


@contextmanager
def endpoint(script: Callable[[Endpoint], None]) -> Iterator[MqttAccess]:
    """Where to connect; `script` is played with each device."""

    def handle(connected: socket.socket, address: object) -> None:
        script(Endpoint(connected))
        connected.close()

    server = StreamServer(("127.0.0.1", 0), handle, spawn=4)
    server.start()
    try:
        yield MqttAccess(f"127.0.0.1:{server.server_port}", "id", "name", "word", "up", 60)
    finally:
        server.stop(timeout=1)


@pytest.fixture
def port() -> Iterator[UdpPort]:
    made = UdpPort("127.0.0.1", 0)
    made.start()
    yield made
    made.close()


def offered(port: UdpPort, channel: UdpChannel, **changes: Any) -> dict[str, Any]:
    told = {"server": "127.0.0.1", "port": port.port, "key": channel.key.hex(), "nonce": channel.nonce.hex()}
    return told | changes


def test_a_device_introduces_itself_speaks_and_leaves(port: UdpPort) -> None:
    heard: list[bytes] = []
    channel = port.open(lambda frame: heard.append(CODEC.unpack(frame).payload))
    connects: list[tuple[int, bytes]] = []
    messages: list[dict[str, Any]] = []
    last: list[int] = []

    def script(peer: Endpoint) -> None:
        connects.append(peer.take())
        peer.socket.sendall(ACCEPTED)
        messages.append(peer.message())
        peer.tell(2, type="hello", transport="udp", session_id="s", udp=offered(port, channel))
        messages.append(peer.message())
        for number in range(3):
            channel.send(CODEC.pack(bytes([0x58, number]), number * 60))
        messages.append(peer.message())
        last.append(peer.take()[0])

    with endpoint(script) as access, MqttDevice(access=access, device_id="02:00:00:00:00:09") as device:
        device.hello()
        device.send_frames([speech.silence()] * 4, realtime=False)
        wait_for(lambda: len(heard) == 4, "the sound")
        device.listen_start()
        wait_for(lambda: device.replies.frames_received == 3, "the answer's sound")
        device.close()
        wait_for(lambda: last, "the end")

    assert connects == [(0x10, text("MQTT") + b"\4\xc2\0\x3c" + text("id") + text("name") + text("word"))]
    assert [(each["type"], each.get("version"), each.get("transport")) for each in messages] == [
        ("hello", 3, "udp"),
        ("listen", None, None),
        ("goodbye", None, None),
    ]
    assert last == [0xE0]
    assert heard == [speech.silence()] * 4


def test_the_servers_goodbye_ends_the_visit(port: UdpPort) -> None:
    channel = port.open(lambda frame: None)

    def script(peer: Endpoint) -> None:
        peer.take()
        peer.socket.sendall(ACCEPTED)
        peer.message()
        peer.tell(type="hello", transport="udp", session_id="s", udp=offered(port, channel))
        peer.tell(type="goodbye", session_id="s")
        peer.take()

    with endpoint(script) as access, MqttDevice(access=access) as device:
        device.hello()
        assert device.wait_closed() == (1000, "goodbye")
        with pytest.raises(Closed):
            device.send_frames([b"\x58"], realtime=False)


def test_a_refusal_has_its_code() -> None:
    def script(peer: Endpoint) -> None:
        peer.take()
        peer.socket.sendall(b"\x20\x02\x00\x05")

    with endpoint(script) as access, pytest.raises(MqttRefused) as refused:
        MqttDevice(access=access).connect()
    assert refused.value.code == 5


@pytest.mark.parametrize("wrong", [{"key": "00"}, {"nonce": "01" * 15}])
def test_an_offer_that_firmware_would_not_take_is_not_taken(port: UdpPort, wrong: dict[str, Any]) -> None:
    with pytest.raises(Closed):
        VoiceChannel(offered(port, port.open(lambda frame: None), **wrong), "", lambda sound: None)


def test_old_and_malformed_packets_are_refused(port: UdpPort) -> None:
    heard: list[bytes] = []
    channel = port.open(lambda frame: None)
    device = VoiceChannel(offered(port, channel), "", heard.append)
    sent: list[bytes] = []
    device.send(b"\x58")
    wait_for(lambda: channel.address, "its address")
    transmit = port.transmit
    port.transmit = lambda datagram, address: not sent.append(datagram)  # type: ignore[method-assign,func-returns-value]
    for number in range(4):
        channel.send(CODEC.pack(bytes([number]), 0))
    for datagram in (b"", sent[0], sent[1][:-1], sent[2], sent[2], sent[1], b"\2" + sent[3][1:], sent[3]):
        transmit(datagram, channel.address)
    wait_for(lambda: len(heard) == 3, "the packets")
    assert heard == [b"\0", b"\2", b"\3"]
    assert (device.refused, device.missing) == (5, 1)
    device.close()


class _Ota(BaseHTTPRequestHandler):
    answer: dict[str, Any]
    asked: list[str]

    def do_POST(self) -> None:
        self.asked.append(self.headers["Device-Id"])
        body = json.dumps(self.answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


def test_ota_is_asked_as_a_device_asks() -> None:
    server = HTTPServer(("127.0.0.1", 0), _Ota)
    serving = gevent.spawn(server.serve_forever, 0.01)
    url = f"http://127.0.0.1:{server.server_port}/xiaozhi/ota/"
    _Ota.asked = []
    block = {"client_id": "i", "username": "u", "password": "p", "publish_topic": "t"}
    _Ota.answer = {"mqtt": {**block, "endpoint": "h", "keepalive": 30}}
    access = ask_ota(url, "02:00:00:00:00:09", "c")
    assert access == MqttAccess("h", "i", "u", "p", "t", 30)
    assert (access.address, _Ota.asked) == (("h", 8883), ["02:00:00:00:00:09"])
    _Ota.answer = {"websocket": {}}
    with pytest.raises(OSError, match="says nothing of MQTT"):
        ask_ota(url, "02:00:00:00:00:09", "c")
    server.shutdown()
    serving.join()
    server.server_close()


def test_an_idle_device_gives_signs_of_life() -> None:
    kinds: list[int] = []

    def script(peer: Endpoint) -> None:
        peer.take()
        peer.socket.sendall(ACCEPTED)
        kinds.append(peer.take()[0])

    with endpoint(script) as access:
        device = MqttDevice(access=MqttAccess(access.endpoint, "i", "u", "p", "t", keepalive=1))
        device.connect()
        wait_for(lambda: kinds, "a ping")
        with pytest.raises((Closed, DeviceTimeout)):
            device.send_frames([b"\x58"], realtime=False)
        device.close()
    assert kinds == [0xC0]
