"""The figures of the console's overview are those of a scrape, and what is wrong is among them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from loadtest.vendors.sounds import Sounds
from tests.lifecycle.house import CHAT, House, Script, ask, open_house
from tests.waiting import wait_for
from xiaozhi.devices.enrolment import CODE_S
from xiaozhi.storage import enrolments, presences
from xiaozhi.storage.database import Database, sqlite_url
from xiaozhi.storage.enrolments import Waiting


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("data"), sounds, {}) as opened:
        yield opened


@pytest.fixture
def database(house: House) -> Iterator[Database]:
    """The one of the server, by a connection of its own."""
    assert house.server.generation is not None
    folder = house.server.generation.loaded.settings.data_dir
    opened = Database(sqlite_url(next(folder.glob("*.sqlite"))))
    opened.start()
    yield opened
    opened.close()


def overview(house: House) -> dict[str, Any]:
    answer = house.ask_http("/console/api/overview")
    assert answer.status == 200
    found: dict[str, Any] = answer.json
    return found


def settled(house: House) -> dict[str, Any]:
    """Once the database has been asked."""
    wait_for(lambda: overview(house)["devices"]["all"] is not None, "the database to be asked")
    return overview(house)


def sampled(house: House) -> dict[tuple[str, frozenset[str]], float]:
    """A scrape: value by name and values of labels."""
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in house.scrape().values()
        for sample in family.samples
    }


def test_the_numbers_are_those_of_a_scrape(house: House) -> None:
    house.reset()
    device = house.device()
    ask(device, "hello")
    house.vendor.stand(CHAT, Script(status=401))
    ask(device, "hello again")
    house.reset()

    shown, scrape = settled(house), sampled(house)

    def scraped(name: str, *labels: str) -> float:
        return scrape[f"xiaozhi_{name}", frozenset(labels)]

    assert shown["devices"]["here"] == shown["devices"]["all"] == scraped("connections") == 1
    assert shown["devices"]["places"] == scraped("connections_limit")
    turns = {outcome: scraped("turns_total", outcome) for outcome in shown["turns"]["outcomes"]}
    assert shown["turns"]["outcomes"] == turns
    assert sum(turns.values()) >= 2
    assert shown["first_audio"]["answers"] == scraped("turn_stage_seconds_count", "first_frame") >= 2
    assert shown["hour"]["turns"][-1] + sum(shown["hour"]["turns"][:-1]) == sum(turns.values())
    assert {row["kind"] for row in shown["vendors"]} >= {"asr", "llm", "tts"}
    for row in shown["vendors"]:
        kind, vendor = row["kind"], row["vendor"]
        requests = {
            labels - {kind, vendor}: value
            for (name, labels), value in scrape.items()
            if name == "xiaozhi_vendor_requests_total" and labels >= {kind, vendor}
        }
        assert row["calls"] == sum(requests.values())
        errors = {next(iter(result)): n for result, n in requests.items() if result not in ({"ok"}, {"cancelled"})}
        assert row["errors"] == errors
        assert row["places"] == scraped("vendor_active_limit", kind, vendor)
        assert row["breaker"] == "closed" and scraped("vendor_breaker_state", kind, vendor) == 0
    assert any(row["errors"].get("rejected") for row in shown["vendors"])
    assert shown["pool"]["threads"] == scraped("pool_workers")
    for row in shown["pool"]["classes"]:
        assert row["refused"] == scraped("pool_jobs_refused_total", row["class"])
        assert row["active"] == scraped("pool_jobs", row["class"], "active")
    assert shown["memory"]["host"] == scraped("host_memory_bytes", "total")
    house.close_devices()


def test_the_wait_lies_in_its_bucket_of_the_scrape(house: House) -> None:
    """The histogram of a scrape is coarser: the median is between the ends of the bucket that holds it."""
    house.reset()
    device = house.device()
    for _ in range(3):
        ask(device, "hello")

    p50_s = overview(house)["first_audio"]["p50_ms"] / 1000

    buckets = {
        float(sample.labels["le"]): sample.value
        for family in house.scrape().values()
        for sample in family.samples
        if sample.name == "xiaozhi_turn_stage_seconds_bucket" and sample.labels["stage"] == "first_frame"
    }
    half = max(buckets.values()) / 2
    high = min(end for end, count in buckets.items() if count >= half)
    low = max((end for end, count in buckets.items() if count < half), default=0.0)
    assert low / 1.02 <= p50_s <= high * 1.02
    house.close_devices()


def test_a_breaker_that_opens_is_shown_with_what_to_do(house: House) -> None:
    house.reset()
    house.impatient()
    device = house.device()
    house.vendor.stand(CHAT, Script(status=503))
    breaker = house.guard("LLM.Vendor").breaker
    assert breaker is not None
    while breaker.state.value == "closed":
        ask(device, "hello")

    shown = overview(house)

    llm = next(row for row in shown["vendors"] if row["kind"] == "llm")
    assert llm["breaker"] == "open" and house.measured("xiaozhi_vendor_breaker_state", kind="llm") == 2
    assert {"level": "bad", "code": "breaker", "values": {"vendor": "LLM.Vendor"}} in shown["alerts"]
    house.close_devices()
    house.later(breaker)
    house.reset()


SHARED_FILE = "SQLite closes a file late when another connection of the process has it open too"


@pytest.mark.leaks(SHARED_FILE)
def test_other_workers_and_who_waits_are_read_from_the_database(house: House, database: Database) -> None:
    now = time.time()
    database.run(lambda each: presences.heartbeat(each, "another", "ws://192.168.1.9:8000/", 7, now + 600))
    database.run(lambda each: presences.heartbeat(each, "dead", "", 50, now - 600))
    waiting = Waiting("02:00:00:00:00:01", "client", "123456", "challenge", "192.168.1.20", now)
    database.run(lambda each: enrolments.wait(each, waiting, now - CODE_S))

    wait_for(lambda: overview(house)["devices"]["all"] == 7, "the other worker to be seen")

    shown = overview(house)
    assert shown["devices"]["here"] == 0
    assert [(row["here"], row["devices"]) for row in sorted(shown["workers"], key=lambda row: row["devices"])] == [
        (True, 0),
        (False, 7),
    ]
    assert {"level": "info", "code": "waiting", "values": {"n": 1}} in shown["alerts"]


@pytest.mark.leaks(SHARED_FILE)
def test_a_database_that_fails_is_said_and_keeps_nobody_waiting(house: House, database: Database) -> None:
    settled(house)
    database.run(lambda each: each.execute(text("ALTER TABLE waiting_device RENAME TO lost")))

    wait_for(lambda: {"level": "bad", "code": "database", "values": {}} in overview(house)["alerts"], "the alert")

    shown = overview(house)
    assert shown["devices"]["all"] is None
    assert [row["here"] for row in shown["workers"]] == [True]
    database.run(lambda each: each.execute(text("ALTER TABLE lost RENAME TO waiting_device")))
