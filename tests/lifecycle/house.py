"""A server in this process whose configuration a test may change: the stage of the end-to-end tests, with another set
of lines to say.

`change` edits what the next reload will read. `ask_http` and `scrape` come from outside, over the real HTTP port.
Whatever waits by the clock in the server (retries, an open breaker, load that calms down) is moved by hand, see
`impatient`, `later` and `overload`."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT, TTS, OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import QUARTER, SHORT, Stage, ask, base_settings, merged, settle_phrases, unshakable
from tests.waiting import PATIENCE_S
from xiaozhi.app.server import Server
from xiaozhi.runtime.breaker import Breaker
from xiaozhi.runtime.resilience import Guard
from xiaozhi.settings import Loaded, load

__all__ = ["CHAT", "QUARTER", "SHORT", "TTS", "Answered", "House", "Script", "ask", "open_house"]

ADMIN_TOKEN = "the-admin-token-of-tests"
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

    def __init__(self, vendor: OpenAiVendor, overrides: dict[str, Any]) -> None:
        self._overrides = overrides
        self.before_reading: Callable[[], object] = lambda: None
        """Called when a reload is about to read the configuration."""
        self.shed_policy = unshakable()
        loaded = self._read()
        super().__init__(vendor, Server(loaded, reload=self._reread, shed_policy=self.shed_policy), loaded)

    def change(self, changes: Mapping[str, Any]) -> None:
        """What a reload will read from now on."""
        fresh = merged(self._overrides, changes)
        self._overrides.clear()
        self._overrides.update(fresh)

    def _read(self) -> Loaded:
        return load(environ={}, overrides=self._overrides)

    def _reread(self) -> Loaded:
        self.before_reading()
        return self._read()

    # --- from outside -------------------------------------------------------------------------------------------------

    def ask_http(self, path: str, method: str = "GET", **headers: str) -> Answered:
        """One request to the HTTP port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.http_port, timeout=PATIENCE_S)
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
        """The guard of a vendor in force, such as "LLM.Vendor"."""
        return next(guard for guard in reversed(self.server.provider_pool.guards) if guard.name == name)

    def impatient(self, name: str = "LLM.Vendor") -> None:
        """Retries of this vendor come at once."""
        self.guard(name).sleep = lambda seconds: None

    @staticmethod
    def later(breaker: Breaker | None) -> None:
        """The time for which the breaker stays open is over."""
        assert breaker is not None
        clock, passed = breaker.clock, breaker.options.open_for + 1
        breaker.clock = lambda: clock() + passed

    def overload(self, lag_s: float, seconds: float, begin: float) -> float:
        """The watchdog sees this much hub lag for so long; returns its time afterwards."""
        now = begin
        while now < begin + seconds:
            now += 0.25
            self.server.watchdog.check(lag_s, now)
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
        house = House(vendor, merged(merged(base_settings(vendor, directory), common), own))
        try:
            house.server.start()
            settle_phrases(house)
            house.keep_phrases()
            house.reset()
            yield house
        finally:
            house.close_devices()
            house.server.stop()
