"""The run command: options to scenario and server, steps one after another, files, exit codes (real runs:
tests/e2e/test_load_smoke.py)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest import __main__ as commands
from loadtest.measure import fleet, run
from loadtest.measure.processes import EXPECTED, MeasuredServer, Setup, StartError
from loadtest.simulator.record import FIRST_AUDIO, Record
from loadtest.simulator.scenario import Scenario
from tests.loadtest.figures import a_step


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Scenario, str, Setup | None]]:
    """Runs that were asked for; each gives made-up figures."""
    asked: list[tuple[Scenario, str, Setup | None]] = []
    started: list[Setup] = []

    @contextlib.contextmanager
    def set_up(setup: Setup) -> Iterator[MeasuredServer]:
        started.append(setup)
        yield MeasuredServer("ws://started", [1], ["http://started"], Path())

    def measure(plan: Scenario, url: str, pids: list[int], *, on_progress: Any, **_: Any) -> dict[str, Any]:
        record = Record()
        record.measured(FIRST_AUDIO, 500, at=0)
        on_progress(record)
        asked.append((plan, url, started[-1] if started else None))
        return a_step(plan.devices, failures={"closed 1011": 1} if plan.expect == "fail" else None)

    monkeypatch.setattr(run, "set_up", set_up)
    monkeypatch.setattr(run, "measure", measure)
    return asked


def test_without_an_address_the_server_is_started_afresh_for_every_step(measured: list[Any], tmp_path: Path) -> None:
    code = commands.main(
        ["run", "--devices", "5,10", "--turns", "3", "--workers", "2", "--out", str(tmp_path), "--name", "x"]
    )

    assert code == 0
    assert [(plan.devices, plan.turns, plan.expect, url) for plan, url, _ in measured] == [
        (5, 3, EXPECTED, "ws://started"),
        (10, 3, EXPECTED, "ws://started"),
    ]
    assert measured[0][2].workers == 2
    assert [step["devices"] for step in json.loads((tmp_path / "x.json").read_text())["steps"]] == [5, 10]


def test_another_server_is_taken_as_it_is(measured: list[Any], tmp_path: Path) -> None:
    commands.main(["run", "--url", "ws://server.example:8000/xiaozhi/v1/", "--out", str(tmp_path)])

    plan, url, setup = measured[0]
    assert (url, setup, plan.expect) == ("ws://server.example:8000/xiaozhi/v1/", None, "")
    assert len(list(tmp_path.glob("run-*.html"))) == 1


def test_by_mqtt_the_server_has_its_port_and_devices_know_whom_to_ask(measured: list[Any], tmp_path: Path) -> None:
    commands.main(["run", "--transport", "both", "--devices", "2", "--out", str(tmp_path)])

    plan, _, setup = measured[0]
    assert (setup.mqtt, plan.transport, plan.ota) == (True, "both", "http://started/xiaozhi/ota/")
    commands.main(["run", "--devices", "2", "--out", str(tmp_path)])
    assert not measured[1][2].mqtt


def test_a_failure_is_an_exit_code(measured: list[Any], tmp_path: Path) -> None:
    assert commands.main(["run", "--devices", "2", "--expect", "fail", "--out", str(tmp_path)]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--devices", "0"],
        ["--roles", "singer"],
        ["--devices", "many"],
        ["--url", "ws://server.example:8000/xiaozhi/v1/", "--transport", "mqtt"],
    ],
)
def test_nonsense_is_told_in_a_line(
    arguments: list[str], measured: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main(["run", *arguments]) == 2
    assert capsys.readouterr().out.count("\n") == 1


def test_a_server_that_does_not_start_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def set_up(setup: Setup) -> Any:
        raise StartError("server ended with code 1:\n[no markup]")

    monkeypatch.setattr(run, "set_up", set_up)

    assert commands.main(["run"]) == 2
    assert "[no markup]" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["run", "capacity", "idle", "churn", "soak", "compare", "hotspots"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        commands.main([command, "--help"])

    assert left.value.code == 0
    assert "--tree" in capsys.readouterr().out


def test_more_devices_get_more_processes_but_not_more_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet.os, "cpu_count", lambda: 2)

    assert [fleet.processes_for(devices) for devices in (1, 300, 301, 10_000)] == [1, 1, 2, 2]
