"""The server's own changes in the middle of everything: it reloads, it stops, and nobody is left hanging."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gevent

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.speech import Speech
from loadtest.vendors.openai_vendor import CHAT
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import Stage, merged, open_stage
from tests.robustness.conftest import SETTINGS, Talking
from tests.robustness.phases import PHASES
from tests.robustness.rawhttp import talk
from tests.robustness.witness import Mirror
from tests.waiting import wait_for


def test_reloads_in_the_middle_of_everything(
    stage: Stage, mirror: Mirror, witness: Talking, long_words: Speech
) -> None:
    """Who is in the middle of something keeps what they have; the old providers go when the last of them has gone."""
    with witness():
        devices = []
        for _ in range(3):
            devices += [phase(stage, mirror, long_words) for phase in PHASES]
            reloading = gevent.spawn(stage.server.reload)
            reloading.name = "reload"
            assert reloading.get() == ()
        for device in devices:
            device.drop()
        wait_for(lambda: len(stage.server.connections) == 1, "the devices to be gone")
    assert stage.generation.sessions <= 1


def test_a_stop_in_the_middle_of_everything(tmp_path: Path, sounds: Sounds, words: Speech, long_words: Speech) -> None:
    """Devices in every phase, one that does not read, connections that never asked: all are told, and nothing is
    left."""
    settings: dict[str, Any] = merged(SETTINGS, {"server": {"drain_seconds": 0.5, "connection_timeout": 0.3}})
    with open_stage(tmp_path, sounds, settings) as stage:
        mirror = Mirror(stage.vendor)
        mirror.begin()
        devices: list[SimulatedDevice] = []
        for phase in PHASES:
            devices += [phase(stage, mirror, long_words) for _ in range(3)]
        deaf = devices[-4]
        deaf.stop_reading()
        silent = [gevent.spawn(talk, stage.server.port, piece) for piece in (b"", b"GET /", b"GET / HTTP/1.1\r\nX: y")]
        wait_for(
            lambda: stage.server.acceptor is not None and stage.server.acceptor.handshakes == 3, "those who never ask"
        )
        stage.server.stop()

        told = {device.closed or device.wait_closed() for device in devices if device is not deaf}
        assert {code for code, _ in told} <= {1000, 1001, 1006}
        assert (1001, "server stopping") in told
        gevent.joinall(silent)
        assert len(stage.server.connections) == 0
        assert stage.vendor.counts.get(CHAT, 0) > 0
        for device in devices:
            device.drop()
