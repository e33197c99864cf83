"""People with devices in front of several servers behind HAProxy: they come back and ask again, whatever happens.

As a programme it is the large proof: one of several servers is killed while many talk.

    python -m tests.lifecycle.people --devices 100 --servers 3"""

from gevent import monkey; monkey.patch_all()  # noqa: I001  # fmt: skip

import argparse
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.inbox import DeviceClosed
from loadtest.simulator.wire import Closed, UpgradeRefused
from loadtest.vendors.openai_vendor import CHAT, TTS, OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import QUARTER, ask
from tests.lifecycle.child import Child
from tests.lifecycle.several import free_port, metric, said_in, servers
from tests.ops.haproxy import HaProxy
from tests.ops.programs import need
from tests.redis_server import RedisServer
from tests.waiting import wait_for

MAX_TRIES = 100
GONE = (DeviceClosed, Closed, UpgradeRefused, OSError)
OPEN: dict[str, Any] = {
    # Nobody is kept out for coming together with many others from one address.
    "server": {
        "trusted_proxies": ["127.0.0.1"],
        "auth": {"enabled": False},
        "limits": {"per_ip": 0, "handshakes_per_second": 0, "frames_per_second": 0},
    },
    "ai_providers": {kind: {"max_concurrent": 1_000, "queue_size": 1_000} for kind in ("llm", "tts", "asr")},
}


class Person:
    """A device behind HAProxy that comes back, as firmware does, and asks again what was not taken."""

    def __init__(self, front: HaProxy, number: int) -> None:
        self.device_id = f"02:00:00:00:00:{number:02x}"
        self.asked: list[str] = []
        self.lost: list[str] = []
        """Questions that a server had taken and did not answer."""
        self._front = front
        self._device: SimulatedDevice | None = None

    @property
    def connected(self) -> bool:
        return self._device is not None and self._device.connected

    def ask(self, text: str) -> None:
        """Until it is answered."""
        self.asked.append(text)
        for _ in range(MAX_TRIES):
            device = None
            try:
                device = self._there()
                ask(device, text)
            except GONE:
                if device is not None and device.replies.answer.stt_at is not None:
                    self.lost.append(text)
                gevent.sleep(0.1)  # sleep: a device that tries again
            else:
                return
        raise AssertionError(f"{self.device_id} is not answered")

    def close(self) -> None:
        if self._device is not None:
            self._device.close()

    def _there(self) -> SimulatedDevice:
        if self._device is None or not self._device.connected:
            self.close()
            self._device = SimulatedDevice(self._front.url, device_id=self.device_id, verify_tls=False)
            self._device.connect()
            self._device.hello()
        return self._device


def told_with(vendor: OpenAiVendor, question: str) -> list[str]:
    """What the user has said before and with a question, as the language model was told."""
    asked = [said_in(request.json()) for request in vendor.requests if vendor.kind(request) == CHAT]
    return next(said for said in reversed(asked) if said[-1] == question)


@contextmanager
def balanced_servers(
    folder: Path, vendor: OpenAiVendor, redis: RedisServer, *names: str
) -> Iterator[tuple[HaProxy, list[Child]]]:
    """HAProxy and servers behind it, which have the same ports after a restart."""
    ports = [(free_port(), free_port()) for _ in names]
    own = {
        name: {"server": {"port": device, "http_port": http}} for name, (device, http) in zip(names, ports, strict=True)
    }
    with servers(folder, vendor, redis, *names, own=own, **OPEN) as found:
        front = HaProxy(need("haproxy"), folder, ports)
        try:
            front.start()
            wait_for(lambda: front.up() == 2 * len(names), "all servers to be ready")
            yield front, found
        finally:
            front.stop()


def main() -> None:
    """Kill the fullest server while all talk, and say when everybody was back and what was known of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--servers", type=int, default=3, choices=(2, 3))
    options = parser.parse_args()
    redis = RedisServer()
    redis.start()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            OpenAiVendor(sounds=Sounds(), reply="Fine.", keep_alive=False) as vendor,
        ):
            assert isinstance(vendor, OpenAiVendor)
            vendor.stand(TTS, QUARTER)
            names = ("one", "two", "three")[: options.servers]
            with balanced_servers(Path(folder), vendor, redis, *names) as (front, found):
                _kill_one(vendor, front, found, options.devices)
    finally:
        redis.stop()


def _kill_one(vendor: OpenAiVendor, front: HaProxy, found: list[Child], devices: int) -> None:
    people = [Person(front, number) for number in range(devices)]
    for text in ("first", "second"):
        gevent.joinall([gevent.spawn(one.ask, f"the {text} of {one.device_id}") for one in people], raise_error=True)
    fullest = max(found, key=lambda server: metric(server, "xiaozhi_connections"))
    there = metric(fullest, "xiaozhi_connections")
    talking = [gevent.spawn(one.ask, f"the third of {one.device_id}") for one in people]
    gevent.sleep(0.3)  # sleep: many are in the middle of an answer
    began = time.monotonic()
    fullest.send(signal.SIGKILL)
    back: list[float] = []

    def come_back(one: Person) -> None:
        wait_for(lambda: not one.connected, "the loss")
        wait_for(lambda: one.connected, "the device to be back")
        back.append(time.monotonic() - began)

    waiting = [gevent.spawn(come_back, one) for one in people]
    gevent.joinall(talking, raise_error=True)
    wait_for(lambda: len(back) >= there, "everybody to be back")
    gevent.killall(waiting)
    gevent.joinall([gevent.spawn(one.ask, f"the last of {one.device_id}") for one in people], raise_error=True)
    known = sum(told_with(vendor, one.asked[-1])[:2] == one.asked[:2] for one in people)
    print(f"{devices} devices, {len(found)} servers; killed: the one with {there:.0f} devices")
    print(f"cut off and back: {len(back)}, the last after {max(back):.2f} s")
    print(f"what was said before the loss is known with the last question: {known} of {devices}")
    for one in people:
        one.close()


if __name__ == "__main__":
    main()
