"""Devices that go without a word, come halfway, or stop listening: the server notices, gives everything back, and
nobody else is kept."""

from __future__ import annotations

import gc
import socket
import time
from typing import Any

import pytest

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.speech import Speech
from loadtest.vendors.openai_vendor import TTS
from tests.e2e.stage import LONG, Stage, wait_for_sound
from tests.robustness.conftest import Talking
from tests.robustness.logbook import SAID
from tests.robustness.phases import PHASES, before_hello, recognising, synthesising, thinking
from tests.robustness.witness import Mirror
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.session.parts import NO_HELLO

UPGRADE = (
    b"GET /xiaozhi/v1/ HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nDevice-Id: 02:0d:00:00:00:01\r\n\r\n"
)


@pytest.fixture(scope="module")
def stage_settings() -> dict[str, Any]:
    """Little patience with half-open connections."""
    return {"server": {"connection_timeout": 0.4}}


def dialled(stage: Stage) -> socket.socket:
    """A TCP connection to the device port."""
    return socket.create_connection(("127.0.0.1", stage.server.port), timeout=PATIENCE_S)


def read_all(sock: socket.socket) -> bytes:
    """Everything until the server hangs up."""
    data = b""
    try:
        while piece := sock.recv(4096):
            data += piece
    except ConnectionResetError:
        pass
    return data


# --- half open --------------------------------------------------------------------------------------------------------


def test_connections_that_never_ask_for_anything(stage: Stage, witness: Talking) -> None:
    with witness():
        silent = [dialled(stage) for _ in range(40)]
        halfway = [dialled(stage) for _ in range(40)]
        for place, sock in enumerate(halfway):
            sock.sendall(UPGRADE[: 1 + place * 4])

        assert [read_all(sock) for sock in silent] == [b""] * 40
        assert {read_all(sock)[:12] for sock in halfway} == {b"HTTP/1.1 408"}
    for sock in silent + halfway:
        sock.close()


def test_devices_that_talk_and_never_say_hello(stage: Stage, witness: Talking) -> None:
    with witness():
        rude = [SimulatedDevice(stage.url, device_id=f"02:0d:00:00:01:{number:02x}").connect() for number in range(30)]
        wait_for(lambda: len(stage.server.connections) == 31, "all to be there")
        for device in rude:
            device.listen_start("auto")
            device.ping()
        stage.server.connections.sweep(time.monotonic() + stage.settings.server.hello_timeout + 1)

        assert {device.wait_closed() for device in rude} == {(1008, NO_HELLO)}
    for device in rude:
        device.close()


def test_a_peer_that_ignores_our_goodbye(stage: Stage, witness: Talking) -> None:
    """It neither answers the close frame nor hangs up: its place is free again all the same."""
    with witness():
        sock = dialled(stage)
        sock.sendall(UPGRADE)
        assert b"101" in sock.recv(4096)
        sock.sendall(b"\xff\x80\0\0\0\0")

        wait_for(lambda: len(stage.server.connections) == 1, "the place")
        sock.close()


# --- slow readers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["speech", "echoes", "pongs", "tools"])
def test_a_device_that_stops_reading_is_let_go(stage: Stage, mirror: Mirror, witness: Talking, what: str) -> None:
    """Its answer goes on, its socket is full: it is closed after the send deadline, and nobody waits for it
    meanwhile."""
    mirror.when(TTS, "story.", LONG)
    with witness():
        # PCM, as Opus would take minutes to fill a socket.
        device = stage.device(receive_buffer=2048, audio_params={"format": "pcm"})
        narrow(device)
        device.detect(f"{SAID} a very long story")
        wait_for_sound(device)
        device.stop_reading()
        if what == "echoes":
            for _ in range(100):
                device.send_text("y" * 4000)
        elif what == "pongs":
            for _ in range(6000):
                device.tell("ping")
        elif what == "tools":
            request = {"jsonrpc": "2.0", "id": "x" * 60, "method": "ping"}
            device.tell("hello", features={"mcp": True})
            for _ in range(6000):
                device.tell("mcp", payload=request)
        wait_for(lambda: len(stage.server.connections) == 1, "it to be let go")
    device.drop()


def narrow(device: SimulatedDevice) -> None:
    """Leave little room in the kernel on our side, so that it is full soon."""
    (ours,) = [
        thing
        for thing in gc.get_objects()
        if isinstance(thing, socket.socket) and thing.fileno() >= 0 and peer_of(thing) == device.address
    ]
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


def peer_of(sock: socket.socket) -> Any:
    """Who is at the other end, if anybody."""
    try:
        return sock.getpeername()
    except OSError:
        return None


# --- gone without a word ----------------------------------------------------------------------------------------------


def test_gone_in_every_phase(stage: Stage, mirror: Mirror, witness: Talking, long_words: Speech) -> None:
    """Reset by the peer. The server notices while it waits for a vendor too, and lets the vendor know."""
    with witness():
        for phase in PHASES:
            device = phase(stage, mirror, long_words)
            assert len(stage.server.connections) == 2, phase.__name__
            device.drop()
            wait_for(
                lambda: len(stage.server.connections) == 1,
                f"the server to notice that a device is gone: {phase.__name__}",
            )
        for _ in (recognising, thinking, synthesising):
            stage.vendor.wait_gone()


def test_all_gone_at_once(stage: Stage, mirror: Mirror, witness: Talking, long_words: Speech) -> None:
    """As when an access point fails."""
    with witness():
        devices = [phase(stage, mirror, long_words) for phase in PHASES for _ in range(4) if phase is not before_hello]
        for device in devices:
            device.drop()
        wait_for(lambda: len(stage.server.connections) == 1, "the server to notice")
