"""A server in this process whose configuration a test may change: the stage of the end-to-end tests, with another set
of lines to say.

`change` edits what the next reload will read. `ask_http` and `scrape` come from outside, over the real HTTP port.
Whatever waits by the clock in the server (retries, an open breaker, load that calms down) is moved by hand, see
`impatient`, `later` and `overload`."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT, TTS, OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import QUARTER, SHORT, Stage, ask, base_settings, merged, settle_phrases, wait_until
from xiaozhi.app.server import Server
from xiaozhi.runtime.breaker import Breaker
from xiaozhi.runtime.resilience import Guard
from xiaozhi.settings import Loaded, load

__all__ = ["CHAT", "QUARTER", "SHORT", "TTS", "Answered", "House", "Script", "ask", "open_house", "wait_until"]

ADMIN_TOKEN = "the-admin-token"
SECRET = "the-management-secret"


@dataclass(frozen=True, slots=True)
class Answered:
    """What the HTTP port said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body parsed."""
        return json.loads(self.body)


class House(Stage):
    """Use `open_house`."""

    def __init__(self, vendor: OpenAiVendor, server: Server, loaded: Loaded, overrides: dict[str, Any]) -> None:
        super().__init__(vendor, server, loaded)
        self._overrides = overrides

    def change(self, changes: Mapping[str, Any]) -> None:
        """What a reload will read from now on."""
        fresh = merged(self._overrides, changes)
        self._overrides.clear()
        self._overrides.update(fresh)

    # --- from outside -------------------------------------------------------------------------------------------------

    def ask_http(self, path: str, method: str = "GET", **headers: str) -> Answered:
        """One request to the HTTP port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.http_port, timeout=10)
        try:
            connection.request(method, path, headers={"Connection": "close", **headers})
            reply = connection.getresponse()
            return Answered(reply.status, dict(reply.headers), reply.read())
        finally:
            connection.close()

    def scrape(self) -> dict[str, Metric]:
        """/metrics, read by the official parser: families by name."""
        families = text_string_to_metric_families(self.ask_http("/metrics").body.decode())
        return {family.name: family for family in families}

    def measured(self, name: str, **labels: str) -> float:
        """One sample of a scrape; -1 when there is none."""
        samples = [sample for family in self.scrape().values() for sample in family.samples if sample.name == name]
        return next((sample.value for sample in samples if labels.items() <= sample.labels.items()), -1.0)

    # --- time moved by hand -------------------------------------------------------------------------------------------

    def guard(self, name: str) -> Guard:
        """The guard of a vendor in force, such as "llm:Vendor"."""
        return next(guard for guard in reversed(self.server.provider_pool.guards) if guard.name == name)

    def impatient(self, name: str = "llm:Vendor") -> None:
        """Retries of this vendor come at once."""
        self.guard(name)._sleep = lambda seconds: None

    @staticmethod
    def later(breaker: Breaker | None) -> None:
        """The time for which the breaker stays open is over."""
        assert breaker is not None
        breaker._opened_at -= breaker.options.open_for + 1

    def overload(self, lag_s: float, seconds: float, begin: float) -> float:
        """The watchdog sees this much hub lag for so long; returns its time afterwards."""
        now = begin
        while now < begin + seconds:
            now += 0.25
            self.server._watchdog.check(lag_s, now)
        return now


@contextmanager
def open_house(
    directory: Path, sounds: Sounds, overrides: Mapping[str, Any] | Callable[[str], Mapping[str, Any]] | None = None
) -> Iterator[House]:
    """Vendor and server, started; stopped at the end. `overrides`: settings, or what makes them of the vendor's
    address."""
    with OpenAiVendor(sounds=sounds, keep_alive=False, heard="what is up") as vendor:
        assert isinstance(vendor, OpenAiVendor)
        vendor.stand(TTS, SHORT)
        vendor.stand(CHAT, Script(answer="Fine."))
        common = {"server": {"admin_token": ADMIN_TOKEN, "secret": SECRET}}
        own = overrides(vendor.base_url) if callable(overrides) else overrides or {}
        settings = merged(merged(base_settings(vendor, directory), common), own)

        def read() -> Loaded:
            return load(environ={}, overrides=settings)

        server = Server(read(), reload=read)
        house = House(vendor, server, read(), settings)
        try:
            server.start()
            settle_phrases(house)
            house.keep_phrases()
            house.reset()
            yield house
        finally:
            house.close_devices()
            server.stop()


def until(condition: Any, what: str, seconds: float = 20.0) -> Any:
    """Ask until the answer is true, and return it; for other processes, whose events nobody here is told."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        wait_a_moment()
    return answer


def wait_a_moment() -> None:
    """Between two looks at another process."""
    gevent.sleep(0.02)
