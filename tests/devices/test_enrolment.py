"""Who a device is: the first client id that asks, across restarts and workers, and what operators decide."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.databases import opened
from xiaozhi.app.main import main
from xiaozhi.devices.directory import DeviceDirectory, UnknownDevice
from xiaozhi.devices.enrolment import CODE_S, Asker, Enroll, Enrolment, EnrolmentRules
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.storage.database import Database

DEVICE = "AA:BB:CC:DD:EE:FF"
NORMAL = DEVICE.lower()


def asker(client: str, device: str = DEVICE, *, at_home: bool = True) -> Asker:
    """Somebody at home, or from elsewhere."""
    return Asker(device, client, "192.168.1.2" if at_home else "203.0.113.9", at_home, at_home)


def enrolls(database: Database, client: str, device: str = DEVICE, *, at_home: bool = True) -> bool:
    return Enrolment(database).ask(asker(client, device, at_home=at_home)).granted


def directory(database: Database) -> DeviceDirectory:
    return DeviceDirectory(database, DeviceNotes(database))


def test_the_first_client_id_is_enrolled_and_stays_so(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        assert enrolls(database, "mine")
    with opened(tmp_path) as database, opened(tmp_path) as of_another_worker, capture_logs() as lines:
        for other in (database, of_another_worker):
            assert enrolls(other, "mine")
            assert enrolls(other, "mine", "aa-bb-cc-dd-ee-ff"), "the same device, written otherwise"
            for stranger in ("stranger", "MINE", "mine\x00", ""):
                assert not enrolls(other, stranger, NORMAL)
            assert enrolls(other, "other", "11:22:33:44:55:66")
            record = directory(other).of(DEVICE)
            assert (record.client, record.how, record.enrolled_from) == ("mine", "in a private network", "192.168.1.2")
    remedies = [line["remedy"] for line in lines if "remedy" in line]
    assert remedies and all(remedy.startswith("server.py devices approve ") for remedy in remedies)


def test_it_moves_out_of_the_house_only_with_approval(tmp_path: Path) -> None:
    """Both ids go over the air at home."""
    with opened(tmp_path) as database:
        assert enrolls(database, "mine")
        away = Enrolment(database).ask(asker("mine", at_home=False))
        assert not away.granted and away.code
        directory(database).approve(away.code)
        assert enrolls(database, "mine", at_home=False)


@pytest.mark.parametrize(
    "enroll,at_home,granted",
    [
        ("private", True, True),
        ("private", False, False),
        ("open", False, True),
        ("approve", True, False),
        ("allowlist", True, False),
    ],
)
def test_whom_the_rules_enrol(tmp_path: Path, enroll: Enroll, at_home: bool, granted: bool) -> None:
    with opened(tmp_path) as database:
        ruling = Enrolment(database, EnrolmentRules(enroll)).ask(asker("c", at_home=at_home))
        assert ruling.granted is granted
        assert bool(ruling.code) == (not granted and enroll != "allowlist")


def test_a_code_is_good_for_a_day_and_every_client_id_has_its_own(tmp_path: Path) -> None:
    now = [1_000_000.0]
    with opened(tmp_path) as database:
        enrolment = Enrolment(database, EnrolmentRules("approve"), clock=lambda: now[0])
        first, second = (enrolment.ask(asker(client)).code for client in ("one", "two"))
        assert first != second
        now[0] += CODE_S - 1
        assert enrolment.ask(asker("one")).code == first
        with pytest.raises(UnknownDevice, match=first):
            directory(database).approve(DEVICE)
        now[0] += 2
        enrolment.ask(asker("three"))
        with pytest.raises(UnknownDevice, match="nobody waits"):
            directory(database).approve(first)


def test_who_is_revoked_stays_out_until_he_is_approved(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        assert enrolls(database, "mine")
        directory(database).revoke(DEVICE)
        for client in ("mine", "other"):
            ruling = Enrolment(database, EnrolmentRules("open")).ask(asker(client))
            assert not ruling.granted and not ruling.code
        assert directory(database).of(DEVICE).standing.revoked
        assert "may ask again" in directory(database).approve(DEVICE)
        assert enrolls(database, "other")
        assert directory(database).of(DEVICE).standing.tokens_from > 0, "older tokens stay void"


def test_an_approved_stranger_takes_over_and_the_tokens_of_before_are_void(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        assert enrolls(database, "old")
        assert directory(database).of(DEVICE).standing.tokens_from == 0
        code = Enrolment(database).ask(asker("new")).code
        directory(database).approve(code)
        assert enrolls(database, "new") and not enrolls(database, "old")
        assert directory(database).of(DEVICE).standing.tokens_from > 0


def test_a_device_that_was_set_up_anew_is_forgotten_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XIAOZHI__LOG__DATA_DIR", str(tmp_path))
    with opened(tmp_path) as database:
        assert enrolls(database, "before")
    assert main(["devices", "forget", NORMAL]) == 0
    assert "enrolled anew" in capsys.readouterr().out
    assert main(["devices", "forget", DEVICE]) == 0
    assert "not enrolled" in capsys.readouterr().out
    with opened(tmp_path) as database:
        assert enrolls(database, "after")
