"""What a YAML file may hold, and how what it may not hold is told: file, line, what was found, what to write
instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xiaozhi.errors import SettingsError
from xiaozhi.settings.yaml_reader import MAX_BYTES, MAX_DEPTH, read_file, read_text, read_value


@pytest.mark.parametrize(
    "text, value",
    [
        ("", {}),
        ("# only a comment", {}),
        ("---\n", {}),
        ("a: 1", {"a": 1}),
        ("a: +8", {"a": 8}),
        ("a: -5.5", {"a": -5.5}),
        ("a: .5", {"a": 0.5}),
        ("a: 1.5e3", {"a": 1500.0}),
        ("a: yes\nb: Off", {"a": True, "b": False}),
        ("a: ~\nb:\nc: null", {"a": None, "b": None, "c": None}),
        ("on: 1\n2: x\n1.5: y", {"on": 1, "2": "x", "1.5": "y"}),
        ("a: {b: [1, two]}", {"a": {"b": [1, "two"]}}),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        (
            "a: &x {b: 1}\nc: &y {b: 2, d: 3}\ne: {<<: [*x, *y]}",
            {"a": {"b": 1}, "c": {"b": 2, "d": 3}, "e": {"b": 1, "d": 3}},
        ),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ('a: "你好\\n"', {"a": "你好\n"}),
        ("a: |\n  one\n  two\n", {"a": "one\ntwo\n"}),
        ("\ufeffa: 1", {"a": 1}),
    ],
)
def test_reads(text: str, value: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(text.encode())

    assert read_file(path) == (value, [])


@pytest.mark.parametrize(
    "text", ["11:22:33:44:55:16", "12:30", "2031-02-03", "0123", "0x1F", "123e4567", "1_000", "=", "<<", "y", "nan"]
)
def test_text_that_other_readers_take_for_numbers_and_dates(text: str) -> None:
    value, faults = read_text(f"a: {text}", "f")

    assert (value, faults) == ({"a": text}, [])


@pytest.mark.parametrize(
    "text, line, found, expected",
    [
        ("a: 1\nb: 2\na: 3", 3, "'a' a second time", "the first is in line 1"),
        ("s:\n  k: 1\n  'k': 2", 3, "'k' a second time", "the first is in line 2"),
        ("a: 1\n\tb: 2", 2, "'\\t'", "spaces"),
        ("a: b: c", 1, "mapping values are not allowed", "quote"),
        ("a: 'open", 1, "end of stream", "closing quote"),
        ("a:\n - 1\n b: 2", 3, "block end", "indentation"),
        ("a\nb: 1", 2, "", "colon"),
        ("a: *nobody", 1, "undefined alias", "anchor"),
        ("a: @x", 1, "cannot start any token", "quotes"),
        ("a: 1\n---\nb: 2", 2, "another document", "one document"),
        ("a: !!python/object/apply:os.system [ls]", 1, "python/object", "without '!' tags"),
        ("a: !!binary aGk=", 1, "binary", "without '!' tags"),
        ("a: !mine x", 1, "!mine", "without '!' tags"),
        ("a: !!int seven", 1, "a number of 5 characters", "quotes"),
        (f"a: {'9' * 5000}", 1, "a number of 5000 characters", "quotes"),
        ("? [a, b]\n: 1", 1, "a key that is not text", "name"),
        ("a: {<<: 1}", 1, "'<<'", "mapping"),
        ("a: &x [*x]", 1, "nested too deeply", "contains itself"),
        ("a: &x {b: *x}", 1, "nested too deeply", "contains itself"),
    ],
)
def test_faults_name_the_line_and_the_remedy(text: str, line: int, found: str, expected: str) -> None:
    _, faults = read_text(text, "dir/f.yaml")

    assert len(faults) == 1
    assert faults[0].key == f"dir/f.yaml line {line}"
    assert found in faults[0].value
    assert expected in faults[0].expected


@pytest.mark.parametrize(
    "text, found",
    [
        ("- 1\n- 2", "holds a list"),
        ("just words", "holds a single value"),
        ("12", "holds a single value"),
        ("a\0b: 1", "the character"),
    ],
)
def test_faults_of_the_whole_file(text: str, found: str) -> None:
    value, (fault,) = read_text(text, "f.yaml")

    assert value == {}
    assert fault.key == "f.yaml"
    assert found in fault.value


def test_what_can_be_read_is_read_in_spite_of_a_duplicate() -> None:
    value, faults = read_text("a: 1\nb: 2\na: 3\nb: 4\n", "f")

    assert value == {"a": 3, "b": 4}
    assert len(faults) == 2


def bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "make, found",
    [
        (bomb, "too much"),
        (lambda: "a: " + "[" * 100_000, "nested too deeply"),
        (lambda: "a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested too deeply"),
        (lambda: "a: " + "x" * MAX_BYTES, "bytes"),
        (lambda: b"a: 1\nb: \xff\xfe", "byte 0xff"),
    ],
    ids=["bomb", "endless", "deep", "big", "not utf-8"],
)
def test_abuse_is_a_fault(make: Callable[[], str | bytes], found: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    text = make()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())

    value, (fault,) = read_file(path)

    assert value == {}
    assert found in fault.value


def test_the_deepest_legal_file() -> None:
    _, faults = read_text("a: " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1), "f")

    assert faults == []


def test_the_line_of_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes("a: 1\nb: 密\n".encode("gbk"))

    _, (fault,) = read_file(path)

    assert fault.key == f"{path} line 2"
    assert "UTF-8" in fault.expected


def test_a_value_alone() -> None:
    assert read_value("[1, {a: b}]") == [1, {"a": "b"}]
    with pytest.raises(SettingsError):
        read_value("[1, 2")
    with pytest.raises(SettingsError):
        read_value("{a: 1, a: 2}")
