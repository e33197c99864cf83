"""Simulated devices as locust users: for locust's web page (`loadtest/locustfile.py`) and for the headless runs of
`python -m loadtest run` (`fleet.py`), whose workers are plain locust workers.

What a device does is in `simulator/visits.py`; here it is only counted in locust's terms and reported to the master,
together with how the load generator itself fares.

A device that has made its turns parks instead of ending: a locust worker would replace it while others are still being
started."""

from __future__ import annotations

from locust import User, events, runners, task  # isort: skip  (locust patches the standard library)

import itertools
import logging
import os
import time
from typing import Any

import gevent
import psutil
from locust.env import Environment

from loadtest.measure.descriptors import raise_descriptor_limit
from loadtest.simulator import abuse, scenario, speech
from loadtest.simulator.device import DEFAULT_URL
from loadtest.simulator.record import LATENESS, Record
from loadtest.simulator.scenario import Scenario
from loadtest.simulator.visits import FOREVER_S, Visitor

log = logging.getLogger(__name__)

runners.WORKER_REPORT_INTERVAL = 1.0
PULSE_S = 0.02
REPORT_KEY = "loadtest"
UNLIMITED = 1_000_000
MOST_WORKERS = 256
"""Workers that may share the numbering of devices when locust itself decides how many there are."""


class Crew:
    """The devices of this process: their scenario, their record, and the pulse that tells whether this process keeps
    up."""

    def __init__(self) -> None:
        self.scenario = Scenario()
        self.record = Record()
        self.began = time.monotonic()
        self._numbers = itertools.count()
        self._index = 0
        self._pulse: gevent.Greenlet | None = None
        self._process = psutil.Process()
        self._cpu_before = 0.0

    def begin(self, environment: Environment) -> None:
        """A run starts."""
        self.scenario = _scenario(environment)
        for words in speech.speak_all(self.scenario.words):
            words.packets(self.scenario.frame_ms)
        self.began = time.monotonic()
        window = self.scenario.window_s
        self.record = Record((self.began + window[0], self.began + window[1]) if window is not None else None)
        fire = environment.events.request.fire
        self.record.on_measured = lambda name, ms: fire(
            request_type="voice", name=name, response_time=ms, response_length=0
        )
        self.record.on_failed = lambda reason: fire(
            request_type="voice", name="failed", response_time=None, response_length=0, exception=RuntimeError(reason)
        )
        self._numbers = itertools.count()
        self._index = (
            max(0, environment.runner.worker_index) if isinstance(environment.runner, runners.WorkerRunner) else 0
        )
        self._cpu_before = sum(self._process.cpu_times()[:2])
        self._pulse = self._pulse or gevent.spawn(self._beat)

    def visitor(self, url: str) -> Visitor:
        """The next device."""
        number = next(self._numbers) * self.scenario.crews + self._index
        window = self.record.window
        return Visitor(
            url,
            self.scenario,
            number,
            self.record,
            begins_at=self.began + self.scenario.begins_speaking(number),
            ends_at=window[1] if window is not None else None,
        )

    def wait_for_turn(self, visitor: Visitor) -> None:
        """Devices appear evenly over the ramp."""
        due = self.began + visitor.number / max(1, self.scenario.devices) * self.scenario.ramp_s
        gevent.sleep(max(0.0, due - time.monotonic()))

    def report(self) -> dict[str, Any]:
        """Everything since the last report."""
        times = self._process.cpu_times()
        self.record.clients[str(os.getpid())] = {
            "cpu_s": round(times.user + times.system - self._cpu_before, 3),
            "wall_s": round(time.monotonic() - self.began, 3),
            "rss": self._process.memory_info().rss,
            "began": self.began,
        }
        return self.record.take()

    def _beat(self) -> None:
        due = time.monotonic()
        while True:
            due += PULSE_S
            gevent.sleep(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            if self.record.within(now):
                self.record.spread(LATENESS).add((now - due) * 1000)
            if now - due > 1.0:
                due = now


crew = Crew()


@events.init_command_line_parser.add_listener
def _add_arguments(parser: Any) -> None:
    scenario.add_arguments(parser)
    parser.add_argument("--devices", type=int, help="how many there will be, for an even ramp", include_in_web_ui=False)
    parser.add_argument("--first-device", type=int, help="number of the first device", include_in_web_ui=False)
    parser.add_argument(
        "--crews", type=int, help="how many worker processes share the numbering of devices", include_in_web_ui=False
    )


@events.init.add_listener
def _choose_users(environment: Environment, **_: Any) -> None:
    """Only the roles of the mix take part, with their weights. A worker has all: its master knows who is wanted."""
    if isinstance(environment.runner, runners.WorkerRunner):
        return
    shares = _scenario(environment).shares()
    for user_class in environment.user_classes:
        user_class.weight = shares.get(_role(user_class), 0)
    environment.user_classes[:] = [user_class for user_class in environment.user_classes if user_class.weight]


@events.test_start.add_listener
def _on_start(environment: Environment, **_: Any) -> None:
    if not isinstance(environment.runner, runners.MasterRunner):
        raise_descriptor_limit()
        crew.begin(environment)


@events.report_to_master.add_listener
def _on_report(client_id: str, data: dict[str, Any]) -> None:
    data[REPORT_KEY] = crew.report()


def _role(user_class: type[User]) -> str:
    assert issubclass(user_class, DeviceUser), f"{user_class} is no device"
    return user_class.role


def _scenario(environment: Environment) -> Scenario:
    options = vars(environment.parsed_options) if environment.parsed_options is not None else {}
    if options.get("devices") is not None:
        return Scenario.from_options(options)
    # Not from fleet.py: locust decides how many come and how fast, and they talk until it says stop.
    return Scenario.from_options(options, ramp=0.0, turns=options.get("turns") or UNLIMITED, crews=MOST_WORKERS)


class DeviceUser(User):
    """A device; subclasses name its role."""

    abstract = True
    host = DEFAULT_URL
    role = "talker"

    @task
    def visit(self) -> None:
        """The whole of it."""
        visitor = crew.visitor(self.host)
        crew.wait_for_turn(visitor)
        try:
            self.play(visitor)
        except Exception as error:  # a fault of ours: locust would try again at once, for ever
            log.exception("a simulated device broke down")
            visitor.record.failed(f"load generator: {type(error).__name__}: {error}"[:120])
        visitor.finish()
        gevent.sleep(FOREVER_S)

    def play(self, visitor: Visitor) -> None:
        """Do what the role does."""
        raise NotImplementedError


class Talker(DeviceUser):
    """See Visitor.talker; likewise below."""

    def play(self, visitor: Visitor) -> None:
        visitor.talker()


class Holder(DeviceUser):
    """Idle."""

    role = "holder"

    def play(self, visitor: Visitor) -> None:
        visitor.holder()


class PushToTalker(DeviceUser):
    """With a button."""

    role = "push_to_talk"

    def play(self, visitor: Visitor) -> None:
        visitor.push_to_talk()


class Interrupter(DeviceUser):
    """Realtime, with interrupts."""

    role = "interrupter"

    def play(self, visitor: Visitor) -> None:
        visitor.interrupter()


class GatewayTalker(DeviceUser):
    """Behind the MQTT gateway."""

    role = "gateway"

    def play(self, visitor: Visitor) -> None:
        visitor.gateway()


class GarbageSender(DeviceUser):
    """See abuse.py; likewise below."""

    role = "garbage"

    def play(self, visitor: Visitor) -> None:
        abuse.garbage(visitor)


class SlowReader(DeviceUser):
    """Does not read."""

    role = "slow_reader"

    def play(self, visitor: Visitor) -> None:
        abuse.slow_reader(visitor)


class Reconnector(DeviceUser):
    """Storms."""

    role = "reconnector"

    def play(self, visitor: Visitor) -> None:
        abuse.reconnector(visitor)


USERS: tuple[type[DeviceUser], ...] = (
    Talker,
    Holder,
    PushToTalker,
    Interrupter,
    GatewayTalker,
    GarbageSender,
    SlowReader,
    Reconnector,
)
