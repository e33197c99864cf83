"""`server.py devices show`: the line of a device, as its last visit has left it."""

from __future__ import annotations

from pathlib import Path

import pytest

from xiaozhi.app import device_commands
from xiaozhi.app.wiring import make_database
from xiaozhi.devices.directory import DeviceDirectory
from xiaozhi.devices.lines import REPORT
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.settings import Loaded, load

DEVICE = "02:00:00:00:00:01"


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    return load(environ={}, overrides={"log": {"data_dir": str(tmp_path), "log_dir": ""}})


def shown(loaded: Loaded, capsys: pytest.CaptureFixture[str], **report: object) -> str:
    """What the command prints for a device with this report."""
    database = make_database(loaded.settings)
    database.start()
    notes = DeviceNotes(database)
    DeviceDirectory(database, notes).saw(DEVICE, {"board": "box", **report})
    assert notes.flush()
    database.close()
    assert device_commands.run(["devices", "show", DEVICE], loaded) == 0
    return capsys.readouterr().out


def test_its_line_is_told_in_a_sentence(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    line = {"at": 1_790_000_000.0, "sent": 500, "received": 900, "lost": 100}

    [row] = [row for row in shown(loaded, capsys, **{REPORT: line}).splitlines() if row.startswith("line")]

    assert "One packet in 10 is lost. (2026-" in row
    assert "received" not in row


def test_a_signal_that_another_process_was_told_is_no_secret(
    loaded: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"at": 1_790_000_000.0, "sent": 500, "received": 900}

    assert "weak (-84 dBm)" in shown(loaded, capsys, rssi=-84, **{REPORT: line})


def test_a_device_of_which_nothing_is_known(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(loaded, capsys)

    assert "box" in text
    assert not any(row.startswith("line") for row in text.splitlines())
