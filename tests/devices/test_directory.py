"""What is kept of devices: what they say of themselves, and their own settings; on both databases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gevent
import pytest

from tests.databases import opened
from xiaozhi.app.main import main
from xiaozhi.devices.directory import DeviceDirectory, UnknownDevice
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.devices.report import report_of
from xiaozhi.errors import SettingsError, StorageError
from xiaozhi.storage.database import Database

ANNA = "02:00:00:00:00:0a"
BODY = {
    "language": "zh-CN",
    "minimum_free_heap_size": 8441000,
    "chip_model_name": "esp32s3",
    "display": {"width": 240, "height": 280, "monochrome": False},
    "board": {"type": "lichuang-dev", "name": "x", "ssid": "home\x1b[2J", "rssi": -51, "ip": "192.168.1.20"},
}


def test_a_report_keeps_what_can_be_used() -> None:
    assert report_of(BODY) == {
        "language": "zh-CN",
        "free_heap": 8441000,
        "chip": "esp32s3",
        "screen": "240x280",
        "network": "home[2J",
        "rssi": -51,
        "board_ip": "192.168.1.20",
    }
    for odd in ({}, {"board": []}, {"board": {"rssi": "x"}, "display": {"width": True}, "language": {"a": 1}}):
        assert report_of(odd) == {}
    assert report_of({"language": "x" * 1000, "flash_size": 1e300}) == {"language": "x" * 128}


def test_reports_add_up_and_devices_are_listed_by_when_they_were_seen(database: Database) -> None:
    now = [100.0]
    notes = DeviceNotes(database, clock=lambda: now[0])
    directory = DeviceDirectory(database, notes)
    notes.saw(ANNA, {"firmware": "1.0", "rssi": -50})
    notes.saw("b", {"firmware": "2.0"})
    assert notes.flush()
    now[0] = 200.0
    notes.saw(ANNA, {"firmware": "1.1"})
    notes.saw(ANNA, {"address": "192.168.1.2"})
    assert notes.flush()

    first, second = directory.all()
    assert (first.device, first.first_seen, first.last_seen) == (ANNA, 100.0, 200.0)
    assert first.report == {"firmware": "1.1", "rssi": -50, "address": "192.168.1.2"}
    assert second.device == "b"
    with pytest.raises(UnknownDevice, match="not known here"):
        directory.of("c")


def test_devices_that_come_at_once_are_looked_up_in_one_reading(database: Database) -> None:
    directory = DeviceDirectory(database, DeviceNotes(database))
    for number in range(40):
        directory.change_settings(f"d{number}", lambda own, number=number: {"prompt": f"You are {number}."})  # type: ignore[misc]
    found: dict[int, Any] = {}

    def come(number: int) -> None:
        found[number] = directory.look_up(f"d{number}", "c").settings

    waiting = [gevent.spawn(come, number) for number in range(50)]
    gevent.joinall(waiting, raise_error=True)

    assert found[7] == {"prompt": "You are 7."}
    assert found[45] is None
    assert directory.enrolled_client("d7", "c") == ""
    assert directory.enrolled_client("never", "c") is None


def test_without_a_database_the_look_up_says_so(database: Database) -> None:
    directory = DeviceDirectory(database, DeviceNotes(database))
    database.close()
    with pytest.raises(StorageError, match="does not answer"):
        directory.look_up(ANNA, "c")


# --- on the command line ----------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["devices", *words])
    told = capsys.readouterr()
    return code, told.out + told.err


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XIAOZHI__LOG__DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XIAOZHI__LOG__LOG_DIR", "")
    return tmp_path


def test_operators_see_and_set(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "list") == (0, "No device has asked or connected yet.\n")
    assert run(capsys, "show", ANNA)[0] == 1
    code, told = run(capsys, "set", ANNA.upper(), "tts.voice=en-gb", "prompt=You: are a pirate.", "wakeup_words=[ahoy]")
    assert code == 0, told
    assert run(capsys, "set", ANNA, "device_max_output_size=500", "language=Klingon")[0] == 0
    with opened(data) as database:
        notes = DeviceNotes(database)
        notes.saw(ANNA, {"board": "lichuang\x1b[2J-dev", "firmware": "2.0.1", "address": "192.168.1.2"})
        assert notes.flush()
        assert DeviceDirectory(database, notes).settings_of(ANNA) == {
            "TTS": {"Offline": {"voice": "en-gb"}},
            "prompt": "You: are a pirate.",
            "wakeup_words": ["ahoy"],
            "device_max_output_size": 500,
            "language": "Klingon",
        }
    code, table = run(capsys, "list")
    assert code == 0 and "\x1b" not in table
    for shown in ("DEVICE", ANNA, "offline", "lichuang[2J-dev", "2.0.1", "192.168.1.2", "prompt"):
        assert shown in table
    assert "voice: en-gb" in run(capsys, "show", ANNA)[1]

    assert run(capsys, "unset", ANNA, "tts.voice", "prompt", "language", "wakeup_words")[0] == 0
    code, told = run(capsys, "unset", ANNA, "prompt")
    assert code == 1 and "device_max_output_size" in told
    assert "as in all else" in run(capsys, "unset", ANNA, "device_max_output_size")[1]
    assert run(capsys, "revoke", ANNA)[0] == 0
    assert "revoked" in run(capsys, "show", ANNA)[1]
    assert run(capsys, "approve", ANNA)[0] == 0
    code, told = run(capsys, "approve", "123456")
    assert code == 1 and "nobody waits" in told


@pytest.mark.parametrize(
    "assignment,told",
    [
        ("prompt", "key=value"),
        ("=x", "key=value"),
        ("promt=x", "prompt"),
        ("tts=Nobody", "selected_module.TTS"),
        ("tts.voise=x", "voice"),
        ("asr_timeout=-1", "asr_timeout"),
        ("server.port=1", "only for the server"),
        ("LLM.Own.type=evil.module:Class", "ships here"),
        ("llm.type=evil.module:Class", "ships here"),
        ("TTS.evil:Class.voice=x", "ships here"),
        ("plugins.dirs=[/tmp]", "file of this machine"),
        ("conversation.resume_seconds=5", "only for the server"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_kept(
    data: Path, capsys: pytest.CaptureFixture[str], assignment: str, told: str
) -> None:
    code, said = run(capsys, "set", ANNA, "prompt=x", assignment)
    assert code == 1
    assert told in said
    assert run(capsys, "list")[1] == "No device has asked or connected yet.\n"


def test_secrets_of_a_device_are_not_shown(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = run(
        capsys, "set", ANNA, "LLM.Own.type=openai", "LLM.Own.api_key=sk-very-secret-key", "LLM.Own.model_name=m",
        "LLM.Own.base_url=http://127.0.0.1:9/v1", "llm=Own",
    )  # fmt: skip
    assert code == 0, told
    assert "sk-very-secret-key" not in told + run(capsys, "show", ANNA)[1] + run(capsys, "list")[1]


def test_two_operators_at_once_do_not_overwrite_each_other(data: Path) -> None:
    from xiaozhi.app.device_settings import change_own
    from xiaozhi.settings import load

    with opened(data) as database:
        directory = DeviceDirectory(database, DeviceNotes(database))

        class Racing(DeviceDirectory):
            def settings_of(self, device: str) -> Any:
                found = super().settings_of(device)
                directory.change_settings(device, lambda own: {**own, "language": "Klingon"})
                return found

        with pytest.raises(SettingsError, match="try again"):
            change_own(Racing(database, DeviceNotes(database)), load(environ={}), ANNA, {"prompt": "x"}, who="test")
        assert directory.settings_of(ANNA) == {"language": "Klingon"}
