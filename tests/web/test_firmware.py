"""Which firmware is offered to whom."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xiaozhi.web.firmware import TO_ALL, Firmware, FirmwareShelf, Release, is_newer, parse_version


def shelf(folder: Path, *names: str) -> FirmwareShelf:
    for name in names:
        (folder / name).write_bytes(b"firmware")
    return FirmwareShelf(folder)


@pytest.mark.parametrize(
    "text,version",
    [("1.2.10", (1, 2, 10)), ("2", (2,)), ("1.0.0-rc1", (1, 0, 0)), ("0.09", (0, 9)), ("1.2b.3", (1, 2, 3))],
)
def test_versions_are_read_like_the_firmware_reads_them(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    "text",
    ["", "v1.0", "1..2", "1.rc1", "latest", "1.9999999999", "1.2_3", "1.0 ", "١.٢", "1.2.3.4.5.6.7.8.9", "1.0\n"],
)
def test_what_would_crash_the_firmware_is_no_version(text: str) -> None:
    assert parse_version(text) is None


@pytest.mark.parametrize(
    "new,old,newer", [((1, 10), (1, 9), True), ((1, 0), (1,), False), ((1,), (1, 0, 1), False), ((2,), (1, 9, 9), True)]
)
def test_numbers_are_compared_as_numbers(new: tuple[int, ...], old: tuple[int, ...], newer: bool) -> None:
    assert is_newer(new, old) is newer


def test_the_newest_of_the_right_model_is_offered(tmp_path: Path) -> None:
    files = (
        "board_1.9.0.bin",
        "board_1.10.0.bin",
        "board_1.2.0.bin",
        "other_9.0.0.bin",
        "board_2_8.0.0.bin",
        "board-x_7.0.0.bin",
        "board_new.bin",
    )
    offered = shelf(tmp_path, *files)

    assert offered.newest("board", "1.8.0") == Firmware("1.10.0", "board_1.10.0.bin")
    assert offered.newest("board", "1.10.0") is None
    assert offered.newest("board", "2.0.0") is None
    assert offered.newest("board_2", "1.0.0") == Firmware("8.0.0", "board_2_8.0.0.bin")
    assert offered.newest("board-x", "1.0.0") == Firmware("7.0.0", "board-x_7.0.0.bin")
    assert offered.newest("boar", "1.0.0") is None


@pytest.mark.parametrize("current", ["", "dev", "unknown"])
def test_a_device_of_unknown_version_is_offered_nothing(tmp_path: Path, current: str) -> None:
    assert shelf(tmp_path, "board_1.0.0.bin").newest("board", current) is None


def test_a_new_file_is_seen(tmp_path: Path) -> None:
    offered = shelf(tmp_path, "board_1.0.0.bin")
    assert offered.newest("board", "1.0.0") is None

    (tmp_path / "board_1.0.1.bin").write_bytes(b"x")
    os.utime(tmp_path, ns=(1, 1))  # the clock of a file system may be too coarse to show two changes apart

    assert offered.newest("board", "1.0.0") == Firmware("1.0.1", "board_1.0.1.bin")


def test_no_directory_no_firmware(tmp_path: Path) -> None:
    assert FirmwareShelf(tmp_path / "none").newest("board", "1.0.0") is None
    assert FirmwareShelf(tmp_path / "none").path("board_1.0.0.bin") is None


@pytest.mark.parametrize(
    "name",
    [
        "../secret.bin",
        "/etc/passwd",
        "a/b.bin",
        "..",
        ".hidden.bin",
        "board_1.0.0.bin.txt",
        "x\x00.bin",
        "",
        "board.bin\n",
        "link.bin",
        "folder.bin",
    ],
)
def test_nothing_but_firmware_in_the_directory_itself_is_found(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"x")
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "folder.bin").mkdir()
    offered = shelf(folder, "board_1.0.0.bin")

    assert offered.path(name) is None
    assert offered.path("board_1.0.0.bin") == (folder / "board_1.0.0.bin").resolve()


# --- for some devices only ---


def test_a_share_of_the_devices_always_the_same_and_contained_in_a_larger_one() -> None:
    names = [f"02:00:00:00:00:{number:02x}" for number in range(200)]

    def reached(percent: int) -> set[str]:
        return {name for name in names if Release(percent).reaches(name, "board_2.0.bin")}

    ten, fifty = reached(10), reached(50)
    assert 0 < len(ten) < 50 < len(fifty) < 150
    assert ten < fifty < reached(100) == set(names)
    assert reached(0) == set()
    assert Release(0, frozenset({names[3]})).reaches(names[3], "board_2.0.bin")


@pytest.mark.parametrize(
    "running,device,offered",
    [
        ("1.0", "anybody", ("1.5", False)),
        ("1.0", "first", ("2.0", False)),
        ("1.0", "back", ("1.4", True)),
        ("9.0", "back", ("1.4", True)),
        ("1.4", "back", None),
        ("1.4.0", "back", None),
        ("2.0", "first", None),
    ],
)
def test_who_is_offered_what(tmp_path: Path, running: str, device: str, offered: tuple[str, bool] | None) -> None:
    """One device tries the new version, one is to go back, whatever it runs, and once."""
    for version in ("1.4", "1.5", "2.0"):
        (tmp_path / f"board_{version}.bin").write_bytes(b"x")
    releases = {
        "board_2.0.bin": Release(0, frozenset({"first"})),
        "board_1.4.bin": Release(0, frozenset({"back"}), force=True),
    }

    found = FirmwareShelf(tmp_path).newest("board", running, device, lambda name: releases.get(name, TO_ALL))

    assert (None if found is None else (found.version, found.force)) == offered
