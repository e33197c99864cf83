"""The server's own account of a run: read from its metrics, as means that add up to what the devices measured."""

from __future__ import annotations

import pytest

from loadtest.measure import account
from loadtest.vendors.http_vendor import HttpVendor, VendorAnswer
from xiaozhi.app.telemetry import Observer
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.session.turn_record import SHARES, Outcome, Timeline, TurnRecord


def record(outcome: Outcome = Outcome.ANSWERED, **stages: float) -> TurnRecord:
    return TurnRecord(1, outcome, Timeline(voice_ended=10.0, **stages), speculative=False)


def test_the_shares_of_all_workers_add_up_to_what_was_measured() -> None:
    metrics = Metrics()
    observer = Observer(metrics)

    def answer(request: object) -> VendorAnswer:
        return VendorAnswer(metrics.render()[1], "text/plain")

    with HttpVendor(answer) as server:
        urls = [f"{server.url}/metrics"] * 2
        observer.turn_ended("d", record(released=10.3, heard=10.4, first_frame=10.5))
        before = account.read(urls)
        observer.turn_ended("d", record(released=10.2, heard=10.4, first_frame=10.5))
        observer.turn_ended("d", record(released=10.4, heard=10.4, first_frame=10.6))
        observer.turn_ended("d", record(Outcome.OVERLOADED, released=10.4))
        after = account.read(urls)

    found = account.between(before, after, 570.0)
    assert set(found) == {*SHARES, account.UNSEEN}
    assert {share: ms for share, ms in found.items() if ms} == {
        "detector": 300.0,
        "recognition": 100.0,
        "pacing": 150.0,
        account.UNSEEN: 20.0,
    }
    assert sum(found.values()) == pytest.approx(570.0)
    assert after.refused - before.refused == 2, "the same worker, asked twice"


def test_a_server_that_does_not_tell_has_no_account() -> None:
    assert account.between(account.read([]), account.read([]), 500.0) == {}
