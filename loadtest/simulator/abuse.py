"""Devices that mean harm, or are broken: senders of garbage, devices that stop reading, storms of reconnects.

They never fail: what the server does to them is counted ("ended: closed 1002"), and everybody else must not notice.
They go on until the run ends."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import gevent

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.visits import FAILURES, Visitor, reason_of

SMALL_RECEIVE_BUFFER = 2_048
QUESTIONS_OF_A_DEAF_DEVICE = 40
GARBAGE_PAUSE_S = 0.03
MESSAGES = (
    {"type": "listen", "state": "start", "mode": "auto"},
    {"type": "listen", "state": "detect", "text": "garbage"},
    {"type": "abort"},
    {"type": "mcp", "payload": {"jsonrpc": "2.0", "id": -1}},
    {"type": "iot", "states": [{"name": 1}]},
    {"type": 7},
    {"type": "hello", "version": "x", "audio_params": {"sample_rate": -1}},
)


def garbage(visitor: Visitor) -> None:
    """Noise where Opus belongs, JSON cut short, frames that no standard allows."""

    def harm(device: SimulatedDevice) -> None:
        chance = visitor.chance
        for _ in range(chance.randrange(20, 200)):
            _GARBAGE[chance.randrange(len(_GARBAGE))](visitor, device)
            gevent.sleep(GARBAGE_PAUSE_S * chance.uniform(0.5, 1.5))

    _again_and_again(visitor, harm)


def slow_reader(visitor: Visitor) -> None:
    """Asks and asks and never reads the answers."""

    def harm(device: SimulatedDevice) -> None:
        device.stop_reading()
        for number in range(QUESTIONS_OF_A_DEAF_DEVICE):
            device.detect(f"question {number}")
            gevent.sleep(1.0)

    _again_and_again(visitor, harm, receive_buffer=SMALL_RECEIVE_BUFFER)


def reconnector(visitor: Visitor) -> None:
    """Comes and goes, politely or not."""

    def harm(device: SimulatedDevice) -> None:
        gevent.sleep(visitor.chance.uniform(0.0, 0.3))
        if visitor.chance.random() < 0.5:
            device.close()

    _again_and_again(visitor, harm)


def _again_and_again(visitor: Visitor, harm: Callable[[SimulatedDevice], None], *, receive_buffer: int = 0) -> None:
    record = visitor.record
    visitor.finish()
    while True:
        device = visitor.device(receive_buffer=receive_buffer)
        try:
            device.connect()
            record.count("abusive connections")
            device.hello()
            harm(device)
            record.count("abuse ended: by itself")
        except FAILURES as error:
            record.count(f"abuse ended: {reason_of(error)}")
        finally:
            device.drop()
        gevent.sleep(visitor.chance.uniform(0.05, 0.5))


def _noise(visitor: Visitor, device: SimulatedDevice) -> None:
    device.send_binary(visitor.chance.randbytes(visitor.chance.randrange(0, 400)))


def _message(visitor: Visitor, device: SimulatedDevice) -> None:
    device.send_text(json.dumps(visitor.chance.choice(MESSAGES)))


def _cut_message(visitor: Visitor, device: SimulatedDevice) -> None:
    text = json.dumps(visitor.chance.choice(MESSAGES))
    device.send_text(text[: visitor.chance.randrange(len(text))])


def _illegal_frame(visitor: Visitor, device: SimulatedDevice) -> None:
    if visitor.chance.random() < 0.05:  # ends the connection, so not too often
        device.send_raw(bytes([visitor.chance.choice((0xF1, 0x83, 0x7F)), 0x85]) + os.urandom(9))


_GARBAGE: tuple[Callable[[Visitor, SimulatedDevice], None], ...] = (_noise, _message, _cut_message, _illegal_frame)
