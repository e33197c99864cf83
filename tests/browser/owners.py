"""What the tests of the owner's pages share: devices that have reported themselves, and pictures of their screens."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import requests

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.device_tools import DeviceTools, FakeTool
from tests.browser.chromium import BrowserPage
from tests.lifecycle.house import House
from tests.waiting import PATIENCE_S, wait_for

BOARD = "bread-compact-wifi"
REPORT: dict[str, Any] = {
    "version": 2,
    "language": "en-US",
    "chip_model_name": "esp32s3",
    "minimum_free_heap_size": 8_441_000,
    "application": {"name": "xiaozhi", "version": "1.8.1"},
    "display": {"width": 240, "height": 240},
    "board": {"type": BOARD, "name": BOARD, "ssid": "home", "rssi": -51, "ip": "192.168.1.20"},
}


def arrive(house: House, device_id: str, tools: DeviceTools | None = None) -> SimulatedDevice:
    """A device that asks at its start, as the firmware does, is let in and connects; known to the pages."""
    directory = house.server.known_devices.directory
    token = ask_at_start(house, device_id)
    if not token and directory.of(device_id).waiting:
        directory.approve(device_id)
        token = ask_at_start(house, device_id)
    device = house.device(device_id=device_id, client_id=client_of(device_id), token=token, tools=tools)

    def known() -> bool:
        return any(record.device == device_id and record.workers and record.report for record in directory.all())

    wait_for(known, f"{device_id} to be known")
    if tools is not None:
        wait_for(lambda: tools.listed, "the list of tools")
        device.ping()
    return device


def client_of(device_id: str) -> str:
    """The client id of a device."""
    return f"client-of-{device_id}"


def ask_at_start(house: House, device_id: str) -> str:
    """What a device asks when it starts; the token that it gets, "" for none."""
    url = f"http://127.0.0.1:{house.server.http_port}/xiaozhi/ota/"
    headers = {"Device-Id": device_id, "Client-Id": client_of(device_id)}
    answer = requests.post(url, json=REPORT, headers=headers, timeout=PATIENCE_S).json()
    return str(answer.get("websocket", {}).get("token", ""))


def picture(width: int = 240, height: int = 240) -> bytes:
    """A PNG of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = (b"\0" + b"\x20\x60\xa0" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def owner_tools() -> DeviceTools:
    """A device that can be rebooted and shows its screen."""

    def snapshot(arguments: dict[str, Any]) -> str:
        form = {"file": ("screenshot.jpg", picture(), "image/jpeg")}
        answer = requests.post(arguments["url"], files=form, timeout=PATIENCE_S)
        if answer.status_code != 200:
            raise ValueError(f"Unexpected status code: {answer.status_code}")
        return "true"

    url = {"url": {"type": "string"}, "quality": {"type": "integer", "default": 80}}
    return DeviceTools(
        [
            FakeTool("self.reboot", "Reboot the system", lambda arguments: "true", for_user=True),
            FakeTool("self.screen.snapshot", "Snapshot the screen", snapshot, url, ["url"], for_user=True),
        ]
    )


def hear(page: BrowserPage, least_ms: int) -> None:
    """Wait until the page has played so much sound that is not silent."""
    heard = 0

    def enough() -> bool:
        nonlocal heard
        heard += page.heard().audible_ms
        return heard >= least_ms

    wait_for(enough, f"{least_ms} ms of sound")
