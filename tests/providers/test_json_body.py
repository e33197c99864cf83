"""The form of a body is judged by its bytes: events, lines, objects, lists, in pieces of any size."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.providers.families.json_body import DONE, JsonBody

A, B = {"a": 1}, {"b": [2, "ä"]}
A_AND_B = [A, B]


def read(body: bytes, size: int = 10_000) -> tuple[list[Any], bytes]:
    parser = JsonBody()
    found: list[Any] = []
    for at in range(0, len(body), size):
        found += parser.feed(body[at : at + size])
    return found + parser.end(), parser.odd


BODIES: dict[str, tuple[str, list[Any]]] = {
    "events": ('data: {"a": 1}\n\ndata: {"b": [2, "ä"]}\n\n', A_AND_B),
    "events without blanks": ('data:{"a": 1}\ndata:{"b": [2, "ä"]}\n', A_AND_B),
    "CRLF": ('data: {"a": 1}\r\n\r\ndata: {"b": [2, "ä"]}\r\n\r\n', A_AND_B),
    "CR": ('data: {"a": 1}\r\rdata: {"b": [2, "ä"]}\r\r', A_AND_B),
    "comments and other fields": (
        ': hi\nid: 1\nevent: x\nretry: 5\ndata: {"a": 1}\n\n: bye\n\ndata: {"b": [2, "ä"]}\n\n', A_AND_B
    ),
    "a byte order mark": ('\ufeffdata: {"a": 1}\n\ndata: {"b": [2, "ä"]}\n\n', A_AND_B),
    "blank lines in front": ('\n\n  \ndata: {"a": 1}\n\ndata: {"b": [2, "ä"]}\n\n', A_AND_B),
    "empty data": ('data:\n\ndata: \n\ndata: {"a": 1}\n\ndata:\ndata: {"b": [2, "ä"]}\n\n', A_AND_B),
    "packed twice": ('data: data: {"a": 1}\n\ndata: data: {"b": [2, "ä"]}\n\n', A_AND_B),
    "one event over several lines": ('data: {"a":\ndata: 1}\n\ndata: {"b":\ndata: [2,\ndata: "ä"]}\n\n', A_AND_B),
    "no end of the last line": ('data: {"a": 1}\n\ndata: {"b": [2, "ä"]}', A_AND_B),
    "the mark of the end": ('data: {"a": 1}\n\ndata: [DONE]\n\n', [A, DONE]),
    "the mark without a space, without data": ('data:{"a": 1}\n\ndata:[DONE]\n\n[DONE]\n', [A, DONE, DONE]),
    "lines": ('{"a": 1}\n{"b": [2, "ä"]}\n', A_AND_B),
    "lines without a last end": ('{"a": 1}\n{"b": [2, "ä"]}', A_AND_B),
    "lines with CRLF and blanks": ('{"a": 1}\r\n\r\n{"b": [2, "ä"]}\r\n', A_AND_B),
    "records of RFC 7464": ('\x1e{"a": 1}\n\x1e{"b": [2, "ä"]}\n', A_AND_B),
    "one object": ('{"a": 1}', [A]),
    "one object with blanks around it": ('\n  {"a": 1}\n\n', [A]),
    "one object over several lines": ('{\n  "a":\n 1\n}\n', [A]),
    "objects one behind the other": ('{"a": 1}{"b": [2, "ä"]}', A_AND_B),
    "objects over several lines": ('{\n"a": 1\n}\n{\n"b": [2, "ä"]\n}\n', A_AND_B),
    "a list": ('[{"a": 1}, {"b": [2, "ä"]}]', A_AND_B),
    "a list over several lines": ('[{"a": 1}\n,\n{"b": [2, "ä"]}\n]\n', A_AND_B),
    "a list that was not closed": ('[{"a": 1},\n{"b": [2, "ä"]}', A_AND_B),
    "an object among events": ('data: {"a": 1}\n\n{"b": [2, "ä"]}\n', A_AND_B),
    "an event named error": ('event: error\ndata: {"a": 1}\n\ndata: {"b": [2, "ä"]}\n\n', [{"error": A}, B]),
    "an event named error in words": ("event: error\ndata: too bad\n\n", [{"error": "too bad"}]),
    "an event named error that holds one": ('event: error\ndata: {"error": "x"}\n\n', [{"error": "x"}]),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_bodies(name: str) -> None:
    text, expected = BODIES[name]
    body = text.encode()
    for size in (1, 2, 3, 7, 16, 10_000):
        found, odd = read(body, size)
        assert found == expected, size
        assert odd == b"", size


@pytest.mark.parametrize(
    ("body", "expected", "odd"),
    [
        (b'data: nonsense\n\ndata: {"a": 1}\n\n', [A], b"nonsense"),
        (b'data: {"a\n\ndata: {"a": 1}\n\n', [A], b'{"a'),
        (b'data: {"a\ndata: {"a": 1}\n', [A], b'{"a'),
        (b'data: {"a": 1}\n\ndata: {"b', [A], b'{"b'),
        (b'data: {"a": 1}\n\n<html>\n', [A], b"<html>"),
        (b"<!DOCTYPE html>\n<html></html>", [], b"<!DOCTYPE html>"),
        (b"plain words", [], b"plain words"),
        (b'{"a": 1}\nnonsense\n', [A], b"nonsense"),
        (b'{"a": ', [], b'{"a": '),
        (b"\xff\xfe\x00", [], b"\xff\xfe\x00"),
        (b"", [], b""),
    ],
)
def test_what_is_odd_is_kept_for_the_message(body: bytes, expected: list[Any], odd: bytes) -> None:
    for size in (1, 3, 10_000):
        assert read(body, size) == (expected, odd), size


def test_values_come_as_soon_as_they_are_whole() -> None:
    parser = JsonBody()
    assert parser.feed(b'data: {"a"') == []
    assert parser.feed(b": 1}\n") == [A]
    lines = JsonBody()
    assert lines.feed(b'{"a": 1}\n{"b') == [A]
    assert lines.feed(b'": [2, "\xc3\xa4"]}\n') == [B]


def test_what_has_no_end_is_noticed() -> None:
    for begin in (b"data: {", b"{\n", b"{"):
        parser = JsonBody()
        parser.feed(begin)
        for _ in range(140):
            parser.feed(b" " * 65_536)
        assert parser.overfull


@given(st.binary(max_size=80), st.integers(1, 9))
def test_nothing_fails_whatever_comes(body: bytes, size: int) -> None:
    read(body, size)
