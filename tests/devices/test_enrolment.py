"""Who a device is: the first client id that asks, across restarts and workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.databases import opened
from xiaozhi.app.main import main
from xiaozhi.devices.enrolment import Enrolment

DEVICE = "AA:BB:CC:DD:EE:FF"


def test_the_first_client_id_is_enrolled_and_stays_so(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        assert Enrolment(database).enrol(DEVICE, "mine")
    with opened(tmp_path) as database, opened(tmp_path) as of_another_worker, capture_logs() as lines:
        for other in (database, of_another_worker):
            enrolment = Enrolment(other)
            assert enrolment.enrol(DEVICE, "mine")
            assert enrolment.enrol("aa-bb-cc-dd-ee-ff", "mine"), "the same device, written otherwise"
            for stranger in ("stranger", "MINE", "mine\x00", ""):
                assert not enrolment.enrol(DEVICE.lower(), stranger)
            assert enrolment.enrol("11:22:33:44:55:66", "other")
    assert all(f"devices forget {DEVICE.lower()}" in line["remedy"] for line in lines)


def test_a_device_that_was_set_up_anew_is_forgotten_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XIAOZHI__LOG__DATA_DIR", str(tmp_path))
    with opened(tmp_path) as database:
        assert Enrolment(database).enrol(DEVICE, "before")
    assert main(["devices", "forget", DEVICE.lower()]) == 0
    assert "enrolled anew" in capsys.readouterr().out
    assert main(["devices", "forget", DEVICE]) == 0
    assert "nothing to do" in capsys.readouterr().out
    with opened(tmp_path) as database:
        assert Enrolment(database).enrol(DEVICE, "after")
