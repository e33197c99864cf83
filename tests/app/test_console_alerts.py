"""What is worth saying of a server, and how bad it is."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from xiaozhi.app.console_alerts import Conditions, ServerAlert, alerts
from xiaozhi.runtime.watchdog import Shed
from xiaozhi.web.console.pages import STATIC

WELL = Conditions(devices=3, places=500, disk_free_bytes=10 << 30, descriptors=(50, 1024), pool=(0, 256))
TROUBLES: list[tuple[dict[str, Any], ServerAlert]] = [
    ({"database": False}, ServerAlert("bad", "database")),
    ({"history_failing": {"disk": True, "store": False}}, ServerAlert("bad", "history_disk")),
    ({"history_failing": {"disk": False, "store": True}}, ServerAlert("warn", "history_sink", {"sink": "store"})),
    ({"disk_free_bytes": 20 << 20}, ServerAlert("bad", "disk", {"mb": 20})),
    ({"shedding": Shed.TURNS, "lag_s": 0.3}, ServerAlert("bad", "shedding_turns", {"ms": 300})),
    ({"shedding": Shed.CONNECTIONS, "lag_s": 0.8}, ServerAlert("bad", "shedding_connections", {"ms": 800})),
    ({"devices": 500}, ServerAlert("bad", "full", {"places": 500})),
    ({"failing_vendors": {"LLM.A": "no key"}}, ServerAlert("bad", "vendor", {"vendor": "LLM.A", "why": "no key"})),
    ({"refusing_vendors": ["LLM.A"]}, ServerAlert("bad", "breaker", {"vendor": "LLM.A"})),
    ({"silent_loops": {"sweeper": 9.4}}, ServerAlert("bad", "loop", {"loop": "sweeper", "seconds": 9})),
    ({"lag_s": 0.12}, ServerAlert("warn", "slow", {"ms": 120})),
    ({"descriptors": (930, 1024)}, ServerAlert("warn", "descriptors", {"used": 930, "limit": 1024})),
    ({"pool": (240, 256)}, ServerAlert("warn", "pool", {"waiting": 240})),
    ({"memory_free": 0.02}, ServerAlert("warn", "memory", {"percent": 2})),
    ({"management": ["it does not answer"]}, ServerAlert("warn", "management", {"what": "it does not answer"})),
    ({"open_port": 8000}, ServerAlert("warn", "open", {"port": 8000})),
    ({"waiting": 2}, ServerAlert("info", "waiting", {"n": 2})),
    ({"offline": ["asr"]}, ServerAlert("info", "offline", {"kinds": ["asr"]})),
]


@pytest.mark.parametrize(("trouble", "expected"), TROUBLES, ids=lambda each: getattr(each, "code", ""))
def test_each_trouble_is_said_once(trouble: dict[str, Any], expected: ServerAlert) -> None:
    assert alerts(replace(WELL, **trouble)) == [expected]


def test_a_server_that_is_well_says_nothing() -> None:
    assert alerts(WELL) == []
    assert alerts(Conditions()) == []


def test_a_vendor_with_a_reason_is_not_named_twice() -> None:
    found = alerts(replace(WELL, failing_vendors={"LLM.A": "no key"}, refusing_vendors=["LLM.A", "TTS.B"]))

    assert [(each.code, each.values["vendor"]) for each in found] == [("vendor", "LLM.A"), ("breaker", "TTS.B")]


def test_the_worst_comes_first() -> None:
    found = alerts(replace(WELL, waiting=1, lag_s=0.2, database=False))

    assert [each.level for each in found] == ["bad", "warn", "info"]


def test_the_page_has_words_for_each_in_both_languages() -> None:
    page = (STATIC / "pages" / "overview.js").read_text(encoding="utf-8")
    for _, expected in TROUBLES:
        texts = re.findall(rf'\ba_{expected.code}: "([^"]+)"', page)
        assert len(texts) == 2, expected.code
        for text in texts:
            assert set(re.findall(r"\{(\w+)\}", text)) == set(expected.values), text
