"""What is known of a device's board."""

from __future__ import annotations

from xiaozhi.devices.boards import MAX_CHARS, MAX_DEVICES, MAX_NAMES, KnownBoards


def test_everything_a_device_says_of_itself_counts() -> None:
    boards = KnownBoards()
    boards.learn("a", ["bread-compact-wifi", " ", "bread-compact-wifi"])
    boards.learn("a", ["bread-compact-wifi-lcd"])

    assert boards.names("a") == ("bread-compact-wifi-lcd", "bread-compact-wifi")
    assert boards.names("b") == ()


def test_what_is_kept_is_bounded() -> None:
    boards = KnownBoards()
    for number in range(2 * MAX_NAMES):
        boards.learn("talker", [f"{number}" * 1000])
    assert len(boards.names("talker")) == MAX_NAMES
    assert all(len(name) <= MAX_CHARS for name in boards.names("talker"))
    assert boards.names("talker")[0].startswith(f"{2 * MAX_NAMES - 1}")

    for number in range(MAX_DEVICES):
        boards.learn("talker", ["still here"])
        boards.learn(str(number), ["x"])
    assert boards.names("talker")[0] == "still here"
    assert boards.names("0") == ()
    assert boards.names(str(MAX_DEVICES - 1)) == ("x",)
