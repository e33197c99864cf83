"""The locust master of a headless run: which users, with which options, and where their reports go. The rest of a run
is `fleet.py`."""

from __future__ import annotations

import contextlib
import logging
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from locust import User, argument_parser
from locust.env import Environment
from locust.event import Events
from locust.runners import MasterRunner

from loadtest.measure.locust_users import REPORT_KEY, USERS
from loadtest.simulator.record import Record
from loadtest.simulator.scenario import Scenario

# Its advice on spawn rates does not fit: all devices are spawned at once and spread themselves over the ramp.
logging.getLogger("locust").setLevel(logging.ERROR)


@contextlib.contextmanager
def _user_classes(head_count: dict[str, int]) -> Iterator[list[type[User]]]:
    """Users of the roles that are wanted, each with its exact number."""
    chosen = [user for user in USERS if user.role in head_count]
    for user in chosen:
        user.fixed_count = head_count[user.role]
    try:
        yield list(chosen)
    finally:
        for user in chosen:
            user.fixed_count = 0


@contextlib.contextmanager
def master(scenario: Scenario, url: str, record: Record, locustfile: Path) -> Iterator[MasterRunner]:
    """A master for the devices of `scenario`, listening for workers on a free port; what they report is merged into
    `record`."""
    events = Events()

    def on_report(client_id: str, data: dict[str, Any]) -> None:
        if REPORT_KEY in data:
            record.merge(Record.unpacked(data[REPORT_KEY]))

    events.worker_report.add_listener(on_report)
    with _user_classes(scenario.head_count()) as users:
        environment = Environment(
            user_classes=users, events=events, host=url, parsed_options=_options(scenario, locustfile)
        )
        runner = environment.create_master_runner(master_bind_host="127.0.0.1", master_bind_port=0)
        try:
            yield runner
        finally:
            runner.greenlet.kill()
            runner.server.close(linger=0)


def _options(scenario: Scenario, locustfile: Path) -> Namespace:
    """What locust's own command line would have given, without its configuration files and environment variables."""
    parser = argument_parser.get_empty_argument_parser(default_config_files=[])
    argument_parser.setup_parser_arguments(parser)
    options = parser.parse_args(["--headless", "--locustfile", str(locustfile)], env_vars={})
    vars(options).update(scenario.options())
    return options
